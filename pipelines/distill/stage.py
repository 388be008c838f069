"""``vintix distill``: the histories of many tasks over worker processes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.cluster import RayCluster
from pipelines.demonstrators import stage as demonstrators
from pipelines.distill.choice import builtin_demonstrators
from pipelines.distill.history import (
    TaskHistory,
    drop_work,
    history_result,
    publish_history,
    task_attributes,
)
from pipelines.distill.job import Job, find_position
from pipelines.distill.learning import PACKAGES
from pipelines.distill.pilot import PilotJob, describe_fit, run_pilot
from pipelines.distill.plan import Distillation, TaskPlan, plan, plan_builtin, resolve
from pipelines.errors import VintixError, tasks_failed
from pipelines.histories.layout import LEARNING_HISTORY
from pipelines.parallel import Outcome, Pool, WorkerPool, run_parallel
from pipelines.tasks.schedule import schedule_from_json
from pipelines.text import counted

if TYPE_CHECKING:
    from pipelines.artifacts.artifact import Artifact
    from pipelines.artifacts.staging import Staging
    from pipelines.artifacts.workspace import Workspace
    from pipelines.distill.config import DistillConfig
    from pipelines.distill.response import Response
    from pipelines.policies.base import PolicySpec
    from pipelines.reporter import Advance, Reporter
    from pipelines.stage import StageResult
    from pipelines.tasks.spec import TaskSpec

__all__ = ["plan", "run"]


def run(config: DistillConfig, workspace: Workspace, reporter: Reporter) -> StageResult:
    """Collect learning histories, or go on where an earlier run stopped.

    Args:
        workspace: Where the demonstrators are and the histories go. Where it has none of the
            chosen tasks, those of the package are measured and published there first.

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
    from pipelines.domains.registry import simulator_packages

    builtin = builtin_demonstrators(config, workspace)
    if builtin is not None:
        # What cannot be distilled is refused before its demonstrators are measured.
        plan_builtin(config, builtin, workspace)
        reporter.info(
            "no demonstrators of these tasks in the workspace: measuring those of the package"
        )
        made = demonstrators.run(builtin, workspace, reporter).artifact
        config = config.model_copy(update={"demonstrators": made.reference})
    whole = resolve(config, workspace)
    kind, name, settings = "histories", whole.name, whole.as_config()
    if config.shard is not None:
        kind, name = "parts", config.shard.part_name(name)
        settings["shard"] = config.shard.as_config()
    distillation = whole.of_partition(config.shard)
    reporter.info(f"demonstrators: {distillation.demonstrators.reference}")
    if distillation.checkpoint is not None:
        reporter.info(f"checkpoint: {distillation.checkpoint.reference}")
    for note in distillation.notes:
        reporter.warn(note)
    with workspace.stage(
        kind,
        name,
        config=settings,
        parents=[each for each in (distillation.demonstrators, distillation.checkpoint) if each],
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
        packages = simulator_packages(each.task for each in tasks)
        if config.source == LEARNING_HISTORY:
            packages.update(PACKAGES)
        elif distillation.checkpoint is not None:
            packages.add("torch")
        artifact = publish_history(
            staging,
            [_task_history(each, staging, order) for each in tasks],
            fingerprints=fingerprints,
            packages=sorted(packages),
        )
    return history_result(artifact, False)


@dataclass(frozen=True, slots=True)
class _JobWithPolicy:
    """A job, who acts in it, and the fingerprint that a cluster's node has to have.

    The policies travel along: opening their artifact in every job takes longer than a short job.
    """

    job: Job
    policy: PolicySpec
    others: Mapping[str, PolicySpec]
    checkpoint: Artifact | None
    directory: Path
    fingerprint: Mapping[str, Any] | None


def _collect(work: _JobWithPolicy, advance: Advance) -> None:
    """Build environment and demonstrator and collect a job; runs in a worker."""
    from pipelines.artifacts.work import StagedWork
    from pipelines.distill.collect import collect_job
    from pipelines.distill.learning import record_training
    from pipelines.domains.goals import knowledge_of
    from pipelines.domains.registry import domain_of
    from pipelines.hardware import torch_threads
    from pipelines.learners.settings import HISTORY_LEARNERS
    from pipelines.playing.episodes import policy_for

    job = work.job
    _check_node(work)
    # Looked up here and now: a job whose node died is given to another one with the same words.
    position = find_position(StagedWork(work.directory), job)
    at: dict[str, Any] = {"position": position, "progress": advance}
    domain = domain_of(job.task)
    with job.make_environment() as environment:
        policy = policy_for(environment, work.policy, domain)
        if job.training is not None and job.training.algorithm not in HISTORY_LEARNERS:
            record_training(job, environment, policy, work.directory, **at)
        elif work.checkpoint is not None:
            from pipelines.model.saved import load_model
            from pipelines.rollout.acting import Agent

            agent = Agent(load_model(work.checkpoint))
            # How sums are split over threads would show in the bytes.
            with torch_threads(1):
                collect_job(job, environment, policy, work.directory, agent=agent, **at)
        else:
            decoy = None
            if knowledge_of(job.options) == "decoy":
                decoy = policy_for(environment, work.policy, domain)
            others = {
                name: policy_for(environment, spec, domain) for name, spec in work.others.items()
            }
            collect_job(job, environment, policy, work.directory, decoy=decoy, others=others, **at)


def _check_node(work: _JobWithPolicy) -> None:
    """Refuse a cluster's node whose environment is not that of the machine that leads the run."""
    import socket

    from pipelines.playing.fingerprint import check_same_environment, fingerprint

    if work.fingerprint is None:
        return
    task = work.job.task
    check_same_environment(
        work.fingerprint,
        fingerprint(task, work.job.options),
        "the environment on a node is not that of the machine that leads the run",
        where=f"task {task.name}, node {socket.gethostname()}",
        fix="install the same packages on all nodes",
    )


def _fingerprint_job(job: tuple[TaskSpec, Mapping[str, Any]], advance: Advance) -> dict[str, Any]:
    from pipelines.playing.fingerprint import fingerprint

    found = fingerprint(*job)
    advance(1)
    return found


class Collection:
    """The three steps of a distillation that run in worker processes.

    Args:
        distillation: What to collect; its schedules are those found once `fit_schedules` has run.
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
        from pipelines.playing.fingerprint import (
            check_same_environment,
            check_staged_environment,
        )

        tasks = self.distillation.tasks
        jobs = [(each.task, each.jobs[0].options) for each in tasks]
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
        self._raise_failures([each.task.name for each in tasks], outcomes)
        found = {
            each.task.name: outcome.value or {}
            for each, outcome in zip(tasks, outcomes, strict=True)
        }
        recorded = self.distillation.demonstrators.manifest.fingerprints
        for each in tasks:
            name = each.task.name
            if name in recorded and dict(each.jobs[0].options) == each.demonstrator.options:
                check_same_environment(
                    recorded[name],
                    found[name],
                    f"the environment of task {name} is not the one that the demonstrator was "
                    "measured on",
                    where=f"demonstrators {self.distillation.demonstrators.reference}",
                    fix=f"vintix demonstrators --task {name}, or run without --strict",
                    warn=None if strict else self._reporter.warn,
                )
            check_staged_environment(
                self._staging,
                name,
                found[name],
                "the environment has changed since the staged part of this history was collected",
            )
        return found

    def fit_schedules(self) -> None:
        """Run the pilots that are not staged yet and give the jobs the schedules they found.

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
                options=each.jobs[0].options,
                policy=each.demonstrator.spec,
                seed=each.jobs[0].seed,
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
            self._raise_failures([each.task.name for each in waiting], outcomes)
        tasks = tuple(_with_schedule(each, self._staging) for each in self.distillation.tasks)
        self.distillation = replace(self.distillation, tasks=tasks)

    def collect(self) -> None:
        """Run every job to its end.

        Raises:
            TasksFailedError: Some did not get there.
            InterruptedRunError: A signal came.
        """
        from pipelines.playing.episodes import ReplayError

        ordered = sorted(self.distillation.tasks, key=lambda each: -each.seconds / len(each.jobs))
        jobs = [job for each in ordered for job in each.jobs]
        outcomes = self._collect_jobs(jobs)
        again = [
            job
            for job, outcome in zip(jobs, outcomes, strict=True)
            if isinstance(outcome.error, ReplayError)
        ]
        # Nothing recorded is wrong, but what would follow it could not be reproduced.
        for job in again:
            self._reporter.warn(
                f"{job.task.name}: the environment does not repeat a recorded episode; "
                f"trajectories {job.trajectories[0]} to {job.trajectories[-1]} are collected "
                "from their beginning"
            )
        units = [unit for job in again for unit in job.units()]
        self._staging.drop(*(unit for unit in units if self._staging.done(unit)))
        if again:
            second = iter(self._collect_jobs(again))
            outcomes = [
                next(second) if isinstance(outcome.error, ReplayError) else outcome
                for outcome in outcomes
            ]
        for job, outcome in zip(jobs, outcomes, strict=True):
            if outcome.error is not None:
                self._reporter.warn(f"{job.task.name}: {'; '.join(outcome.error.parts())}")
        self._raise_failures([job.task.name for job in jobs], outcomes)

    def _collect_jobs(self, jobs: Sequence[Job]) -> list[Outcome[None]]:
        from pipelines.playing.fingerprint import staged_environment

        plans = {each.task.name: each for each in self.distillation.tasks}
        positions = [find_position(self._staging, job) for job in jobs]
        waiting = [
            (job, position)
            for job, position in zip(jobs, positions, strict=True)
            if position.shard < job.shards
        ]
        work = [
            _JobWithPolicy(
                job=job,
                policy=plans[job.task.name].demonstrator.spec,
                others=plans[job.task.name].decoys_of(job),
                checkpoint=self.distillation.checkpoint,
                directory=self._staging.directory,
                fingerprint=self._staging.data(staged_environment(job.task.name))["fingerprint"]
                if self._pool.remote
                else None,
            )
            for job, _ in waiting
        ]
        if not work:
            return [Outcome()] * len(jobs)
        done = run_parallel(
            _collect,
            work,
            self._pool,
            self._reporter,
            label="distill",
            total=sum(
                job.total_steps - at.shard * job.shard_rows * len(at.durable) for job, at in waiting
            ),
            unit="steps",
            on_done=_report_tasks([job for job, _ in waiting], self._reporter),
        )
        collected = iter(done)
        return [
            next(collected) if at.shard < job.shards else Outcome()
            for job, at in zip(jobs, positions, strict=True)
        ]

    def _raise_failures(self, names: Sequence[str], outcomes: Sequence[Outcome[Any]]) -> None:
        """Raise one error for all tasks that failed; of each task the first."""
        failed: dict[str, VintixError] = {}
        for name, outcome in zip(names, outcomes, strict=True):
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
    return replace(each, jobs=tuple(replace(job, schedule=schedule) for job in each.jobs))


def _report_tasks(jobs: Sequence[Job], reporter: Reporter) -> Callable[[int, Outcome[None]], None]:
    """Return a callback that reports each task whose last job has been collected."""
    left = Counter(job.task.name for job in jobs)
    failed: set[str] = set()
    collected: list[str] = []

    def report(index: int, outcome: Outcome[None]) -> None:
        name = jobs[index].task.name
        left[name] -= 1
        if outcome.error is not None:
            failed.add(name)
        if left[name] == 0 and name not in failed:
            collected.append(name)
            reporter.info(f"{name}: collected ({len(collected)} of {counted(len(left), 'task')})")

    return report


def _pilot_item(each: TaskPlan) -> str:
    return f"pilot/{each.task.name}"


def _task_history(each: TaskPlan, staging: Staging, order: list[str] | None) -> TaskHistory:
    """Return a task whose rows are staged; `order` has all tasks of the plan, for a part."""
    pilot = dict(staging.data(_pilot_item(each))) if each.fit else None
    return TaskHistory(
        each.task.name,
        task_attributes(each, pilot),
        sorted(trajectory for job in each.jobs for trajectory in job.trajectories),
        [name for job in each.jobs for name in job.units()],
        place=None if order is None else order.index(each.task.name),
    )
