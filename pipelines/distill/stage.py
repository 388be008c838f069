"""``vintix distill``: noise distillation of many tasks over worker processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.distill.block import Block, Position, find_position
from pipelines.distill.plan import Distillation, TaskPlan, plan, resolve
from pipelines.distill.report import describe_returns
from pipelines.errors import (
    ConfigError,
    VintixError,
    tasks_failed,
)
from pipelines.parallel import Advance, Outcome, run_parallel
from pipelines.stage import StageResult
from pipelines.tasks.schedule import schedule_json

if TYPE_CHECKING:
    from pipelines.artifacts.artifact import Artifact
    from pipelines.artifacts.staging import Staging
    from pipelines.artifacts.workspace import Workspace
    from pipelines.distill.config import DistillConfig
    from pipelines.reporter import Reporter
    from pipelines.tasks.spec import TaskSpec

__all__ = ["plan", "run"]


def run(config: DistillConfig, workspace: Workspace, reporter: Reporter) -> StageResult:
    """Collect learning histories, or go on where an earlier run stopped.

    Args:
        config: What to collect.
        workspace: Where the demonstrators are and the histories go.
        reporter: Told of progress.

    Returns:
        The published histories artifact and a report of every history.

    Raises:
        UsageError: A task, domain or option is unknown.
        ArtifactMissingError: Tasks have no demonstrator.
        ConfigError: An environment is not the one that the demonstrators were measured on, and
            `config.strict`; or has changed since the staged part was collected.
        TasksFailedError: Some tasks failed; what the others collected is staged.
        InterruptedRunError: A signal stopped the run; whole shards are staged.
        StorageError, LockedError: The workspace cannot be written.
    """
    distillation = resolve(config, workspace)
    reporter.info(f"demonstrators: {distillation.demonstrators.reference}")
    for note in distillation.notes:
        reporter.warn(note)
    with workspace.stage(
        "histories",
        distillation.name,
        config=distillation.as_config(),
        parents=[distillation.demonstrators],
        seeds={"seed": config.seed},
    ) as staging:
        if staging.published is not None:
            return _result(staging.published, True)
        fingerprints = _fingerprints(distillation, staging, config, reporter)
        distillation = _fit(distillation, staging, config, reporter)
        _collect(distillation, staging, config, reporter)
        reports = [_finish_task(each, staging) for each in distillation.tasks]
        summary = {
            "tasks": reports,
            "steps": sum(each.total_steps for each in distillation.tasks),
        }
        artifact = staging.publish(
            summary=summary, fingerprints=fingerprints, packages=_packages(distillation)
        )
    return _result(artifact, False)


def _result(artifact: Artifact, up_to_date: bool) -> StageResult:
    parents = [f"{each.name}@v{each.version}" for each in artifact.manifest.parents]
    return StageResult(
        artifact, up_to_date, {**artifact.manifest.summary, "demonstrators": parents[0]}
    )


def _fit(
    distillation: Distillation, staging: Staging, config: DistillConfig, reporter: Reporter
) -> Distillation:
    """Return the distillation with the decays that its pilots found."""
    if not any(each.fit for each in distillation.tasks):
        return distillation
    from pipelines.distill.pilot import fit_schedules

    tasks, failed = fit_schedules(
        distillation.tasks,
        distillation.demonstrators.path,
        staging,
        config.workers,
        reporter,
    )
    if failed:
        raise _failure(failed, distillation, staging)
    return replace(distillation, tasks=tasks)


@dataclass(frozen=True, slots=True)
class _CollectJob:
    block: Block
    position: Position
    demonstrators: Path
    directory: Path


def _collect_job(job: _CollectJob, advance: Advance) -> None:
    """Build environment and demonstrator and collect a block; runs in a worker."""
    from pipelines.artifacts.artifact import Artifact
    from pipelines.demonstrators.reader import load_demonstrator
    from pipelines.distill.collect import collect_block
    from pipelines.domains.registry import domain_of
    from pipelines.policies.registry import build_policy
    from pipelines.rng import derive_seed

    block = job.block
    domain = domain_of(block.task)
    seeds = [
        derive_seed(block.seed, "distill", block.task.name, trajectory, "stream")
        for trajectory in block.trajectories
    ]
    environment = domain.make_batch(block.task, len(seeds), block.options, seeds)
    try:
        policy = build_policy(
            load_demonstrator(Artifact(job.demonstrators), block.task.name).spec,
            environment.action_low_A,
            environment.action_high_A,
            domain.policies(),
        )
        collect_block(
            block,
            environment,
            policy,
            job.directory,
            position=job.position,
            progress=advance,
        )
    finally:
        environment.close()


def _collect(
    distillation: Distillation, staging: Staging, config: DistillConfig, reporter: Reporter
) -> None:
    """Run every block to its end.

    Raises:
        TasksFailedError: Some did not get there.
        InterruptedRunError: A signal came.
    """
    from pipelines.distill.collect import ReplayError

    ordered = sorted(distillation.tasks, key=lambda each: -each.seconds / len(each.blocks))
    pending = [block for each in ordered for block in each.blocks]
    outcomes = _collect_blocks(pending, distillation, staging, config, reporter)
    again = [
        block
        for block, outcome in zip(pending, outcomes, strict=True)
        if isinstance(outcome.error, ReplayError)
    ]
    if again:
        # Nothing recorded is wrong, but what would follow it could not be reproduced.
        for block in again:
            reporter.warn(
                f"{block.task.name}: the environment does not repeat a recorded episode; "
                f"trajectories {block.trajectories[0]} to {block.trajectories[-1]} are collected "
                "from their beginning"
            )
            for unit in block.units():
                if staging.done(unit):
                    staging.drop(unit)
        second = iter(_collect_blocks(again, distillation, staging, config, reporter))
        outcomes = [
            next(second) if isinstance(outcome.error, ReplayError) else outcome
            for outcome in outcomes
        ]
    failed: dict[str, VintixError] = {}
    for block, outcome in zip(pending, outcomes, strict=True):
        if outcome.error is not None:
            reporter.warn(f"{block.task.name}: {outcome.error}")
            failed.setdefault(block.task.name, outcome.error)
    if failed:
        raise _failure(failed, distillation, staging)


def _failure(
    failed: Mapping[str, VintixError], distillation: Distillation, staging: Staging
) -> VintixError:
    return tasks_failed(
        failed,
        len(distillation.tasks),
        where=staging.directory,
        fix="run the same command again: what was collected is staged; or choose the others "
        "with --task",
    )


def _collect_blocks(
    blocks: Sequence[Block],
    distillation: Distillation,
    staging: Staging,
    config: DistillConfig,
    reporter: Reporter,
) -> list[Outcome[None]]:
    jobs = [
        _CollectJob(
            block=block,
            position=find_position(staging, block),
            demonstrators=distillation.demonstrators.path,
            directory=staging.directory,
        )
        for block in blocks
    ]
    waiting = [index for index, job in enumerate(jobs) if job.position.shard < job.block.shards]
    total = sum(
        (job.block.steps - job.position.shard * job.block.shard_rows) * len(job.position.durable)
        for job in (jobs[index] for index in waiting)
    )
    outcomes: list[Outcome[None]] = [Outcome()] * len(jobs)
    if not waiting:
        return outcomes
    done = run_parallel(
        _collect_job,
        [jobs[index] for index in waiting],
        config.workers,
        reporter,
        label="distill",
        total=total,
        unit="steps",
    )
    for index, outcome in zip(waiting, done, strict=True):
        outcomes[index] = outcome
    return outcomes


@dataclass(frozen=True, slots=True)
class _FingerprintJob:
    task: TaskSpec
    options: Mapping[str, Any]


def _fingerprint_job(job: _FingerprintJob, advance: Advance) -> dict[str, Any]:
    from pipelines.domains.registry import fingerprint

    found = fingerprint(job.task, job.options)
    advance(1)
    return dict(found)


def _fingerprints(
    distillation: Distillation, staging: Staging, config: DistillConfig, reporter: Reporter
) -> dict[str, Any]:
    """Return the fingerprint of each environment, compared with the demonstrators' and staged."""
    from pipelines.domains.registry import compare_fingerprints

    jobs = [_FingerprintJob(each.task, each.blocks[0].options) for each in distillation.tasks]
    outcomes = run_parallel(
        _fingerprint_job,
        jobs,
        # A worker takes a second to start, longer than the fingerprints of a few tasks.
        1 if len(jobs) < 8 else config.workers,
        reporter,
        label="check environments",
        total=len(jobs),
        unit="tasks",
    )
    names = [job.task.name for job in jobs]
    failed = {
        name: outcome.error
        for name, outcome in zip(names, outcomes, strict=True)
        if outcome.error is not None
    }
    if failed:
        raise _failure(failed, distillation, staging)
    found = {
        name: outcome.value
        for name, outcome in zip(names, outcomes, strict=True)
        if outcome.value is not None
    }
    recorded = distillation.demonstrators.manifest.fingerprints
    for each in distillation.tasks:
        name = each.task.name
        changed_options = dict(each.blocks[0].options) != each.demonstrator.options
        if name in recorded and not changed_options:
            differences = compare_fingerprints(recorded[name], found[name])
            if differences:
                _tell_difference(name, differences, distillation, config, reporter)
        _check_staged(name, found[name], staging)
    return found


def _tell_difference(
    task: str,
    differences: Sequence[str],
    distillation: Distillation,
    config: DistillConfig,
    reporter: Reporter,
) -> None:
    message = "the environment is not the one that the demonstrator was measured on"
    if config.strict:
        raise ConfigError(
            message,
            where=f"task {task}, demonstrators {distillation.demonstrators.reference}",
            expected="equal fingerprints",
            found="; ".join(differences),
            fix=f"vintix demonstrators --task {task}, or run without --strict",
        )
    reporter.warn(f"{task}: {message}: {'; '.join(differences)}")


def _check_staged(task: str, found: Mapping[str, Any], staging: Staging) -> None:
    """Keep the fingerprint that a task's first shards were made with.

    Raises:
        ConfigError: Another simulator has made the staged shards.
    """
    from pipelines.domains.registry import compare_fingerprints

    unit = f"environment/{task}"
    if not staging.done(unit):
        with staging.unit(unit) as record:
            record.data["fingerprint"] = dict(found)
        return
    differences = compare_fingerprints(staging.data(unit)["fingerprint"], found)
    if differences:
        raise ConfigError(
            "the environment has changed since the staged part of this history was collected",
            where=f"task {task}, {staging.directory}",
            expected="the environment of the first part",
            found="; ".join(differences),
            fix=f"restore the packages, or delete {staging.directory} to begin again",
        )


def _finish_task(each: TaskPlan, staging: Staging) -> dict[str, Any]:
    """Write the attributes of a task's group and return its report."""
    import numpy as np

    from pipelines.histories.layout import trajectory_path

    name = each.task.name
    if staging.done(name):
        report: dict[str, Any] = staging.data(name)["report"]
        return report
    returns, complete = [], []
    block = each.blocks[0]
    for trajectory in range(each.trajectories):
        group = staging.group(trajectory_path(name, trajectory))
        returns.append(np.asarray(group["episode_return"][...]))  # type: ignore[index]
        # The last flag that the environment raised tells whether its last episode was finished.
        complete.append(
            bool(group["terminated"][-1]) or bool(group["truncated"][-1])  # type: ignore[index]
        )
    whole = [
        values if finished else values[:-1]
        for values, finished in zip(returns, complete, strict=True)
    ]
    card = each.demonstrator.card
    measured = {
        "random": float(card["random"]["mean"]),
        "expert": float(card["expert"]["mean"]),
        "random_std": float(card["random"]["std"]),
        "expert_std": float(card["expert"]["std"]),
    }
    scores = {reference: score.as_json() for reference, score in each.task.scores.items()}
    report = {
        "task": name,
        "trajectories": each.trajectories,
        "steps": each.total_steps,
        **describe_returns(whole),
        "measured": measured,
    }
    with staging.unit(name) as unit:
        unit.group(
            name,
            {
                "task": each.task.as_json(),
                "schedule": schedule_json(block.schedule),
                **_pilot(each, staging),
                "options": dict(block.options),
                "scores": {**scores, "measured": measured},
                "steps": block.steps,
                "trajectories": each.trajectories,
                "shard_rows": block.shard_rows,
                "last_episode_complete": complete,
            },
        )
        unit.data["report"] = report
    return report


def _pilot(each: TaskPlan, staging: Staging) -> dict[str, Any]:
    """Return the attribute ``pilot`` of a history whose decay was fitted."""
    if each.fit is None:
        return {}
    from pipelines.distill.pilot import pilot_record

    return {"pilot": pilot_record(each, staging)}


def _packages(distillation: Distillation) -> list[str]:
    from pipelines.domains.registry import domain_of

    return sorted({name for each in distillation.tasks for name in domain_of(each.task).packages})
