"""The bounds of the actions that a head is trained to predict: those of the data.

Shapes: A action, N rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pipelines.model.random_map import Floats, mapped_bounds
from pipelines.train.loader import task_statistics

if TYPE_CHECKING:
    from pipelines.datasets.reader import DatasetReader, DatasetTask

#: Rows of a task that are looked at, if it has more: blocks of so many, evenly spread over it.
MOST_ROWS, BLOCK_ROWS = 1 << 18, 256


def action_bounds(
    data: DatasetReader, tasks: Sequence[DatasetTask], field: str, *, random_map: bool
) -> dict[str, tuple[Floats, Floats]]:
    """Return the lower and upper bounds (A,) of actions, by group.

    They are rounded outwards to two or three digits, so that data which comes close to a bound of
    the environment gives that bound, and other data of the group gives the same.

    Args:
        random_map: Whether they are seen through random maps, which the bounds then hold for.

    Raises:
        ConfigError: The dataset does not have the field.
    """
    found: dict[str, list[Floats]] = {}
    for task in tasks:
        bounds = found.setdefault(task.group, [])
        for trajectory, rows in enumerate(task.rows):
            for start, length in _blocks(rows, MOST_ROWS // len(task.rows)):
                for piece in data.pieces(task.name, trajectory, start, length, (field,)):
                    action_NA = piece[field]
                    bounds += [action_NA.min(axis=0), action_NA.max(axis=0)]
                    if random_map:
                        bounds += mapped_bounds(task_statistics(task), action_NA)
    return {
        group: _rounded(np.min(bounds, axis=0), np.max(bounds, axis=0))
        for group, bounds in found.items()
        if bounds
    }


def _rounded(low_A: Floats, high_A: Floats) -> tuple[Floats, Floats]:
    """Move bounds outwards to multiples of a unit: a hundredth to a thousandth of the extent."""
    low, high = low_A.astype(np.float64), high_A.astype(np.float64)
    moving = high > low
    unit = 10.0 ** (np.floor(np.log10(np.where(moving, high - low, 1.0))) - 2)
    # A thousandth of a unit is the rounding of float32.
    down, up = np.floor(low / unit + 1e-3) * unit, np.ceil(high / unit - 1e-3) * unit
    return (
        np.where(moving, down, low).astype(np.float32),
        np.where(moving, up, high).astype(np.float32),
    )


def _blocks(rows: int, most: int) -> list[tuple[int, int]]:
    """Return first row and length of the parts of a trajectory that are looked at."""
    if rows <= max(most, BLOCK_ROWS):
        return [(0, rows)] if rows else []
    starts = np.linspace(0, rows - BLOCK_ROWS, max(2, most // BLOCK_ROWS))
    return [(int(start), BLOCK_ROWS) for start in starts]
