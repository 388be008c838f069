"""Checkpoints as `model.safetensors` and `config.json`: for sharing, without any pickle.

Tensors have the names of the released checkpoints. `config.json` holds the architecture and the
tasks with their statistics, and the release's own two JSON files where the checkpoint came from
there.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from pipelines.artifacts import files
from pipelines.errors import ArtifactCorruptError, ArtifactMissingError, ArtifactSchemaError
from pipelines.foreign import check_finite, check_size, read_json
from pipelines.interchange.checkpoint_files import (
    ForeignCheckpoint,
    KeptFiles,
    kept_files,
    typed,
    weight_dtypes,
)
from pipelines.interchange.config import ExportConfig
from pipelines.interchange.output import export_report, output_directory
from pipelines.model.config import ModelConfig
from pipelines.model.official import empty_model, fill_model, most_bytes
from pipelines.model.saved import SavedModel, SavedTask, load_model

if TYPE_CHECKING:
    from pipelines.artifacts.workspace import Workspace
    from pipelines.reporter import Reporter

FORMAT, VERSION = "vintix-safetensors", 1
WEIGHTS, CONFIG = NAMES = ("model.safetensors", "config.json")


def read_safetensors(folder: Path) -> ForeignCheckpoint:
    """Read a checkpoint folder that `export_safetensors` wrote.

    Raises:
        ArtifactMissingError: A file is not there.
        ArtifactCorruptError: A file cannot be read, or the weights do not fit the configuration.
        ArtifactSchemaError: A newer release wrote it.
        ConfigError: The architecture or the statistics are not usable.
    """
    content = _read_config(folder / CONFIG)
    try:
        config = ModelConfig.model_validate(content["model"])
        tasks = {name: SavedTask.from_json(name, one) for name, one in content["tasks"].items()}
        step, method = int(content["step"]), str(content["method"])
        random_map = bool(content.get("random_map", False))
        official = content["official"]
        files_kept = (
            None
            if official is None
            else (str(official["config"]).encode(), str(official["metadata"]).encode())
        )
        unmatched = {str(name): str(why) for name, why in content["unmatched"].items()}
        for name, task in tasks.items():
            dims, statistics = config.groups[task.group], task.statistics
            sizes = (statistics.observation_mean.size, statistics.action_mean.size)
            embedding = config.embedding_of(task.group)
            # Where actions have embeddings there may be any number of them, up to their size.
            known = sizes[1] == dims.action_dim
            if embedding is not None:
                known = 1 <= sizes[1] <= embedding.channels
            if sizes[0] != dims.observation_dim or not known:
                raise ValueError(f"statistics of {sizes} numbers for the task {name}")
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise _corrupt(folder / CONFIG, "model, tasks, step, method", repr(error)) from error
    model = empty_model(config, folder / WEIGHTS)
    weights = _read_weights(folder / WEIGHTS, most_bytes(model))
    fill_model(model, weights, folder / WEIGHTS)
    dtypes = weight_dtypes(weights, folder / WEIGHTS)
    saved = SavedModel(model, tasks, step, method, random_map)
    kept = None if files_kept is None else KeptFiles(*files_kept, dtypes)
    return ForeignCheckpoint(FORMAT, folder, saved, unmatched, kept)


def export_safetensors(
    config: ExportConfig, workspace: Workspace, reporter: Reporter
) -> dict[str, Any]:
    """Write a checkpoint as safetensors and JSON.

    Raises:
        ArtifactMissingError: There is no such checkpoint.
        ArtifactCorruptError: It does not have the bytes its manifest promises.
        UsageError: The output is there already.
        StorageError: The output cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    artifact = workspace.find("checkpoints", config.reference)
    reporter.info(f"checkpoint {artifact.reference}")
    own = "|".join(map(re.escape, NAMES))
    with output_directory(config.output, overwrite=config.overwrite, own=own) as output:
        saved = load_model(artifact)
        kept = kept_files(artifact)
        content = {
            "format": FORMAT,
            "format_version": VERSION,
            "model": saved.config.model_dump(mode="json"),
            "step": saved.step,
            "method": saved.method,
            **({"random_map": True} if saved.random_map else {}),
            "tasks": {name: task.as_json() for name, task in saved.tasks.items()},
            "unmatched": artifact.manifest.summary.get("unmatched", {}),
            "official": None
            if kept is None
            else {"config": kept.config_json.decode(), "metadata": kept.metadata_json.decode()},
        }
        weights = typed(saved.model.state_dict(), kept.dtypes if kept else {})
        path = output.directory / WEIGHTS
        try:
            save_file(weights, path, metadata={"format": "pt"})
        except (OSError, SafetensorError) as error:
            raise files.storage_error(_refusal(error), path) from error
        files.write_file(
            output.directory / CONFIG, json.dumps(content, indent=1, ensure_ascii=False).encode()
        )
    return export_report(artifact, config.output, output, "safetensors", tensors=len(weights))


def _refusal(error: Exception) -> OSError:
    """Return what the system said, which the library only tells in words: ``(os error 28)``."""
    if isinstance(error, OSError):
        return error
    number = re.search(r"os error (\d+)", str(error))
    if number is None:
        return OSError(str(error))
    return OSError(int(number[1]), os.strerror(int(number[1])))


def _read_weights(path: Path, most: int) -> Mapping[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        check_size(path, most)
        found: dict[str, torch.Tensor] = load_file(path)
    except FileNotFoundError as error:
        raise _missing(path) from error
    except (SafetensorError, OSError, ValueError, KeyError, RuntimeError) as error:
        files.raise_if_failing(_refusal(error), path)
        raise _corrupt(path, "a safetensors file", str(error)) from error
    check_finite(found, path)
    return found


def _read_config(path: Path) -> dict[str, Any]:
    try:
        content = read_json(path)
    except FileNotFoundError as error:
        raise _missing(path) from error
    except ValueError as error:
        raise _corrupt(path, "a JSON object", str(error)) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise _corrupt(
            path,
            f'a JSON object with "format": "{FORMAT}"',
            repr(content.get("format")) if isinstance(content, dict) else type(content).__name__,
        )
    version = content.get("format_version")
    if not isinstance(version, int) or version > VERSION:
        raise ArtifactSchemaError(
            "the checkpoint was written by a newer release",
            where=path,
            expected=f"format version {VERSION} or older",
            found=version,
            fix="pip install --upgrade vintix",
        )
    return content


def _missing(path: Path) -> ArtifactMissingError:
    return ArtifactMissingError(
        "a checkpoint lacks a file",
        where=path,
        expected=f"{WEIGHTS} and {CONFIG} in one folder",
        found="no such file",
        fix="copy the whole folder",
    )


def _corrupt(path: Path, expected: str, found: str) -> ArtifactCorruptError:
    return ArtifactCorruptError(
        "a checkpoint in safetensors cannot be read",
        where=path,
        expected=expected,
        found=found,
        fix="copy the folder again, or export it again",
    )
