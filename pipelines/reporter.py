"""How stages tell what they do, without knowing who listens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Advance(Protocol):
    """Reports that some more of a piece of work is done; called as often as convenient."""

    def __call__(self, amount: float = 1) -> None:
        """Add to the count of what is done."""


class Progress(Protocol):
    """One running count towards a known total."""

    def advance(self, amount: float = 1, **fields: object) -> None:
        """Add to the count; `fields` are shown beside it (``loss=0.12``)."""


class Reporter(Protocol):
    """Receives messages and progress from a stage."""

    def info(self, message: str) -> None:
        """Tell something worth knowing."""

    def warn(self, message: str) -> None:
        """Tell something that the user should act on."""

    def progress(
        self, label: str, total: float, unit: str = "", done: float = 0
    ) -> AbstractContextManager[Progress]:
        """Open a progress display: ``with reporter.progress("hopper", 1000, "steps") as p``.

        `done` of the total was done by an earlier run, and says nothing about the rate.
        """


class _Silent:
    def advance(self, amount: float = 1, **fields: object) -> None:
        """Ignore."""


class NullReporter:
    """A reporter that says nothing and keeps the warnings for whoever asks."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def info(self, message: str) -> None:
        """Ignore."""

    def warn(self, message: str) -> None:
        """Remember the warning."""
        self.warnings.append(message)

    @contextmanager
    def progress(
        self, label: str, total: float, unit: str = "", done: float = 0
    ) -> Iterator[Progress]:
        """Return a count that nobody sees."""
        yield _Silent()
