"""Schedules that fit themselves: from a task's response to noise to the decay of the noise.

A pilot measures the mean return at constant levels of noise. Along a trajectory the noise falls so
slowly that an episode sees one level of it, so the return that a decay gives can be predicted:
it is the response at the decay's noise. Of the paper's family (Appendix A.3) the decay is taken
whose predicted return is closest to a straight line; beyond the family, the response is inverted.
Of noise that is drawn for each episode, as much is taken as leaves the task played.

Shapes: L levels of noise, K knots, C bins of progress, E episodes of a level.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.distill.schedule import noise_along
from pipelines.histories.quality import BINS, straightness
from pipelines.tasks.schedule import Decay, EpisodeNoise, NoiseCurve, Schedule

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


LEAST_GAIN = 0.02
"""R-squared that another p and f has to be predicted to gain over linear decay. Less is within what
a pilot of eight episodes a level shows by chance: of decays chosen for less, some were worse."""

FAMILY_WILL_DO = 0.97
"""R-squared from which the catalogue keeps to the paper's family, as two numbers that say more."""

_KNOTS = (0.025, 0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.95, 0.975)
"""Shares of the return's way at which a fitted curve has a knot, besides both ends. A knot's noise
is the mean over a window of the way, `_WINDOW` to both sides, narrower at the ends: an inverse read
off level by level follows the chance of a few episodes, and was straighter than p and f on paper
only (docs/schedules.md)."""

_WINDOW = 0.1
_FINE = 4000

PLAYED, PLAYED_IN_ALL = 0.75, 0.675
"""Share of the way from random play to the demonstrator that the mean return of episodes is to
have, with levels drawn up to the largest one, and with those of nothing but noise among them. Where
the return falls in line with noise they give max=0.5,pure=0.1, the default with decoys."""

MOST_PURE = 0.3


@dataclass(frozen=True, slots=True, eq=False)
class Response:
    """Mean return of a demonstrator under constant noise.

    Attributes:
        levels_L: Share of noise, rising from 0 to 1.
        means_L: Mean episode return, unscaled reward.
        counts_L: Episodes that each mean is of.
        lengths_L: Their mean number of steps.
    """

    levels_L: NDArray[np.float64]
    means_L: NDArray[np.float64]
    counts_L: NDArray[np.int64]
    lengths_L: NDArray[np.float64]

    @classmethod
    def of(
        cls,
        returns: Mapping[float, Sequence[float]],
        lengths: Mapping[float, Sequence[float]] | None = None,
    ) -> Response:
        """Return the response measured by some episodes.

        Args:
            returns: Return of each episode by level of noise.
            lengths: Steps of each; None where all are equally long.
        """
        levels = sorted(returns)
        return cls(
            np.array(levels),
            np.array([float(np.mean(returns[level])) for level in levels]),
            np.array([len(returns[level]) for level in levels]),
            np.array([1.0 if lengths is None else np.mean(lengths[level]) for level in levels]),
        )

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Response:
        """Return the response that `as_json` described."""
        return cls(
            np.array(found["noise"], dtype=np.float64),
            np.array(found["return"], dtype=np.float64),
            np.array(found["episodes"], dtype=np.int64),
            np.array(found["length"], dtype=np.float64),
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
            "length": self.lengths_L.tolist(),
        }


def predicted_straightness(response: Response, schedule: Decay) -> float:
    """Return R-squared of a straight line through the return that a decay is predicted to give.

    Computed as `pipelines.histories.quality` does of a history: of means over the episodes in bins
    of progress. Where failures are short, a bin holds more of them than its steps suggest.
    """
    noise_T = noise_along(_POINTS, schedule)
    episodes_T = 1 / np.interp(noise_T, response.levels_L, response.lengths_L)
    sums_C = (response.at(noise_T) * episodes_T).reshape(BINS, -1).sum(axis=1)
    returns_C = sums_C / episodes_T.reshape(BINS, -1).sum(axis=1)
    return straightness((np.arange(BINS) + 0.5) / BINS, returns_C)


def fit_family(response: Response) -> Schedule:
    """Return the p and f whose predicted return is closest to a straight line.

    Linear decay is kept where nothing gains `LEAST_GAIN` over it, as where the response is flat.
    """
    linear = predicted_straightness(response, LINEAR)
    best, best_score = LINEAR, linear
    for f in _F:
        for p in _P:
            schedule = Schedule(float(p), float(f))
            score = predicted_straightness(response, schedule)
            # A rounding is no improvement: the first of equals stays.
            if score > best_score + 1e-9:
                best, best_score = schedule, score
    return best if best_score >= linear + LEAST_GAIN else LINEAR


def fit_curve(response: Response) -> NoiseCurve:
    """Return the decay that inverts the response: its predicted return is a straight line.

    The monotone response is walked from its value under full noise to its value without any; a
    knot has the mean noise of the part of the way around it. Where the response is a cliff, the
    noise passes slowly; where it is flat, at once.
    """
    inverse = _inverse(response)
    if inverse is None:
        return NoiseCurve((0.0, 1 - LINEAR.f), (1.0, 0.0))
    edges_F = np.linspace(0, 1, _FINE + 1)
    sums_F = np.append(0, np.cumsum(np.interp((edges_F[1:] + edges_F[:-1]) / 2, *inverse)) / _FINE)
    knots = [(0.0, 1.0)]
    for share in _KNOTS:
        window = min(_WINDOW, share, 1 - share)
        low, high = np.interp((share - window, share + window), edges_F, sums_F)
        noise = min(max(float(high - low) / (2 * window), 0.0), knots[-1][1])
        knots.append((share * (1 - SHORTEST_TAIL), round(noise, 4)))
    knots.append((1 - SHORTEST_TAIL, 0.0))
    return NoiseCurve(tuple(round(at, 6) for at, _ in knots), tuple(noise for _, noise in knots))


def levels_along(response: Response, shares: Iterable[float]) -> list[float]:
    """Return levels to measure next: those at which the return has come given shares of its way.

    Levels a trajectory spends its time at, if its return is to rise in a straight line. Read off
    the fitted curve, not off the levels themselves: one lucky level would keep all others to it.

    Args:
        shares: Shares of the way from full noise to none, within (0, 1).

    Returns:
        Rising levels, none of which was measured before; none where the response is flat.
    """
    if np.ptp(response.monotone) == 0:
        return []
    curve = fit_curve(response)
    at = np.array(sorted(shares)) * (1 - SHORTEST_TAIL)
    levels = np.interp(at, curve.progress, curve.noise).round(4)
    return sorted(set(levels.tolist()) - set(response.levels_L.tolist()))


def _inverse(response: Response) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Return shares of the way, rising from 0 to 1, and the noise at each; None if it is flat."""
    noise_L, return_L = response.levels_L[::-1], response.monotone[::-1]
    rise = return_L[-1] - return_L[0]
    if rise <= 0:
        return None
    # Levels of equal return are passed at once; an interpolation needs distinct ones.
    shares_L = (return_L - return_L[0]) / rise + 1e-9 * np.arange(len(return_L))
    return shares_L / shares_L[-1], noise_L


def choose_decay(response: Response) -> Decay:
    """Return the decay that the catalogue gives a task: p and f where they will do, else a curve.

    They will do where the return that they are predicted to give has an R-squared of
    `FAMILY_WILL_DO` or more. Where a response is a cliff none does: Appendix A.3 bends the decay,
    it cannot halt it.
    """
    family = fit_family(response)
    score = predicted_straightness(response, family)
    if score >= FAMILY_WILL_DO:
        return family
    curve = fit_curve(response)
    return curve if predicted_straightness(response, curve) > score else family


def share_played(response: Response, schedule: EpisodeNoise) -> float:
    """Return how far from random play to the demonstrator the mean return of episodes is to lie.

    Args:
        schedule: Noise that is drawn for each episode.

    Returns:
        0 for random play, 1 for the demonstrator alone; 1 where noise changes nothing.
    """
    means_L = response.monotone
    rise = float(means_L[0] - means_L[-1])
    if rise <= 0:
        return 1.0
    levels_F = (np.arange(_FINE) + 0.5) / _FINE * schedule.max
    played = np.interp(levels_F, response.levels_L, (means_L - means_L[-1]) / rise).mean()
    return float((1 - schedule.pure) * played)


def fit_levels(response: Response) -> EpisodeNoise:
    """Return the noise of episodes, as much as leaves the task played.

    The largest level is the highest, in steps of 0.01, up to which the mean return keeps `PLAYED`
    of its way; the share of nothing but noise is as large as leaves `PLAYED_IN_ALL`, and no larger
    than `MOST_PURE`. Where noise changes nothing, both are those of a return in line with noise.
    """
    if response.monotone[0] <= response.monotone[-1]:
        return EpisodeNoise(max=0.5, pure=0.1)
    # The share falls with the largest level.
    fitting = [
        level / 100
        for level in range(1, 101)
        if share_played(response, EpisodeNoise(max=level / 100, pure=0.0)) >= PLAYED - 1e-9
    ]
    most = max(fitting, default=0.01)
    without = share_played(response, EpisodeNoise(max=most, pure=0.0))
    pure = min(MOST_PURE, max(0.0, 1 - PLAYED_IN_ALL / without)) if without > 0 else 0.0
    # Downwards, but for a rounding.
    return EpisodeNoise(max=most, pure=int(100 * pure + 1e-6) / 100)
