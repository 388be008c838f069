"""The decay of the noise along a trajectory: Appendix A.3 of the paper.

    epsilon(n) = (1 - (n / ((1 - f) N))^p)^(1/p)   for n <= (1 - f) N, else 0

`n` is the number of the step within a trajectory of N steps, 0 to N - 1: the first step is all
noise, and from (1 - f) N on the demonstrator acts alone.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, NoReturn, get_args

from pipelines.errors import UsageError
from pipelines.tasks.schedule import Decay, NoiseCurve, Schedule

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_EXAMPLE = "p=0.7,f=0.1"

Fit = Literal["auto", "fitted"]
"""Decays that a pilot finds: the best of the paper's family, and the inverse of the response."""

FITS: tuple[Fit, ...] = get_args(Fit)


def noise_along(total: int, schedule: Decay) -> NDArray[np.float64]:
    """Return the share of noise at every step of a trajectory.

    Args:
        total: Steps of the trajectory, T >= 1.
        schedule: The decay.

    Returns:
        float64 (T,), in [0, 1], never rising.
    """
    import numpy as np

    if isinstance(schedule, NoiseCurve):
        return np.interp(np.arange(total) / total, schedule.progress, schedule.noise)
    return epsilons(total, schedule.p, schedule.f)


def epsilons(total: int, p: float, f: float) -> NDArray[np.float64]:
    """Return the share of noise at every step of a trajectory.

    Args:
        total: Steps of the trajectory, T >= 1.
        p: Curvature, > 0.
        f: Fraction of the trajectory at its end without noise, in [0, 1).

    Returns:
        float64 (T,), in [0, 1], falling from 1 to 0.

    Raises:
        UsageError: A parameter is out of range.
    """
    import numpy as np

    _check(total, p, f)
    # The clipped fraction is 1, and epsilon 0, wherever the noise-free tail has begun.
    fraction = np.minimum(np.arange(total, dtype=np.float64) / ((1 - f) * total), 1.0)
    return (1 - fraction**p) ** (1 / p)


def parse_schedule(text: str) -> Schedule:
    """Read a schedule as given on the command line, such as ``p=0.7,f=0.1``.

    A parameter that is not named keeps the default of `Schedule`.

    Raises:
        UsageError: The text is malformed, names another parameter, or a value is out of range.
    """
    values: dict[str, float] = {}
    for part in text.split(","):
        name, equals, number = (piece.strip() for piece in part.partition("="))
        if name not in ("p", "f") or not equals or name in values:
            _reject("schedule", f"p=NUMBER,f=NUMBER, such as {_EXAMPLE}", text)
        try:
            values[name] = float(number)
        except ValueError:
            _reject(f"schedule: {name}", f"a number, such as in {_EXAMPLE}", number)
    _check(1, values.get("p", 1.0), values.get("f", 0.0))
    return Schedule(**values)


def _check(total: int, p: float, f: float) -> None:
    if total < 1:
        _reject("steps", ">= 1", total)
    if not (math.isfinite(p) and p > 0):
        _reject("schedule: p", "p > 0", p)
    if not 0 <= f < 1:
        _reject("schedule: f", "0 <= f < 1", f)


def _reject(what: str, expected: str, found: object) -> NoReturn:
    raise UsageError(
        f"{what} is not valid", expected=expected, found=found, fix=f"--schedule {_EXAMPLE}"
    )
