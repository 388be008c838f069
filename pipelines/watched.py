"""A reporter through which a signal stops a stage."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipelines.reporter import Progress, Reporter
    from pipelines.signals import StopSignal


@dataclass(frozen=True, slots=True)
class WatchedReporter:
    """Passes everything on, and raises where progress is told after a signal has come.

    Progress is told many times a second, in this process with one worker and out of the loop
    that waits for several, so it is where an interruption is noticed soonest.

    Attributes:
        reporter: Who is told.
        stop: Where signals arrive.
    """

    reporter: Reporter
    stop: StopSignal

    def info(self, message: str) -> None:
        """Pass the message on."""
        self.reporter.info(message)

    def warn(self, message: str) -> None:
        """Pass the warning on."""
        self.reporter.warn(message)

    def progress(self, label: str, total: float, unit: str = "") -> _WatchedContext:
        """Open a count whose `advance` raises InterruptedRunError after a signal."""
        return _WatchedContext(self.reporter.progress(label, total, unit), self.stop)


@dataclass(frozen=True, slots=True)
class _WatchedContext:
    context: AbstractContextManager[Progress]
    stop: StopSignal

    def __enter__(self) -> Progress:
        return _WatchedProgress(self.context.__enter__(), self.stop)

    def __exit__(self, *exc: object) -> bool | None:
        return self.context.__exit__(*exc)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class _WatchedProgress:
    progress: Progress
    stop: StopSignal

    def advance(self, amount: float = 1, **fields: object) -> None:
        self.progress.advance(amount, **fields)
        self.stop.raise_if_requested(
            "interrupted: what was finished is kept",
            fix="run the same command again: it goes on from there",
        )
