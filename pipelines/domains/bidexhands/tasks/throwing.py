"""Throwing and catching an egg: five tasks (facts of the reference: egg, poses, goals, reward).

The reward is ``exp(-0.2 (scale D + theta))`` with D the distance of the egg to its goal and theta
the angle that its orientation is off. Goals have a random orientation; they are not touched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from pipelines.domains.bidexhands.geometry import Array, distance
from pipelines.domains.bidexhands.hand import Pose
from pipelines.domains.bidexhands.tasks.base import Goals, GoalTask, Outcome, View

if TYPE_CHECKING:
    from pipelines.domains.bidexhands.scene import SceneBuilder
    from pipelines.domains.bidexhands.snapshot import Snapshot

Point = tuple[float, float, float]

EGG = (0.03, 0.03, 0.04)
EGG_DENSITY = 500.0
_COLOURS = {"egg": (0.93, 0.6, 0.2, 1.0), "second-egg": (0.35, 0.55, 0.9, 1.0)}


class Throwing(GoalTask):
    """What the five tasks share.

    Attributes:
        distance_scale: Factor on the distance in the reward.
        lowest: Height at or below which an egg is dropped, metres.
        centres: Where the right and the left hand have to stay near; None for no such rule.
        stay_within: Largest distance from there, metres.
        palm_stays: Whether that rule is about the palm's body; else it is about the root.
        reached: Distance, or sum of distances, below which the goal is reached.
    """

    hands_meet = True
    observe_root = True
    view = View((0.0, -0.52, 0.42), 1.1, 200.0, -30.0)
    things: ClassVar[tuple[str, ...]] = ("egg",)
    distance_scale: ClassVar[float] = 50.0
    lowest: ClassVar[float] = 0.2
    centres: ClassVar[tuple[Point, Point] | None] = None
    stay_within: ClassVar[float] = 0.1
    palm_stays: ClassVar[bool] = False
    reached: ClassVar[float] = 0.03

    def build(self, scene: SceneBuilder) -> None:
        """Add the eggs and their goals."""
        for name, start, target in zip(self.things, self.starts, self.targets, strict=True):
            colour = _COLOURS[name]
            egg = scene.body(name, start)
            scene.geom(egg, "ellipsoid", EGG, density=EGG_DENSITY, condim=4, colour=colour)
            scene.marker(f"{name}-goal", "ellipsoid", EGG, colour=(*colour[:3], 0.35))
            scene.spec.body(f"{name}-goal").pos = target

    def outcome(self, state: Snapshot, goals: Goals, action_BA: Array) -> Outcome:
        """Return the sum over the eggs of ``exp(-0.2 (scale D + theta))``."""
        rows = len(action_BA)
        reward_B, apart_B = np.zeros(rows), np.zeros(rows)
        terminated_B = np.zeros(rows, np.bool_)
        for apart, angle, height in self.left(state, goals):
            reward_B += np.exp(-0.2 * (self.distance_scale * apart + angle))
            apart_B += apart
            terminated_B |= height <= self.lowest
        if self.centres is not None:
            for hand, centre in zip(state.hands, self.centres, strict=True):
                where = hand.palm_position_B3 if self.palm_stays else hand.root_position_B3
                terminated_B |= distance(where, np.array(centre)) >= self.stay_within
        return Outcome(reward_B, terminated_B, (apart_B < self.reached).astype(np.float64))

    def guidance(self, state: Snapshot, goals: Goals) -> Array:
        """Return the sum over the eggs of ``exp(-4 D)``: at 30 cm it is still felt."""
        return np.sum([np.exp(-4.0 * apart) for apart, _, _ in self.left(state, goals)], axis=0)


class HandOver(Throwing):
    """ShadowHandOver: hands that stand still, 75 steps."""

    stem = "Over"
    view = View((0.0, -0.52, 0.46), 0.9, 200.0, -30.0)
    poses = (Pose((0, 0, 0.5)), Pose((0, -1, 0.5), (0, 0, np.pi)))
    fixed_base = True
    position_noise, joint_noise = 0.01, 0.2
    starts = ((0, -0.39, 0.54),)
    targets = ((0, -0.64, 0.54),)


class CatchUnderarm(Throwing):
    """ShadowHandCatchUnderarm."""

    stem = "CatchUnderarm"
    poses = (Pose((0, 0, 0.5)), Pose((0, -1.15, 0.5), (0, 0, np.pi)))
    force_scale, torque_scale = 0.05, 0.5
    position_noise, joint_noise = 0.01, 0.2
    starts = ((0, -0.39, 0.54),)
    targets = ((0, -0.79, 0.54),)
    lowest = 0.1


class TwoCatchUnderarm(Throwing):
    """ShadowHandTwoCatchUnderarm: the hands exchange two eggs."""

    stem = "TwoCatchUnderarm"
    things = ("egg", "second-egg")
    poses = CatchUnderarm.poses
    force_scale, torque_scale = 0.05, 0.5
    position_noise, joint_noise = 0.01, 0.2
    starts = ((0, -0.39, 0.54), (0, -0.78, 0.54))
    targets = ((0, -0.79, 0.54), (0, -0.38, 0.54))
    reached = 0.06


class CatchOver2Underarm(Throwing):
    """ShadowHandCatchOver2Underarm: from a hand that points up to one that lies open."""

    stem = "CatchOver2Underarm"
    view = View((-0.04, -0.3, 0.66), 1.15, 200.0, -22.0)
    poses = (Pose((0, 0, 0.5), (1.67, 3.14, 0)), Pose((0, -0.8, 0.5), (0, 0, np.pi)))
    force_scale, torque_scale = 0.1, 2.0
    starts = ((0, 0.05, 1.0),)
    targets = ((0, -0.4, 0.55),)
    distance_scale = 20.0
    lowest = 0.3
    centres = ((0, 0, 0.5), (0, -0.8, 0.5))


class CatchAbreast(Throwing):
    """ShadowHandCatchAbreast: hands side by side."""

    stem = "CatchAbreast"
    view = View((-0.2, -0.75, 0.4), 1.05, 200.0, -30.0)
    poses = (Pose((0, -0.55, 0.5), (0, 0.3925, -1.57)), Pose((0, -1.15, 0.5), (0, -0.3925, -1.57)))
    force_scale, torque_scale = 0.5, 1.0
    starts = ((-0.39, -0.55, 0.54),)
    targets = ((-0.39, -1.15, 0.54),)
    centres = ((-0.3, -0.55, 0.5), (-0.3, -1.15, 0.5))
    palm_stays = True
