"""Turning two cubes, one in each of two hands that stand still, to orientations that change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.domains.bidexhands.geometry import Array
from pipelines.domains.bidexhands.hand import Pose
from pipelines.domains.bidexhands.tasks.base import (
    GOAL,
    Goals,
    GoalTask,
    Outcome,
    View,
    random_orientation,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    import mujoco

    from pipelines.domains.bidexhands.scene import Scene, SceneBuilder
    from pipelines.domains.bidexhands.snapshot import Snapshot

_HALF = 0.025
_FACES = (
    (0.85, 0.2, 0.2), (0.95, 0.6, 0.15), (0.2, 0.6, 0.3),
    (0.2, 0.4, 0.85), (0.95, 0.9, 0.3), (0.6, 0.3, 0.7),
)  # fmt: skip


class ReOrientation(GoalTask):
    """ShadowHandReOrientation: 600 steps, a new goal each time that one is reached."""

    stem = "ReOrientation"
    poses = (Pose((0, 0, 0.5)), Pose((0, -1.15, 0.5), (0, 0, np.pi)))
    fixed_base = True
    position_noise, joint_noise = 0.01, 0.2
    view = View((0.03, -0.57, 0.52), 0.95, 180.0, -35.0)
    things = ("cube", "second-cube")
    starts = np.array([[0.0, -0.39, 0.6], [0.0, -0.76, 0.6]])
    # The cubes start 4 cm above their goals.
    targets = starts - np.array([0.0, 0.0, 0.04])
    reached, bonus, lowest = 0.1, 500.0, 0.2
    action_penalty = 0.0002

    def build(self, scene: SceneBuilder) -> None:
        """Add the cubes, of the default density, and their goals.

        Goals are drawn 0.2 m beside where the cubes are to be, so that they do not hide the cubes;
        those of observation and reward are not.
        """
        half = (_HALF, _HALF, _HALF)
        for name, start, target in zip(self.things, self.starts, self.targets, strict=True):
            cube = scene.body(name, start.tolist())
            scene.box(cube, half, density=1000, condim=4, colour=(0.15, 0.15, 0.17, 1))
            _paint(scene, cube, 1.0)
            scene.marker(f"{name}-goal", "box", half, colour=(0.6, 0.6, 0.6, 0.4))
            goal = scene.spec.body(f"{name}-goal")
            goal.pos = target + np.array([0.2, 0.0, 0.0])
            _paint(scene, goal, 0.6)

    def outcome(self, state: Snapshot, goals: Goals, action_BA: Array) -> Outcome:
        """Return ``sum of (1 / (theta + 0.1) - 10 D) - 0.0002 |a|^2``, and 500 for a goal."""
        reward_B = -self.action_penalty * (action_BA**2).sum(axis=-1)
        terminated_B = np.zeros(len(action_BA), np.bool_)
        left = self.left(state, goals)
        for apart_B, angle_B, height_B in left:
            reward_B = reward_B + 1.0 / (angle_B + 0.1) - 10.0 * apart_B
            terminated_B = terminated_B | (height_B <= self.lowest)
        there_B = self._reached(left)
        reward_B = np.where(there_B, reward_B + self.bonus, reward_B)
        return Outcome(reward_B, terminated_B, there_B.astype(np.float64))

    def renew(
        self,
        state: Snapshot,
        goals: Goals,
        generators: list[np.random.Generator],
        scene: Scene,
        datas: Sequence[mujoco.MjData],
    ) -> None:
        """Draw another goal where one was reached; see `HandTask.renew`."""
        for row in np.flatnonzero(self._reached(self.left(state, goals))).tolist():
            goal = random_orientation(generators[row])
            goals[GOAL][row] = goal
            self.show_goal(scene, datas[row], goal)

    def _reached(self, left: Sequence[tuple[Array, Array, Array]]) -> Any:
        """Return whether the goal of each copy is reached, (B,).

        The reference computes it for both cubes, but overwrites the first's with the second's.
        """
        first_B, second_B = (angle_B < self.reached for _, angle_B, _ in left)
        return first_B & second_B if self.quirks.reorientation_goal == "both" else second_B


def _paint(scene: SceneBuilder, body: Any, alpha: float) -> None:
    """Give the six faces of a cube colours, by which one sees how it is turned."""
    for face, colour in enumerate(_FACES):
        axis, side = face // 2, 1.0 if face % 2 == 0 else -1.0
        half, centre = [0.021, 0.021, 0.021], [0.0, 0.0, 0.0]
        half[axis], centre[axis] = 0.0004, side * _HALF
        scene.box(body, half, position=centre, mass=0.0, collides=False, colour=(*colour, alpha))
