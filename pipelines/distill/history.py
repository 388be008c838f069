"""What closes the history of a task: its group's attributes and its report.

Both follow from the rows that are staged and from attributes that are known beforehand, so that a
history that is collected and one that is merged of parts are closed alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipelines.distill.learning import history_attributes
from pipelines.errors import ConfigError
from pipelines.histories.layout import trajectory_path
from pipelines.tasks.schedule import schedule_json

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from pipelines.artifacts.staging import Staging
    from pipelines.distill.plan import TaskPlan

MERGED = "merge/"
"""How the units of a merge begin."""

PART = "part"
"""Attribute of a task in a part: ``trajectories``, the numbers of those it has, and ``place``, the
task's number in the plan."""


def task_attributes(each: TaskPlan, pilot: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the attributes of a task's group that are known before its rows.

    Args:
        each: The task, with the decay that its pilot found.
        pilot: What is recorded of the pilot; None for a task without one.
    """
    block = each.blocks[0]
    card = each.demonstrator.card
    measured = {
        "random": float(card["random"]["mean"]),
        "expert": float(card["expert"]["mean"]),
        "random_std": float(card["random"]["std"]),
        "expert_std": float(card["expert"]["std"]),
    }
    scores = {reference: score.as_json() for reference, score in each.task.scores.items()}
    return {
        "task": each.task.as_json(),
        "schedule": None if block.training else schedule_json(block.schedule),
        **history_attributes(block),
        **({} if pilot is None else {"pilot": dict(pilot)}),
        "options": dict(block.options),
        "scores": {**scores, "measured": measured},
        "steps": block.steps,
        "trajectories": each.planned_trajectories,
        "shard_rows": block.shard_rows,
    }


def close_task(
    staging: Staging,
    unit: str,
    attributes: Mapping[str, Any],
    trajectories: Sequence[int],
    *,
    place: int | None = None,
) -> dict[str, Any]:
    """Write the attributes of a task's group, once its rows are staged.

    Args:
        staging: Where its rows are.
        unit: The durable unit that this makes.
        attributes: From `task_attributes`.
        trajectories: Numbers of the trajectories whose rows are staged, rising.
        place: Number of the task in its plan, for a part; None for a whole history.

    Returns:
        The report of these trajectories.
    """
    import numpy as np

    if staging.done(unit):
        report: dict[str, Any] = staging.data(unit)["report"]
        return report
    name = attributes["task"]["name"]
    returns, complete = [], []
    for trajectory in trajectories:
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
    report = {
        "task": name,
        "trajectories": len(trajectories),
        "steps": attributes["steps"] * len(trajectories),
        **describe_returns(whole),
        "measured": attributes["scores"]["measured"],
    }
    closing: dict[str, Any] = {"last_episode_complete": complete}
    if place is not None:
        closing[PART] = {"trajectories": list(trajectories), "place": place}
    with staging.work_item(unit) as record:
        record.group(name, {**attributes, **closing})
        record.data["report"] = report
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


def check_episodes(
    reports: Sequence[Mapping[str, Any]], horizons: Mapping[str, int], directory: Path
) -> None:
    """Refuse a history in which a task has not one complete episode.

    Args:
        reports: From `close_task`.
        horizons: Most steps of an episode of each task.
        directory: Where the history is staged.

    Raises:
        ConfigError: A task has none: its trajectories are shorter than its episodes.
    """
    empty = [each for each in reports if each["episodes"] == 0]
    if not empty:
        return
    longest = max(horizons[each["task"]] for each in empty)
    raise ConfigError(
        "a history without one complete episode shows no learning",
        where=f"{', '.join(each['task'] for each in empty)}; {directory}",
        expected=f"trajectories of at least {longest} steps, in which an episode ends",
        found=f"{empty[0]['steps'] // empty[0]['trajectories']} steps",
        fix=f"vintix distill ... --steps {longest}, or choose the other tasks with --task",
    )


def drop_units(staging: Staging, *, merged: bool) -> None:
    """Drop what the other way to make a history has staged of it.

    Collecting and merging stage the same files, in units of different extent.

    Args:
        staging: The staging area.
        merged: Whether to drop what a merge has staged, or all but that.
    """
    for unit in staging.work_items():
        if unit.startswith(MERGED) == merged:
            staging.drop(unit)


def summarize(reports: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the summary of a history, or of a part of one."""
    return {"tasks": list(reports), "steps": sum(each["steps"] for each in reports)}
