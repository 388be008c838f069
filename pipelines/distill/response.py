"""Schedules that fit themselves: from a task's response to noise to the decay of the noise.

A pilot measures the mean return at constant levels of noise. Along a trajectory the noise falls so
slowly that an episode sees one level of it, so the return that a decay gives can be predicted:
it is the response at the decay's noise. Of the paper's family (Appendix A.3) the decay is taken
whose predicted return is closest to a straight line; beyond the family, the response is inverted.

Shapes: L levels of noise, K knots, C bins of progress.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.distill.schedule import NoiseCurve, noise_along
from pipelines.histories.quality import BINS, straightness
from pipelines.tasks.spec import Schedule

if TYPE_CHECKING:
    from numpy.typing import NDArray

LINEAR = Schedule(1.0, 0.1)
"""Linear decay, with the noise-free tail that all of the paper's tasks have."""

SHORTEST_TAIL = 0.05
"""Every fitted decay ends with the demonstrator alone on the last twentieth, as the paper's do on
the last tenth: where a return is at its best, a model is to see the actions that made it."""

_POINTS = 100 * BINS
"""Steps of the trajectory that predictions are made for."""

_P = np.round(np.geomspace(0.1, 10.0, 81), 4)
_F = (0.05, 0.075, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6)
"""The family's parameters that are tried. A long tail never straightens a return, except where
it falls off a cliff close to no noise at all."""


@dataclass(frozen=True, slots=True, eq=False)
class Response:
    """Mean return of a demonstrator under constant noise.

    Attributes:
        levels_L: Share of noise, rising from 0 to 1.
        means_L: Mean episode return, unscaled reward.
        counts_L: Episodes that each mean is of.
    """

    levels_L: NDArray[np.float64]
    means_L: NDArray[np.float64]
    counts_L: NDArray[np.int64]

    @classmethod
    def of(cls, returns: Mapping[float, Sequence[float]]) -> Response:
        """Return the response that episodes tell, by level of noise."""
        levels = sorted(returns)
        return cls(
            np.array(levels),
            np.array([float(np.mean(returns[level])) for level in levels]),
            np.array([len(returns[level]) for level in levels]),
        )

    @property
    def monotone(self) -> NDArray[np.float64]:
        """The means as they fall with noise: the closest values that never rise with it, (L,)."""
        from scipy.optimize import isotonic_regression

        fitted = isotonic_regression(self.means_L, weights=self.counts_L, increasing=False)
        return np.asarray(fitted.x, dtype=np.float64)

    def at(self, noise: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the return at other levels of noise, between the measured ones in a line."""
        return np.interp(noise, self.levels_L, self.means_L)

    def as_json(self) -> dict[str, Any]:
        """Return the curve as a JSON object."""
        return {
            "noise": self.levels_L.tolist(),
            "return": self.means_L.tolist(),
            "episodes": self.counts_L.tolist(),
        }


def predicted_straightness(response: Response, schedule: Schedule | NoiseCurve) -> float:
    """Return R-squared of a straight line through the return that a decay is predicted to give.

    Computed as `pipelines.histories.quality` does of a history: of means in bins of progress.
    """
    returns = response.at(noise_along(_POINTS, schedule)).reshape(BINS, -1).mean(axis=1)
    return straightness((np.arange(BINS) + 0.5) / BINS, returns)


def fit_family(response: Response) -> Schedule:
    """Return the p and f whose predicted return is closest to a straight line.

    Linear decay is among what is tried, so the prediction is never worse than its own. Where the
    response is flat there is nothing to fit, and linear decay is returned.
    """
    best, best_score = LINEAR, predicted_straightness(response, LINEAR)
    for f in _F:
        for p in _P:
            schedule = Schedule(float(p), float(f))
            score = predicted_straightness(response, schedule)
            # A rounding is no improvement: the first of equals, and linear before all, stays.
            if score > best_score + 1e-9:
                best, best_score = schedule, score
    return best


def fit_curve(response: Response) -> NoiseCurve:
    """Return the decay that inverts the response: its predicted return is a straight line.

    The monotone response is walked from its value under full noise to its value without any; the
    noise at which it is passed is read off at every level measured. Where the response is a cliff
    between two levels, the noise passes slowly between them; where it is flat, at once.
    """
    noise_L, return_L = response.levels_L[::-1], response.monotone[::-1]
    rise = return_L[-1] - return_L[0]
    if rise <= 0:
        return NoiseCurve((0.0, 1 - LINEAR.f), (1.0, 0.0))
    progress_L = (1 - SHORTEST_TAIL) * (return_L - return_L[0]) / rise
    # Levels of equal return are passed at one moment: the noise jumps over the flat part. A knot
    # needs a moment of its own, so the jump takes a thousandth of the trajectory.
    knots: list[tuple[float, float]] = [(0.0, 1.0)]
    for index in range(1, len(noise_L)):
        at = max(float(progress_L[index]), knots[-1][0] + 1e-3)
        knots.append((at, float(noise_L[index])))
    last = knots[-1][0]
    # The jumps are taken out of the whole, so that the tail keeps its length.
    scale = (1 - SHORTEST_TAIL) / last
    return NoiseCurve(
        tuple(round(at * scale, 6) for at, _ in knots), tuple(noise for _, noise in knots)
    )


def levels_between(response: Response, most: int, span: float) -> list[float]:
    """Return levels to measure next: the middles of gaps that the return changes much across.

    Args:
        response: What is known.
        most: Most levels to return, those of the largest changes.
        span: Change of the return, as a share of its whole range, that is small enough.
    """
    whole = float(np.ptp(response.means_L))
    if whole <= 0:
        return []
    change = np.abs(np.diff(response.means_L)) / whole
    wide = [index for index in np.argsort(-change, kind="stable").tolist() if change[index] > span]
    middles = (response.levels_L[1:] + response.levels_L[:-1]) / 2
    return sorted(float(middles[index]) for index in wide[:most])
