"""Joining the parts of one plan into a history: ``vintix artifacts merge``.

The history is staged and published like a collected one, under the plan's own configuration: a
merge that is killed goes on where it was, a second one is up to date, and so is a collection by
the same command without ``--shard``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.distill.history import (
    MERGED,
    check_episodes,
    close_task,
    drop_units,
    summarize,
)
from pipelines.distill.parts import JoinedPlan, find_parts, join_parts
from pipelines.histories.layout import trajectory_path
from pipelines.parallel import Outcome, run_parallel
from pipelines.stage import StageResult

if TYPE_CHECKING:
    from pipelines.artifacts.artifact import Artifact
    from pipelines.artifacts.staging import Staging
    from pipelines.artifacts.workspace import Workspace
    from pipelines.reporter import Advance, Reporter


def merge(
    references: Sequence[str],
    workspace: Workspace,
    reporter: Reporter,
    name: str | None = None,
) -> StageResult:
    """Join the parts of one plan.

    Args:
        references: The parts, as references or paths; or the name of a history alone, for the
            newest of its parts in this workspace.
        workspace: Where references are looked up and the history goes.
        reporter: Told of progress.
        name: Name of the history; None for the one that the parts were made for.

    Returns:
        The published history, and what a collection would report of it.

    Raises:
        UsageError: A reference is malformed, or a part is given twice.
        ArtifactMissingError: There is no such part, or one of the plan is not among them.
        ArtifactCorruptError: A file of a part does not have the bytes its manifest promises.
        ConfigError: The parts are not of one plan, or were not made in one environment; or a task
            has not one complete episode.
        InterruptedRunError: A signal came; what was taken over is staged.
        StorageError, LockedError: The workspace cannot be written.
    """
    parts = find_parts(references, workspace)
    plan = join_parts(parts)
    told = {"parts": [f"parts/{part.reference}" for part in parts]}
    reporter.info(f"parts: {', '.join(part.reference for part in parts)}")
    with workspace.stage(
        "histories",
        name or plan.name,
        config=plan.config,
        parents=plan.parents,
        seeds=plan.seeds,
    ) as staging:
        if staging.published is not None:
            return _result(staging.published, True, told)
        reporter.info(staging.place())
        drop_units(staging, merged=False)
        _drop_superseded(plan, staging)
        _take_over(plan, staging, reporter)
        reports = [
            close_task(staging, f"{MERGED}{task}", attributes, range(attributes["trajectories"]))
            for task, attributes in plan.tasks.items()
        ]
        horizons = {task: int(each["task"]["horizon"]) for task, each in plan.tasks.items()}
        check_episodes(reports, horizons, staging.directory)
        artifact = staging.publish(
            summary=summarize(reports),
            work_items=[
                *(f"{MERGED}{task}" for task in plan.tasks),
                *(_unit(task, trajectory) for task, trajectory in plan.owners),
            ],
            fingerprints=plan.fingerprints,
            packages=plan.packages,
        )
    return _result(artifact, False, told)


def _result(artifact: Artifact, up_to_date: bool, told: Mapping[str, Any]) -> StageResult:
    parents = [f"{each.name}@v{each.version}" for each in artifact.manifest.parents]
    return StageResult(
        artifact,
        up_to_date,
        {**artifact.manifest.summary, "demonstrators": parents[0], **told},
    )


@dataclass(frozen=True, slots=True)
class _TakeJob:
    part: Artifact
    keys: tuple[str, ...]
    unit: str
    directory: Path


def _take_job(job: _TakeJob, advance: Advance) -> None:
    """Copy the rows of one trajectory, each file checked by its hash."""
    from pipelines.artifacts.work import WorkItem

    with WorkItem(job.directory, job.unit) as unit:
        unit.take(job.part, job.keys, advance)
        unit.data["part"] = job.part.digest


def _drop_superseded(plan: JoinedPlan, staging: Staging) -> None:
    """Drop what an earlier merge staged of parts with other bytes than these."""
    for (task, trajectory), part in plan.owners.items():
        unit = _unit(task, trajectory)
        if staging.done(unit) and staging.data(unit)["part"] != part.digest:
            staging.drop(unit)
            if staging.done(f"{MERGED}{task}"):
                staging.drop(f"{MERGED}{task}")


def _take_over(plan: JoinedPlan, staging: Staging, reporter: Reporter) -> None:
    from pipelines.artifacts.schema import DATA

    keys = plan.keys()
    jobs = [
        _TakeJob(part, keys[task, trajectory], _unit(task, trajectory), staging.directory)
        for (task, trajectory), part in plan.owners.items()
        if not staging.done(_unit(task, trajectory))
    ]
    sizes = (job.part.manifest.files[f"{DATA}/{key}"].size for job in jobs for key in job.keys)

    def stop_at_failure(index: int, outcome: Outcome[None]) -> None:
        if outcome.error is not None:
            raise outcome.error

    run_parallel(
        _take_job,
        jobs,
        # The disk is what it waits for; a trajectory's files are copied by a few threads.
        1,
        reporter,
        label="merge",
        total=sum(sizes),
        unit="B",
        on_done=stop_at_failure,
    )


def _unit(task: str, trajectory: int) -> str:
    return f"{MERGED}{trajectory_path(task, trajectory)}"
