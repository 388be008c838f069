"""Stopping on a signal without losing work: the first one is a wish, the second an order."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

from pipelines.errors import InterruptedRunError

#: Ctrl-C, a scheduler's end of time, and the early warning many schedulers can send before it.
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class StopSignal:
    """Turns SIGINT, SIGTERM and SIGUSR1 into a flag while the context is open.

    A stage looks at `requested` between two pieces of work, makes what it has durable and calls
    `raise_if_requested`. A second signal does not wait for that: it raises at once. Outside the
    main thread, where Python delivers no signals, the flag is still there and nothing sets it.

    Attributes:
        number: The first signal that came, or None.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._previous: dict[int, Any] = {}

    @property
    def requested(self) -> bool:
        """Whether a signal has come."""
        return self.number is not None

    def raise_if_requested(self, message: str = "interrupted", **details: object) -> None:
        """Raise if a signal has come.

        Args:
            message: What was interrupted and what is kept.
            details: `where`, `expected`, `found` and `fix` of the error.

        Raises:
            InterruptedRunError: A signal has come; the exit code is 128 plus its number.
        """
        if self.number is not None:
            raise InterruptedRunError(message, signal_number=self.number, **details)

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in STOP_SIGNALS:
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        while self._previous:
            number, handler = self._previous.popitem()
            # None stands for a handler that was not installed from Python.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.number is not None:
            raise InterruptedRunError(
                "interrupted a second time: stopped at once",
                signal_number=number,
                fix="run the same command again: it goes on from the last durable work",
            )
        self.number = number
