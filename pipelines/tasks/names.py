"""How tasks are named by users: case, underscores and aliases make no difference."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pipelines.errors import unknown
from pipelines.text import listed


def fold(name: str) -> str:
    """Return a name in the spelling that names are compared in."""
    return name.casefold().replace("_", "-")


def task_names(task: Mapping[str, Any]) -> set[str]:
    """Return a task's name and aliases, folded, from the task as JSON."""
    return {fold(name) for name in (task["name"], *task["aliases"])}


def choose_tasks(
    wanted: Sequence[str],
    tasks: Iterable[Mapping[str, Any]],
    *,
    among: str,
    where: object,
) -> list[str]:
    """Return the names of the tasks that are wanted, sorted; all of them if none is named.

    Args:
        wanted: Names or aliases.
        among: What holds them, for the message: ``the dataset holds``.
        where: Its reference.

    Raises:
        UsageError: There is no such task.
    """
    known = {task["name"]: task_names(task) for task in tasks}
    chosen = set()
    for name in wanted:
        found = [each for each, names in known.items() if fold(name) in names]
        if not found:
            raise unknown(
                f"{among} no task {name!r}",
                name,
                known,
                aliases={spelling: each for each, names in known.items() for spelling in names},
                where=where,
                expected=listed(sorted(known)),
            )
        chosen.update(found)
    return sorted(chosen or known)
