"""One task's trajectories from several histories, one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from pipelines.errors import ConfigError
from pipelines.histories.layout import ORIGINS
from pipelines.rows import HISTORY_EPISODES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pipelines.histories.source import HistorySource

_ALIKE = ("observation_dim", "action_dim", "group", "split", "reward_scale", "episode_sparsity")
"""What joined histories say alike of their task."""

_ORIGINS = ("schedule", *ORIGINS)
"""Where trajectories come from: said of all where it holds for all."""


class JoinedHistories:
    """The histories of one task, as one source.

    Scores, options and fingerprint are those of the first. The attribute ``joined`` has for each
    history its ``reference``, its number of ``trajectories``, and where they come from.

    Args:
        name: The task.
        parts: The histories, at least one, each with the task.

    Raises:
        ConfigError: They do not describe the same task.
    """

    def __init__(self, name: str, parts: Sequence[HistorySource]) -> None:
        self._name, self._parts = name, tuple(parts)
        first = parts[0]
        for part in parts[1:]:
            self._check_alike(first, part)
        attributes = [part.task(name) for part in parts]
        self._lengths = [rows for part in parts for rows in part.lengths(name)]
        self._places = [
            (part, number) for part in parts for number in range(len(part.lengths(name)))
        ]
        same = {
            key: attributes[0][key]
            for key in _ORIGINS
            if all(key in each and each[key] == attributes[0][key] for each in attributes)
        }
        self._attributes: dict[str, Any] = {
            **{key: value for key, value in attributes[0].items() if key not in _ORIGINS},
            "schedule": None,
            **same,
            "trajectories": len(self._lengths),
            "rows": self._lengths,
            "fields": list(self.fields(name)),
            "episode_fields": [
                field
                for field in HISTORY_EPISODES
                if all(field in each.get("episode_fields", HISTORY_EPISODES) for each in attributes)
            ],
            "joined": [
                {
                    "reference": part.reference,
                    "trajectories": len(part.lengths(name)),
                    **{key: each[key] for key in _ORIGINS if key in each},
                }
                for part, each in zip(parts, attributes, strict=True)
            ],
        }

    @property
    def reference(self) -> str:
        """Those of the histories."""
        return ", ".join(part.reference for part in self._parts)

    def tasks(self) -> list[str]:
        """Return the name of the task."""
        return [self._name]

    def task(self, name: str) -> dict[str, Any]:
        """Return the task's attributes."""
        return self._attributes

    def fields(self, name: str) -> tuple[str, ...]:
        """Return the per-step arrays that all of the histories have."""
        others = [set(part.fields(name)) for part in self._parts[1:]]
        return tuple(
            field
            for field in self._parts[0].fields(name)
            if all(field in other for other in others)
        )

    def lengths(self, name: str) -> list[int]:
        """Return the number of steps of each trajectory."""
        return list(self._lengths)

    def blocks(
        self, name: str, trajectory: int, fields: Sequence[str], rows: int | None = None
    ) -> Iterator[dict[str, NDArray[Any]]]:
        """Yield consecutive blocks of rows by field; a block is valid until the next one."""
        part, number = self._places[trajectory]
        return part.blocks(name, number, fields, rows)

    def episodes(self, name: str, trajectory: int) -> dict[str, NDArray[Any]]:
        """Return the per-episode arrays of a trajectory."""
        part, number = self._places[trajectory]
        return part.episodes(name, number)

    def fingerprint(self, name: str) -> dict[str, Any] | None:
        """Return the fingerprint that the first history recorded, None where there is none."""
        return self._parts[0].fingerprint(name)

    def _check_alike(self, first: HistorySource, part: HistorySource) -> None:
        expected, found = (each.task(self._name)["task"] for each in (first, part))
        for key in _ALIKE:
            if expected.get(key) != found.get(key):
                raise ConfigError(
                    f"two histories of the task {self._name} are of different tasks",
                    where=f"{first.reference} and {part.reference}",
                    expected=f"{key} {expected.get(key)}",
                    found=f"{key} {found.get(key)}",
                    fix="leave one of them out, or collect it again",
                )
