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
    domains: Sequence[str] = (),
    among: str,
    where: object,
    command: str | None = None,
) -> list[str]:
    """Return the names of the tasks that are wanted, sorted; all of them if none is named.

    Args:
        wanted: Names or aliases.
        domains: Domains that they have to be of; empty for any.
        among: What holds them, for the message: ``the dataset holds``.
        where: Its reference.
        command: What would put a task or a domain there, such as ``vintix pack``.

    Raises:
        UsageError: There is no such task or domain.
    """
    tasks = list(tasks)
    known = {task["name"]: task_names(task) for task in tasks}
    domain_of = {task["name"]: fold(task["domain"]) for task in tasks}
    for name in domains:
        if fold(name) not in domain_of.values():
            held = sorted({task["domain"] for task in tasks})
            raise unknown(
                f"{among} no domain {name!r}",
                name,
                held,
                where=where,
                expected=listed(held),
                fix=command and f"{command} --domain {name}",
            )
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
                fix=command and f"{command} --task {name}",
            )
        chosen.update(found)
    within = {fold(name) for name in domains}
    return [name for name in sorted(chosen or known) if not within or domain_of[name] in within]
