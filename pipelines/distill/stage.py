"""``vintix distill``: the histories of many tasks over worker processes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.cluster import RayCluster
from pipelines.demonstrators import stage as demonstrators
from pipelines.distill.block import Block, find_position
from pipelines.distill.choice import builtin_demonstrators
from pipelines.distill.history import (
    TaskHistory,
    drop_work,
    history_result,
    publish_history,
    task_attributes,
)
from pipelines.distill.learning import PACKAGES
from pipelines.distill.pilot import PilotJob, describe_fit, run_pilot
from pipelines.distill.plan import Distillation, TaskPlan, plan, resolve
from pipelines.errors import VintixError, tasks_failed
from pipelines.parallel import Outcome, Pool, WorkerPool, run_parallel
from pipelines.tasks.schedule import schedule_from_json

if TYPE_CHECKING:
    from pipelines.artifacts.staging import Staging
    from pipelines.artifacts.workspace import Workspace
    from pipelines.distill.config import DistillConfig
    from pipelines.distill.partition import Partition
    from pipelines.distill.response import Response
    from pipelines.policies.base import PolicySpec
    from pipelines.reporter import Advance, Reporter
    from pipelines.stage import StageResult
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
    distillation = whole.of_partition(config.shard)
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
            return history_result(staging.published, True)
        reporter.info(staging.place())
        # Fail fast if Ray is missing.
        pool: Pool = (
            RayCluster(staging.directory, config.workers)
            if config.executor == "ray"
            else WorkerPool(config.workers)
        )
        drop_work(staging, merged=True)
        with pool:
            collection = Collection(distillation, staging, reporter, pool)
            fingerprints = collection.check_environments(strict=config.strict)
            collection.fit_schedules()
            collection.collect()
            tasks = collection.distillation.tasks
        order = [each.task.name for each in whole.tasks] if config.shard else None
        artifact = publish_history(
            staging,
            [_task_history(each, staging, order) for each in tasks],
            fingerprints=fingerprints,
            packages=_packages(distillation),
        )
    return history_result(artifact, False)


def _target(
    distillation: Distillation, partition: Partition | None
) -> tuple[str, str, dict[str, Any]]:
    """Return kind, name and configuration of the artifact to make."""
    if partition is None:
        return "histories", distillation.name, distillation.as_config()
    settings = {**distillation.as_config(), "shard": partition.as_config()}
    return "parts", partition.part_name(distillation.name), settings


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
            job.policy, environment.action_low_A, environment.action_high_A, domain.policies()
        )
        collect_block(
            block, environment, policy, job.directory, position=position, progress=advance
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


@dataclass(frozen=True, slots=True)
class _FingerprintJob:
    task: TaskSpec
    options: Mapping[str, Any]


def _fingerprint_job(job: _FingerprintJob, advance: Advance) -> dict[str, Any]:
    from pipelines.playing.fingerprint import fingerprint

    found = fingerprint(job.task, job.options)
    advance(1)
    return dict(found)


class Collection:
    """The three steps of a distillation that run in worker processes.

    Args:
        distillation: What to collect; its schedules are those found once `fit_schedules` has run.
        staging: Where everything is staged.
        reporter: Told of progress.
        pool: Where the jobs run.
    """

    def __init__(
        self, distillation: Distillation, staging: Staging, reporter: Reporter, pool: Pool
    ) -> None:
        self.distillation = distillation
        self._staging, self._reporter, self._pool = staging, reporter, pool

    def check_environments(self, *, strict: bool) -> dict[str, Any]:
        """Return the fingerprint of each environment, compared with the demonstrators' and staged.

        Raises:
            ConfigError: One differs from what the staged shards were made with, or, under
                `strict`, from the demonstrators'.
            TasksFailedError: Some environments cannot be made.
        """
        from pipelines.playing.fingerprint import check_same_environment

        jobs = [
            _FingerprintJob(each.task, each.blocks[0].options) for each in self.distillation.tasks
        ]
        # Those of a few tasks take less time than workers need to start, and those of a cluster
        # are compared with this machine's.
        few = len(jobs) < 8
        outcomes = run_parallel(
            _fingerprint_job,
            jobs,
            1 if few else self._pool.workers if self._pool.remote else self._pool,
            self._reporter,
            label="check environments",
            total=len(jobs),
            unit="tasks",
        )
        names = [job.task.name for job in jobs]
        self._raise_failures(zip(names, outcomes, strict=True))
        found = {
            name: dict(outcome.value or {}) for name, outcome in zip(names, outcomes, strict=True)
        }
        recorded = self.distillation.demonstrators.manifest.fingerprints
        for each in self.distillation.tasks:
            name = each.task.name
            if name in recorded and dict(each.blocks[0].options) == each.demonstrator.options:
                check_same_environment(
                    recorded[name],
                    found[name],
                    f"the environment of task {name} is not the one that the demonstrator was "
                    "measured on",
                    where=f"demonstrators {self.distillation.demonstrators.reference}",
                    fix=f"vintix demonstrators --task {name}, or run without --strict",
                    warn=None if strict else self._reporter.warn,
                )
            self._check_staged(name, found[name])
        return found

    def fit_schedules(self) -> None:
        """Run the pilots that are not staged yet and give the blocks the decays they found.

        Raises:
            TasksFailedError: Some pilots failed.
            InterruptedRunError: A signal came; pilots that were done are staged.
        """
        waiting = [
            each
            for each in self.distillation.tasks
            if each.fit and not self._staging.done(_pilot_item(each))
        ]
        jobs = [
            PilotJob(
                task=each.task,
                options=each.blocks[0].options,
                policy=each.demonstrator.spec,
                seed=each.blocks[0].seed,
                episodes=each.pilot_episodes,
            )
            for each in waiting
        ]

        def keep(index: int, outcome: Outcome[Response]) -> None:
            if outcome.value is not None:
                with self._staging.work_item(_pilot_item(waiting[index])) as record:
                    record.data.update(describe_fit(outcome.value, waiting[index].fit or "auto"))

        if jobs:
            outcomes = run_parallel(
                run_pilot,
                jobs,
                self._pool,
                self._reporter,
                label="pilot",
                total=len(jobs),
                unit="tasks",
                on_done=keep,
            )
            names = [each.task.name for each in waiting]
            self._raise_failures(zip(names, outcomes, strict=True))
        tasks = tuple(_with_schedule(each, self._staging) for each in self.distillation.tasks)
        self.distillation = replace(self.distillation, tasks=tasks)

    def collect(self) -> None:
        """Run every block to its end.

        Raises:
            TasksFailedError: Some did not get there.
            InterruptedRunError: A signal came.
        """
        from pipelines.playing.episodes import ReplayError

        ordered = sorted(self.distillation.tasks, key=lambda each: -each.seconds / len(each.blocks))
        blocks = [block for each in ordered for block in each.blocks]
        outcomes = self._collect_blocks(blocks)
        again = [
            block
            for block, outcome in zip(blocks, outcomes, strict=True)
            if isinstance(outcome.error, ReplayError)
        ]
        # Nothing recorded is wrong, but what would follow it could not be reproduced.
        for block in again:
            self._reporter.warn(
                f"{block.task.name}: the environment does not repeat a recorded episode; "
                f"trajectories {block.trajectories[0]} to {block.trajectories[-1]} are collected "
                "from their beginning"
            )
            for unit in block.units():
                if self._staging.done(unit):
                    self._staging.drop(unit)
        if again:
            second = iter(self._collect_blocks(again))
            outcomes = [
                next(second) if isinstance(outcome.error, ReplayError) else outcome
                for outcome in outcomes
            ]
        for block, outcome in zip(blocks, outcomes, strict=True):
            if outcome.error is not None:
                self._reporter.warn(f"{block.task.name}: {'; '.join(outcome.error.parts())}")
        names = [block.task.name for block in blocks]
        self._raise_failures(zip(names, outcomes, strict=True))

    def _collect_blocks(self, blocks: Sequence[Block]) -> list[Outcome[None]]:
        staging = self._staging
        policies = {each.task.name: each.demonstrator.spec for each in self.distillation.tasks}
        positions = [find_position(staging, block) for block in blocks]
        waiting = [index for index, at in enumerate(positions) if at.shard < blocks[index].shards]
        outcomes: list[Outcome[None]] = [Outcome()] * len(blocks)
        if not waiting:
            return outcomes
        done = run_parallel(
            _collect_job,
            [
                _CollectJob(
                    block=blocks[index],
                    policy=policies[blocks[index].task.name],
                    directory=staging.directory,
                    fingerprint=staging.data(_environment_item(blocks[index].task.name))[
                        "fingerprint"
                    ]
                    if self._pool.remote
                    else None,
                )
                for index in waiting
            ],
            self._pool,
            self._reporter,
            label="distill",
            total=sum(
                blocks[index].total_steps
                - positions[index].shard * blocks[index].shard_rows * len(positions[index].durable)
                for index in waiting
            ),
            unit="steps",
            on_done=_report_tasks([blocks[index] for index in waiting], self._reporter),
        )
        for index, outcome in zip(waiting, done, strict=True):
            outcomes[index] = outcome
        return outcomes

    def _check_staged(self, task: str, found: Mapping[str, Any]) -> None:
        """Keep the fingerprint that a task's first shards were made with.

        Raises:
            ConfigError: Another simulator has made the staged shards.
        """
        from pipelines.playing.fingerprint import check_same_environment

        staging, unit = self._staging, _environment_item(task)
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

    def _raise_failures(self, outcomes: Iterable[tuple[str, Outcome[Any]]]) -> None:
        """Raise one error for all tasks that failed; of each task the first."""
        failed: dict[str, VintixError] = {}
        for name, outcome in outcomes:
            if outcome.error is not None:
                failed.setdefault(name, outcome.error)
        if failed:
            raise tasks_failed(
                failed,
                len(self.distillation.tasks),
                where=self._staging.directory,
                fix="run the same command again: what was collected is staged; or choose the "
                "others with --task",
            )


def _with_schedule(each: TaskPlan, staging: Staging) -> TaskPlan:
    if not each.fit:
        return each
    schedule = schedule_from_json(staging.data(_pilot_item(each))["schedule"])
    return replace(each, blocks=tuple(replace(block, schedule=schedule) for block in each.blocks))


def _report_tasks(
    blocks: Sequence[Block], reporter: Reporter
) -> Callable[[int, Outcome[None]], None]:
    """Return a callback that reports each task whose last block has been collected."""
    left = Counter(block.task.name for block in blocks)
    failed: set[str] = set()
    collected: list[str] = []

    def report(index: int, outcome: Outcome[None]) -> None:
        name = blocks[index].task.name
        left[name] -= 1
        if outcome.error is not None:
            failed.add(name)
        if left[name] == 0 and name not in failed:
            collected.append(name)
            reporter.info(f"{name}: collected ({len(collected)} of {len(left)} tasks)")

    return report


def _environment_item(task: str) -> str:
    return f"environment/{task}"


def _pilot_item(each: TaskPlan) -> str:
    return f"pilot/{each.task.name}"


def _task_history(each: TaskPlan, staging: Staging, order: list[str] | None) -> TaskHistory:
    """Return a task whose rows are staged; `order` has all tasks of the plan, for a part."""
    pilot = dict(staging.data(_pilot_item(each))) if each.fit else None
    return TaskHistory(
        each.task.name,
        task_attributes(each, pilot),
        sorted(trajectory for block in each.blocks for trajectory in block.trajectories),
        [name for block in each.blocks for name in block.units()],
        place=None if order is None else order.index(each.task.name),
    )


def _packages(distillation: Distillation) -> list[str]:
    from pipelines.domains.registry import domain_of

    names = {name for each in distillation.tasks for name in domain_of(each.task).packages}
    if any(each.blocks[0].training for each in distillation.tasks):
        names.update(PACKAGES)
    return sorted(names)
