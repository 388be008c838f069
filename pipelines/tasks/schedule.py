"""The noise along a trajectory as data: decays, of the paper's family or of knots, and draws.

What they mean step by step is in `pipelines.distill.schedule`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from pipelines.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Schedule:
    """Parameters of the noise decay of the paper's Appendix A.3.

    Attributes:
        p: Curvature, > 0. 1 is linear; below 1 the noise falls steeply at first, above 1 it stays
            high for long and falls at the end.
        f: Fraction of the trajectory at its end without noise, in [0, 1).

    Raises:
        ConfigError: A parameter is out of range.
    """

    p: float = 1.0
    f: float = 0.1

    def __post_init__(self) -> None:
        if not (math.isfinite(self.p) and self.p > 0):
            raise ConfigError("Schedule: p is out of range.", expected="p > 0", found=self.p)
        if not 0 <= self.f < 1:
            raise ConfigError("Schedule: f is out of range.", expected="0 <= f < 1", found=self.f)


@dataclass(frozen=True, slots=True)
class NoiseCurve:
    """A decay of any shape: straight between knots, and beyond the last as at the last.

    Attributes:
        progress: Shares of the trajectory, rising from 0, within [0, 1]; two or more.
        noise: Share of noise at each, never rising, within [0, 1].

    Raises:
        ConfigError: The knots are not of this kind.
    """

    progress: tuple[float, ...]
    noise: tuple[float, ...]

    def __post_init__(self) -> None:
        rising = all(a < b for a, b in pairwise(self.progress))
        falling = all(a >= b for a, b in pairwise(self.noise))
        values = (*self.progress, *self.noise)
        if not (
            len(self.progress) == len(self.noise) >= 2
            and self.progress[0] == 0
            and rising
            and falling
            and all(0 <= value <= 1 for value in values)
        ):
            raise ConfigError(
                "Noise curve: the knots are not valid.",
                expected="progress rising from 0, noise never rising, both within 0 and 1",
                found=f"progress {self.progress}, noise {self.noise}",
            )


Decay = Schedule | NoiseCurve


@dataclass(frozen=True, slots=True)
class EpisodeNoise:
    """A level of noise that is drawn for each episode, uniform in [0, max].

    Attributes:
        max: The largest level, in [0, 1].
        pure: Probability of an episode of nothing but noise, in [0, 1].

    Raises:
        ConfigError: A parameter is out of range.
    """

    max: float = 1.0
    pure: float = 0.0

    def __post_init__(self) -> None:
        _check_share("max", self.max)
        _check_share("pure", self.pure)


@dataclass(frozen=True, slots=True)
class HistoryNoise:
    """A level that is drawn for each trajectory, uniform in [0, max], and falls along it.

    Attributes:
        max: The largest level, in [0, 1].
        p: Curvature of the fall, as of `Schedule`.
        f: Fraction of the trajectory at its end without noise, as of `Schedule`.

    Raises:
        ConfigError: A parameter is out of range.
    """

    max: float = 1.0
    p: float = 1.0
    f: float = 0.1

    def __post_init__(self) -> None:
        _check_share("max", self.max)
        Schedule(self.p, self.f)


Noise = Decay | EpisodeNoise | HistoryNoise

DRAWN: dict[str, type[EpisodeNoise] | type[HistoryNoise]] = {
    "episode": EpisodeNoise,
    "history": HistoryNoise,
}
"""The kinds of noise that is drawn, by what it is drawn for: the value of ``per``."""


def _check_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ConfigError(
            f"Schedule: {name} is out of range.", expected=f"0 <= {name} <= 1", found=value
        )


def schedule_json(schedule: Noise) -> dict[str, Any]:
    """Return noise as artifacts record it.

    Returns:
        ``p`` and ``f``, or ``progress`` and ``noise``; of noise that is drawn ``per``, which is
        ``episode`` or ``history``, and its parameters.
    """
    if isinstance(schedule, NoiseCurve):
        return {"progress": list(schedule.progress), "noise": list(schedule.noise)}
    per = [name for name, kind in DRAWN.items() if isinstance(schedule, kind)]
    return {**({"per": per[0]} if per else {}), **asdict(schedule)}


def schedule_from_json(found: Mapping[str, Any]) -> Noise:
    """Return the noise that `schedule_json` described.

    Raises:
        ConfigError: It describes none, or its numbers are out of range.
    """
    try:
        if found.keys() == {"progress", "noise"}:
            knots = {name: tuple(float(value) for value in found[name]) for name in found}
            return NoiseCurve(**knots)
        kind = DRAWN[found["per"]] if "per" in found else Schedule
        return kind(**{name: float(value) for name, value in found.items() if name != "per"})
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            "This is no decay of the noise.",
            expected="p and f, or lists of progress and noise, or per (episode or history) and its "
            "parameters",
            found=dict(found),
        ) from error


def decay_from_json(found: Mapping[str, Any]) -> Decay:
    """Return a decay that `schedule_json` described, as a task of the catalogue has one.

    Raises:
        ConfigError: As `schedule_from_json`, or the noise is drawn.
    """
    schedule = schedule_from_json(found)
    if not isinstance(schedule, Decay):
        raise ConfigError(
            "This is no decay of the noise.",
            expected="p and f, or lists of progress and noise",
            found=dict(found),
        )
    return schedule


def schedule_text(found: Mapping[str, Any]) -> str:
    """Return noise as `schedule_json` describes it in a few words, for tables.

    Returns:
        ``p=0.7,f=0.1``, or ``per=episode,max=0.5,pure=0.1``, or of a curve the noise at some knots:
        ``curve: 1 .45@25% .2@50% 0@95%``.
    """
    if "noise" not in found:
        return ",".join(
            f"{name}={value if isinstance(value, str) else format(value, 'g')}"
            for name, value in found.items()
        )
    progress, noise = found["progress"], found["noise"]
    inner = [
        min(range(len(progress)), key=lambda index: abs(progress[index] - share))
        for share in (0.25, 0.5, 0.75)
    ]
    shown = dict.fromkeys([0, *inner, len(progress) - 1])
    return "curve " + " ".join(f"{noise[index]:.2g}@{progress[index]:.0%}" for index in shown)
