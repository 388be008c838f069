"""The stage `train`: from a datasets artifact to a checkpoints artifact."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipelines.reporter import Reporter
from pipelines.stage import Plan, StageResult
from pipelines.train.config import NOT_CONTENT, TrainConfig
from pipelines.train.data import DataTask, TrainingData, group_dims, select_tasks

if TYPE_CHECKING:
    from pipelines.artifacts.artifact import Artifact
    from pipelines.artifacts.staging import Staging
    from pipelines.artifacts.workspace import Workspace
    from pipelines.model.config import ModelConfig
    from pipelines.model.saved import SavedTask
    from pipelines.signals import StopSignal
    from pipelines.train.device import Hardware

_KIND = "checkpoints"
_MODEL_UNIT, _LOG_UNIT = "model", "log"


@dataclass(frozen=True)
class _Run:
    config: TrainConfig
    dataset: Artifact
    data: TrainingData
    tasks: list[DataTask]
    model: ModelConfig
    hardware: Hardware

    @property
    def name(self) -> str:
        if self.config.name:
            return self.config.name
        method = "" if self.config.method == "ad" else f"-{self.config.method}"
        return f"{self.dataset.manifest.name}-{self.config.preset}{method}"

    def content(self) -> dict[str, Any]:
        """Return what decides the result: the configuration with everything resolved."""
        from pipelines.model.attention import resolve_backend

        return {
            **self.config.model_dump(mode="json", exclude={*NOT_CONTENT, "domains"}),
            "tasks": [task.name for task in self.tasks],
            "model": self.model.model_dump(mode="json"),
            "attention": resolve_backend(self.config.attention),
            "device": self.hardware.device,
            "precision": self.hardware.precision,
            "threads": self.hardware.threads,
        }


def run(
    config: TrainConfig,
    workspace: Workspace,
    reporter: Reporter,
    *,
    stop: StopSignal | None = None,
) -> StageResult:
    """Train a model and publish it, going on from the last durable checkpoint if there is one.

    Args:
        config: The run.
        workspace: Where the dataset is and the model goes.
        reporter: Told about progress: one count a step, with `loss` and `tokens_per_second`.
        stop: Asks the run to stop between two steps; signals do if None.

    Raises:
        ArtifactMissingError: There is no such dataset.
        UsageError: The dataset does not hold a selected task.
        ConfigError: The configuration does not fit the dataset.
        MissingDependencyError: The device is not there.
        LockedError: Another process writes under this name.
        InterruptedRunError: A signal came; the state is durable.
        VintixError: The loss is not finite.
    """
    from pipelines.signals import StopSignal

    prepared = _prepare(config, workspace)
    dataset = prepared.dataset
    reporter.info(f"dataset {dataset.reference}, {len(prepared.tasks)} tasks")
    staging = workspace.stage(
        _KIND,
        prepared.name,
        config=prepared.content(),
        parents=[dataset],
        seeds={"seed": config.seed},
    )
    with staging:
        if staging.published is not None:
            return StageResult(
                artifact=staging.published,
                up_to_date=True,
                report=_report(staging.published, dataset),
            )
        if not staging.done(_MODEL_UNIT):
            if stop is not None:
                _train(prepared, staging, reporter, stop)
            else:
                with StopSignal() as signals:
                    _train(prepared, staging, reporter, signals)
        artifact = _publish(prepared, staging)
    return StageResult(artifact=artifact, up_to_date=False, report=_report(artifact, dataset))


def plan(config: TrainConfig, workspace: Workspace) -> Plan:
    """Return what a run would make: parameters by part, tokens, and an estimate of the time.

    Without any dataset the groups are those of the catalogue's training tasks, the paper's.

    Raises:
        ArtifactMissingError: The named dataset is not there.
        UsageError: The dataset does not hold a selected task.
        ConfigError: The configuration does not fit the dataset.
        MissingDependencyError: The device is not there.
    """
    from pipelines.errors import ArtifactMissingError
    from pipelines.train.planning import make_plan, plan_from_catalogue

    try:
        prepared = _prepare(config, workspace)
    except ArtifactMissingError:
        if config.dataset is not None:
            raise
        return plan_from_catalogue(config)
    thinned = _lanes_and_thinned(prepared)[1]
    notes = [f"dataset {prepared.dataset.reference}, artifact name {prepared.name}"]
    if thinned:
        notes.append("episode sparsity: " + ", ".join(f"{t} 1/{k}" for t, k in thinned.items()))
    return make_plan(config, prepared.model, prepared.hardware, notes)


def _prepare(config: TrainConfig, workspace: Workspace) -> _Run:
    from pipelines.datasets.reader import DatasetReader
    from pipelines.train.device import resolve_hardware

    dataset = workspace.find("datasets", config.dataset)
    data: TrainingData = DatasetReader(dataset)
    tasks = select_tasks(data, config.tasks, config.domains)
    return _Run(
        config=config,
        dataset=dataset,
        data=data,
        tasks=tasks,
        model=model_config(config, tasks),
        hardware=resolve_hardware(config.device, config.gpus, config.precision, config.threads),
    )


def model_config(config: TrainConfig, tasks: list[DataTask]) -> ModelConfig:
    """Return the architecture for the groups of the given tasks.

    Raises:
        ConfigError: The overrides do not fit the preset, or two tasks of a group differ in size.
    """
    from pipelines.model.presets import preset

    overrides = {**config.model, "context": config.context}
    return preset(config.preset, group_dims(tasks), **overrides)


def _lanes_and_thinned(prepared: _Run) -> tuple[Any, dict[str, int]]:
    from pipelines.train.lanes import build_lanes

    lanes = build_lanes(
        prepared.data,
        prepared.tasks,
        context=prepared.config.context,
        method=prepared.config.method,
        episode_sparsity=prepared.config.episode_sparsity,
    )
    thinned = {name: each[0].every for name, each in lanes.items() if each[0].every > 1}
    return lanes, thinned


def _train(prepared: _Run, staging: Staging, reporter: Reporter, stop: StopSignal) -> None:
    """Train to the last step and make the model a durable unit."""
    from pipelines.model.saved import save_model
    from pipelines.model.vintix import Vintix
    from pipelines.train.checkpoint import layout, write_optimizer
    from pipelines.train.device import torch_threads
    from pipelines.train.loader import BatchLoader
    from pipelines.train.loop import train
    from pipelines.train.sampler import WindowSampler

    config, hardware = prepared.config, prepared.hardware
    lanes, thinned = _lanes_and_thinned(prepared)
    sampler = WindowSampler(
        lanes,
        context=config.context,
        batch_size=config.sequences_per_step,
        seed=config.seed,
        sampling=config.sampling,
    )
    loader = BatchLoader(
        prepared.data,
        prepared.tasks,
        lanes,
        sampler,
        prepared.model,
        accumulation=config.gradient_accumulation,
        mask_rewards=config.method == "ad-no-reward",
        pin=hardware.device == "cuda",
    )
    model = Vintix(prepared.model, attention=config.attention, seed=config.seed)
    model.to(hardware.torch_device)
    reporter.info(
        f"{sum(one.numel() for one in model.parameters()):,} parameters on {hardware.device} "
        f"({hardware.precision}, {hardware.threads} threads, attention "
        f"{model.transformer.attention})"
    )
    with torch_threads(hardware.threads):
        optimizer, recent = train(model, loader, config, hardware, staging, reporter, stop)
    with staging.unit(_MODEL_UNIT) as unit:
        save_model(
            unit,
            model,
            step=config.steps,
            method=config.method,
            tasks=_saved_tasks(prepared),
        )
        parameters = layout(model)
        group = unit.group("optimizer", {"step": config.steps, "parameters": parameters})
        write_optimizer(group, model, optimizer)
        unit.data["summary"] = {
            "preset": config.preset,
            "method": config.method,
            "parameters": sum(size for _, size in parameters),
            "steps": config.steps,
            "tokens": config.steps * config.tokens_per_step,
            "context": config.context,
            "tasks": len(prepared.tasks),
            "groups": len(prepared.model.groups),
            "shares": sampler.shares(),
            "episode_sparsity": thinned,
            "loss": _mean([row["loss"] for row in recent]),
            "domains": _mean_by_domain(recent),
        }


def _publish(prepared: _Run, staging: Staging) -> Artifact:
    from pipelines.artifacts.staging import LOG
    from pipelines.train.checkpoint import drop_checkpoints
    from pipelines.train.metrics import NAME

    if not staging.done(_LOG_UNIT):
        lines = (staging.directory / LOG / NAME).read_bytes()
        with staging.unit(_LOG_UNIT) as unit:
            unit.write_log(NAME, lines)
    drop_checkpoints(staging)
    known = prepared.dataset.manifest.fingerprints
    return staging.publish(
        summary=staging.data(_MODEL_UNIT)["summary"],
        fingerprints={task.name: known[task.name] for task in prepared.tasks if task.name in known},
        packages=["torch"],
    )


def _saved_tasks(prepared: _Run) -> Mapping[str, SavedTask]:
    """Return every task of the dataset that the model has a group for."""
    from pipelines.model.saved import SavedTask
    from pipelines.train.loader import task_statistics

    trained = {task.name for task in prepared.tasks}
    saved = {}
    for name, task in prepared.data.tasks.items():
        dims = prepared.model.groups.get(task.group)
        if dims is None or (dims.observation_dim, dims.action_dim) != (
            task.observation_dim,
            task.action_dim,
        ):
            continue
        saved[name] = SavedTask(
            name=name,
            group=task.group,
            statistics=task_statistics(task),
            trained=name in trained,
            task=task.attributes.get("task", {}),
            options=task.attributes.get("options", {}),
            scores=task.attributes.get("scores", {}),
        )
    return saved


def _report(artifact: Artifact, dataset: Artifact) -> dict[str, Any]:
    """Return what ``--json`` prints: the summary, where it is, and how long it took."""
    from pipelines.artifacts.staging import LOG
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


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _mean_by_domain(rows: list[dict[str, Any]]) -> dict[str, float]:
    domains = sorted({domain for row in rows for domain in row["domains"]})
    return {
        domain: _mean([row["domains"][domain] for row in rows if domain in row["domains"]])
        for domain in domains
    }
