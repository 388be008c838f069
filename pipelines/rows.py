"""The one table of what is recorded of a step and of an episode.

Histories, datasets, importers, packing and training read it. To add a field of a step: a line here,
and the code that fills it, which the line names.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from pipelines.actions import ActionSpec

Kind = Literal["histories", "datasets"]
Layout = dict[str, tuple[tuple[int, ...], str]]
"""Shape of a row and NumPy dtype name by field."""


@dataclass(frozen=True, slots=True)
class Field:
    """One array of a trajectory.

    Attributes:
        dtype: NumPy dtype name of a number; that of the group's actions where `shape` is
            ``action``.
        shape: A row is one number (``scalar``), an observation (O,) or an action, (A,) of a box.
        filled_by: What fills it.
        histories: First schema version of histories that has it; None where none has.
        datasets: The same of datasets.
        optional: Whether only some have it: their attributes name it.
    """

    name: str
    dtype: str
    shape: Literal["scalar", "observation", "action"]
    filled_by: str
    histories: int | None = None
    datasets: int | None = None
    optional: bool = False

    def layout(self, observation_dim: int, actions: ActionSpec) -> tuple[tuple[int, ...], str]:
        """Return shape and dtype name of a row."""
        if self.shape == "action":
            return actions.row_shape, actions.row_dtype
        return ((observation_dim,) if self.shape == "observation" else ()), self.dtype


STEP_FIELDS = (
    Field("observation", "float32", "observation", "the environment, before the step", 1, 1),
    Field("action", "", "action", "who plays, as executed", 1, 1),
    Field("reward", "float32", "scalar", "the environment, unscaled", 1, 1),
    Field("episode_step", "int32", "scalar", "packing: 0 at an episode's first step", None, 1),
    Field("terminated", "bool", "scalar", "the environment", 1),
    Field("truncated", "bool", "scalar", "the environment, or the horizon", 1),
    Field("noise", "float32", "scalar", "the schedule: epsilon of Algorithm 1", 1, 1),
    Field("demonstrator_action", "", "action", "the demonstrator, at the observation", 1, 2),
)
"""Arrays with a row for each step."""

EPISODE_FIELDS = (
    Field("episode_start", "int64", "scalar", "collection: the first step", 1, 1),
    Field("episode_length", "int32", "scalar", "collection", 1),
    Field("episode_return", "float64", "scalar", "collection: sum of rewards, unscaled", 1, 1),
    Field("episode_final_observation", "float32", "observation", "the environment", 1),
    Field(
        "episode_demonstrator",
        "int16",
        "scalar",
        "collection with decoys of tasks: 0 where the task's own demonstrator played, else the "
        "place, from 1, in the attribute `decoys`",
        2,
        optional=True,
    ),
)
"""Arrays with a row for each episode."""


def names(kind: Kind, fields: Iterable[Field] = STEP_FIELDS) -> tuple[str, ...]:
    """Return the names of the fields that all artifacts of a kind have, in the table's order."""
    return tuple(
        field.name for field in fields if getattr(field, kind) is not None and not field.optional
    )


def row_layout(kind: Kind, observation_dim: int, actions: ActionSpec) -> Layout:
    """Return the shape of one row and the NumPy dtype name of every per-step array of a kind."""
    return {
        field.name: field.layout(observation_dim, actions)
        for field in STEP_FIELDS
        if getattr(field, kind) is not None
    }


def row_bytes(kind: Kind, observation_dim: int, actions: ActionSpec) -> int:
    """Return the bytes of one step over all per-step arrays of a kind, before compression."""
    import numpy as np

    layout = row_layout(kind, observation_dim, actions)
    return sum(np.dtype(dtype).itemsize * int(np.prod(shape)) for shape, dtype in layout.values())


HISTORY_ROWS, DATASET_ROWS = names("histories"), names("datasets")
HISTORY_EPISODES = names("histories", EPISODE_FIELDS)
ALL_HISTORY_EPISODES = tuple(field.name for field in EPISODE_FIELDS if field.histories is not None)
"""With those that only some histories have."""
