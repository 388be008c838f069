"""Stop signals: every handler for them is here.

While a command runs (`end_on_signals`, `interruptible`), a signal unwinds the stack as an
`InterruptedRunError`, so that locks and workers are given back. A stage that can make its work
durable first opens a `StopSignal`, for which the first signal asks for a graceful stop and the
next one stops at once, wherever it comes.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import TYPE_CHECKING, NoReturn, Self

from pipelines.errors import InterruptedRunError

if TYPE_CHECKING:
    from pathlib import Path

#: Ctrl-C, a scheduler's end of time, and the early warning many schedulers can send before it.
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)

#: Those that reach a whole group of processes but are for the one that started it to act on.
#: SIGTERM is not among them: it is how a pool ends its workers.
_FOR_THE_PARENT = (signal.SIGINT, signal.SIGUSR1)


class _Command:
    """The command of this process.

    Attributes:
        open: Whether a signal may unwind the stack.
        number: The first signal that came while it was open, or None.
        end: Ends the process; None where it belongs to somebody else, such as a notebook.
    """

    open = False
    number: int | None = None
    end: Callable[[InterruptedRunError], NoReturn] | None = None


_command = _Command()


def end_on_signals(end: Callable[[InterruptedRunError], NoReturn]) -> None:
    """Let stop signals end this process, from now to its exit, but for `interruptible`.

    Args:
        end: Reports what happened and ends the process without unwinding; called between any two
            lines of the main thread, so it must not use buffered streams.
    """
    _command.end = end
    for number in STOP_SIGNALS:
        signal.signal(number, _stop)
    unraisable = sys.unraisablehook

    def hook(unraised: sys.UnraisableHookArgs) -> None:
        # Raised in a destructor or a callback of C, which no exception gets out of.
        if isinstance(unraised.exc_value, InterruptedRunError):
            end(unraised.exc_value)
        unraisable(unraised)

    sys.unraisablehook = hook


@contextmanager
def interruptible() -> Iterator[None]:
    """Let stop signals unwind the stack while the context is open.

    SIGINT too, which the background job of a script ignores when it starts.

    Raises:
        InterruptedRunError: A signal came; also where a library took the exception for a failure
            of its own and went on, or raised another.
    """
    _command.open, _command.number = True, None
    with handlers_kept(STOP_SIGNALS):
        try:
            for number in STOP_SIGNALS:
                signal.signal(number, _stop)
            yield
        except InterruptedRunError:
            raise
        except BaseException as error:
            if _command.number is None:
                raise
            raise _stopped_by(_command.number) from error
        finally:
            _command.open = False
    if _command.number is not None:
        raise _stopped_by(_command.number)


@contextmanager
def handlers_kept(numbers: Sequence[int]) -> Iterator[None]:
    """Put back at the end what handled some signals; only the main thread can change it."""
    handlers = {number: signal.getsignal(number) for number in numbers}
    try:
        yield
    finally:
        if _in_main_thread():
            for number, handler in handlers.items():
                # None stands for a handler that was not installed from Python.
                signal.signal(number, signal.SIG_DFL if handler is None else handler)


@contextmanager
def signals_for_parent_blocked() -> Iterator[None]:
    """Let processes that start in this context never see SIGINT and SIGUSR1.

    An interrupt from the keyboard reaches the whole group; this process decides what it means. A
    signal that comes to it meanwhile is taken by another thread, or at the end.
    """
    from multiprocessing import resource_tracker

    # Started with the first worker otherwise, and it would unblock them.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _FOR_THE_PARENT)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class StopSignal:
    """Turns SIGINT, SIGTERM and SIGUSR1 into a flag while the context is open.

    A stage looks at `requested` between two pieces of work, makes what it has durable and calls
    `raise_if_requested`; where nothing was raised, leaving the context does. A second signal raises
    at once. Outside the main thread, where Python delivers no signals, nothing sets the flag.

    Attributes:
        number: The first signal that came, or None.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._raised = False
        self._open = ExitStack()

    @property
    def requested(self) -> bool:
        """Whether a signal has come."""
        return self.number is not None

    def raise_if_requested(
        self,
        message: str = "interrupted; what is done is kept",
        *,
        fix: str = "run the same command again: it goes on from there",
        **details: object,
    ) -> None:
        """Raise an `InterruptedRunError`, with exit code 128 plus its number, if a signal has come.

        Args:
            message: What was interrupted and what is kept.
            fix: How to go on.
            details: `where`, `expected` and `found` of the error.
        """
        if self.requested:
            self._raised, number = True, self.number or 0
            raise InterruptedRunError(message, signal_number=number, fix=fix, **details)

    def __enter__(self) -> Self:
        if _in_main_thread():
            self._open.enter_context(handlers_kept(STOP_SIGNALS))
            for number in STOP_SIGNALS:
                signal.signal(number, self._handle)
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._open.close()
        if error is None and not self._raised:
            self.raise_if_requested()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.number is None:
            self.number = number
            if _command.open:
                _command.number = number
            return
        error = InterruptedRunError(
            "interrupted a second time: stopped at once",
            signal_number=number,
            fix="run the same command again: it goes on from the last durable work",
        )
        if self._raised or _importing(frame):
            _end(error)
        self._raised = True
        raise error


class StopWriter(StopSignal):
    """Of a process that starts others: the first signal becomes a file that they look for."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def _handle(self, number: int, frame: FrameType | None) -> None:
        super()._handle(number, frame)
        self._path.write_text(str(int(number)))


class StopReader(StopSignal):
    """Of a process that was started so: a signal of its own, or the file of a `StopWriter`."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def __enter__(self) -> Self:
        super().__enter__()
        # Blocked until now, when nothing could be kept. The kernel sends one if the launcher dies.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        return self

    @property
    def requested(self) -> bool:
        """Whether a signal has come to this process or to the launcher."""
        if self.number is None and self._path.exists():
            self.number = int(self._path.read_text() or signal.SIGTERM)
        return self.number is not None


def _stop(number: int, frame: FrameType | None) -> None:
    """Unwind the stack, or end the process where that would not do.

    A second signal would break the clean-up after the first. An exception in the middle of an
    import is printed and replaced by modules written in C, and leaves half a module behind.
    """
    error = _stopped_by(number)
    if not _command.open or _command.number is not None or _importing(frame):
        _end(error)
    _command.number = number
    raise error


def _end(error: InterruptedRunError) -> NoReturn:
    if _command.end is not None:
        _command.end(error)
    raise error


def _stopped_by(number: int) -> InterruptedRunError:
    return InterruptedRunError(
        f"stopped by {signal.Signals(number).name}; finished work is kept",
        signal_number=number,
        fix="run the same command again to continue",
    )


def _importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib."):
            return True
        frame = frame.f_back
    return False


def _in_main_thread() -> bool:
    import threading

    return threading.current_thread() is threading.main_thread()
