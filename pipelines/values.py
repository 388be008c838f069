"""What no setting can be, wherever it was given."""

from __future__ import annotations

import math
import os
from pathlib import Path

INTEGERS = range(-(2**63), 2**63)
"""The integers that arrays and files can hold."""

_MAX_NAME_BYTES, _MAX_PATH_BYTES = 255, 4095


def value_problem(value: object) -> str | None:
    """Return what is wrong with a value of an option or a setting; None if nothing is."""
    if isinstance(value, int) and value not in INTEGERS:
        return "an integer beyond 64 bits"
    if isinstance(value, float) and not math.isfinite(value):
        return "not a finite number"
    if isinstance(value, str | Path) and "\0" in str(value):
        return "text with a null character"
    if isinstance(value, Path):
        return path_problem(value)
    return None


def path_problem(path: Path) -> str | None:
    """Return what is wrong with a path for every file system; None if nothing is."""
    if len(os.fsencode(path)) > _MAX_PATH_BYTES:
        return f"a path of more than {_MAX_PATH_BYTES:,} bytes"
    if any(len(os.fsencode(part)) > _MAX_NAME_BYTES for part in path.parts):
        return f"a path with a name of more than {_MAX_NAME_BYTES} bytes"
    return None
