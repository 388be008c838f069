"""The stage `train`: from a datasets artifact to a checkpoints artifact."""

from __future__ import annotations

from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.methods import DEFAULT
from pipelines.reporter import NullReporter, Reporter
from pipelines.stage import Plan, StageResult
from pipelines.train.config import ADDED, NOT_CONTENT, TrainConfig
from pipelines.train.data import group_dims, select_tasks
from pipelines.train.origin import KIND, check_init, find_shorter_run, kept_groups

if TYPE_CHECKING:
    from pipelines.artifacts.artifact import Artifact
    from pipelines.artifacts.staging import Staging
    from pipelines.artifacts.workspace import Workspace
    from pipelines.datasets.reader import DatasetReader, DatasetTask
    from pipelines.hardware import Hardware
    from pipelines.model.config import ModelConfig
    from pipelines.signals import StopSignal
    from pipelines.train.world import World

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
        origin = "" if self.init is None else f"-from-{self.init.manifest.name}"
        name = f"{self.dataset.manifest.name}-{self.config.preset}"
        return f"{name}{method}{release}{mapped}{origin}"

    def size(self) -> str:
        """Return how large the model is and what a step sees, a sentence."""
        from pipelines.model.presets import parameter_count

        config = self.config
        chosen = "" if "preset" in config.model_fields_set else ", the default"
        return (
            f"preset {config.preset}{chosen}: {parameter_count(self.model):,} parameters, "
            f"{config.steps:,} steps of {config.sequences_per_step} sequences of "
            f"{config.context:,} tokens"
        )

    def start(self) -> str:
        """Return which weights training starts from, a sentence."""
        if self.init is None:
            return f"first weights drawn by seed {self.config.seed}"
        kept = kept_groups(self.init, self.model)
        new = [group for group in self.model.groups if group not in kept]
        return f"first weights those of {self.init.reference}" + (
            f"; new groups: {', '.join(new)}" if new else ""
        )

    @property
    def parents(self) -> list[Artifact]:
        """The artifacts that the model is made from."""
        return [self.dataset, *([] if self.init is None else [self.init])]

    def content(self) -> dict[str, Any]:
        """Return what decides the result: the configuration with everything resolved.

        The number of processes is not in it where the rules do not depend on it: a run goes on
        with another number.
        """
        import torch

        from pipelines.hardware import available_threads
        from pipelines.model.attention import select_backend
        from pipelines.train.world import launched, world_size

        config, hardware = self.config, self.hardware
        dtype = torch.bfloat16 if hardware.precision == "bfloat16" else torch.float32
        given = config.model_dump(mode="json", exclude={*NOT_CONTENT, "domains"})
        added = {name for name, default in ADDED.items() if given[name] == default}
        started = world_size() if launched() else config.local_processes * config.nodes
        return {
            **{name: value for name, value in given.items() if name not in added},
            **({"processes": started} if config.rules.by_process else {}),
            "tasks": [task.name for task in self.tasks],
            "model": self.model.model_dump(mode="json"),
            "attention": select_backend(
                hardware.torch_device,
                dtype,
                config.attention,
                dropout=self.model.attention_dropout,
                head_dim=self.model.head_dim,
            ),
            "device": hardware.device,
            "precision": hardware.precision,
            "threads": config.threads or available_threads(),
        }


def run(
    config: TrainConfig,
    workspace: Workspace,
    reporter: Reporter,
    *,
    stop: StopSignal | None = None,
) -> StageResult:
    """Train a model and publish it, going on from the last durable checkpoint if there is one.

    With several processes asked for, this one starts them and waits, unless a launcher such as
    torchrun started it as one of them.

    Args:
        config: The run.
        workspace: Where the dataset is and the model goes.
        reporter: Told about progress: one count a step, with `loss` and `tokens_per_second`.
        stop: Asks the run to stop between two steps; signals do if None.

    Raises:
        ArtifactMissingError: There is no such dataset.
        UsageError: The dataset does not hold a selected task.
        ConfigError: The configuration does not fit the dataset.
        MissingDependencyError: The device or the tracker is not there.
        LockedError: Another process writes under this name.
        InterruptedRunError: A signal came; the state is durable.
        VintixError: The loss is not finite, or a process was killed.
    """
    from pipelines.artifacts.artifact import Artifact
    from pipelines.train.planning import doubts
    from pipelines.train.world import joined_world, launched

    prepared = _prepare(config, workspace)
    if not launched():
        reporter.info(prepared.size())
        for doubt in doubts(config):
            reporter.warn(doubt)
    if not launched() and config.local_processes * config.nodes > 1:
        from pipelines.methods.windows import check_even
        from pipelines.train.launch import launch

        dealt = config.rules.dealt(config.batch_size, config.gradient_accumulation)
        check_even(dealt, 0, config.local_processes * config.nodes)
        outcome = launch(config, workspace, reporter, config.local_processes)
        artifact = Artifact(Path(outcome["path"]))
        report = _report(artifact, prepared.dataset)
        return StageResult(artifact=artifact, up_to_date=outcome["up_to_date"], report=report)
    with joined_world(prepared.hardware) as world:
        told = reporter if world.writes else NullReporter()
        return _run_in(world, prepared, workspace, told, stop)


def _run_in(
    world: World,
    prepared: Run,
    workspace: Workspace,
    reporter: Reporter,
    stop: StopSignal | None,
) -> StageResult:
    """Train as one of the processes of a world; the one that writes has the staging directory."""
    from pipelines.artifacts.artifact import Artifact
    from pipelines.signals import StopSignal
    from pipelines.train.assembly import train_model
    from pipelines.train.checkpoint import begin_after, checkpoints

    dataset = prepared.dataset
    reporter.info(f"dataset {dataset.reference}, {len(prepared.tasks)} tasks")
    if prepared.init is not None:
        reporter.info(prepared.start())
    with ExitStack() as stack:
        opened: list[Staging] = []

        def begin() -> dict[str, Any]:
            parents, shorter = find_shorter_run(
                workspace, prepared.name, prepared.content(), prepared.parents
            )
            staging = workspace.stage(
                KIND,
                prepared.name,
                config=prepared.content(),
                parents=parents,
                seeds={"seed": prepared.config.seed},
            )
            opened.append(stack.enter_context(staging))
            published = None if staging.published is None else str(staging.published.path)
            if published is None:
                reporter.info(staging.place())
            trained = published is not None or staging.done(MODEL_UNIT)
            if shorter is not None and not trained and not checkpoints(staging):
                reporter.info(
                    f"going on from {shorter.reference}, the same run of "
                    f"{shorter.config['steps']:,} steps; another --name would begin anew"
                )
                begin_after(staging, shorter)
            return {"published": published, "trained": trained}

        found = world.first(begin)
        if not found["trained"]:
            staging = opened[0] if opened else None
            with StopSignal() if stop is None else nullcontext(stop) as signals:
                train_model(prepared, staging, reporter, signals, world, workspace.root)
        path = found["published"] or world.first(lambda: str(_publish(prepared, opened[0]).path))
    artifact = Artifact(Path(path))
    return StageResult(
        artifact=artifact,
        up_to_date=found["published"] is not None,
        report=_report(artifact, dataset),
        silent=not world.writes,
    )


def plan(config: TrainConfig, workspace: Workspace) -> Plan:
    """Return what a run would make: parameters by part, tokens, and an estimate of the time.

    Without any dataset the groups are those of the catalogue's training tasks, the paper's.

    Raises:
        ArtifactMissingError: The named dataset is not there.
        UsageError: The dataset does not hold a selected task.
        ConfigError: The configuration does not fit the dataset.
    """
    from pipelines.errors import ArtifactMissingError
    from pipelines.train.assembly import cut_subsequences, thinned_tasks
    from pipelines.train.planning import make_plan, plan_from_catalogue

    try:
        prepared = _prepare(config, workspace, planned=True)
    except ArtifactMissingError:
        if config.dataset is not None:
            raise
        return plan_from_catalogue(config)
    thinned = thinned_tasks(cut_subsequences(prepared))
    notes = [
        f"dataset {prepared.dataset.reference}, artifact name {prepared.name}",
        prepared.size(),
        prepared.start(),
    ]
    _, shorter = find_shorter_run(workspace, prepared.name, prepared.content(), prepared.parents)
    if shorter is not None:
        notes.append(f"goes on from {shorter.reference}, after {shorter.config['steps']:,} steps")
    if thinned:
        notes.append("episode sparsity: " + ", ".join(f"{t} 1/{k}" for t, k in thinned.items()))
    if config.random_map:
        notes.append("random maps: each window is seen through one of its own")
    return make_plan(config, prepared.model, prepared.hardware, notes)


def _prepare(config: TrainConfig, workspace: Workspace, *, planned: bool = False) -> Run:
    """Find everything a run refers to; devices and packages may be elsewhere if only planned."""
    from pipelines.datasets.reader import DatasetReader
    from pipelines.hardware import planned_hardware, resolve_hardware
    from pipelines.train.world import launched, local_world_size

    if config.track is not None and not planned:
        from pipelines.train.tracking import check_tracker

        check_tracker(config.track)
    dataset = workspace.find("datasets", config.dataset)
    data = DatasetReader(dataset)
    tasks = select_tasks(data, config.tasks, config.domains)
    model = model_config(config, tasks)
    init = None
    if config.init is not None:
        init = workspace.find(KIND, config.init)
        check_init(init, model)
    return Run(
        config=config,
        dataset=dataset,
        data=data,
        tasks=tasks,
        model=model,
        init=init,
        hardware=(planned_hardware if planned else resolve_hardware)(
            config.device,
            config.gpus,
            config.precision,
            config.threads,
            processes=local_world_size() if launched() else config.local_processes,
        ),
    )


def model_config(config: TrainConfig, tasks: list[DatasetTask]) -> ModelConfig:
    """Return the architecture for the groups of the given tasks.

    Raises:
        ConfigError: The overrides do not fit the preset, or two tasks of a group differ in size.
    """
    from pipelines.model.presets import preset

    overrides = {**config.model, "context": config.context}
    return preset(config.preset, group_dims(tasks), **overrides)


def _publish(prepared: Run, staging: Staging) -> Artifact:
    from pipelines.train.checkpoint import drop_checkpoints

    drop_checkpoints(staging)
    known = prepared.dataset.manifest.fingerprints
    return staging.publish(
        summary=staging.data(MODEL_UNIT)["summary"],
        work_items=[MODEL_UNIT],
        fingerprints={task.name: known[task.name] for task in prepared.tasks if task.name in known},
        packages=["torch"],
    )


def _report(artifact: Artifact, dataset: Artifact) -> dict[str, Any]:
    """Return what ``--json`` prints: the summary, where it is, and how long it took."""
    from pipelines.artifacts.work import LOG
    from pipelines.train.metrics import NAME, read_metrics

    rows = read_metrics(artifact.file(f"{LOG}/{NAME}"))
    seconds = rows[-1]["seconds"] if rows else None
    tokens = artifact.manifest.summary["tokens"]
    return {
        "checkpoint": artifact.reference,
        "path": str(artifact.path),
        "digest": artifact.digest,
        "dataset": dataset.reference,
        **artifact.manifest.summary,
        "seconds": seconds,
        "tokens_per_second": round(tokens / seconds, 1) if seconds else None,
    }
