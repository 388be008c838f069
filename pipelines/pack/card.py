"""The dataset card: the paper's Table 1 for the data at hand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pipelines.tasks.registry import catalogue


def card(tasks: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the card.

    Args:
        tasks: ``domain``, ``split``, and recorded ``episodes`` (a cut last one of a trajectory
            included) and ``steps`` of each task.

    Returns:
        The `table` of the split ``train`` and that of ``validation``.
    """
    tasks = list(tasks)
    return {
        split: table([each for each in tasks if each["split"] == split])
        for split in ("train", "validation")
    }


def table(tasks: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the paper's Table 1 of some tasks; empty without any.

    Args:
        tasks: ``domain``, ``episodes`` and ``steps`` of each.

    Returns:
        Rows with ``domain``, ``tasks``, ``episodes``, ``timesteps`` and ``sample_weight`` (share of
        all steps): one for each domain, the paper's first, and, last, ``overall``.
    """
    total = sum(each["steps"] for each in tasks)
    own = catalogue().domains
    ordered = sorted({each["domain"] for each in tasks}, key=lambda name: (name not in own, name))
    parts = [(name, [each for each in tasks if each["domain"] == name]) for name in ordered]
    if tasks:
        parts.append(("overall", list(tasks)))
    return [
        {
            "domain": name,
            "tasks": len(part),
            "episodes": round(sum(each["episodes"] for each in part)),
            "timesteps": sum(each["steps"] for each in part),
            "sample_weight": sum(each["steps"] for each in part) / total,
        }
        for name, part in parts
    ]
