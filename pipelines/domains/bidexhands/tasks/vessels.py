"""A pot to lift by its handles, and a kettle to hold over a bucket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.domains.bidexhands.geometry import Array, about, distance
from pipelines.domains.bidexhands.hand import Pose
from pipelines.domains.bidexhands.tasks.base import (
    Goals,
    HandTask,
    Outcome,
    PointsTask,
    View,
    object_entries,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipelines.domains.bidexhands.scene import SceneBuilder
    from pipelines.domains.bidexhands.snapshot import Snapshot


_ENAMEL, _STEEL, _BLACK = (0.75, 0.2, 0.18, 1.0), (0.75, 0.77, 0.8, 1.0), (0.16, 0.16, 0.18, 1.0)
_TEAL, _TIN, _WOOD = (0.16, 0.55, 0.55, 1.0), (0.36, 0.5, 0.66, 1.0), (0.4, 0.26, 0.16, 1.0)

BUCKET_FOOT = 0.053
"""From the bucket's frame down to what it stands on, metres."""
_BUCKET_RIM = 0.045
_KNOB = 0.005
_GAP = 0.001
"""By which a bottom is above the knobs that it stands on."""


def add_bucket(scene: SceneBuilder, name: str, position: Sequence[float]) -> Any:
    """Add a free, open bucket of 0.12 kg and return its body.

    The reference's has a radius of 0.057 m and goes from 0.053 m below its frame to 0.045 m above.

    Args:
        position: Of its frame, which is near its middle, metres.
    """
    bucket = scene.body(name, position)
    stand(scene, bucket, 0.057, -BUCKET_FOOT, mass=0.001, colour=_TIN)
    _disc(scene, bucket, 0.054, -BUCKET_FOOT + _GAP, -0.047, mass=0.024, colour=_TIN)
    scene.ring(bucket, 0.054, -0.047, _BUCKET_RIM, 0.003, 0.09, colour=_TIN)
    # The bail lies along the rim; to look at only: the reference's bucket ends at the rim.
    angles = np.linspace(-0.5 * np.pi, 0.5 * np.pi, 9)
    bail = [(0.064 * np.cos(a), 0.062 * np.sin(a), 0.034 - 0.03 * np.cos(a)) for a in angles]
    scene.rod(bucket, 0.002, *bail, mass=0, collides=False, colour=_STEEL)
    return bucket


def stand(scene: SceneBuilder, body: Any, radius: float, low: float, **geom: Any) -> None:
    """Add what a round body stands on: six knobs along its edge.

    MuJoCo finds a single point of contact between a cylinder and a table, on which a body rocks
    and sinks in by millimetres; on six it rests.

    Args:
        radius: Of the body, metres.
        low: z of its lower end in its frame.
        **geom: See `SceneBuilder.geom`.
    """
    for turn in range(6):
        angle = np.pi * turn / 3
        where = (radius - _KNOB) * np.cos(angle), (radius - _KNOB) * np.sin(angle), low + _KNOB
        scene.geom(body, "sphere", (_KNOB,), where, **geom)


def _disc(
    scene: SceneBuilder, body: Any, radius: float, low: float, high: float, **geom: Any
) -> None:
    """Add an upright cylinder between two heights."""
    scene.geom(body, "cylinder", (radius, (high - low) / 2), (0, 0, (low + high) / 2), **geom)


class LiftUnderarm(HandTask):
    """ShadowHandLiftUnderarm: lift a heavy pot, a hand at each handle."""

    stem = "LiftUnderarm"
    poses = (Pose((0, 0.05, 0.45)), Pose((0, -1.25, 0.45), (0, 0, np.pi)))
    force_scale, torque_scale = 0.25, 1.0
    view = View((-0.03, -0.63, 0.6), 1.25, 160.0, -25.0)
    start, goal = (0.0, -0.6, 0.465), np.array([0.0, -0.6, 0.85])
    friction = 3.0

    def build(self, scene: SceneBuilder) -> None:
        """Add the table and the pot.

        The reference starts the pot 1.5 cm inside of the table; here it stands on it. Its lid,
        which slides in the reference, is part of it. Masses and moments of inertia are those that
        the reference's file states for pot and lid, which are larger than their shape has.
        """
        scene.table((0.3, 0.3, 0.4), (0.0, -0.6), friction=self.friction)
        pot = scene.body("pot", self.start)
        red: dict[str, Any] = {"friction": self.friction, "colour": _ENAMEL}
        black: dict[str, Any] = {"friction": self.friction, "colour": _BLACK}
        stand(scene, pot, 0.118, -0.065, **red)
        _disc(scene, pot, 0.117, -0.065 + _GAP, -0.057, **red)
        scene.ring(pot, 0.115, -0.057, 0.055, 0.003, 2.0, sides=12, **red)
        _disc(scene, pot, 0.116, 0.055, 0.063, friction=self.friction, colour=_STEEL)
        for x in (-0.04, 0.04):
            scene.rod(pot, 0.006, (0, x, 0.063), (0, x, 0.096), **black)
        scene.rod(pot, 0.007, (0, -0.045, 0.096), (0, 0.045, 0.096), **black)
        for side in (1, -1):
            y = side * 0.176
            scene.rod(pot, 0.0055, (-0.05, y, 0.0625), (0.045, y, 0.0625), **black)
            for x in (-0.05, 0.045):
                scene.rod(pot, 0.0055, (x, side * 0.108, 0.05), (x, y, 0.0625), **black)
        pot.explicitinertial = True
        pot.mass, pot.inertia, pot.ipos = 4.0, (0.8, 0.8, 0.4), (0.0, 0.0, 0.0)
        scene.point(pot, "right-handle", (0, 0.15, 0.06))
        scene.point(pot, "left-handle", (0, -0.15, 0.06))
        scene.marker("goal", "cylinder", (0.118, 0.06), colour=(*_ENAMEL[:3], 0.15))
        scene.spec.body("goal").pos = self.goal

    def observe(self, state: Snapshot, goals: Goals) -> Array:
        """Return the pot and the point at its right and at its left handle."""
        points = state.points
        return np.concatenate(
            [object_entries(state.objects["pot"]), points["right-handle"], points["left-handle"]],
            axis=-1,
        )

    def outcome(self, state: Snapshot, goals: Goals, action_BA: Array) -> Outcome:
        """Return ``0.2 - rP - lP``, and ``3 (0.385 - D)`` while both palms are at the handles."""
        pot_B3 = state.objects["pot"].position_B3
        right_B = distance(state.hands[0].palm_point_B3, state.points["right-handle"])
        left_B = distance(state.hands[1].palm_point_B3, state.points["left-handle"])
        apart_B = distance(pot_B3, self.goal)
        held_B = (right_B < 0.08) & (left_B < 0.08)
        reward_B = 0.2 - right_B - left_B + np.where(held_B, 3.0 * (0.385 - apart_B), 0.0)
        terminated_B = (pot_B3[:, 2] <= 0.3) | (right_B >= 0.2) | (left_B >= 0.2)
        return Outcome(reward_B, terminated_B, (apart_B < 0.05).astype(np.float64))


class Kettle(PointsTask):
    """ShadowHandKettle: hold the kettle's spout where it would pour into the bucket."""

    stem = "Kettle"
    thing, held = "kettle", ("handle", "target")
    poses = (
        Pose((0.55, 0.2, 0.6), (np.pi, 1.57, 1.57)),
        Pose((0.55, -0.2, 0.6), (np.pi, -1.57, 1.57)),
    )
    force_scale, torque_scale = 0.5, 0.1
    view = View((0.06, -0.12, 0.5), 0.9, 35.0, -30.0)

    def build(self, scene: SceneBuilder) -> None:
        """Add the table, the kettle and the bucket.

        As in the reference both start some centimetres above the table and drop onto it. The
        kettle is solid, of 1 kg: the reference's 30 marbles in it are in no reward and no
        observation. Its lid, which slides in the reference, is part of it.
        """
        scene.table((0.5, 1.0, 0.4))
        kettle = scene.body("kettle", (0, 0, 0.5), about(2, 1.57))
        stand(scene, kettle, 0.114, -0.074, mass=0.001, colour=_TEAL)
        _disc(scene, kettle, 0.114, -0.074 + _GAP, 0.069, mass=0.864, colour=_TEAL)
        _disc(scene, kettle, 0.06, 0.069, 0.083, mass=0.02, colour=_STEEL)
        scene.geom(kettle, "sphere", (0.012,), (0, 0, 0.093), mass=0.01, colour=_BLACK)
        handle = [(0.105, 0, 0.05), (0.16, 0, 0.045), (0.16, 0, -0.035), (0.105, 0, -0.05)]
        scene.rod(kettle, 0.01, *handle, mass=0.02, colour=_WOOD)
        spout = (-0.1, 0, -0.03), (-0.183, 0, 0.053)
        scene.rod(kettle, 0.014, *spout, mass=0.04, colour=_TEAL)
        bucket = add_bucket(scene, "bucket", (0, -0.3, 0.5))
        scene.point(kettle, "handle", (0.15, 0, 0))
        scene.point(kettle, "spout", (-0.2, 0, 0.07))
        below = -0.1 if self.quirks.kettle_target == "below" else _BUCKET_RIM
        scene.point(bucket, "target", (0, 0, below))

    def judge(self, state: Snapshot, right_B: Array, left_B: Array) -> Outcome:
        """Return ``1 - rF - lF``, and ``0.5 - 2 d`` while both hands are near."""
        target_B3 = state.points["target"]
        apart_B = distance(target_B3, state.points["spout"])
        near_B = (right_B < 0.7) & (left_B < 0.7)
        reward_B = 1.0 - right_B - left_B + np.where(near_B, 0.5 - 2.0 * apart_B, 0.0)
        return Outcome(reward_B, target_B3[:, 2] <= 0.2, (apart_B < 0.05).astype(np.float64))
