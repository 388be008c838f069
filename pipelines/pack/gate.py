"""Which histories are let into a dataset: a poor one only where that was asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pipelines.errors import ConfigError, UsageError
from pipelines.histories.quality import (
    LARGEST_JUMP,
    LEAST_AT_END,
    LEAST_EPISODES,
    LEAST_EPISODES_A_TRAJECTORY,
    LEAST_RANK_CORRELATION,
    MOST_AT_START,
    MOST_IN_A_TENTH,
    HistoryQuality,
    history_quality,
)
from pipelines.tasks.names import fold, task_names
from pipelines.text import counted, listed

if TYPE_CHECKING:
    from pipelines.pack.config import PackConfig
    from pipelines.pack.plan import PackedTask

EVERYTHING = "all"
_NAMED = 8


def check_quality(
    config: PackConfig, tasks: Sequence[PackedTask]
) -> tuple[dict[str, HistoryQuality], list[str]]:
    """Judge the history of every task; see `pipelines.histories.quality` for the criteria.

    Histories without measured scores, such as imported ones, and those of too few episodes are
    let in: there is nothing to judge them by. Those without one complete episode never are.

    Returns:
        The quality by task, and the tasks that are poor and were allowed.

    Raises:
        ArtifactCorruptError: The bytes of a history differ from the manifest's.
        ConfigError: A history is poor and not allowed, or has no complete episode.
        UsageError: A task that is allowed is not among them.
    """
    allowed = {fold(name) for name in config.allow}
    known = {EVERYTHING}.union(*(task_names(task.task) for task in tasks))
    for name in config.allow:
        if fold(name) not in known:
            raise UsageError(
                f"no task {name!r} to allow",
                where="--allow",
                expected=f"{EVERYTHING}, or one of {', '.join(task.name for task in tasks)}",
                found=name,
            )
    found = {task.name: _quality(task) for task in tasks}
    _check_episodes(tasks, found)
    poor = [task for task in tasks if found[task.name].verdict == "poor"]
    refused = [
        task for task in poor if EVERYTHING not in allowed and not allowed & task_names(task.task)
    ]
    if refused:
        raise _refusal(refused, found)
    return found, [task.name for task in poor]


def _quality(task: PackedTask) -> HistoryQuality:
    """Return the quality of the task's worst history."""
    judged = [history_quality(part, task.name) for part in task.parts]
    return min(judged, key=lambda each: (each.episodes > 0, each.verdict != "poor"))


def short_note(quality: Mapping[str, HistoryQuality]) -> str | None:
    """Say which histories are let in because they are too short to be judged; None if none is."""
    short = [name for name, each in quality.items() if each.verdict == "short"]
    if not short:
        return None
    return (
        f"packed, but too short to be judged: {len(short)} of "
        f"{counted(len(quality), 'history', 'histories')}, {listed(short)}. "
        f"Fewer than {LEAST_EPISODES} episodes, or than {LEAST_EPISODES_A_TRAJECTORY} in a "
        "trajectory, show no learning; vintix distill with a larger --scale or more --steps makes "
        "longer ones"
    )


def _check_episodes(tasks: Sequence[PackedTask], found: dict[str, HistoryQuality]) -> None:
    empty = [task for task in tasks if found[task.name].episodes == 0]
    if empty:
        raise ConfigError(
            "a history without one complete episode cannot be packed",
            where=", ".join(dict.fromkeys(task.reader.reference for task in empty)),
            expected="at least one episode that ends before its trajectory does",
            found=f"none of {', '.join(task.name for task in empty)}",
            fix="collect longer trajectories (vintix distill --steps N, N at least the task's "
            "horizon), or choose the other tasks with --task",
        )


def _refusal(refused: Sequence[PackedTask], found: dict[str, HistoryQuality]) -> ConfigError:
    described = []
    for task in refused:
        quality = found[task.name].quality
        failures = [] if quality is None else quality.failures()
        described.append(f"{task.name}: {', '.join(failures)}")
    names = [task.name for task in refused]
    allow = EVERYTHING if len(names) > _NAMED else " --allow ".join(names)
    subject = (
        f"the history of {names[0]} does"
        if len(names) == 1
        else f"the histories of {len(names)} tasks do"
    )
    return ConfigError(
        f"{subject} not look like learning",
        where=", ".join(dict.fromkeys(task.reader.reference for task in refused)),
        expected=f"a start of {MOST_AT_START:g} or less, an end of {LEAST_AT_END:g} or more, a "
        f"rank correlation of {LEAST_RANK_CORRELATION:g} or more, at most {MOST_IN_A_TENTH:.0%} of "
        f"the steps in one tenth of the way, no jump above {LARGEST_JUMP:g}; returns normalised by "
        "the measured scores",
        found="; ".join(described),
        fix=f"collect them again with {_remedy(refused)} (vintix report histories shows them), or "
        f"pack them as they are: --allow {allow}",
    )


def _remedy(refused: Sequence[PackedTask]) -> str:
    recorded = [task.attributes.get("source") == "learning-history" for task in refused]
    ways = [] if all(recorded) else ["--schedule fitted or another demonstrator"]
    if any(recorded):
        ways.append("more --steps or other settings of distill.train")
    return ", learning histories with ".join(ways)
