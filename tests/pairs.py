"""Few combinations that hold every pair of values: what a full product finds, nearly always."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any


def pairwise(*axes: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Return combinations of one value of each axis so that any two values of two axes meet."""

    def pairs(row: tuple[int, ...]) -> set[tuple[tuple[int, int], ...]]:
        return set(itertools.combinations(enumerate(row), 2))

    rows = {row: pairs(row) for row in itertools.product(*(range(len(axis)) for axis in axes))}
    missing = set().union(*rows.values())
    chosen = []
    while missing:
        best = max(rows, key=lambda row: len(rows[row] & missing))
        missing -= rows[best]
        chosen.append(tuple(axis[index] for axis, index in zip(axes, best, strict=True)))
    return chosen
