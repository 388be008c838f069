"""What a run starts from: another checkpoint's weights, or the same run with fewer steps."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pipelines.artifacts.artifact import Artifact
from pipelines.artifacts.files import canonical_json
from pipelines.errors import ArtifactError, ConfigError

if TYPE_CHECKING:
    from pipelines.artifacts.schema import Parent
    from pipelines.artifacts.workspace import Workspace
    from pipelines.model.config import ModelConfig
    from pipelines.model.vintix import Vintix

KIND = "checkpoints"


def find_shorter_run(
    workspace: Workspace, name: str, content: Mapping[str, Any], parents: list[Artifact]
) -> tuple[list[Parent], Artifact | None]:
    """Look for the same run with fewer steps among the published versions of its name.

    Args:
        workspace: Where.
        name: Name of the artifact to be trained.
        content: The configuration that decides the result.
        parents: The dataset and, if there is one, the checkpoint that training starts from.

    Returns:
        The parents of the artifact to be trained, and the run to go on from: the longest; None
        where there is none, or where the very run that is asked for is published.
    """
    wanted = json.loads(canonical_json(dict(content)))
    given = [each.as_parent() for each in parents]
    shorter: Artifact | None = None
    for version in reversed(workspace.versions(KIND, name)):
        try:
            artifact = Artifact(workspace.path(KIND, name, version))
        except ArtifactError:
            # What cannot be read is trained anew; `verify` names it.
            continue
        manifest = artifact.manifest
        others = [each for each in manifest.parents if each.kind != KIND or each in given]
        config = manifest.config
        if {each.digest for each in others} != {each.digest for each in given}:
            continue
        if config == wanted:
            return manifest.parents, None
        if {**config, "steps": wanted["steps"]} == wanted and config["steps"] < wanted["steps"]:
            longest = 0 if shorter is None else shorter.config["steps"]
            shorter = artifact if config["steps"] > longest else shorter
    return [*given, *([] if shorter is None else [shorter.as_parent()])], shorter


def check_init(init: Artifact, model: ModelConfig) -> None:
    """Refuse a checkpoint whose transformer is not the model's.

    Raises:
        ConfigError: It has another architecture.
    """
    recorded: Any = init.group("model").attrs["config"]
    mine = model.model_dump(mode="json")
    # Neither is part of a weight's shape.
    free = ("groups", "context", "attention_dropout", "residual_dropout")
    differing = [
        name
        for name in {**mine, **recorded}
        if name not in free and mine.get(name) != recorded.get(name)
    ]
    if differing:
        preset = init.config.get("preset")
        raise ConfigError(
            "the checkpoint to start from has another architecture",
            where=f"train.init: {init.reference}",
            expected=", ".join(f"{name} {mine.get(name)}" for name in differing),
            found=", ".join(f"{name} {recorded.get(name)}" for name in differing),
            fix=f"vintix train --preset {preset} --init {init.manifest.name}"
            if preset
            else "set its train.model fields, or choose another checkpoint",
        )


def kept_groups(init: Artifact, model: ModelConfig) -> list[str]:
    """Return the groups of a model that a checkpoint has with the same dimensions.

    They take encoders and head from it; every other one starts anew.
    """
    recorded: Any = init.group("model").attrs["config"]
    groups = recorded["groups"]
    return [
        name
        for name, dims in model.groups.items()
        if groups.get(name) == dims.model_dump(mode="json")
    ]


def copy_weights(init: Artifact, model: Vintix) -> None:
    """Put the weights of a checkpoint into a model of the same architecture, on the CPU."""
    import torch

    from pipelines.model.saved import load_model

    weights = dict(load_model(init).model.named_parameters())
    kept = kept_groups(init, model.config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # A group's are encoder.<which>.<group>... and head.<which>.<group>...
            part, _, group = [*name.split("."), "", ""][:3]
            of_group = part in ("encoder", "head") and group in model.config.groups
            if group in kept or not of_group:
                parameter.copy_(weights[name])
