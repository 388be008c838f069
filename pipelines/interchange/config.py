"""Configurations of imports and exports."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict

from pipelines.options import Tasks, check_name, option, setting
from pipelines.pack.config import CHUNK_ROWS

_NAME = option("Name of the artifact; default the directory's.", metavar="NAME", check=check_name)


class ImportDatasetConfig(BaseModel):
    """What ``vintix import dataset`` reads."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path = option(
        "Directory of the authors' HDF5 layout, or of one task in it.",
        argument=True,
        metavar="DIRECTORY",
    )
    as_kind: Literal["histories", "dataset"] = option(
        "histories, to be packed; or dataset, packed at once.", "histories", flags=("--as",)
    )
    order: Literal["natural", "official"] = option(
        "Numbering of trajectories: natural, or official (10.h5 before 2.h5).", "natural"
    )
    tasks: Tasks = ()
    name: Annotated[str | None, _NAME] = None
    chunk_rows: int = setting("Most rows of a chunk file.", CHUNK_ROWS, ge=1)
    allow_validation: bool = setting(
        "Give tasks of the validation split a sampling weight in a dataset.", False
    )


class ImportCheckpointConfig(BaseModel):
    """What ``vintix import checkpoint`` reads."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path = option(
        "Directory with model.pth, config.json and metadata.json, or with model.safetensors and "
        "config.json.",
        argument=True,
        metavar="DIRECTORY",
    )
    name: Annotated[str | None, _NAME] = None


class ExportConfig(BaseModel):
    """What ``vintix export`` writes: which artifact, where, and which of its tasks."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reference: str | None = None
    format: str = "official"
    output: Path
    overwrite: bool = option("Replace an earlier export in the directory.", False)
    tasks: tuple[str, ...] = ()


def _artifact(kind: str) -> Any:
    text = "NAME, NAME@v3 or a path; default the newest."
    return option(text, None, argument=True, metavar="ARTIFACT", values=(kind,))


def _output(directory: str) -> Any:
    flags = ("--output", "-O")
    return option("Directory to write.", Path(directory), flags=flags, metavar="DIRECTORY")


class ExportCheckpointConfig(ExportConfig):
    """Options of ``vintix export checkpoint``."""

    reference: str | None = _artifact("checkpoints")
    format: Literal["official", "safetensors"] = option(
        "official: the authors' folder.", "official"
    )
    output: Path = _output("checkpoint")


class ExportDatasetConfig(ExportConfig):
    """Options of ``vintix export dataset``."""

    reference: str | None = _artifact("datasets")
    format: Literal["official", "minari"] = option(
        "official: HDF5, as the authors' release; minari: one dataset a task.", "official"
    )
    output: Path = _output("dataset")
    tasks: Tasks = ()


class ExportHistoriesConfig(ExportConfig):
    """Options of ``vintix export histories``."""

    reference: str | None = _artifact("histories")
    format: Literal["minari"] = option("minari: one Minari dataset a task.", "minari")
    output: Path = _output("histories")
    tasks: Tasks = ()
