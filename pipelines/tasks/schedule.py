"""Decays of the noise along a trajectory as data: the paper's family, and curves of knots.

What they mean step by step is in `pipelines.distill.schedule`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
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


def schedule_json(schedule: Decay) -> dict[str, Any]:
    """Return a decay as artifacts record it: ``p`` and ``f``, or ``progress`` and ``noise``."""
    if isinstance(schedule, NoiseCurve):
        return {"progress": list(schedule.progress), "noise": list(schedule.noise)}
    return {"p": schedule.p, "f": schedule.f}


def schedule_from_json(found: Mapping[str, Any]) -> Decay:
    """Return the decay that `schedule_json` described.

    Raises:
        ConfigError: It describes none, or its numbers are out of range.
    """
    try:
        if found.keys() == {"progress", "noise"}:
            knots = {name: tuple(float(value) for value in found[name]) for name in found}
            return NoiseCurve(**knots)
        return Schedule(**{name: float(value) for name, value in found.items()})
    except (TypeError, ValueError) as error:
        raise ConfigError(
            "This is no decay of the noise.",
            expected="p and f, or lists of progress and noise",
            found=dict(found),
        ) from error


def schedule_text(found: Mapping[str, Any]) -> str:
    """Return a decay as `schedule_json` describes it in a few words, for tables.

    Returns:
        ``p=0.7,f=0.1``, or of a curve the noise at some knots: ``curve: 1 .45@25% .2@50% 0@95%``.
    """
    if "noise" not in found:
        return f"p={found['p']:g},f={found['f']:g}"
    progress, noise = found["progress"], found["noise"]
    inner = [
        min(range(len(progress)), key=lambda index: abs(progress[index] - share))
        for share in (0.25, 0.5, 0.75)
    ]
    shown = dict.fromkeys([0, *inner, len(progress) - 1])
    return "curve " + " ".join(f"{noise[index]:.2g}@{progress[index]:.0%}" for index in shown)
