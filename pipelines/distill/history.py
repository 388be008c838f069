"""Publishing a history, or a part of one: the attributes and the report of each task, and the rest.

Both follow from the rows that are staged and from attributes that are known beforehand, so that a
history that is collected and one that is merged of parts are published alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipelines.domains.goals import knowledge_of
from pipelines.errors import ConfigError
from pipelines.rows import HISTORY_EPISODES
from pipelines.stage import StageResult
from pipelines.tasks.schedule import schedule_json

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from pipelines.artifacts.artifact import Artifact
    from pipelines.artifacts.staging import Staging
    from pipelines.distill.job import TaskDecoys
    from pipelines.distill.plan import TaskPlan

MERGED = "merge/"
"""How the work items of a merge begin."""

PART = "part"
"""Attribute of a task in a part: ``trajectories``, the numbers of those it has, and ``place``, the
task's number in the plan."""


@dataclass(frozen=True, slots=True)
class TaskHistory:
    """A task of a history whose rows are staged.

    Attributes:
        trajectories: Numbers of the trajectories whose rows are staged, rising.
        place: Number of the task in its plan, for a part; None for a whole history.
    """

    name: str
    attributes: Mapping[str, Any]
    trajectories: Sequence[int]
    rows: Sequence[str]
    place: int | None = None


def publish_history(
    staging: Staging,
    tasks: Sequence[TaskHistory],
    *,
    fingerprints: Mapping[str, Any],
    packages: Iterable[str] | Mapping[str, str],
) -> Artifact:
    """Close every task and publish the history, or the part of one.

    Args:
        tasks: The tasks, in the order of the plan.

    Raises:
        ConfigError: A task of a whole history has not one complete episode; those of a plan's
            parts are counted together, when they are merged.
        ArtifactCorruptError: The staged work is not whole.
        StorageError: The file system refused.
    """
    reports = [_close_task(staging, each) for each in tasks]
    whole = [
        (report, int(each.attributes["task"]["horizon"]))
        for report, each in zip(reports, tasks, strict=True)
        if each.place is None
    ]
    _check_episodes(whole, staging.directory)
    return staging.publish(
        summary={"tasks": reports, "steps": sum(each["steps"] for each in reports)},
        work_items=[
            name
            for each in tasks
            # The rows of a whole history are in its tasks' work items, too, as they are read.
            for name in (each.name, *(each.rows if each.place is not None else ()))
        ],
        fingerprints=fingerprints,
        packages=packages,
    )


def history_result(artifact: Artifact, up_to_date: bool, **more: Any) -> StageResult:
    """Return what a stage that makes histories reports of a published one."""
    parent = artifact.manifest.parents[0]
    origin = {"demonstrators": f"{parent.name}@v{parent.version}"}
    return StageResult(artifact, up_to_date, {**artifact.manifest.summary, **origin, **more})


def drop_work(staging: Staging, *, merged: bool) -> None:
    """Drop what the other way to make a history has staged of it.

    Collecting and merging stage the same files, in work items of different extent.

    Args:
        merged: Whether to drop what a merge has staged, or all but that.
    """
    names = staging.work_items()
    staging.drop(*(name for name in names if name.startswith(MERGED) == merged))


def task_attributes(each: TaskPlan, pilot: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the attributes of a task's group that are known before its rows.

    Args:
        each: The task, with the decay that its pilot found.
        pilot: What is recorded of the pilot; None for a task without one.
    """
    job = each.jobs[0]
    card = each.demonstrator.card
    measured = {
        "random": float(card["random"]["mean"]),
        "expert": float(card["expert"]["mean"]),
        "random_std": float(card["random"]["std"]),
        "expert_std": float(card["expert"]["std"]),
    }
    knowledge = knowledge_of(job.options)
    scores = {reference: score.as_json() for reference, score in each.task.scores.items()}
    return {
        "task": each.task.as_json(),
        "schedule": None if job.origin else schedule_json(job.schedule),
        **job.origin,
        **({} if knowledge is None else {"knowledge": knowledge}),
        **({} if job.decoys is None else _decoy_attributes(job.decoys)),
        **({} if pilot is None else {"pilot": dict(pilot)}),
        "options": dict(job.options),
        "scores": {**scores, "measured": measured},
        "steps": job.steps,
        "trajectories": each.planned_trajectories,
        "shard_rows": job.shard_rows,
    }


def _decoy_attributes(decoys: TaskDecoys) -> dict[str, Any]:
    fields = [*HISTORY_EPISODES, "episode_demonstrator"]
    return {"decoys": decoys.as_json(), "episode_fields": fields}


def _close_task(staging: Staging, task: TaskHistory) -> dict[str, Any]:
    """Write a task's group, of a whole history with its rows; returns the report of them."""
    from pipelines.histories.storage import join_trajectories, staged_trajectories

    if staging.done(task.name):
        report: dict[str, Any] = staging.data(task.name)["report"]
        return report
    name = task.attributes["task"]["name"]
    returns, complete = [], []
    staged = staged_trajectories(staging, name, task.rows, task.trajectories)
    for arrays in staged:
        returns.append(arrays["episode_return"][...])
        # The last flag that the environment raised says whether its last episode was finished.
        complete.append(bool(arrays["terminated"][-1]) or bool(arrays["truncated"][-1]))
    whole = [
        values if finished else values[:-1]
        for values, finished in zip(returns, complete, strict=True)
    ]
    report = {
        "task": name,
        "trajectories": len(task.trajectories),
        "steps": task.attributes["steps"] * len(task.trajectories),
        **describe_returns(whole),
        "measured": task.attributes["scores"]["measured"],
    }
    closing: dict[str, Any] = {"last_episode_complete": complete}
    if task.place is not None:
        closing[PART] = {"trajectories": list(task.trajectories), "place": task.place}
    with staging.work_item(task.name) as item:
        attributes = {**task.attributes, **closing}
        if task.place is None:
            join_trajectories(item, staging, attributes, task.rows, staged)
        else:
            item.group(name, attributes)
        item.data["report"] = report
    return report


def describe_returns(returns: Sequence[NDArray[np.float64]]) -> dict[str, Any]:
    """Describe the returns of a task's trajectories.

    Args:
        returns: Return of each complete episode (E,), for every trajectory.

    Returns:
        ``episodes``: their number; ``first_tenth`` and ``last_tenth``: mean return of the first
        and last tenth of a trajectory's episodes (at least one), mean over trajectories;
        ``rank_correlation``: Spearman's, of return with episode number, mean over trajectories
        of at least three episodes. None where no episode was completed.
    """
    import numpy as np

    from pipelines.histories.quality import rank_correlation

    full = [each for each in returns if len(each)]
    tenths = [max(1, len(each) // 10) for each in full]
    correlations = [rank_correlation(each) for each in full if len(each) >= 3]
    first = [each[:n].mean() for each, n in zip(full, tenths, strict=True)]
    last = [each[-n:].mean() for each, n in zip(full, tenths, strict=True)]
    return {
        "episodes": int(sum(len(each) for each in returns)),
        "first_tenth": float(np.mean(first)) if full else None,
        "last_tenth": float(np.mean(last)) if full else None,
        "rank_correlation": float(np.mean(correlations)) if correlations else None,
    }


def _check_episodes(reports: Sequence[tuple[Mapping[str, Any], int]], directory: Path) -> None:
    """Refuse a history in which a task, with its horizon, has not one complete episode."""
    empty = [(report, horizon) for report, horizon in reports if report["episodes"] == 0]
    if not empty:
        return
    first, longest = empty[0][0], max(horizon for _, horizon in empty)
    raise ConfigError(
        "a history without one complete episode shows no learning",
        where=f"{', '.join(report['task'] for report, _ in empty)}; {directory}",
        expected=f"trajectories of at least {longest} steps, in which an episode ends",
        found=f"{first['steps'] // first['trajectories']} steps",
        fix=f"vintix distill ... --steps {longest}, or choose the other tasks with --task",
    )
