"""The standard streams: results on stdout, everything else on stderr, and neither can be relied on.

A stream may be closed, full, a pipe that nobody reads, or limited to ASCII.
What cannot be written is dropped; if it was results, the exit code says so. This
module is imported before stop signals are handled: it imports little.
"""

from __future__ import annotations

import codecs
import errno
import io
import json
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from contextvars import ContextVar
from typing import Any, NoReturn, TextIO, cast

from pipelines.errors import InterruptedRunError, StorageError

_STDERR = 2
_SHOW_CURSOR = "\x1b[?25h"
_ENCODING_ERRORS = "vintix.ascii"
# The bars of a sparkline keep their heights where a stream has ASCII only.
_ASCII = dict(zip("▁▂▃▄▅▆▇█·─…", "_.-=+*%# -~", strict=True))

_results: ContextVar[TextIO | None] = ContextVar("results", default=None)


class _Descriptor(io.FileIO):
    """An open descriptor that drops what it cannot take, from the first error on."""

    refusal: OSError | None = None
    used = False

    def write(self, data: Any) -> int:
        """Write bytes, or drop them; returns how many of them are dealt with."""
        self.used = True
        while self.refusal is None:
            try:
                written = super().write(data)
            except OSError as error:
                self.refusal = error
            else:
                if written is not None:
                    return written
                # It is non-blocking, and has no room now.
                select.select([], [self], [])
        return memoryview(data).nbytes


def open_streams() -> None:
    """Make ``sys.stdout`` and ``sys.stderr`` streams that never raise; the start of the process.

    ``sys.stdout`` gets a descriptor of its own, so that descriptor 1 can lead elsewhere.
    """
    # The next file that is opened would get the number of a closed one. Results are refused as
    # before; what is for stderr is lost.
    for descriptor, mode in ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, mode), True)
    sys.stdout = _open(os.dup(1), sys.stdout)
    sys.stderr = _open(2, sys.stderr)


def end_streams() -> StorageError | None:
    """Write what is still buffered; the end of the process.

    What exit handlers of libraries print after it goes to stderr.

    Returns:
        The error if results were refused; None too where their reader went away, which has seen
        enough (``| head``).
    """
    stdout, sys.stdout = sys.stdout, sys.stderr
    stdout.flush()
    os.dup2(2, 1)
    refusal: OSError | None = cast(Any, stdout.buffer).raw.refusal
    if refusal is None or refusal.errno == errno.EPIPE:
        return None
    return StorageError(
        "the results cannot be written",
        where="stdout",
        found=refusal.strerror,
        fix="run the command again with a stdout that takes them",
    )


def results() -> TextIO:
    """Return the stream for results: stdout, also while ``sys.stdout`` leads elsewhere."""
    return _results.get() or sys.stdout


def unanswered() -> int | None:
    """Return the descriptor on which the one document of ``--json`` is still to come, or None."""
    stream = results()
    raw = getattr(getattr(stream, "buffer", None), "raw", None)
    if not isinstance(raw, _Descriptor):
        # Before the streams are opened, or a test's own.
        return 1
    return None if raw.used or stream is sys.stderr else raw.fileno()


def end(error: InterruptedRunError) -> NoReturn:
    """Print why the process ends, and end it at once."""
    # A progress bar hides it.
    cursor = _SHOW_CURSOR if os.isatty(_STDERR) else ""
    _write(_STDERR, f"{cursor}error: {error}\n")
    stdout = unanswered()
    if stdout is not None and "--json" in sys.argv:
        _write(stdout, json.dumps(error.as_dict(), indent=2) + "\n")
    os._exit(error.exit_code)


def _write(descriptor: int, text: str) -> None:
    # Not through the file objects, which may be in the middle of a write. Nobody may read it.
    with suppress(OSError):
        os.write(descriptor, text.encode())


@contextmanager
def results_only() -> Iterator[None]:
    """Let nothing but what is written to `results` reach stdout.

    What libraries, plugins, C libraries and child processes print goes to stderr.
    """
    stdout = sys.stdout
    stdout.flush()
    kept = os.dup(1)
    own = _open(kept, stdout) if _descriptor(stdout) == 1 else stdout
    token = _results.set(own)
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        _results.reset(token)
        import ctypes

        own.flush()
        stdout.flush()
        # What C libraries still hold for their own stdout.
        ctypes.CDLL(None).fflush(None)
        os.dup2(kept, 1)
        os.close(kept)


def _open(descriptor: int, like: TextIO | None) -> TextIO:
    """Return a text stream on a descriptor, in the encoding of another."""
    codecs.register_error(_ENCODING_ERRORS, _in_ascii)
    return io.TextIOWrapper(
        io.BufferedWriter(_Descriptor(descriptor, "w", closefd=False)),
        encoding=getattr(like, "encoding", None) or "utf-8",
        errors=_ENCODING_ERRORS,
        line_buffering=True,
    )


def _descriptor(stream: TextIO) -> int | None:
    try:
        return stream.fileno()
    except (OSError, ValueError):
        return None


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    """Return what stands for characters that an encoding does not have."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    missing = error.object[error.start : error.end]
    text = "".join(_ASCII.get(each) or ascii(each)[1:-1] for each in missing)
    return text, error.end
