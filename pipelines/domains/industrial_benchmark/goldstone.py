"""The miscalibration subsystem of the Industrial Benchmark, as two lookup tables.

Source: Hein et al. 2017, "A Benchmark Environment Motivated by Industrial Control Problems"
(arXiv:1709.09480), the section on mis-calibration, with the constants of the package
industrial-benchmark-python 2.0. A direction moves on a circle of 24 positions as the effective
shift leaves or keeps to a safe zone; the penalty is a linearly biased Goldstone potential whose
minimum lies along that direction.

Direction (13 values), domain (2) and response (2) only ever take 52 joint values, and the shift
acts on them by its side alone, so that the automaton is a table of 52 x 3 entries: one gather
does what would take twenty masked operations.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

POSITIONS = 24
QUARTER = POSITIONS // 4
LARGEST_STEP = math.sin(math.pi / 12)
"""Largest change of the effective shift that the optimal policy needs in one step."""
SAFE_ZONE = LARGEST_STEP / 2
"""Effective shifts of at most this magnitude let the direction return to zero."""


class Tables(NamedTuple):
    """The automaton and its penalties, both indexed by ``cursor + side``.

    A cursor stands for one of the 52 joint values; the side is -1 below the safe zone, 0 in it
    and 1 above it.

    Attributes:
        start: Cursor at the beginning of an episode.
        cursor: (156,) intp, the cursor after the move.
        curve: (5, 156) float64, parameters of the penalty after the move, in the order of `Curve`.
    """

    start: int
    cursor: NDArray[np.intp]
    curve: NDArray[np.float64]


class Curve(NamedTuple):
    """The penalty along one direction as a function of the effective shift x.

    With y = slope * min(|x|, knee) + scale * max(|x| - knee, 0) ** exponent and z = y * sign(x),
    the penalty is quadratic * z**2 - quartic * z**4 - bias * z; `quadratic` and `quartic` are the
    same in all directions (see `potential`).

    Attributes:
        knee: Magnitude of the shift that is optimal in this direction.
        slope: Stretch that puts the potential's minimum at the knee.
        scale: Factor of the stretch beyond the knee.
        exponent: Exponent of the stretch beyond the knee.
        bias: Strength of the linear bias in this direction.
    """

    knee: float
    slope: float
    scale: float
    exponent: float
    bias: float


class Potential(NamedTuple):
    """Coefficients of the normalised potential."""

    quadratic: float
    quartic: float
    bias: float


@functools.cache
def potential() -> Potential:
    """Return the coefficients that make the deepest point of the potential -1."""
    root = math.cbrt(1 + math.sqrt(2)) / math.sqrt(3)
    radius = root + 1 / (3 * root)
    slant = 8 * math.sqrt(2 / 27)
    depth = 2 * radius**2 - radius**4 + slant * radius
    return Potential(quadratic=2 / depth, quartic=1 / depth, bias=-slant / depth)


def curve(direction: int) -> Curve:
    """Return the penalty curve of a direction.

    Args:
        direction: Position on the circle, -6 to 6 in steps of 15 degrees.
    """
    sine = math.sin(2 * math.pi * direction / POSITIONS)
    knee = max(abs(sine), LARGEST_STEP)
    minimum = _radius_of_minimum(abs(sine))
    exponent = (2 - knee) / (2 - minimum)
    return Curve(
        knee=knee,
        slope=minimum / knee,
        scale=(2 - minimum) / (2 - knee) ** exponent,
        exponent=exponent,
        bias=potential().bias * sine,
    )


def advance(domain: int, response: int, direction: int, side: int) -> tuple[int, int, int]:
    """Move the automaton by one step.

    Args:
        domain: Side of the safe zone that the shift was last on, -1 or 1.
        response: 1 while the direction turns with the shift, -1 once it has hit its end.
        direction: -6 to 6.
        side: Where the shift is now: -1, 0 (safe zone) or 1.

    Returns:
        Domain, response and direction after the step.
    """
    if side not in (0, domain):
        domain, response = side, 1
    if side == 0:
        direction -= (direction > 0) - (direction < 0)
    elif direction != -domain * QUARTER:
        direction += response * side
    if abs(direction) >= QUARTER:
        response = -1
        direction = 2 * QUARTER - direction % POSITIONS
    if side == 0 and direction == 0:
        domain, response = 1, 1
    return domain, response, direction


@functools.cache
def tables() -> Tables:
    """Build the tables; the arrays are read-only and shared by all callers."""
    joint = [
        (domain, response, direction)
        for domain in (-1, 1)
        for response in (-1, 1)
        for direction in range(-QUARTER, QUARTER + 1)
    ]
    cursor_of = {values: 3 * number + 1 for number, values in enumerate(joint)}
    moves = [advance(*values, side) for values in joint for side in (-1, 0, 1)]
    cursor = np.array([cursor_of[move] for move in moves], dtype=np.intp)
    curves = np.array([curve(move[2]) for move in moves]).T.copy()
    cursor.flags.writeable = False
    curves.flags.writeable = False
    return Tables(start=cursor_of[1, 1, 0], cursor=cursor, curve=curves)


def _radius_of_minimum(sine: float) -> float:
    # Roots of the potential's derivative by Cardano: one real root from 45 degrees on, else three.
    offset = math.sqrt(2 / 27) * sine
    if offset >= math.sqrt(1 / 27):
        root = math.cbrt(offset + math.sqrt(max(offset * offset - 1 / 27, 0.0)))
        return root + 1 / (3 * root)
    return math.sqrt(4 / 3) * math.cos(math.acos(offset * math.sqrt(27)) / 3)
