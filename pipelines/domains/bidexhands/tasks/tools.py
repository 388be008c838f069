"""Things of a table: a pen, scissors, a cup, two switches, and a bottle whose cap comes off."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from pipelines.domains.bidexhands.geometry import (
    Array,
    about,
    angle_between,
    conjugate,
    distance,
    from_euler,
    rotate,
)
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

RIGHT, LEFT = "right-point", "left-point"
_STEEL = (0.72, 0.75, 0.79, 1.0)
_DARK = (0.2, 0.21, 0.24, 1.0)
_NAVY = (0.13, 0.22, 0.5, 1.0)
_RED, _PALE_RED = (0.82, 0.16, 0.16, 1.0), (0.93, 0.42, 0.36, 1.0)
_TEAL, _CREAM = (0.13, 0.55, 0.55, 1.0), (0.95, 0.91, 0.82, 1.0)


class Pen(PointsTask):
    """ShadowHandPen: pull the cap off a pen.

    The reference starts the pen with its axis in the table's surface, from where it pops up; here
    it lies on the table. Its joint has a stiffness and a damping that its drive, being off, does
    not apply; the cap here sticks with 0.3 N, so that it does not fall off by itself.
    """

    stem = "Pen"
    poses = OVER_TABLE
    force_scale, torque_scale = 0.5, 0.1
    # Two substeps let the light cap blow up in about one of 80 random episodes, four in none.
    substeps = 4
    hands_meet = True
    view = View((0.18, -0.02, 0.8), 1.05, 25.0, -28.0)
    thing, held = "pen", (RIGHT, LEFT)
    radius, cap_radius = 0.01, 0.0115

    def build(self, scene: SceneBuilder) -> None:
        """Add table and pen: its axis along y, the cap towards the right hand, the clip up."""
        scene.table((0.5, 1.0, 0.6))
        # The cap is thicker than the pen, and rests on the table with it.
        pen = scene.body(self.thing, (0, 0, 0.6 + self.cap_radius), from_euler(1.57, 1.57, 0.0))
        ends = (0, 0, -0.15), (0, 0, 0.19)
        scene.rod(pen, self.radius, *ends, mass=0.06, condim=4, colour=_CREAM)
        scene.geom(
            pen, "cylinder", (self.radius + 0.0004,), ends=(0, 0, 0.165, 0, 0, 0.175), mass=0.0,
            collides=False, colour=_NAVY,
        )  # fmt: skip
        cap = scene.part(pen, "cap")
        scene.joint(
            cap, "cap", "slide", (0, 0, -1), (0.0, 0.492), damping=0.5, frictionloss=0.3,
            armature=0.01,
        )  # fmt: skip
        ends = (0, 0, -0.1605), (0, 0, -0.0515)
        scene.rod(cap, self.cap_radius, *ends, mass=0.032, condim=4, colour=_NAVY)
        # Without a mass the clip does not make the pen roll over.
        scene.box(cap, (0.002, 0.0025, 0.05), position=(-0.0155, 0, -0.1), mass=0.0, colour=_STEEL)
        scene.box(
            cap, (0.003, 0.0025, 0.004), position=(-0.0125, 0, -0.152), mass=0.0, collides=False,
            colour=_STEEL,
        )  # fmt: skip
        scene.point(cap, RIGHT, (0, 0, -0.1))
        scene.point(pen, LEFT, (0, 0, 0.07))

    def judge(self, state: Snapshot, right_B: Array, left_B: Array) -> Outcome:
        """Return ``e^-10rF + e^-10lF``, and near the pen ``5 l - 0.8``, l the points' distance."""
        apart_B = distance(state.points[RIGHT], state.points[LEFT])
        held_B = (right_B < 0.75) & (left_B < 0.75)
        reward_B = np.exp(-10.0 * right_B) + np.exp(-10.0 * left_B)
        reward_B = reward_B + np.where(held_B, 5.0 * apart_B - 0.8, 0.0)
        ended_B = (right_B >= 1.5) | (left_B >= 1.5)
        return Outcome(reward_B, ended_B, (5.0 * apart_B > 1.5).astype(np.float64))


class Scissors(PointsTask):
    """ShadowHandScissors: open a pair of scissors.

    The reference's points are 0.2 m behind the pivot and 0.1 m to the right on the half that
    turns, 0.15 m behind the origin and 0.1 m to the left on the other one, both as at an angle of
    zero. An episode starts at an angle of -0.59 rad, which is closed: the right point starts turned
    by that, 7 cm from the left one. Random play then returns -44, published are -40; with the right
    point at its place of angle zero it would return 19.
    """

    stem = "Scissors"
    poses = OVER_TABLE
    force_scale, torque_scale = 0.5, 0.1
    view = View((0.1, -0.02, 0.64), 1.0, 25.0, -38.0)
    thing, held = "scissors", (RIGHT, LEFT)
    hinge = "scissors-hinge"
    closed = -0.59
    pivot = (-0.0034, 0.0698)
    # In the frame of a half at an angle of zero, from the pivot for the half that turns.
    right_point, left_point = (0.1, -0.2), (-0.1, -0.15)
    thickness = 0.005

    def build(self, scene: SceneBuilder) -> None:
        """Add table and scissors: flat, handles towards the hands."""
        scene.table((0.5, 1.0, 0.6))
        body = scene.body(self.thing, (0, 0, 0.6 + self.thickness), about(2, 1.57))
        pivot = np.array([*self.pivot, 0.0])
        self._half(scene, body, pivot, np.array([*self.left_point, 0.0]), _RED, below=True)
        scene.point(body, LEFT, (*self.left_point, 0))
        # The frame of the half that turns is at the pivot, and turned as it is when closed.
        half = scene.part(body, "scissors-half", pivot.tolist(), about(2, self.closed))
        scene.joint(
            half, self.hinge, "hinge", (0, 0, 1), (-0.597, 0.4), ref=self.closed, damping=0.02,
            frictionloss=0.02,
        )  # fmt: skip
        ring = np.array([*self.right_point, 0.0])
        self._half(scene, half, np.zeros(3), ring, _PALE_RED, below=False)
        scene.point(half, RIGHT, ring.tolist())
        scene.geom(
            body,
            "cylinder",
            (0.009, 0.0055),
            pivot.tolist(),
            mass=0.0,
            collides=False,
            colour=_DARK,
        )

    def _half(
        self,
        scene: SceneBuilder,
        body: Any,
        pivot: Array,
        ring: Array,
        colour: tuple[float, ...],
        *,
        below: bool,
    ) -> None:
        """Add a blade, a shank and a ring to hold; of a tenth of a kilogram."""
        # Closed, the blades lie on each other, along the bisector of the shanks.
        side = 1.0 if below else -1.0
        turn = about(2, 0.5 * side * self.closed)
        z = (-0.5 if below else 0.5) * self.thickness
        blade = pivot + rotate(turn, np.array([0.0, 0.05, z]))
        scene.box(body, (0.011, 0.13, 0.0022), position=blade.tolist(), quaternion=turn, mass=0.05,
                  colour=_STEEL)  # fmt: skip
        tip = pivot + rotate(turn, np.array([-0.004 * side, 0.2, z]))
        scene.geom(body, "ellipsoid", (0.007, 0.03, 0.002), tip.tolist(), quaternion=turn, mass=0.0,
                   collides=False, colour=_STEEL)  # fmt: skip
        along = (pivot - ring) / np.linalg.norm(pivot - ring)
        across = np.array([along[1], -along[0], 0.0])
        near = ring + 0.045 * along
        scene.rod(body, self.thickness, pivot, near, mass=0.015, colour=colour)
        angles = np.linspace(0.0, 2.0 * np.pi, 9)
        corners = [ring + 0.045 * np.cos(a) * along + 0.03 * np.sin(a) * across for a in angles]
        scene.rod(body, self.thickness, *corners, mass=0.035 / 8, colour=colour)

    def judge(self, state: Snapshot, right_B: Array, left_B: Array) -> Outcome:
        """Return ``2 - rF - lF``, and near the handles ``5 (0.59 + q)``, q the angle."""
        angle_B = state.joints[self.hinge]
        near_B = (right_B < 0.7) & (left_B < 0.7)
        opened_B = np.where(near_B, 5.0 * (0.59 + angle_B), 0.0)
        ended_B = (opened_B < -0.5) | (right_B >= 1.75) | (left_B >= 1.75)
        reward_B = 2.0 - right_B - left_B + opened_B
        return Outcome(reward_B, ended_B, (angle_B > -0.3).astype(np.float64))


class SwingCup(PointsTask):
    """ShadowHandSwingCup: turn a cup with two ears half around.

    The reference starts the cup 8 cm inside the table, from where it pops up; here it stands on
    it. Its lid, which could slide up, is part of the cup.
    """

    stem = "SwingCup"
    poses = (
        Pose((0.35, 0.2, 0.8), (np.pi, 1.57, 1.57)),
        Pose((0.35, -0.2, 0.8), (np.pi, -1.57, 1.57)),
    )
    force_scale, torque_scale = 0.1, 0.1
    view = View((0.04, -0.02, 0.74), 0.68, 30.0, -20.0)
    thing, held = "cup", (RIGHT, LEFT)
    goal = about(2, 1.5 * np.pi)
    radius, low, high = 0.052, -0.084, 0.058

    def build(self, scene: SceneBuilder) -> None:
        """Add table and cup: one ear towards each hand."""
        scene.table((0.3, 0.3, 0.6), friction=0.5)
        cup = scene.body(self.thing, (0, 0, 0.6 - self.low), about(2, 1.57))
        # It stands on a square foot: on a cylinder's edge it would slowly turn by itself.
        foot, rim = self.low + 0.004, self.high
        scene.box(
            cup, (0.034, 0.034, 0.004), position=(0, 0, self.low + 0.004), mass=0.02, friction=0.5,
            condim=4, colour=_TEAL,
        )  # fmt: skip
        scene.geom(
            cup, "cylinder", (self.radius,), ends=(0, 0, foot, 0, 0, rim), mass=0.21, friction=0.5,
            condim=4, colour=_TEAL,
        )  # fmt: skip
        scene.geom(
            cup, "cylinder", (self.radius - 0.006,), ends=(0, 0, rim, 0, 0, rim + 0.006), mass=0.02,
            friction=0.5, colour=_CREAM,
        )  # fmt: skip
        scene.geom(
            cup, "sphere", (0.007,), (0, 0, rim + 0.008), mass=0.0, collides=False, colour=_CREAM
        )
        # One ear in the colour of the right hand's objects shows how far the cup has turned.
        for side, colour in ((1.0, _RED), (-1.0, _TEAL)):
            inner, outer = side * (self.radius - 0.004), side * 0.081
            path = [(inner, 0, 0.04), (outer, 0, 0.03), (outer, 0, -0.035), (inner, 0, -0.045)]
            scene.rod(cup, 0.007, *path, mass=0.05 / 6, friction=0.5, colour=colour)
        scene.point(cup, RIGHT, (0.062, 0, 0))
        scene.point(cup, LEFT, (-0.06, 0, 0))

    def judge(self, state: Snapshot, right_B: Array, left_B: Array) -> Outcome:
        """Return ``-rF - lF``, and near the ears ``5 / (theta + 0.1) - 1``, theta what is left."""
        cup = state.objects[self.thing]
        left_over_B = angle_between(cup.quaternion_B4, self.goal)
        near_B = (right_B < 0.4) & (left_B < 0.4)
        reward_B = -right_B - left_B + np.where(near_B, 5.0 / (left_over_B + 0.1) - 1.0, 0.0)
        fallen_B = cup.position_B3[:, 2] <= 0.3
        return Outcome(reward_B, fallen_B, (left_over_B < 0.785).astype(np.float64))


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
        housing = scene.part(switch, f"{side}-housing", quaternion=conjugate(actor))
        ivory = (0.9, 0.88, 0.82, 1.0)
        scene.box(housing, (0.058, 0.05, 0.05), position=(0, 0, -0.05), colour=ivory)
        for sign in (1, -1):
            where = (0, sign * 0.041, 0.0205)
            scene.box(housing, (0.058, 0.009, 0.0205), position=where, colour=ivory)
        rocker = scene.part(housing, f"{side}-rocker", (0.0109, 0.0502, 0.0417))
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
        slider = scene.part(bottle, "cap-slider")
        scene.joint(
            slider, "cap-slide", "slide", (0, 0, 1), (0.0, 0.064), damping=0.5, solimp_limit=_STOP
        )
        add(slider, 0.009, 0.14, 0.149, mass=0.002, colour=red, collides=False)
        scene.point(slider, "cap-link", (-0.0075, -0.007, 0.0))
        cap = scene.part(slider, "cap")
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
