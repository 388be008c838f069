"""Checkpoints of the released code: `model.pth`, `config.json` and `metadata.json` of a folder.

The parameters' names are the same as ours, so only the configuration is translated. Weights are
read with `weights_only`; a file that would need more is refused.

Statistics are kept as stored. Channels that they call constant are shown to the model as 0, by the
rule for all checkpoints (`pipelines.model.normalization.is_constant`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipelines import foreign
from pipelines.errors import ArtifactCorruptError, ArtifactMissingError, ConfigError
from pipelines.model.config import GroupDims, ModelConfig
from pipelines.model.normalization import TaskStatistics
from pipelines.model.saved import SavedTask
from pipelines.model.vintix import Vintix

_NORMS = {"LayerNorm": "layernorm", "RMSNorm": "rmsnorm"}
_MLPS = {"GptNeoxMLP": "gpt_neox", "LLaMAMLP": "llama"}

#: Most layers, and most groups, of a foreign checkpoint; far beyond any that was trained.
MOST_PARTS = 10_000

#: Our field of each field of their configuration that shapes the model.
_FIELDS = {
    "transformer_depth": "layers",
    "transformer_heads": "heads",
    "hidden_dim": "width",
    "intermediate_size": "feed_forward",
    "action_emb_dim": "action_embedding",
    "observation_emb_dim": "observation_embedding",
    "reward_emb_dim": "reward_embedding",
    "normalize_qk": "qk_norm",
    "bias": "bias",
    "parallel_residual": "parallel_residual",
    "shared_attention_norm": "shared_attention_norm",
    "norm_acs": "normalize_actions",
    "norm_obs": "normalize_observations",
    "inner_ep_pos_enc": "inner_episode_position",
    "attn_dropout": "attention_dropout",
    "residual_dropout": "residual_dropout",
    "context_len": "context",
}


def read_official(
    folder: Path, *, attention: str = "auto"
) -> tuple[Vintix, dict[str, SavedTask], dict[str, Tensor]]:
    """Load a checkpoint folder of the released code onto the CPU, in evaluation mode.

    Args:
        folder: Folder with `model.pth`, `config.json` and `metadata.json`.

    Returns:
        The model, its tasks by name, and the weights as they are in the file.

    Raises:
        ArtifactMissingError: A file is not there.
        ArtifactCorruptError: A file cannot be read, or the weights do not fit the configuration.
        UnsafeContentError: `model.pth` holds more than tensors.
        ConfigError: The configuration or the metadata cannot be translated.
    """
    metadata = read_json(folder / "metadata.json")
    config = read_json(folder / "config.json")
    translated, tasks = translate(config, metadata, folder)
    path = folder / "model.pth"
    model = empty_model(translated, path, attention=attention)
    weights = read_weights(path, most=most_bytes(model))
    return fill_model(model, weights, path), tasks, weights


def translate(
    config: Mapping[str, Any], metadata: Mapping[str, Mapping[str, Any]], where: object
) -> tuple[ModelConfig, dict[str, SavedTask]]:
    """Return the architecture and the tasks of a released checkpoint.

    Args:
        config: Contents of `config.json`.
        metadata: Contents of `metadata.json`.

    Raises:
        ArtifactCorruptError: They are laid out otherwise.
        ConfigError: They cannot be translated.
    """
    try:
        translated = official_config(config, metadata)
        tasks = {name: _task(name, entry) for name, entry in metadata.items()}
    except (TypeError, ValueError, KeyError, AttributeError, OverflowError) as error:
        raise ArtifactCorruptError(
            "the configuration of a released checkpoint is not laid out as one",
            where=where,
            expected="numbers, names and lists as the released code writes them to config.json "
            "and metadata.json",
            found=repr(error)[:500],
            fix="take the three files from one checkpoint",
        ) from error
    for name, task in tasks.items():
        dims, statistics = translated.groups[task.group], task.statistics
        found = (statistics.observation_mean.size, statistics.action_mean.size)
        if found != (dims.observation_dim, dims.action_dim):
            raise ConfigError(
                "a task's statistics do not have its dimensions",
                where=f"metadata.json: {name}",
                expected=f"{dims.observation_dim} observations, {dims.action_dim} actions",
                found=f"{found[0]} observations, {found[1]} actions",
            )
    return translated, tasks


def empty_model(config: ModelConfig, where: object, *, attention: str = "auto") -> Vintix:
    """Build a model without weights, for a foreign configuration that may say anything.

    Nothing is drawn or allocated for weights that are replaced: at the paper's size it takes
    seconds.

    Raises:
        ArtifactCorruptError: There is no such model.
    """
    if max(config.layers, len(config.groups)) > MOST_PARTS:
        raise _unfit(where, f"{config.layers:,} layers and {len(config.groups):,} groups")
    try:
        with torch.device("meta"):
            return Vintix(config, attention=attention)
    except (RuntimeError, TypeError, OverflowError) as error:
        raise _unfit(where, error) from error


def most_bytes(model: Vintix) -> int:
    """Return more bytes than any file of a model's weights has."""
    return 8 * sum(one.numel() for one in model.parameters()) + (64 << 20)


def fill_model(model: Vintix, weights: Mapping[str, Tensor], where: object) -> Vintix:
    """Give a model of `empty_model` its weights, and return it in evaluation mode.

    Args:
        weights: Its parameters by name; they are copied, so that training does not change them.

    Raises:
        ArtifactCorruptError: They are not the parameters of the model.
    """
    try:
        given = {name: weight.to(torch.float32, copy=True) for name, weight in weights.items()}
        model.load_state_dict(given, assign=True)
    except RuntimeError as error:
        raise _unfit(where, str(error).partition("\n")[2] or error) from error
    return model.eval()


def _unfit(where: object, found: object) -> ArtifactCorruptError:
    return ArtifactCorruptError(
        "the weights of a checkpoint do not fit its configuration",
        where=where,
        expected="the parameters that config.json describes",
        found=str(found).strip()[:500],
        fix="take all files from one checkpoint",
    )


def official_config(
    config: Mapping[str, Any], metadata: Mapping[str, Mapping[str, Any]]
) -> ModelConfig:
    """Translate the released code's configuration and task metadata.

    Args:
        config: Contents of `config.json`.
        metadata: Contents of `metadata.json`: per task `group_name`, `observation_shape`,
            `action_dim` and `action_type`.

    Raises:
        ConfigError: A field is missing, a name is unknown, an action type is not continuous, or
            the tasks of a group have different dimensions.
    """
    values = {ours: _field(config, theirs, "config.json") for theirs, ours in _FIELDS.items()}
    for theirs, ours, names in (("norm_class", "norm", _NORMS), ("mlp_class", "mlp", _MLPS)):
        name = _field(config, theirs, "config.json")
        if name not in names:
            raise ConfigError(
                "a released checkpoint uses a layer that is not known",
                where=f"config.json: {theirs}",
                expected=", ".join(names),
                found=name,
            )
        values[ours] = names[name]
    if values["feed_forward"] is None:
        values["feed_forward"] = 4 * values["width"]
    groups: dict[str, GroupDims] = {}
    for task, entry in metadata.items():
        where = f"metadata.json: {task}"
        shape = _field(entry, "observation_shape", where)
        kind = _field(entry, "action_type", where)
        if list(shape) != ["proprio"] or len(shape["proprio"]) != 1 or kind != "continuous":
            raise ConfigError(
                "a task is not one vector of numbers in, continuous actions out",
                where=where,
                expected='observation_shape {"proprio": [n]}, action_type continuous',
                found=f"observation_shape {shape}, action_type {kind}",
            )
        dims = GroupDims(
            observation_dim=shape["proprio"][0], action_dim=_field(entry, "action_dim", where)
        )
        group = _field(entry, "group_name", where)
        if groups.setdefault(group, dims) != dims:
            raise ConfigError(
                "tasks of one group have different dimensions",
                where=where,
                expected=groups[group],
                found=dims,
            )
    return ModelConfig.model_validate({"groups": groups, **values})


def released_fields(config: ModelConfig) -> dict[str, Any]:
    """Return the fields of `config.json` that shape the model: the inverse of `official_config`."""
    values = config.model_dump(mode="json")
    for kind in ("head", "backbone"):
        if kind in values:
            raise ConfigError(
                f"the released code does not know this {kind}",
                where=f"model.{kind}",
                expected="mse" if kind == "head" else "transformer",
                found=values[kind],
                fix="vintix export --format safetensors",
            )
    fields = {theirs: values[ours] for theirs, ours in _FIELDS.items()}
    for theirs, ours, names in (("norm_class", "norm", _NORMS), ("mlp_class", "mlp", _MLPS)):
        fields[theirs] = next(name for name, own in names.items() if own == values[ours])
    return fields


def _task(name: str, entry: Mapping[str, Any]) -> SavedTask:
    where = f"metadata.json: {name}"
    return SavedTask(
        name=name,
        group=_field(entry, "group_name", where),
        statistics=TaskStatistics(
            observation_mean=_field(entry, "obs_mean", where),
            observation_std=_field(entry, "obs_std", where),
            action_mean=_field(entry, "acs_mean", where),
            action_std=_field(entry, "acs_std", where),
            reward_scale=_field(entry, "reward_scale", where),
        ),
    )


def _field(entry: Mapping[str, Any], name: str, where: str) -> Any:
    if name not in entry:
        raise ConfigError(
            "a released checkpoint lacks a field",
            where=where,
            expected=name,
            found=", ".join(entry),
        )
    return entry[name]


def _missing(path: Path) -> ArtifactMissingError:
    return ArtifactMissingError(
        "a released checkpoint lacks a file",
        where=path,
        expected="model.pth, config.json and metadata.json in one folder",
        found="no such file",
        fix="download the whole checkpoint folder",
    )


def read_json(path: Path) -> dict[str, Any]:
    """Read `config.json` or `metadata.json`.

    Raises:
        ArtifactMissingError: It is not there.
        ArtifactCorruptError: It is not a JSON object.
    """
    try:
        content = foreign.read_json(path)
    except FileNotFoundError as error:
        raise _missing(path) from error
    except ValueError as error:
        raise ArtifactCorruptError(
            "a file is not JSON", where=path, expected="a JSON object", found=error
        ) from error
    if not isinstance(content, dict):
        raise ArtifactCorruptError(
            "a file is not a JSON object",
            where=path,
            expected="{...}",
            found=type(content).__name__,
        )
    return content


def read_weights(path: Path, most: int) -> dict[str, Tensor]:
    """Read `model.pth` onto the CPU; nothing but tensors is ever unpickled.

    Args:
        most: Most bytes that it may have.

    Raises:
        ArtifactMissingError: It is not there.
        ArtifactCorruptError: It is not a dictionary of finite tensors, or cannot be read.
        UnsafeContentError: It holds more than tensors.
    """
    try:
        return foreign.load_tensors(path, path, most)
    except FileNotFoundError as error:
        raise _missing(path) from error
