"""The dataset card: the paper's Table 1 for the data at hand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pipelines.tasks.registry import in_table_order


def card(tasks: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the card.

    Args:
        tasks: ``domain``, ``split``, and recorded ``episodes`` (a cut last one of a trajectory
            included) and ``steps`` of each task.

    Returns:
        ``train`` and ``validation``: rows with ``domain``, ``tasks``, ``episodes``,
        ``timesteps`` and ``sample_weight`` (share of the split's steps, as in the paper's
        Table 1), a row for each domain and, last, ``overall``; empty for a split with no task.
    """
    tasks = list(tasks)
    return {
        split: _rows([each for each in tasks if each["split"] == split])
        for split in ("train", "validation")
    }


def _rows(tasks: list[Mapping[str, Any]]) -> list[dict[str, Any]]:
    total = sum(each["steps"] for each in tasks)
    ordered = in_table_order(sorted({each["domain"] for each in tasks}))
    parts = [(name, [each for each in tasks if each["domain"] == name]) for name in ordered]
    if tasks:
        parts.append(("overall", tasks))
    return [
        {
            "domain": name,
            "tasks": len(part),
            "episodes": sum(each["episodes"] for each in part),
            "timesteps": sum(each["steps"] for each in part),
            "sample_weight": sum(each["steps"] for each in part) / total,
        }
        for name, part in parts
    ]
