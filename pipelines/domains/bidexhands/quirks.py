"""What the reference does that its authors may not have meant, kept by default, each with a switch.

Source of each: Bi-DexHands as released, and what was measured against the returns that the paper's
authors publish (docs/bidexhands.md). The fields are options of the domain, by the same names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from pipelines.domains.base import OptionSpec

BACKENDS = ("mujoco", "isaacgym")


@dataclass(frozen=True, slots=True)
class Quirks:
    """The domain's options that change a task; see `OPTIONS` for what they mean."""

    base_damping: float = 6.0
    push_block_goals: str = "left"
    reorientation_goal: str = "second"
    kettle_target: str = "below"
    switch_success: str = "reference"
    door_spring: str = "stiff"
    euler: str = "positive"
    clip: str = "on"
    first_step: str = "random"

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Quirks:
        """Return the quirks among resolved options; those left out are the default's."""
        names = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in options.items() if name in names})


def _count(value: Any) -> float:
    number = float(value)
    if number < 1 or number != int(number):
        raise ValueError("a whole number of at least 1")
    return number


def _positive(value: Any) -> float:
    number = float(value)
    if not 0 < number < float("inf"):
        raise ValueError("a number > 0")
    return number


_CHOICES: dict[str, tuple[tuple[str, ...], str]] = {
    "push_block_goals": (
        ("left", "own"),
        "hand-push-block: left rewards both blocks for the left goal, as the reference does; own "
        "rewards each for its own",
    ),
    "reorientation_goal": (
        ("second", "both"),
        "hand-reorientation: a goal counts as reached when the second cube is there, as in the "
        "reference, or when both are",
    ),
    "kettle_target": (
        ("below", "opening"),
        "hand-kettle: the spout aims 10 cm below the bucket's centre, as in the reference, or at "
        "its opening",
    ),
    "switch_success": (
        ("reference", "reachable"),
        "hand-switch: the reference's threshold, which no rocker can reach, or a reachable one",
    ),
    "door_spring": (
        ("none", "stiff"),
        "doors: the reference's stiffness of 5 Nm/rad at the hinges, which the published random "
        "returns of closing doors need, or no spring",
    ),
    "euler": (
        ("positive", "signed"),
        "angles of a hand's base in [0, 2 pi), as in the reference, which the clipping to 5 "
        "cuts, or in (-pi, pi]",
    ),
    "clip": (("on", "off"), "observations clipped to [-5, 5], as in the reference, or not"),
    "first_step": (
        ("random", "none"),
        "the reference's reset makes one step with a tiny random action before the first "
        "observation; none leaves it out",
    ),
}

OPTIONS: tuple[OptionSpec, ...] = (
    OptionSpec(
        "backend",
        "mujoco",
        "the simulator: MuJoCo, or an Isaac Gym of your own (docs/isaac-gym.md)",
        BACKENDS,
    ),
    OptionSpec(
        "copies_per_simulation",
        1.0,
        "isaacgym: copies of an environment that share a simulation (docs/isaac-gym.md)",
        parse=_count,
    ),
    OptionSpec(
        "base_damping",
        6.0,
        "damping of a hand's base as a multiple of the reference's nominal one; 6 is what PhysX "
        "makes of it at its step, and fits the random returns that Isaac Gym gave",
        parse=_positive,
    ),
    *(OptionSpec(name, getattr(Quirks(), name), *_CHOICES[name][::-1]) for name in _CHOICES),
)
