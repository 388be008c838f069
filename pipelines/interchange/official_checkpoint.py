"""The authors' checkpoint folder: `model.pth`, `config.json`, `metadata.json`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from pipelines.artifacts import files
from pipelines.interchange.checkpoint_files import (
    ForeignCheckpoint,
    KeptFiles,
    kept_files,
    match_saved,
    typed,
    weight_dtypes,
)
from pipelines.interchange.config import ExportConfig
from pipelines.interchange.output import export_report, output_directory
from pipelines.interchange.tasks import check_continuous
from pipelines.model import official as released
from pipelines.model.saved import SavedModel, SavedTask, load_model
from pipelines.model.vintix import Vintix

if TYPE_CHECKING:
    from pipelines.artifacts.artifact import Artifact
    from pipelines.artifacts.workspace import Workspace
    from pipelines.reporter import Reporter
    from pipelines.tasks.registry import Catalogue

FORMAT = "official-checkpoint"
WEIGHTS, CONFIG, METADATA = NAMES = ("model.pth", "config.json", "metadata.json")

#: Fields of `config.json` that say nothing about the model, with the released values.
_OTHER_FIELDS: dict[str, Any] = {
    "data_dir": "path/to/dataset/folder",
    "trajectory_sparsity": 257,
    "preload": False,
    "last_frac": None,
    "optimizer": "Adam",
    "lr": 0.0003,
    "betas": [0.9, 0.99],
    "weight_decay": 0.1,
    "precision": "bf16",
    "clip_grad": None,
    "grad_accum_steps": 2,
    "warmup_ratio": 0.005,
    "local_rank": 0,
    "epochs": 150,
    "batch_size": 8,
    "save_every": 2,
    "save_dir": "/path/to/savedir",
    "stats_path": "vintix/stats.json",
    "load_ckpt": None,
    "start_epoch": 0,
    "seed": 5,
    "dataset_config_paths": [],
    "project": "Vintix",
    "group": "default",
    "name": "Vintix",
}
#: Our setting of training for theirs, where a checkpoint was trained here.
_TRAINING = {
    "learning_rate": "lr",
    "betas": "betas",
    "weight_decay": "weight_decay",
    "gradient_accumulation": "grad_accum_steps",
    "warmup_fraction": "warmup_ratio",
    "batch_size": "batch_size",
    "seed": "seed",
}


def read_official(folder: Path, catalogue: Catalogue) -> ForeignCheckpoint:
    """Read a checkpoint folder of the authors' code.

    Statistics and reward scales are those of its metadata, never new ones: the released reduction
    in float32 is not exact on long datasets, and the model was trained with what it gave.

    Raises:
        ArtifactMissingError: A file is not there.
        ArtifactCorruptError: A file cannot be read, or the weights do not fit the configuration.
        UnsafeContentError: `model.pth` holds more than tensors.
        ConfigError: The configuration or the metadata cannot be translated.
    """
    model, tasks, weights = released.read_official(folder)
    found, unmatched = match_saved(tasks, catalogue)
    kept = KeptFiles(
        config_json=(folder / CONFIG).read_bytes(),
        metadata_json=(folder / METADATA).read_bytes(),
        dtypes=weight_dtypes(weights, folder / WEIGHTS),
    )
    saved = SavedModel(model, found, step=0, method="ad")
    return ForeignCheckpoint(FORMAT, folder, saved, unmatched, kept)


def export_official(
    config: ExportConfig, workspace: Workspace, reporter: Reporter
) -> dict[str, Any]:
    """Write a checkpoint as the folder that the authors' code loads.

    `model.pth` is a plain dictionary of tensors, in the order of their model. What was imported
    from such a folder goes back as it was: tensors bit by bit, JSON byte by byte.

    Raises:
        ArtifactMissingError: There is no such checkpoint.
        ArtifactCorruptError: It does not have the bytes its manifest promises.
        ConfigError: A group's actions are not continuous.
        UsageError: The output is there already.
        StorageError: The output cannot be written.
    """
    artifact = workspace.find("checkpoints", config.reference)
    reporter.info(f"checkpoint {artifact.reference}")
    own = "|".join(map(re.escape, NAMES))
    with output_directory(config.output, overwrite=config.overwrite, own=own) as output:
        saved = load_model(artifact)
        kept = kept_files(artifact)
        for name, dims in saved.config.groups.items():
            check_continuous(dims.actions, f"group {name}", "--format safetensors")
        if saved.random_map:
            reporter.warn(
                "the model was trained through random maps, which the authors' format does not tell"
            )
        if saved.masks_rewards:
            reporter.warn(
                "the model is to be shown rewards of 0, which the authors' format does not tell"
            )
        if kept is not None:
            config_json, metadata_json, dtypes = kept.config_json, kept.metadata_json, kept.dtypes
        else:
            config_json = _dump(_config(artifact, saved))
            metadata_json = _dump(
                {name: _metadata(saved, task) for name, task in _ordered(saved).items()}
            )
            dtypes = {}
        weights = saved.model.state_dict()
        ordered = {name: weights[name] for name in _names(config_json, metadata_json)}
        path = output.directory / WEIGHTS
        try:
            torch.save(typed(ordered, dtypes), path)
        except (OSError, RuntimeError) as error:
            raise files.storage_error(
                error if isinstance(error, OSError) else OSError(str(error)), path
            ) from error
        files.write_file(output.directory / CONFIG, config_json)
        files.write_file(output.directory / METADATA, metadata_json)
    return export_report(artifact, config.output, output, "official", tensors=len(ordered))


def _names(config_json: bytes, metadata_json: bytes) -> list[str]:
    """Return the weights' names in the order in which their model has them."""
    with torch.device("meta"):
        model = Vintix(released.official_config(json.loads(config_json), json.loads(metadata_json)))
    return list(model.state_dict())


def _config(artifact: Artifact, saved: SavedModel) -> dict[str, Any]:
    training = {
        theirs: artifact.config[ours]
        for ours, theirs in _TRAINING.items()
        if ours in artifact.config
    }
    own = {"name": artifact.manifest.name, **training}
    clip = artifact.config.get("clip_norm")
    if clip:
        own["clip_grad"] = clip
    return {**_OTHER_FIELDS, **released.released_fields(saved.config), **own}


def _ordered(saved: SavedModel) -> dict[str, SavedTask]:
    """Return the tasks so that groups first appear in the model's own order."""
    groups = list(saved.config.groups)
    tasks = sorted(saved.tasks.values(), key=lambda task: (groups.index(task.group), task.name))
    return {task.name: task for task in tasks}


def _metadata(saved: SavedModel, task: SavedTask) -> dict[str, Any]:
    dims, statistics = saved.config.groups[task.group], task.statistics
    return {
        "observation_shape": {"proprio": [dims.observation_dim]},
        "action_dim": dims.action_dim,
        "action_type": "continuous",
        "group_name": task.group,
        "reward_scale": statistics.reward_scale,
        # A float32 as decimal text of a float64 is the same float32 again.
        "obs_mean": statistics.observation_mean.tolist(),
        "obs_std": statistics.observation_std.tolist(),
        "acs_mean": statistics.action_mean.tolist(),
        "acs_std": statistics.action_std.tolist(),
    }


def _dump(value: Any) -> bytes:
    return json.dumps(value, allow_nan=False).encode()
