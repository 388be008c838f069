"""Anything that histories can be read from, task by task and block by block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from numpy.typing import NDArray


class HistorySource(Protocol):
    """Learning histories, wherever they are stored.

    `pipelines.histories.reader.HistoryReader` reads an artifact; importers read the formats of
    others in the same way, so that they can be packed without a copy in between.
    """

    @property
    def reference(self) -> str:
        """What messages call it."""
        ...

    def tasks(self) -> list[str]:
        """Return the names of the tasks, sorted."""
        ...

    def task(self, name: str) -> dict[str, Any]:
        """Return a task's attributes, as the histories layout has them."""
        ...

    def fields(self, name: str) -> tuple[str, ...]:
        """Return which per-step arrays there are."""
        ...

    def lengths(self, name: str) -> list[int]:
        """Return the number of steps of each trajectory."""
        ...

    def blocks(
        self, name: str, trajectory: int, fields: Sequence[str], rows: int | None = None
    ) -> Iterator[dict[str, NDArray[Any]]]:
        """Yield consecutive blocks of rows by field; a block is valid until the next one."""
        ...

    def episodes(self, name: str, trajectory: int) -> dict[str, NDArray[Any]]:
        """Return ``episode_start``, ``episode_length``, ``episode_return``, ``complete``."""
        ...

    def fingerprint(self, name: str) -> dict[str, Any] | None:
        """Return the recorded fingerprint of a task's environment, None where there is none."""
        ...
