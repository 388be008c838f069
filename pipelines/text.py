"""Text for people: of others, made fit to be shown, names and numbers of things, small curves."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

_BARS = "▁▂▃▄▅▆▇█"
_GAP = "·"


def printable(text: object) -> str:
    """Return text on one line with what cannot be seen spelled out.

    Names of files, tasks and plugins and messages of libraries may hold anything. Control
    characters (escape sequences and line breaks among them), characters that turn the direction of
    writing, and bytes of file names that are no text become escapes such as ``\\x1b``; everything
    else stays as it is.
    """
    text = str(text)
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )


def listed(names: Iterable[str], most: int = 8) -> str:
    """Return names for a message, the first few of many."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def counted(count: int, thing: str, things: str = "") -> str:
    """Return ``1 task`` or ``4 tasks``; `things` is the plural where no ``s`` makes it."""
    return f"{count:,} {thing if count == 1 else things or thing + 's'}"


def sparkline(
    values: Sequence[float | None], low: float | None = None, high: float | None = None
) -> str:
    """Draw a curve as bars of eight heights, one character a value.

    Args:
        values: The curve; None or a number that is not finite leaves a dot.
        low: Value of the lowest bar, the smallest of the curve where not given.
        high: Value of the highest bar, the largest of the curve where not given. Values outside
            are drawn at the bounds, so that several curves can share one scale.

    Returns:
        A string of ``len(values)`` characters; a curve without any extent is drawn at half height.
    """
    known = [value for value in values if value is not None and math.isfinite(value)]
    if not known:
        return _GAP * len(values)
    bottom = min(known) if low is None else low
    top = max(known) if high is None else high
    return "".join(_bar(value, bottom, top) for value in values)


def _bar(value: float | None, bottom: float, top: float) -> str:
    if value is None or not math.isfinite(value):
        return _GAP
    share = (value - bottom) / (top - bottom) if top > bottom else 0.5
    return _BARS[min(len(_BARS) - 1, max(0, int(share * len(_BARS))))]
