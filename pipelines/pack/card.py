"""The dataset card: the paper's Table 1 for the data at hand."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pipelines.tasks.registry import in_table_order


@dataclass(frozen=True, slots=True)
class CardEntry:
    """What one task adds to the card.

    Attributes:
        split: ``train`` or ``validation``.
        episodes: Recorded episodes, a cut last one of a trajectory included.
        timesteps: Recorded steps.
    """

    domain: str
    split: str
    episodes: int
    timesteps: int


def card(entries: Iterable[CardEntry]) -> dict[str, Any]:
    """Return the card.

    Returns:
        ``train`` and ``validation``: rows with ``domain``, ``tasks``, ``episodes``,
        ``timesteps`` and ``sample_weight`` (share of the split's steps, as in the paper's
        Table 1), a row for each domain and, last, ``overall``; empty for a split with no task.
    """
    entries = list(entries)
    return {
        split: _rows([each for each in entries if each.split == split])
        for split in ("train", "validation")
    }


def _rows(entries: list[CardEntry]) -> list[dict[str, Any]]:
    total = sum(each.timesteps for each in entries)
    ordered = in_table_order(sorted({each.domain for each in entries}))
    parts = [(name, [each for each in entries if each.domain == name]) for name in ordered]
    if entries:
        parts.append(("overall", entries))
    return [
        {
            "domain": name,
            "tasks": len(part),
            "episodes": sum(each.episodes for each in part),
            "timesteps": sum(each.timesteps for each in part),
            "sample_weight": sum(each.timesteps for each in part) / total,
        }
        for name, part in parts
    ]
