"""Blocks on a table: pushing, stacking, and putting one into a bucket."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pipelines.domains.bidexhands.geometry import Array, distance
from pipelines.domains.bidexhands.hand import Pose
from pipelines.domains.bidexhands.tasks.base import (
    OVER_TABLE,
    Goals,
    HandTask,
    Outcome,
    View,
    object_entries,
    xyzw,
)
from pipelines.domains.bidexhands.tasks.vessels import BUCKET_FOOT, add_bucket

if TYPE_CHECKING:
    from pipelines.domains.bidexhands.scene import SceneBuilder
    from pipelines.domains.bidexhands.snapshot import Snapshot


_ORANGE, _BLUE = (0.93, 0.5, 0.2, 1.0), (0.3, 0.5, 0.85, 1.0)
_CUBE = (0.025, 0.025, 0.025)


def _add_blocks(scene: SceneBuilder, y: float, goals: tuple[Array, Array], **geom: float) -> None:
    """Add a block a hand, the right one at y and the left one at -y, and where they belong."""
    colours = {"right": _ORANGE, "left": _BLUE}
    for (side, colour), sign in zip(colours.items(), (1, -1), strict=True):
        block = scene.body(f"{side}-block", (0, sign * y, 0.625))
        scene.box(block, _CUBE, condim=4, colour=colour, **geom)
    for (side, colour), goal in zip(colours.items(), goals, strict=True):
        scene.marker(f"{side}-goal", "box", _CUBE, colour=(*colour[:3], 0.3))
        scene.spec.body(f"{side}-goal").pos = goal


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
        _add_blocks(scene, 0.2, (self.right_goal, self.left_goal), density=500)

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


class BlockStack(HandTask):
    """ShadowHandBlockStack: put the left block onto the right one."""

    stem = "BlockStack"
    poses = (Pose((0, 0.6, 0.7), (np.pi, 0, np.pi)), Pose((0, -0.6, 0.7), (np.pi, 0, 0)))
    force_scale, torque_scale = 0.2, 0.02
    hands_meet = True
    hand_friction = 0.5
    view = View((0.0, -0.03, 0.66), 1.15, 165.0, -28.0)
    upper, lower = np.array([0.0, 0.0, 0.675]), np.array([0.0, 0.0, 0.625])

    def build(self, scene: SceneBuilder) -> None:
        """Add the table, the blocks, and markers of where they belong."""
        scene.table((0.5, 1.0, 0.6), friction=0.2)
        _add_blocks(scene, 0.1, (self.lower, self.upper), density=100, friction=0.25)

    def observe(self, state: Snapshot, goals: Goals) -> Array:
        """Return the right block, the left block, and four zeros as the reference."""
        right = object_entries(state.objects["right-block"])
        left = object_entries(state.objects["left-block"])
        return np.concatenate([right, left, np.zeros((len(right), 4))], axis=-1)

    def outcome(self, state: Snapshot, goals: Goals, action_BA: Array) -> Outcome:
        """Return ``1.5 - rF - lF``, more with hands near, and the bonus of a stack."""
        right_B3 = state.objects["right-block"].position_B3
        left_B3 = state.objects["left-block"].position_B3
        right_reach_B, left_reach_B = state.hands[0].reach(right_B3), state.hands[1].reach(left_B3)
        upper_B, lower_B = distance(left_B3, self.upper), distance(right_B3, self.lower)
        near_B = (right_reach_B < 0.5) & (left_reach_B < 0.5)
        stacked_B = (upper_B < 0.07) & (lower_B < 0.07)
        bonus_B = np.where(stacked_B, 50.0 * (0.05 - np.abs(self.upper[2] - left_B3[:, 2])), 0.0)
        reward_B = 1.5 - right_reach_B - left_reach_B + bonus_B
        reward_B += np.where(near_B, 2.0 * (0.24 - upper_B - lower_B), 0.0)
        terminated_B = (right_reach_B >= 0.75) | (left_reach_B >= 0.75)
        return Outcome(reward_B, terminated_B, (bonus_B > 1.0).astype(np.float64))


class GraspAndPlace(HandTask):
    """ShadowHandGraspAndPlace: bring a block to a bucket."""

    stem = "GraspAndPlace"
    poses = OVER_TABLE
    force_scale, torque_scale = 0.5, 0.1
    view = View((0.14, 0.1, 0.62), 1.1, 150.0, -32.0)

    def build(self, scene: SceneBuilder) -> None:
        """Add the table, the bucket and the block.

        The reference starts both inside of the table, from where they pop up; here they stand on
        it.
        """
        scene.table((1.0, 1.0, 0.6))
        add_bucket(scene, "bucket", (0, 0.2, 0.6 + BUCKET_FOOT))
        block = scene.body("block", (0, -0.2, 0.625))
        scene.box(block, _CUBE, density=500, condim=4, colour=_ORANGE)

    def observe(self, state: Snapshot, goals: Goals) -> Array:
        """Return the bucket, then position and quaternion of the bucket and of the block."""
        bucket, block = state.objects["bucket"], state.objects["block"]
        return np.concatenate(
            [
                object_entries(bucket),
                bucket.position_B3,
                xyzw(bucket.quaternion_B4),
                block.position_B3,
                xyzw(block.quaternion_B4),
            ],
            axis=-1,
        )

    def outcome(self, state: Snapshot, goals: Goals, action_BA: Array) -> Outcome:
        """Return ``exp(-10 rF) + exp(-10 lF) + 2 exp(-10 d)``.

        The reference also ends when ``exp(-10 rF)`` is 0, which no reach under 1.5 makes.
        """
        bucket_B3 = state.objects["bucket"].position_B3
        block_B3 = state.objects["block"].position_B3
        right_B, left_B = state.hands[0].reach(bucket_B3), state.hands[1].reach(block_B3)
        apart_B = distance(bucket_B3, block_B3)
        reward_B = np.exp(-10.0 * right_B) + np.exp(-10.0 * left_B) + 2.0 * np.exp(-10.0 * apart_B)
        terminated_B = (right_B >= 1.5) | (left_B >= 1.5)
        return Outcome(reward_B, terminated_B, (apart_B < 0.2).astype(np.float64))
