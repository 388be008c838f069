"""What no setting can be, wherever it was given."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path

INTEGERS = range(-(2**63), 2**63)
"""The integers that arrays and files can hold."""

_NUMBER = re.compile(r"\s*[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?", re.ASCII | re.IGNORECASE)
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


def nearest_number(
    text: str, least: float | None = None, most: float | None = None, *, whole: bool = False
) -> str | None:
    """Return the number that a text begins with, moved within bounds.

    None where the text begins with none, or is itself what would be returned.
    """
    found = _NUMBER.match(text)
    typed = float(found[0]) if found else math.nan
    if found is None or not math.isfinite(typed):
        return None
    number = max(typed, typed if least is None else least)
    number = min(number, number if most is None else most)
    number = int(number) if whole or number == int(number) else number
    same = number == typed and found.end() == len(text.rstrip())
    return None if same or int(number) not in INTEGERS else str(number)


def path_problem(path: Path) -> str | None:
    """Return what is wrong with a path for every file system; None if nothing is."""
    if len(os.fsencode(path)) > _MAX_PATH_BYTES:
        return f"a path of more than {_MAX_PATH_BYTES:,} bytes"
    if any(len(os.fsencode(part)) > _MAX_NAME_BYTES for part in path.parts):
        return f"a path with a name of more than {_MAX_NAME_BYTES} bytes"
    return None
