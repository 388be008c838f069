"""Double doors with a handle a hand: opening and closing them, away from the hands and to them.

All four hold the door in one frame, a metre across: the outward tasks have it as it is, its panels
swing to -x, away from the hands; the inward ones turn it by half a turn about y, so that they swing
to +x, to the hands (facts of the reference: poses, handles, hinges, rewards).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from pipelines.domains.bidexhands.geometry import Array, about
from pipelines.domains.bidexhands.hand import Pose
from pipelines.domains.bidexhands.tasks.base import Outcome, PointsTask, View

if TYPE_CHECKING:
    import mujoco

    from pipelines.domains.bidexhands.scene import Scene, SceneBuilder
    from pipelines.domains.bidexhands.snapshot import Snapshot

_SIDES = ("right", "left")
_HINGES = {"right": (-0.0085, 0.4265), "left": (-0.0085, -0.4204)}
"""x and y of the panels' hinges in the door's frame."""

_HANDLES = {"right": (0.0315, 0.0365, -0.017), "left": (0.034, -0.030, -0.017)}
"""The points that rewards and observations call the handles, of closed outward doors."""

_PANEL_X, _PANEL_Z = -0.0035, 0.0185
_PANEL = (0.0085, 0.219, 0.4625)
"""Half sizes of a panel; its inner edge stops 1.5 mm short of the middle of the door."""

_FRICTION = 0.1
_DAMPING = 1.0
_SPRING = 5.0
_WOOD = {"right": (0.72, 0.5, 0.3, 1.0), "left": (0.66, 0.45, 0.27, 1.0)}
_STEEL, _FRAME = (0.82, 0.84, 0.86, 1.0), (0.42, 0.27, 0.16, 1.0)
_GLASS = (0.6, 0.75, 0.85, 0.25)

_EULER = {1.0: (np.pi, 1.57, 1.57), -1.0: (np.pi, -1.57, 1.57)}
GATE = 0.5
"""Reach below which both hands have to be for how far the handles are apart to count, metres."""

OPEN = 0.5
"""Distance of the handles, along y, beyond which the doors are open, metres."""


def _facing(x: float, y: float) -> tuple[Pose, Pose]:
    """Return hands that point to the door, palms facing each other."""
    return Pose((x, y, 0.6), _EULER[1.0]), Pose((x, -y, 0.6), _EULER[-1.0])


class Doors(PointsTask):
    """What the four tasks share.

    The reference gives the hinges a stiffness of 5 Nm/rad, which pulls the doors shut, and a
    damping of 1 Nms/rad. Its code leaves open whether they are in effect; what is published for
    random actions does not. Closing outward earns 941 (release: 930) only if the doors shut by
    themselves: 943 here with the spring, 8 without. Closing inward earns 1.2 because the handles
    leave the hands behind, which ends the episode: 1.1 here, after 14 steps; without the spring 76,
    after all 249. The option ``door_spring`` takes the spring out, not the damping.

    Attributes:
        inward: Whether the panels swing to the hands.
        start: Angle (rad) and speed (rad/s) of the hinges at the start of an episode.
        offset: The constant of the reward.
        farthest: Reach of a hand at or above which the episode is over, metres.
    """

    poses = _facing(0.55, 0.2)
    # The door itself, which stands still.
    thing, held, left_first = "door", ("right-handle", "left-handle"), True
    force_scale, torque_scale = 0.5, 0.5
    view = View((0.12, 0.05, 0.67), 1.5, 155.0, -22.0)
    inward: ClassVar[bool]
    start: ClassVar[tuple[float, float]] = (0.0, 0.0)
    offset: ClassVar[float] = 2.0
    farthest: ClassVar[float] = 1.5
    closes: ClassVar[bool]

    def build(self, scene: SceneBuilder) -> None:
        """Add the frame and the two panels with handles on both faces."""
        turned = about(1, np.pi if self.inward else 0.0)
        door = scene.body("door", (0, 0, 0.7), turned, free=False)
        # The frame is there to be seen: in the reference too, panels and hands pass it.
        for z in (-0.444 - 0.02, 0.481 + 0.02):
            scene.box(door, (0.02, 0.9, 0.018), position=(0, 0, z), colour=_FRAME, collides=False)
        for sign in (1.0, -1.0):
            for y in (0.455, 0.885):
                scene.box(
                    door,
                    (0.02, 0.014, 0.4825),
                    position=(0, sign * y, _PANEL_Z),
                    colour=_FRAME,
                    collides=False,
                )
            scene.box(
                door,
                (0.003, 0.2, _PANEL[2]),
                position=(0, sign * 0.67, _PANEL_Z),
                colour=_GLASS,
                collides=False,
            )
        for side in _SIDES:
            self._add_panel(scene, door, side)

    def _add_panel(self, scene: SceneBuilder, door: Any, side: str) -> None:
        """Add a panel; its frame is at its hinge, its axes those of the door when closed."""
        sign = 1.0 if side == "right" else -1.0
        hinge_x, hinge_y = _HINGES[side]
        panel = scene.part(door, f"{side}-panel", (hinge_x, hinge_y, 0), gravity=False)
        scene.joint(
            panel,
            f"{side}-hinge",
            "hinge",
            (0, 0, -sign),
            (0.0, np.pi / 2),
            damping=_DAMPING,
            stiffness=_SPRING if self.quirks.door_spring == "stiff" else 0.0,
            armature=0.01,
        )

        def add(
            x: float, y: float, z: float, half: tuple[float, float, float], mass: float, **look: Any
        ) -> None:
            where = (x - hinge_x, sign * y - hinge_y, z)
            scene.box(panel, half, position=where, mass=mass, friction=_FRICTION, **look)

        # 3.5 kg in all: the reference's panel with its density of 500 kg/m3.
        add(_PANEL_X, 0.2205, _PANEL_Z, _PANEL, 3.2, colour=_WOOD[side])
        for bar_x, post_x, reach in ((0.077, 0.037, 0.032), (-0.083, -0.0435, 0.0315)):
            add(bar_x, 0.0515, -0.043, (0.008, 0.0175, 0.15), 0.08, colour=_STEEL)
            for z in (-0.181, 0.095):
                add(post_x, 0.0515, z, (reach, 0.012, 0.012), 0.035, colour=_STEEL)
        x, y, z = _HANDLES[side]
        x = -x if self.inward else x
        scene.point(panel, f"{side}-handle", (x - hinge_x, y - hinge_y, z))

    def begin(
        self, scene: Scene, data: mujoco.MjData, generator: np.random.Generator
    ) -> dict[str, Array]:
        """Set angle and speed of the hinges."""
        for side in _SIDES:
            data.qpos[scene.qpos(f"{side}-hinge")] = self.start[0]
            data.qvel[scene.dof(f"{side}-hinge")] = self.start[1]
        return {}

    def judge(self, state: Snapshot, right_B: Array, left_B: Array) -> Outcome:
        """Return ``offset - rF - lF`` and, within reach, ``2 s`` to open or ``1 - 2 s`` to close.

        s is the distance of the handles along y.
        """
        right, left = (state.points[name] for name in self.held)
        apart_B = np.abs(right[:, 1] - left[:, 1])
        bonus_B = 1.0 - 2.0 * apart_B if self.closes else 2.0 * apart_B
        near_B = (right_B < GATE) & (left_B < GATE)
        reward_B = self.offset - right_B - left_B + np.where(near_B, bonus_B, 0.0)
        success_B = apart_B < OPEN if self.closes else apart_B > OPEN
        ended_B = (right_B >= self.farthest) | (left_B >= self.farthest)
        return Outcome(reward_B, ended_B, success_B.astype(np.float64))


class DoorOpenOutward(Doors):
    """ShadowHandDoorOpenOutward: push the doors open."""

    stem = "DoorOpenOutward"
    inward, closes = False, False


class DoorOpenInward(Doors):
    """ShadowHandDoorOpenInward: pull the doors open."""

    stem = "DoorOpenInward"
    inward, closes = True, False


class DoorCloseInward(Doors):
    """ShadowHandDoorCloseInward: push doors shut that stand open towards the hands."""

    stem = "DoorCloseInward"
    poses = _facing(0.9, 0.5)
    inward, closes = True, True
    # The reference's speed opens the doors further, into their stops.
    start = (1.57, 1.57)
    view = View((0.42, 0.08, 0.61), 1.65, 150.0, -28.0)


class DoorCloseOutward(Doors):
    """ShadowHandDoorCloseOutward: pull doors shut that stand open away from the hands."""

    stem = "DoorCloseOutward"
    inward, closes = False, True
    start = (1.57, 1.57)
    offset, farthest = 6.0, 3.0
