"""Two switches on a table, and a bottle whose cap comes off (facts of the reference)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from pipelines.domains.bidexhands.geometry import Array, about, conjugate, distance, from_euler
from pipelines.domains.bidexhands.hand import Pose
from pipelines.domains.bidexhands.tasks.base import (
    OVER_TABLE,
    Goals,
    HandTask,
    Outcome,
    PointsTask,
    View,
    object_entries,
    place,
)

if TYPE_CHECKING:
    import mujoco

    from pipelines.domains.bidexhands.scene import Scene, SceneBuilder
    from pipelines.domains.bidexhands.snapshot import Snapshot

_STOP = (0.999, 0.9999, 0.001, 0.5, 2.0)
"""MuJoCo's impedance of a joint's limit for parts as light as a rocker or a cap. The default gives
way to a hand: a search for high returns pressed a rocker 0.94 rad beyond its stop."""


class Switch(PointsTask):
    """ShadowHandSwitch: press two rocker switches, one a hand.

    A rocker's weight tips its near end up, to the end of its range; pressing that end down brings
    the point that is rewarded from z = 0.7023 to 0.6917. So ``1.4 - (z_right + z_left)`` stays
    below 0.0166, and the reference's threshold of success, 0.05, is never met; the option
    ``switch_success`` has one that is.
    """

    stem = "Switch"
    # The right switch, which stands still, and the points to press.
    thing, held = "right-switch", ("right-rocker", "left-rocker")
    poses = OVER_TABLE
    force_scale, torque_scale = 0.5, 0.1
    view = View((0.1, -0.03, 0.67), 0.8, 35.0, -28.0)
    tipped: ClassVar[float] = 0.5585
    thresholds: ClassVar[dict[str, float]] = {"reference": 0.05, "reachable": 0.015}

    def build(self, scene: SceneBuilder) -> None:
        """Add the table and the switches."""
        scene.table((0.5, 1.0, 0.55))
        for side, y in (("right", 0.2), ("left", -0.2)):
            self._add_switch(scene, side, y)

    def _add_switch(self, scene: SceneBuilder, side: str, y: float) -> None:
        """Add a housing with a trough that a rocker lies in.

        The actor has the reference's orientation; what it consists of is along the world's axes.
        """
        actor = from_euler(np.pi, 1.57, 0.0)
        switch = scene.body(f"{side}-switch", (0, y, 0.65), actor, free=False)
        housing = scene.body(
            f"{side}-housing", (0, 0, 0), conjugate(actor), free=False, parent=switch, track=False
        )
        ivory = (0.9, 0.88, 0.82, 1.0)
        scene.box(housing, (0.058, 0.05, 0.05), position=(0, 0, -0.05), colour=ivory)
        for sign in (1, -1):
            where = (0, sign * 0.041, 0.0205)
            scene.box(housing, (0.058, 0.009, 0.0205), position=where, colour=ivory)
        rocker = scene.body(
            f"{side}-rocker", (0.0109, 0.0502, 0.0417), free=False, parent=housing, track=False
        )
        scene.joint(
            rocker,
            f"{side}-hinge",
            "hinge",
            (0, -1, 0),
            (0.0, self.tipped),
            damping=0.01,
            armature=1e-4,
            solimp_limit=_STOP,
        )
        red = (0.85, 0.2, 0.16, 1.0) if side == "right" else (0.2, 0.45, 0.8, 1.0)
        scene.box(
            rocker, (0.05, 0.03, 0.012), position=(-0.0109, -0.0502, 0.013), density=500, colour=red
        )
        # The mark that real ones have, on the end to press.
        scene.box(
            rocker,
            (0.003, 0.014, 0.001),
            position=(0.024, -0.0502, 0.0255),
            mass=1e-4,
            colour=(1.0, 1.0, 1.0, 1.0),
            collides=False,
        )
        scene.point(rocker, f"{side}-rocker", (0.02, -0.05, 0.0))
        # A housing is part of the world, whose parts a rocker would touch as if it were no child.
        scene.spec.add_exclude(bodyname1=f"{side}-housing", bodyname2=f"{side}-rocker")

    def begin(
        self, scene: Scene, data: mujoco.MjData, generator: np.random.Generator
    ) -> dict[str, Array]:
        """Start with the rockers tipped as their weight tips them."""
        for side in ("right", "left"):
            data.qpos[scene.qpos(f"{side}-hinge")] = self.tipped
        return {}

    def judge(self, state: Snapshot, right_B: Array, left_B: Array) -> Outcome:
        """Return ``2 - rF - lF + 50 (1.4 - (z_right + z_left))``; only the length ends it."""
        right, left = (state.points[name] for name in self.held)
        pressed_B = 1.4 - (right[:, 2] + left[:, 2])
        reward_B = 2.0 - right_B - left_B + 50.0 * pressed_B
        success_B = pressed_B > self.thresholds[self.quirks.switch_success]
        return Outcome(reward_B, np.zeros(len(reward_B), np.bool_), success_B.astype(np.float64))


class BottleCap(HandTask):
    """ShadowHandBottleCap: one hand holds a bottle, the other one pulls its cap off.

    The cap slides along the bottle's axis and turns about it, one not tied to the other.

    The bottle lies across the left palm, which tilts by 50 degrees, and would slide, turn about
    what it touches, or tip over the palm's edge if fingers did not hold it. The reference has
    friction 100 and many contact points, here are few: sliding friction 3, and friction against
    turning that fits the returns of random actions (published: 75 and 111; here 0.25 m gives 80,
    0.3 m 103, 0.5 m 159, and next to none 25). It starts 12 mm beside the reference's place, where
    it would overlap palm and thumb by 7 mm.
    """

    stem = "BottleCap"
    poses = (Pose((0, -1.05, 0.5), (0.5, np.pi, np.pi)), Pose((0, -0.25, 0.45), (0, 0.87, 0)))
    force_scale, torque_scale = 0.1, 0.1
    substeps = 4
    hands_meet = True
    start_joints: ClassVar[dict[str, float]] = {"THJ4": -1.04, "THJ3": 1.2, "THJ0": -1.57}
    view = View((0.0, -0.7, 0.52), 0.8, 20.0, -18.0)
    start: ClassVar[tuple[float, float, float]] = (0.0053, -0.61, 0.5045)
    tilt: ClassVar[float] = -0.7
    friction: ClassVar[tuple[float, float, float]] = (3.0, 0.28, 0.0001)

    def build(self, scene: SceneBuilder) -> None:
        """Add the table below, the bottle and its cap."""
        scene.table((0.3, 0.3, 0.1), (0.0, -0.6))
        green, red = (0.25, 0.6, 0.4, 1.0), (0.85, 0.2, 0.16, 1.0)
        bottle = scene.body("bottle", self.start, about(1, self.tilt))

        def add(body: Any, radius: float, low: float, high: float, **geom: Any) -> Any:
            half = (high - low) / 2
            return scene.geom(body, "cylinder", (radius, half), (0, 0, low + half), **geom)

        grips = [
            add(bottle, 0.038, -0.026, 0.134, mass=0.19, condim=4, colour=green),
            add(bottle, 0.011, 0.134, 0.149, mass=0.01, condim=4, colour=green),
        ]
        label = (0.96, 0.94, 0.88, 1.0)
        add(bottle, 0.0385, 0.022, 0.078, mass=0.0, colour=label, collides=False)
        # The frame of the cap's link is off the axis, and turning the cap leaves it where it is.
        slider = scene.body("cap-slider", (0, 0, 0), free=False, parent=bottle, track=False)
        scene.joint(
            slider, "cap-slide", "slide", (0, 0, 1), (0.0, 0.064), damping=0.5, solimp_limit=_STOP
        )
        add(slider, 0.009, 0.14, 0.149, mass=0.002, colour=red, collides=False)
        scene.point(slider, "cap-link", (-0.0075, -0.007, 0.0))
        cap = scene.body("cap", (0, 0, 0), free=False, parent=slider, track=False)
        scene.joint(cap, "cap-turn", "hinge", (0, 0, 1), None, damping=0.001, armature=1e-5)
        grips.append(add(cap, 0.013, 0.139, 0.15, mass=0.01, condim=4, colour=red))
        for geom in grips:
            geom.friction = self.friction
        scene.point(bottle, "cap-goal", (0, 0, 0.15))
        scene.spec.add_exclude(bodyname1="bottle", bodyname2="cap")

    def begin(
        self, scene: Scene, data: mujoco.MjData, generator: np.random.Generator
    ) -> dict[str, Array]:
        """Lay the bottle into the left hand."""
        place(scene, data, "bottle", np.array(self.start), about(1, self.tilt))
        return {}

    def observe(self, state: Snapshot, goals: Goals) -> Array:
        """Return the bottle, where it is, where its cap belongs, and the cap's link."""
        bottle = state.objects["bottle"]
        return np.concatenate(
            [
                object_entries(bottle),
                bottle.position_B3,
                state.points["cap-goal"],
                state.points["cap-link"],
            ],
            axis=-1,
        )

    def outcome(self, state: Snapshot, goals: Goals, action_BA: Array) -> Outcome:
        """Return ``2 - rF - lP`` and, with the right hand at the cap (rF <= 0.3), ``30 u``.

        u is the distance of the cap's link to the bottle's.
        """
        bottle, top = state.objects["bottle"], state.points["cap-goal"]
        right, left = state.hands
        reach_B = right.reach(top)
        palm_B = distance(left.palm_point_B3, bottle.position_B3)
        off_B = distance(state.points["cap-link"], bottle.position_B3)
        reward_B = 2.0 - reach_B - palm_B + np.where(reach_B <= 0.3, 30.0 * off_B, 0.0)
        terminated_B = (
            (top[:, 2] <= 0.5) | (distance(right.palm_point_B3, top) >= 0.5) | (palm_B >= 0.2)
        )
        return Outcome(reward_B, terminated_B, (off_B > 0.03).astype(np.float64))
