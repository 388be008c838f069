"""The axes of a report's panels: chosen once, so that page and pictures show the same."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from pipelines.pictures import shot_ticks

#: About how many ticks a horizontal and a vertical axis have.
ACROSS, UP = 5, 6


def line_axes(
    lines: Sequence[dict[str, Any]], x: str, *, guides: bool, log: bool
) -> dict[str, Any]:
    """Return the limits and ticks of a panel of lines; JSON.

    Args:
        lines: Its series.
        x: The label of its horizontal axis, which tells shots and shares of a whole apart.
        guides: Whether 0 and 1 are to be seen.
        log: Whether the vertical axis is logarithmic.
    """
    places = [value for each in lines for value in each["x"]]
    heights = [
        value
        for each in lines
        for values in (each["y"], each["low"] or (), each["high"] or ())
        for value in values
    ] + ([0.0, 1.0] if guides else [])
    low, high = min(heights), max(heights)
    if log:
        y_limits, y_ticks = [low / 1.1, high * 1.1], log_ticks(low / 1.1, high * 1.1)
    else:
        margin = 0.06 * (high - low or abs(high) or 1.0)
        y_limits = [low - margin, high + margin]
        y_ticks = ticks(y_limits[0], y_limits[1], UP)
    if x.startswith("shot"):
        x_limits = [1, max(places)]
        x_ticks: list[float] = [*shot_ticks(int(max(places)))]
    else:
        x_limits = [0, 1] if x.startswith("share") else [min(places), max(places)]
        x_ticks = ticks(x_limits[0], x_limits[1], ACROSS)
    return {
        "x_limits": x_limits,
        "x_ticks": [[tick, short(tick)] for tick in x_ticks],
        "y_limits": y_limits,
        "y_ticks": [[tick, short(tick)] for tick in y_ticks],
    }


def bar_axes(bars: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the limits and ticks of a panel of horizontal bars, up to 1 at least; JSON."""
    values = [
        each[key] for each in bars for key in ("value", "low", "high") if each[key] is not None
    ]
    limits = [min(0.0, *values), max(1.05, *values)]
    return {
        "x_limits": limits,
        "x_ticks": [[tick, short(tick)] for tick in ticks(limits[0], limits[1], ACROSS)],
    }


def ticks(low: float, high: float, most: int) -> list[float]:
    """Return multiples of 1, 2 or 5 times a power of 10 within two limits, about as many as asked.

    Args:
        low: Lower limit.
        high: Upper limit.
        most: About how many.
    """
    rough = (high - low) / most
    if rough <= 0:
        return [low]
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(each * power for each in (1, 2, 5, 10) if each * power >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    count = math.floor(high / step + 1e-9) - first
    # The rounding leaves 0.3 where a product is 0.30000000000000004.
    return [float(f"{(first + number) * step:.12g}") for number in range(count + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Return ones, twos and fives within two limits; ones alone where those would be many.

    Limits that are so near that fewer than two lie between them get evenly spaced ticks.
    """
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found = [float(f"{digit}e{power}") for power in powers for digit in (1, 2, 5)]
    inside = [each for each in found if low <= each <= high]
    if len(inside) < 2:
        return ticks(low, high, UP)
    ones = [each for each in inside if f"{each:e}".startswith("1.0")]
    return ones if len(inside) > 7 and len(ones) > 1 else inside


def short(value: float) -> str:
    """Return a number as an axis has room for: 0.2, 500, 120k."""
    if abs(value) >= 1e5:
        return f"{value / 1000:.6g}k"
    return f"{value:.6g}"
