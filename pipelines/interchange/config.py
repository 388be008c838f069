"""Configurations of imports and exports."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

CHUNK_ROWS = 65_536
"""Most rows of a chunk file, as packing has it."""

CHUNK_BYTES = 64 << 20
"""Most bytes of a chunk file, which bounds the memory of an import."""


class ImportDatasetConfig(BaseModel):
    """What ``vintix import dataset`` reads.

    Attributes:
        path: Directory of the authors' data layout, or of one task in it.
        as_kind: ``histories``, to be packed; or ``dataset``, packed at once.
        name: Name of the artifact; None for the directory's.
        order: How trajectories are numbered: ``natural`` (2.h5 before 10.h5) or ``official``
            (10.h5 before 2.h5, as the release's code sorts them).
        tasks: Names or aliases of the tasks to take; empty for all.
        chunk_rows: Most rows of a chunk file.
        allow_validation: Give tasks of the validation split a sampling weight in a dataset.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path
    as_kind: Literal["histories", "dataset"] = "histories"
    name: str | None = None
    order: Literal["natural", "official"] = "natural"
    tasks: tuple[str, ...] = ()
    chunk_rows: int = Field(CHUNK_ROWS, ge=1)
    allow_validation: bool = False


class ImportCheckpointConfig(BaseModel):
    """What ``vintix import checkpoint`` reads.

    Attributes:
        path: Directory of a checkpoint: the release's, or one in safetensors.
        name: Name of the artifact; None for the directory's.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path
    name: str | None = None


class ExportConfig(BaseModel):
    """What ``vintix export`` writes.

    Attributes:
        reference: The artifact; None for the newest of its kind.
        output: Directory to write.
        overwrite: Replace an earlier export there.
        tasks: Names of the tasks to take; empty for all.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    reference: str | None = None
    output: Path
    overwrite: bool = False
    tasks: tuple[str, ...] = ()
