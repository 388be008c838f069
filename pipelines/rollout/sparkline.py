"""A curve in one line of text."""

from __future__ import annotations

import math
from collections.abc import Sequence

_BARS = "▁▂▃▄▅▆▇█"
_GAP = "·"


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
