"""What checkpoints of other formats have in common: into an artifact, and out of one.

Beside the model, an imported artifact keeps the release's two JSON files as they were, byte for
byte, and the dtypes of weights that were not float32: the group ``official`` with the attribute
``dtypes`` and the uint8 arrays ``config`` and ``metadata``. An export gives them back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from pipelines.artifacts import files
from pipelines.artifacts.arrays import write_array
from pipelines.errors import ConfigError
from pipelines.interchange.tasks import match_task, safe_name
from pipelines.model.saved import SavedModel, SavedTask, save_model
from pipelines.stage import StageResult

if TYPE_CHECKING:
    from pipelines.artifacts.artifact import Artifact
    from pipelines.artifacts.workspace import Workspace
    from pipelines.reporter import Reporter
    from pipelines.tasks.registry import Catalogue

_OFFICIAL = "official"
#: Weights of these types are float32 without loss, and go back without loss.
_EXACT = (torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class ForeignCheckpoint:
    """A checkpoint that was read from another format.

    Attributes:
        saved: The model; its steps are 0 where the format does not say.
        unmatched: Why a task is none of the catalogue, by the task's name.
        kept: The release's files, where there were some.
    """

    format: str
    path: Path
    saved: SavedModel
    unmatched: dict[str, str]
    kept: KeptFiles | None


@dataclass(frozen=True)
class KeptFiles:
    """What an imported artifact keeps of the release's files.

    Attributes:
        config_json: The release's `config.json`.
        metadata_json: The release's `metadata.json`.
        dtypes: Dtype of each weight that was not float32.
    """

    config_json: bytes
    metadata_json: bytes
    dtypes: dict[str, str]


def publish_checkpoint(
    found: ForeignCheckpoint,
    names: tuple[str, ...],
    name: str | None,
    workspace: Workspace,
    reporter: Reporter,
) -> StageResult:
    """Publish a foreign checkpoint as an artifact, or say that it is there.

    Args:
        names: Its files, which are what makes it the same import as another.
        name: Name of the artifact; None for the directory's.
        reporter: Told which tasks are not the catalogue's.

    Raises:
        StorageError, LockedError: The workspace cannot be written.
    """
    saved, kept = found.saved, found.kept
    for task, reason in sorted(found.unmatched.items()):
        reporter.warn(f"{task} is imported as a task of its own: {reason}")
    content = {
        "import": found.format,
        "files": {each: files.hash_file((found.path / each).resolve()).sha256 for each in names},
        # A later catalogue may know more of its tasks.
        "tasks": {name: task.as_json()["task"] for name, task in sorted(saved.tasks.items())},
    }
    staging = workspace.stage(
        "checkpoints", name or safe_name(found.path.resolve().name), config=content
    )
    with staging:
        if staging.published is not None:
            return _result(staging.published, True, found)
        reporter.info(staging.place())
        with staging.work_item("model") as unit:
            save_model(unit, saved)
            if kept is not None:
                group = unit.group(_OFFICIAL, {"dtypes": kept.dtypes})
                for key, data in (("config", kept.config_json), ("metadata", kept.metadata_json)):
                    write_array(group, key, np.frombuffer(data, np.uint8))
        artifact = staging.publish(
            summary={
                "imported": found.format,
                "parameters": sum(one.numel() for one in saved.model.parameters()),
                "steps": saved.step,
                "method": saved.method,
                "context": saved.config.context,
                "tasks": len(saved.tasks),
                "groups": len(saved.config.groups),
                "unmatched": found.unmatched,
            },
            work_items=["model"],
            packages=["torch"],
        )
    return _result(artifact, False, found)


def kept_files(artifact: Artifact) -> KeptFiles | None:
    """Return the release's files of an imported artifact; None for one that was trained here.

    Raises:
        ArtifactCorruptError: They are damaged.
    """
    if f"data.zarr/{_OFFICIAL}/zarr.json" not in artifact.manifest.files:
        return None
    return KeptFiles(
        config_json=artifact.read(f"{_OFFICIAL}/config").tobytes(),
        metadata_json=artifact.read(f"{_OFFICIAL}/metadata").tobytes(),
        dtypes=dict(artifact.group(_OFFICIAL).attrs["dtypes"]),  # type: ignore[arg-type]
    )


def weight_dtypes(weights: Mapping[str, Tensor], where: Path) -> dict[str, str]:
    """Return the dtype of each weight that is not float32.

    Raises:
        ConfigError: A weight would lose digits as float32.
    """
    for name, weight in weights.items():
        if weight.dtype not in _EXACT:
            raise ConfigError(
                "a weight cannot be kept as float32 without loss",
                where=f"{where}: {name}",
                expected=", ".join(map(str, _EXACT)),
                found=weight.dtype,
                fix="save the weights as float32 first",
            )
    return {
        name: str(weight.dtype).removeprefix("torch.")
        for name, weight in weights.items()
        if weight.dtype != torch.float32
    }


def typed(weights: Mapping[str, Tensor], dtypes: Mapping[str, str]) -> dict[str, Tensor]:
    """Return weights, each contiguous and in the dtype that it once had."""
    return {
        name: weight.detach().to(getattr(torch, dtypes.get(name, "float32"))).contiguous()
        for name, weight in weights.items()
    }


def match_saved(
    tasks: Mapping[str, SavedTask], catalogue: Catalogue
) -> tuple[dict[str, SavedTask], dict[str, str]]:
    """Rename tasks to those of the catalogue they are aliases of.

    Returns:
        The tasks by name, and for each that kept its own name why.
    """
    found: dict[str, SavedTask] = {}
    unmatched: dict[str, str] = {}
    for name, saved in tasks.items():
        observation_dim = saved.statistics.observation_mean.size
        action_dim = saved.statistics.action_mean.size
        spec, reason = match_task(name, observation_dim, action_dim, catalogue)
        taken = spec is not None and spec.name in found
        if spec is None or taken:
            unmatched[name] = reason or "another task of the checkpoint is the catalogue's already"
            found[name] = SavedTask(name, saved.group, saved.statistics, saved.trained)
            continue
        found[spec.name] = SavedTask(
            spec.name,
            saved.group,
            saved.statistics,
            saved.trained,
            task=spec.as_json(),
            scores={key: score.as_json() for key, score in spec.scores.items()},
        )
    return found, unmatched


def _result(artifact: Artifact, up_to_date: bool, found: ForeignCheckpoint) -> StageResult:
    return StageResult(
        artifact,
        up_to_date,
        {
            **artifact.manifest.summary,
            "source": str(found.path),
            "tasks": [
                {"task": name, "group": task.group, "known": name not in found.unmatched}
                for name, task in found.saved.tasks.items()
            ],
        },
    )
