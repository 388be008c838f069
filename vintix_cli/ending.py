"""Ends the process on a stop signal that cannot unwind it; small, since it is imported first."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from typing import TYPE_CHECKING, NoReturn

from vintix_cli.streams import unanswered

if TYPE_CHECKING:
    from pipelines.errors import InterruptedRunError

_STDERR = 2
_SHOW_CURSOR = "\x1b[?25h"


def end(error: InterruptedRunError) -> NoReturn:
    """Tell why the process ends, and end it without running anything else of it."""
    # A progress bar hides it.
    cursor = _SHOW_CURSOR if os.isatty(_STDERR) else ""
    _write(_STDERR, f"{cursor}error: {error}\n")
    stdout = unanswered()
    if stdout is not None and "--json" in sys.argv:
        _write(stdout, json.dumps(error.as_dict(), indent=2) + "\n")
    os._exit(error.exit_code)


def _write(descriptor: int, text: str) -> None:
    # Not through the file objects, which may be in the middle of a write. Nobody may read it.
    with contextlib.suppress(OSError):
        os.write(descriptor, text.encode())
