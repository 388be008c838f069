"""The stage `train`: from a datasets artifact to a checkpoints artifact."""

from __future__ import annotations

from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.artifacts.artifact import Artifact
from pipelines.errors import ArtifactMissingError
from pipelines.reporter import NullReporter, Reporter
from pipelines.signals import StopSignal
from pipelines.stage import Plan, StageResult
from pipelines.text import counted
from pipelines.train.config import TrainConfig
from pipelines.train.data import held_out_tasks
from pipelines.train.run import (
    KIND,
    MODEL_UNIT,
    Run,
    check_processes,
    describe_held_out,
    describe_size,
    describe_start,
    find_shorter_run,
    prepare,
)

if TYPE_CHECKING:
    from pipelines.artifacts.staging import Staging
    from pipelines.artifacts.workspace import Workspace
    from pipelines.train.processes import ProcessGroup


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
        workspace: Where the dataset is and the model goes.
        reporter: Shows progress: one count a step, with `loss` and `tokens_per_second`.
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
    from pipelines.train.planning import doubts
    from pipelines.train.processes import joined_group, launched

    prepared = prepare(config, workspace)
    if not launched():
        reporter.info(describe_size(config, prepared.model))
        for doubt in doubts(config, prepared.hardware):
            reporter.warn(doubt)
        for task in held_out_tasks(prepared.data, config.tasks):
            reporter.warn(describe_held_out(task))
        check_processes(config)
    if not launched() and config.local_processes * config.nodes > 1:
        from pipelines.train.launch import launch

        outcome = launch(run, config, workspace, reporter, config.local_processes)
        artifact = Artifact(Path(outcome["path"]))
        report = _report(artifact, prepared.dataset)
        return StageResult(artifact=artifact, up_to_date=outcome["up_to_date"], report=report)
    with joined_group(prepared.hardware) as group:
        shown = reporter if group.writes else NullReporter()
        return _run_in(group, prepared, workspace, shown, stop)


def _run_in(
    group: ProcessGroup,
    prepared: Run,
    workspace: Workspace,
    reporter: Reporter,
    stop: StopSignal | None,
) -> StageResult:
    """Train as one of the processes; the one that writes has the staging directory."""
    from pipelines.train.assembly import train_model
    from pipelines.train.checkpoint import begin_after, checkpoints

    dataset = prepared.dataset
    reporter.info(f"dataset {dataset.reference}, {counted(len(prepared.tasks), 'task')}")
    if prepared.init is not None:
        reporter.info(describe_start(prepared.config, prepared.model, prepared.init))
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

        found = group.on_rank_0(begin)
        if not found["trained"]:
            staging = opened[0] if opened else None
            with StopSignal() if stop is None else nullcontext(stop) as signals:
                train_model(prepared, staging, reporter, signals, group, workspace.root)
        path = found["published"] or group.on_rank_0(
            lambda: str(_publish(prepared, opened[0]).path)
        )
    artifact = Artifact(Path(path))
    return StageResult(
        artifact=artifact,
        up_to_date=found["published"] is not None,
        report=_report(artifact, dataset),
        silent=not group.writes,
    )


def plan(config: TrainConfig, workspace: Workspace) -> Plan:
    """Return what a run would make: parameters by part, tokens, and an estimate of the time.

    Without any dataset the groups are those of the catalogue's training tasks, the paper's.

    Raises:
        ArtifactMissingError: The named dataset is not there.
        UsageError: The dataset does not hold a selected task.
        ConfigError: The configuration does not fit the dataset, as the run would say.
    """
    from pipelines.train.assembly import (
        cut_held_out,
        cut_subsequences,
        make_loader,
        thinned_tasks,
    )
    from pipelines.train.planning import make_plan, plan_from_catalogue
    from pipelines.train.processes import ProcessGroup

    check_processes(config)
    try:
        prepared = prepare(config, workspace, planned=True)
    except ArtifactMissingError:
        if config.dataset is not None or workspace.names("datasets"):
            raise
        return plan_from_catalogue(config, workspace)
    subsequences = cut_subsequences(prepared)
    # For what they refuse.
    make_loader(prepared, subsequences, ProcessGroup())
    if config.validation_fraction > 0:
        cut_held_out(prepared)
    thinned = thinned_tasks(subsequences)
    notes = [
        f"dataset {prepared.dataset.reference}, artifact name {prepared.name}",
        describe_size(config, prepared.model),
        describe_start(config, prepared.model, prepared.init),
        *map(describe_held_out, held_out_tasks(prepared.data, config.tasks)),
    ]
    _, shorter = find_shorter_run(workspace, prepared.name, prepared.content(), prepared.parents)
    if shorter is not None:
        notes.append(f"goes on from {shorter.reference}, after {shorter.config['steps']:,} steps")
    if thinned:
        notes.append("episode sparsity: " + ", ".join(f"{t} 1/{k}" for t, k in thinned.items()))
    if config.random_map:
        notes.append("random maps: each window is seen through one of its own")
    return make_plan(config, prepared.model, prepared.hardware, notes)


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
