"""Blocks on a table: pushing, stacking, and putting one into a bucket."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pipelines.domains.bidexhands.geometry import Array, distance
from pipelines.domains.bidexhands.hand import Pose
from pipelines.domains.bidexhands.tasks.base import Goals, HandTask, Outcome, object_entries

if TYPE_CHECKING:
    from pipelines.domains.bidexhands.scene import SceneBuilder
    from pipelines.domains.bidexhands.snapshot import Snapshot


OVER_TABLE = (
    Pose((0.55, 0.2, 0.8), (np.pi, 0, 1.57)),
    Pose((0.55, -0.2, 0.8), (np.pi, 0, 1.57)),
)
"""Palms down, fingers towards -x: where the hands of seven tasks start."""

_ORANGE, _BLUE = (0.93, 0.5, 0.2, 1.0), (0.3, 0.5, 0.85, 1.0)
_CUBE = (0.025, 0.025, 0.025)


class PushBlock(HandTask):
    """ShadowHandPushBlock: push two blocks over a table."""

    stem = "PushBlock"
    poses = OVER_TABLE
    force_scale, torque_scale = 0.5, 0.1
    left_goal, right_goal = np.array([-0.2, -0.2, 0.625]), np.array([-0.2, 0.2, 0.625])

    def build(self, scene: SceneBuilder) -> None:
        """Add the table, a block a hand and the goals.

        The reference starts the blocks' centres on the table's surface, from where they pop up;
        here they lie on it.
        """
        scene.table((1.0, 1.0, 0.6), friction=0.5)
        for name, y, colour in (("right-block", 0.2, _ORANGE), ("left-block", -0.2, _BLUE)):
            block = scene.body(name, (0, y, 0.625))
            scene.box(block, _CUBE, density=500, condim=4, colour=colour)
        for name, where, colour in (
            ("right-goal", self.right_goal, _ORANGE),
            ("left-goal", self.left_goal, _BLUE),
        ):
            scene.marker(name, "box", _CUBE, colour=(*colour[:3], 0.3))
            scene.spec.body(name).pos = where

    def observe(self, state: Snapshot, goals: Goals) -> Array:
        """Return the right block, both blocks, both goals, and five zeros as the reference."""
        right, left = state.objects["right-block"], state.objects["left-block"]
        rows = len(right.position_B3)
        fixed = np.concatenate([self.left_goal, self.right_goal, np.zeros(5)])
        return np.concatenate(
            [
                object_entries(right),
                right.position_B3,
                left.position_B3,
                np.broadcast_to(fixed, (rows, 11)),
            ],
            axis=-1,
        )

    def outcome(self, state: Snapshot, goals: Goals, action_BA: Array) -> Outcome:
        """Return ``(1.2 - rF) + (1.2 - lF) + 5 - 5 gl - 5 gr``."""
        right, left = state.objects["right-block"], state.objects["left-block"]
        right_reach_B = state.hands[0].reach(right.position_B3)
        left_reach_B = state.hands[1].reach(left.position_B3)
        own = self.right_goal if self.quirks.push_block_goals == "own" else self.left_goal
        right_B = distance(right.position_B3, own)
        left_B = distance(left.position_B3, self.left_goal)
        reward_B = 2.4 - right_reach_B - left_reach_B + 5.0 - 5.0 * left_B - 5.0 * right_B
        success_B = np.where(left_B <= 0.1, np.where(right_B <= 0.1, 1.0, 0.5), 0.0)
        return Outcome(reward_B, (right_reach_B >= 1.2) | (left_reach_B >= 1.2), success_B)
