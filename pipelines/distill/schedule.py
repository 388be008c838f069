"""The decay of the noise along a trajectory: Appendix A.3 of the paper.

    epsilon(n) = (1 - (n / ((1 - f) N))^p)^(1/p)   for n <= (1 - f) N, else 0

`n` is the number of the step within a trajectory of N steps, 0 to N - 1: the first step is all
noise, and from (1 - f) N on the demonstrator acts alone.

Where what demonstrators know is to be no more than rewards have told, noise is drawn instead, for
each episode or for each trajectory, so that it says nothing of how far a trajectory is.
"""

from __future__ import annotations

import math
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Literal, NoReturn, get_args

from pipelines.errors import ConfigError, UsageError
from pipelines.tasks.schedule import (
    DRAWN,
    Decay,
    EpisodeNoise,
    HistoryNoise,
    Noise,
    NoiseCurve,
    Schedule,
    schedule_from_json,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipelines.domains.goals import Knowledge

_EXAMPLE = "p=0.7,f=0.1"
_EXAMPLES: dict[str | None, str] = {
    None: _EXAMPLE,
    "episode": "per=episode,max=0.5,pure=0.1",
    "history": "per=history,max=1,f=0.1",
}
_PARAMETERS: dict[str | None, list[str]] = {
    None: [each.name for each in fields(Schedule)],
    **{per: [each.name for each in fields(kind)] for per, kind in DRAWN.items()},
}
"""Names of what can be set, by ``per``."""

Fit = Literal["auto", "fitted", "playable"]
"""What a pilot finds: the best decay of the paper's family, the inverse of the response, or noise
that is drawn for each episode and leaves the task played."""

FITS: tuple[Fit, ...] = get_args(Fit)


def default_noise(decay: Decay, knowledge: Knowledge | None) -> Noise:
    """Return the noise of a task where none is asked for.

    With decoys, half of an episode's actions and more stay the decoy's, so that the task is played;
    with beliefs, a trajectory goes from any level of noise to none (docs/schedules.md).
    """
    if knowledge == "decoy":
        return EpisodeNoise(max=0.5, pure=0.1)
    return HistoryNoise() if knowledge == "belief" else decay


def noise_of_trajectory(total: int, schedule: Noise) -> NDArray[np.float64]:
    """Return by how much the level of noise is multiplied at every step of a trajectory.

    Args:
        total: Steps of the trajectory, T >= 1.
        schedule: The noise. The level is 1 of a decay, and drawn by `draw_level` otherwise.

    Returns:
        float64 (T,), in [0, 1], never rising.
    """
    import numpy as np

    if isinstance(schedule, EpisodeNoise):
        return np.ones(total)
    if isinstance(schedule, HistoryNoise):
        return epsilons(total, schedule.p, schedule.f)
    return noise_along(total, schedule)


def draw_level(schedule: EpisodeNoise | HistoryNoise, generator: np.random.Generator) -> float:
    """Return the level of noise of an episode or of a trajectory."""
    level = float(schedule.max * generator.random())
    if isinstance(schedule, EpisodeNoise) and generator.random() < schedule.pure:
        return 1.0
    return level


def noise_along(total: int, schedule: Decay) -> NDArray[np.float64]:
    """Return the share of noise at every step of a trajectory.

    Args:
        total: Steps of the trajectory, T >= 1.

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


def parse_schedule(text: str) -> Noise:
    """Read noise as given on the command line: ``p=0.7,f=0.1`` or ``per=episode,max=0.5``.

    A parameter that is not named keeps the default of `Schedule`, or of the kind of noise that
    ``per`` names.

    Raises:
        UsageError: The text is malformed, names another parameter, or a value is out of range.
    """
    given: dict[str, str] = {}
    for part in text.split(","):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or name in given:
            _reject("schedule", f"NAME=NUMBER, each name once, such as {_EXAMPLE}", text)
        given[name] = value
    per = given.pop("per", None)
    if per is not None and per not in DRAWN:
        _reject("schedule: per", " or ".join(DRAWN), per)
    names = _PARAMETERS[per]
    kinds = [kind for kind in DRAWN if given.keys() <= set(_PARAMETERS[kind])]
    if per is None and kinds and not given.keys() <= set(names):
        _reject("schedule", " or ".join(_EXAMPLES[kind] for kind in kinds), text)
    if not given.keys() <= set(names):
        _reject("schedule", f"{', '.join(names)}, such as {_EXAMPLES[per]}", text)
    values: dict[str, Any] = {} if per is None else {"per": per}
    for name, number in given.items():
        try:
            values[name] = float(number)
        except ValueError:
            _reject(f"schedule: {name}", f"a number, such as in {_EXAMPLES[per]}", number)
    try:
        return schedule_from_json(values)
    except ConfigError as error:
        name = next((name for name in given if f"{name} " in f"{error.expected} "), "")
        _reject(f"schedule: {name}", str(error.expected), error.found)


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
