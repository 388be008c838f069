"""``vintix distill``: the histories of many tasks over worker processes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.cluster import load_ray
from pipelines.demonstrators import stage as demonstrators
from pipelines.distill.block import Block, find_position
from pipelines.distill.history import check_episodes, drop_units, summarize
from pipelines.distill.learning import PACKAGES
from pipelines.distill.plan import (
    Distillation,
    TaskPlan,
    builtin_demonstrators,
    plan,
    resolve,
)
from pipelines.errors import VintixError, tasks_failed
from pipelines.parallel import Outcome, run_parallel
from pipelines.stage import StageResult

if TYPE_CHECKING:
    from pipelines.artifacts.artifact import Artifact
    from pipelines.artifacts.staging import Staging
    from pipelines.artifacts.workspace import Workspace
    from pipelines.distill.config import DistillConfig
    from pipelines.distill.shard import Shard
    from pipelines.policies.base import PolicySpec
    from pipelines.reporter import Advance, Reporter
    from pipelines.tasks.spec import TaskSpec

__all__ = ["plan", "run"]


def run(config: DistillConfig, workspace: Workspace, reporter: Reporter) -> StageResult:
    """Collect learning histories, or go on where an earlier run stopped.

    Args:
        config: What to collect.
        workspace: Where the demonstrators are and the histories go. Where it has none of the
            chosen tasks, those of the package are measured and published there first.
        reporter: Told of progress.

    Returns:
        The published histories artifact, or with `config.shard` the part, and a report of every
        history in it.

    Raises:
        UsageError: A task, domain or option is unknown.
        ArtifactMissingError: Tasks have no demonstrator.
        ConfigError: An environment is not the one that the demonstrators were measured on, and
            `config.strict`; or has changed since the staged part was collected; or a history has
            not one complete episode.
        TasksFailedError: Some tasks failed; what the others collected is staged.
        InterruptedRunError: A signal stopped the run; whole shards are staged.
        MissingDependencyError: `config.executor` is ``ray``, and Ray is not there.
        StorageError, LockedError: The workspace cannot be written.
    """
    builtin = builtin_demonstrators(config, workspace)
    if builtin is not None:
        reporter.info(
            "no demonstrators of these tasks in the workspace: measuring those of the package"
        )
        made = demonstrators.run(builtin, workspace, reporter).artifact
        config = config.model_copy(update={"demonstrators": made.reference})
    whole = resolve(config, workspace)
    kind, name, settings = _target(whole, config.shard)
    distillation = whole.share(config.shard)
    reporter.info(f"demonstrators: {distillation.demonstrators.reference}")
    for note in distillation.notes:
        reporter.warn(note)
    with workspace.stage(
        kind,
        name,
        config=settings,
        parents=[distillation.demonstrators],
        seeds={"seed": config.seed},
    ) as staging:
        if staging.published is not None:
            return _result(staging.published, True)
        reporter.info(staging.place())
        if config.executor == "ray":
            # Before minutes of other work.
            load_ray()
        drop_units(staging, merged=True)
        fingerprints = _fingerprints(distillation, staging, config, reporter)
        distillation = _fit(distillation, staging, config, reporter)
        _collect(distillation, staging, config, reporter)
        order = [each.task.name for each in whole.tasks] if config.shard else None
        reports = [_close_task(each, staging, order) for each in distillation.tasks]
        if config.shard is None:
            # The episodes of a plan's parts are counted together, when they are merged.
            horizons = {each.task.name: each.task.horizon for each in distillation.tasks}
            check_episodes(reports, horizons, staging.directory)
        artifact = staging.publish(
            summary=summarize(reports),
            work_items=[unit for each in distillation.tasks for unit in _units(each)],
            fingerprints=fingerprints,
            packages=_packages(distillation),
        )
    return _result(artifact, False)


def _target(distillation: Distillation, shard: Shard | None) -> tuple[str, str, dict[str, Any]]:
    """Return kind, name and configuration of the artifact to make."""
    if shard is None:
        return "histories", distillation.name, distillation.as_config()
    settings = {**distillation.as_config(), "shard": shard.as_config()}
    return "parts", shard.part_name(distillation.name), settings


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
        staging,
        config.workers,
        reporter,
        _cluster(config, staging),
    )
    if failed:
        raise _failure(failed, distillation, staging)
    return replace(distillation, tasks=tasks)


def _cluster(config: DistillConfig, staging: Staging) -> Path | None:
    """Return the directory that the nodes have to share, where there are any."""
    return staging.directory if config.executor == "ray" else None


@dataclass(frozen=True, slots=True)
class _CollectJob:
    """A block to collect.

    Attributes:
        block: The block.
        policy: The demonstrator. Opening its artifact in every job takes longer than a short block.
        directory: The staging directory.
        fingerprint: What the environment has to be like where the job runs; None where that is
            known.
    """

    block: Block
    policy: PolicySpec
    directory: Path
    fingerprint: Mapping[str, Any] | None


def _collect_job(job: _CollectJob, advance: Advance) -> None:
    """Build environment and demonstrator and collect a block; runs in a worker."""
    from pipelines.artifacts.work import StagedWork
    from pipelines.distill.collect import collect_block
    from pipelines.distill.learning import record_training
    from pipelines.domains.checked import make_batch
    from pipelines.domains.registry import domain_of
    from pipelines.policies.registry import build_policy
    from pipelines.rng import derive_seed

    block = job.block
    _check_node(job)
    # Looked up here and now: a job whose node died is given to another one with the same words.
    position = find_position(StagedWork(job.directory), block)
    domain = domain_of(block.task)
    if block.training is not None:
        record_training(
            block, domain, job.policy, job.directory, position=position, progress=advance
        )
        return
    seeds = [
        derive_seed(block.seed, "distill", block.task.name, trajectory, "stream")
        for trajectory in block.trajectories
    ]
    environment = make_batch(domain, block.task, len(seeds), block.options, seeds)
    try:
        policy = build_policy(
            job.policy,
            environment.action_low_A,
            environment.action_high_A,
            domain.policies(),
        )
        collect_block(
            block,
            environment,
            policy,
            job.directory,
            position=position,
            progress=advance,
        )
    finally:
        environment.close()


def _check_node(job: _CollectJob) -> None:
    """Compare the environment of a cluster's node with that of the machine that leads the run.

    Raises:
        ConfigError: It is another one.
    """
    import socket

    from pipelines.playing.fingerprint import check_same_environment, fingerprint

    if job.fingerprint is None:
        return
    task = job.block.task
    check_same_environment(
        job.fingerprint,
        fingerprint(task, job.block.options),
        "the environment on a node is not that of the machine that leads the run",
        where=f"task {task.name}, node {socket.gethostname()}",
        fix="install the same packages on all nodes",
    )


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
            reporter.warn(f"{block.task.name}: {'; '.join(outcome.error.parts())}")
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
    cluster = _cluster(config, staging)
    policies = {each.task.name: each.demonstrator.spec for each in distillation.tasks}
    jobs = [
        _CollectJob(
            block=block,
            policy=policies[block.task.name],
            directory=staging.directory,
            fingerprint=None
            if cluster is None
            else staging.data(_environment_unit(block.task.name))["fingerprint"],
        )
        for block in blocks
    ]
    positions = [find_position(staging, block) for block in blocks]
    waiting = [index for index, at in enumerate(positions) if at.shard < blocks[index].shards]
    total = sum(
        blocks[index].total_steps
        - positions[index].shard * blocks[index].shard_rows * len(positions[index].durable)
        for index in waiting
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
        on_done=_task_teller([blocks[index] for index in waiting], reporter),
        cluster=cluster,
    )
    for index, outcome in zip(waiting, done, strict=True):
        outcomes[index] = outcome
    return outcomes


def _task_teller(
    blocks: Sequence[Block], reporter: Reporter
) -> Callable[[int, Outcome[None]], None]:
    """Return what tells of each task whose last block has been collected."""
    left = Counter(block.task.name for block in blocks)
    failed: set[str] = set()
    collected: list[str] = []

    def tell(index: int, outcome: Outcome[None]) -> None:
        name = blocks[index].task.name
        left[name] -= 1
        if outcome.error is not None:
            failed.add(name)
        if left[name] == 0 and name not in failed:
            collected.append(name)
            reporter.info(f"{name}: collected ({len(collected)} of {len(left)} tasks)")

    return tell


@dataclass(frozen=True, slots=True)
class _FingerprintJob:
    task: TaskSpec
    options: Mapping[str, Any]


def _fingerprint_job(job: _FingerprintJob, advance: Advance) -> dict[str, Any]:
    from pipelines.playing.fingerprint import fingerprint

    found = fingerprint(job.task, job.options)
    advance(1)
    return dict(found)


def _fingerprints(
    distillation: Distillation, staging: Staging, config: DistillConfig, reporter: Reporter
) -> dict[str, Any]:
    """Return the fingerprint of each environment, compared with the demonstrators' and staged."""
    from pipelines.playing.fingerprint import check_same_environment

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
            check_same_environment(
                recorded[name],
                found[name],
                f"the environment of {name} is not the one that the demonstrator was measured on",
                where=f"demonstrators {distillation.demonstrators.reference}",
                fix=f"vintix demonstrators --task {name}, or run without --strict",
                warn=None if config.strict else reporter.warn,
            )
        _check_staged(name, found[name], staging)
    return found


def _check_staged(task: str, found: Mapping[str, Any], staging: Staging) -> None:
    """Keep the fingerprint that a task's first shards were made with.

    Raises:
        ConfigError: Another simulator has made the staged shards.
    """
    from pipelines.playing.fingerprint import check_same_environment

    unit = _environment_unit(task)
    if not staging.done(unit):
        with staging.work_item(unit) as record:
            record.data["fingerprint"] = dict(found)
        return
    check_same_environment(
        staging.data(unit)["fingerprint"],
        found,
        "the environment has changed since the staged part of this history was collected",
        where=f"task {task}, {staging.directory}",
        expected="the environment of the first part",
        fix=f"restore the packages, or delete {staging.directory} to begin again",
    )


def _environment_unit(task: str) -> str:
    return f"environment/{task}"


def _close_task(each: TaskPlan, staging: Staging, order: list[str] | None) -> dict[str, Any]:
    """Write the attributes of a task's group and return its report.

    Args:
        each: The task.
        staging: Where its rows are.
        order: All tasks of the plan, for a part; None for a whole history.
    """
    from pipelines.distill.history import close_task, task_attributes
    from pipelines.distill.pilot import pilot_record

    return close_task(
        staging,
        each.task.name,
        task_attributes(each, pilot_record(each, staging)),
        sorted(trajectory for block in each.blocks for trajectory in block.trajectories),
        place=None if order is None else order.index(each.task.name),
    )


def _units(each: TaskPlan) -> list[str]:
    """Return the units that hold the history of a task."""
    return [each.task.name, *(unit for block in each.blocks for unit in block.units())]


def _packages(distillation: Distillation) -> list[str]:
    from pipelines.domains.registry import domain_of

    names = {name for each in distillation.tasks for name in domain_of(each.task).packages}
    if any(each.blocks[0].training for each in distillation.tasks):
        names.update(PACKAGES)
    return sorted(names)
