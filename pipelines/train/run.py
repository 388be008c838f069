"""A run with everything it refers to found: its name, what decides its result, where it starts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipelines.artifacts.artifact import Artifact
from pipelines.artifacts.files import canonical_json
from pipelines.dependencies import load_extra
from pipelines.errors import ArtifactError, ConfigError
from pipelines.methods import DEFAULT
from pipelines.text import counted, listed
from pipelines.train.config import ADDED, NOT_CONTENT, TrainConfig
from pipelines.train.data import check_sets, group_dims, in_set_groups, select_tasks, with_head

if TYPE_CHECKING:
    from pipelines.artifacts.schema import Parent
    from pipelines.artifacts.workspace import Workspace
    from pipelines.datasets.reader import DatasetReader, DatasetTask
    from pipelines.hardware import Hardware
    from pipelines.model.config import ModelConfig
    from pipelines.model.vintix import Vintix

KIND = "checkpoints"
MODEL_UNIT = "model"


@dataclass(frozen=True)
class Run:
    """A run with everything it refers to found and resolved."""

    config: TrainConfig
    dataset: Artifact
    data: DatasetReader
    tasks: list[DatasetTask]
    model: ModelConfig
    hardware: Hardware
    init: Artifact | None = None

    @property
    def name(self) -> str:
        """Name of the artifact."""
        if self.config.name:
            return self.config.name
        method = "" if self.config.method == DEFAULT else f"-{self.config.method}"
        release = "-release" if self.config.fidelity == "release" else ""
        mapped = "-map" if self.config.random_map else ""
        order = "-shuffled" if self.config.context_order == "shuffled" else ""
        origin = "" if self.init is None else f"-from-{self.init.manifest.name}"
        name = f"{self.dataset.manifest.name}-{self.config.preset}"
        return f"{name}{method}{release}{mapped}{order}{origin}"

    @property
    def parents(self) -> list[Artifact]:
        """The artifacts that the model is made from."""
        return [self.dataset, *([] if self.init is None else [self.init])]

    def content(self) -> dict[str, Any]:
        """Return what decides the result: the configuration with everything resolved.

        The number of processes is not in it where the rules do not depend on it: a run goes on
        with another number.
        """
        from pipelines.hardware import available_threads
        from pipelines.train.processes import launched, world_size

        config, hardware = self.config, self.hardware
        given = config.model_dump(mode="json", exclude={*NOT_CONTENT, "domains"})
        added = {name for name, default in ADDED.items() if given[name] == default}
        started = world_size() if launched() else config.local_processes * config.nodes
        # Its parents are those of a run that goes on from the same checkpoint, as a shorter one.
        own_init = None
        if self.init is not None and self.init.manifest.name == self.name:
            own_init = self.init.reference
        return {
            **{name: value for name, value in given.items() if name not in added},
            **({"processes": started} if config.rules.by_process else {}),
            **({} if own_init is None else {"init": own_init}),
            "tasks": [task.name for task in self.tasks],
            "model": self.model.model_dump(mode="json"),
            "attention": attention_backend(config, self.model, hardware),
            "device": hardware.device,
            "precision": hardware.precision,
            "threads": config.threads or available_threads(),
        }


def attention_backend(config: TrainConfig, model: ModelConfig, hardware: Hardware) -> str:
    """Return the attention backend that serves a run.

    Of a device that is not here, so that the run is only planned, the one that is asked for.

    Raises:
        ConfigError, MissingDependencyError: The one that is asked for cannot, here.
    """
    import torch

    from pipelines.model.attention.selection import select_backend

    if hardware.device != "cpu" and not torch.cuda.is_available():
        return config.attention
    return select_backend(
        hardware.torch_device,
        torch.bfloat16 if hardware.precision == "bfloat16" else torch.float32,
        config.attention,
        dropout=model.attention_dropout,
        head_dim=model.head_dim,
    )


def prepare(config: TrainConfig, workspace: Workspace, *, planned: bool = False) -> Run:
    """Find everything a run refers to; devices and packages may be elsewhere if only planned."""
    from pipelines.datasets.reader import DatasetReader
    from pipelines.hardware import resolve_hardware
    from pipelines.train.processes import launched, local_world_size

    if config.track is not None and not planned:
        load_extra(config.track, "tracking", f"--track {config.track}")
    dataset = workspace.find("datasets", config.dataset)
    data = DatasetReader(dataset)
    tasks = in_set_groups(select_tasks(data, config.tasks, config.domains), config.model)
    check_sets(tasks, config.model)
    model = with_bounds(model_config(config, tasks), config, data, tasks)
    return Run(
        config=config,
        dataset=dataset,
        data=data,
        tasks=tasks,
        model=model,
        init=find_init(config, workspace, model),
        hardware=resolve_hardware(
            config.device,
            config.gpus,
            config.precision,
            config.threads,
            processes=local_world_size() if launched() else config.local_processes,
            planned=planned,
        ),
    )


def model_config(config: TrainConfig, tasks: list[DatasetTask]) -> ModelConfig:
    """Return the architecture for the groups of the given tasks.

    Raises:
        ConfigError: The overrides do not fit the preset or the actions, or two tasks of a group
            differ in size.
    """
    from pipelines.model.presets import preset

    groups = group_dims(tasks)
    overrides = with_head({**config.model, "context": config.context}, groups)
    return preset(config.preset, groups, **overrides)


def with_bounds(
    model: ModelConfig, config: TrainConfig, data: DatasetReader, tasks: list[DatasetTask]
) -> ModelConfig:
    """Return an architecture with the bounds of the actions, where its head needs them.

    Raises:
        ConfigError: The dataset does not have the actions that the method predicts.
    """
    from pipelines.model.heads import HEADS

    needing = {group for group in model.groups if HEADS.find(model.head_of(group)[0]).needs_bounds}
    if not needing:
        return model
    from pipelines.train.bounds import action_bounds

    tasks = [task for task in tasks if task.group in needing]
    found = action_bounds(data, tasks, config.learner.target, random_map=config.random_map)
    groups = {
        name: dims.model_copy(
            update={"action_bounds": tuple(tuple(each.tolist()) for each in found[name])}
        )
        if name in found
        else dims
        for name, dims in model.groups.items()
    }
    return model.model_copy(update={"groups": groups})


def describe_size(config: TrainConfig, model: ModelConfig) -> str:
    """Return how large a model is and what a step of a run sees, a sentence."""
    from pipelines.model.presets import parameter_count

    chosen = "" if "preset" in config.model_fields_set else ", the default"
    return (
        f"preset {config.preset}{chosen}: {parameter_count(model):,} parameters, "
        f"{counted(config.steps, 'step')} of {counted(config.sequences_per_step, 'sequence')} "
        f"of {config.context:,} tokens"
    )


def describe_held_out(task: str) -> str:
    """Return what becomes of a task that is named and held out, a sentence."""
    return (
        f"{task} is held out and not trained on: to train on it, "
        "vintix pack --set pack.allow_validation=true"
    )


def describe_start(config: TrainConfig, model: ModelConfig, init: Artifact | None) -> str:
    """Return which weights training starts from, a sentence."""
    if init is None:
        return f"first weights drawn by seed {config.seed}"
    kept = kept_groups(init, model)
    new = [group for group in model.groups if group not in kept]
    before = str(init.group("model").attrs["method"])
    return (
        f"first weights those of {init.reference}"
        + (f"; new groups: {listed(new)}" if new else "")
        # What was learnt by one method may be of little use to another.
        + (
            f"; they were trained by {before}, and go on by {config.method}: --method {before} "
            "would keep to it"
            if before != config.method
            else ""
        )
    )


def check_processes(config: TrainConfig) -> None:
    """Refuse a number of processes that do not fit the run.

    Raises:
        ConfigError: A step's sequences cannot be dealt out evenly, or one process is to be split.
    """
    from pipelines.methods.windows import check_even
    from pipelines.train.processes import check_shards, launched, world_size

    processes = world_size() if launched() else config.local_processes * config.nodes
    check_even(config.rules.dealt(config.batch_size, config.gradient_accumulation), 0, processes)
    if config.shard:
        check_shards(processes)


def find_init(config: TrainConfig, workspace: Workspace, model: ModelConfig) -> Artifact | None:
    """Return the checkpoint that training starts from, None for weights that are drawn.

    Raises:
        ArtifactMissingError: There is no such checkpoint.
        ConfigError: It has another architecture.
    """
    if config.init is None:
        return None
    init = workspace.find(KIND, config.init)
    check_init(init, model)
    return init


def find_shorter_run(
    workspace: Workspace, name: str, content: Mapping[str, Any], parents: list[Artifact]
) -> tuple[list[Parent], Artifact | None]:
    """Look for the same run with fewer steps among the published versions of its name.

    Args:
        name: Name of the artifact to be trained.
        content: The configuration that decides the result.
        parents: The dataset and, if there is one, the checkpoint that training starts from.

    Returns:
        The parents of the artifact to be trained, and the run to go on from: the longest, or the
        one from which staged work has come at least as far; None where there is none, or where the
        very run that is asked for is published.
    """
    wanted = json.loads(canonical_json(dict(content)))
    given = [each.as_parent() for each in parents]
    digests = {each.digest for each in given}
    shorter: list[Artifact] = []
    for version in reversed(workspace.versions(KIND, name)):
        try:
            artifact = Artifact(workspace.path(KIND, name, version))
        except ArtifactError:
            # What cannot be read is trained anew; `verify` names it.
            continue
        manifest = artifact.manifest
        config = manifest.config
        others = [each for each in manifest.parents if each.digest not in digests]
        # Of these there may be one: the shorter run that it went on from.
        unknown = len(others) > 1 or any((each.kind, each.name) != (KIND, name) for each in others)
        if unknown or not digests <= {each.digest for each in manifest.parents}:
            continue
        if config == wanted:
            return manifest.parents, None
        if {**config, "steps": wanted["steps"]} == wanted and config["steps"] < wanted["steps"]:
            shorter.append(artifact)
    if not shorter:
        return given, None
    from pipelines.train.checkpoint import staged_steps

    longest = max(shorter, key=lambda each: each.config["steps"])
    furthest: int = longest.config["steps"]
    found: tuple[list[Parent], Artifact | None] = ([*given, longest.as_parent()], longest)
    # What was begun before the longest was published is staged with other parents.
    for each in (None, *shorter):
        made_from = [*given, *([] if each is None else [each.as_parent()])]
        staged = staged_steps(workspace.stage(KIND, name, config=wanted, parents=made_from))
        if staged >= furthest:
            furthest, found = staged, (made_from, each)
    return found


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

    They take encoders and head from it; every other one starts anew. Where actions have embeddings
    neither depends on how many there are.
    """
    from pipelines.model.config import GroupDims

    recorded: Any = init.group("model").attrs["config"]
    groups = {name: GroupDims.model_validate(each) for name, each in recorded["groups"].items()}
    return [
        name
        for name, dims in model.groups.items()
        if (known := groups.get(name)) is not None
        and (
            known == dims
            or (
                model.embedding_of(name) is not None
                and model.fits(name, known.observation_dim, known.actions)
            )
        )
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
