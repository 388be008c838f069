"""The observation of two hands; a task's objects follow (Bi-DexHands, compute_full_state).

A hand has, in this order: 24 joint positions scaled to [-1, 1], 24 joint velocities times 0.2, 24
joint torques times 10, five last links of position, quaternion xyzw, velocity and turn rate, five
times force and torque times 10, and the last action. A free hand has the position and the Euler
angles of its base before the action. That makes 187 entries for a fixed and 199 for a free one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pipelines.domains.bidexhands.geometry import Array, to_euler
from pipelines.domains.bidexhands.hand import FINGERS, JOINTS, joint_ranges

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pipelines.domains.bidexhands.quirks import Quirks
    from pipelines.domains.bidexhands.snapshot import HandState, Snapshot
    from pipelines.domains.bidexhands.tasks.base import HandTask


CLIP = 5.0
# Position 3, quaternion 4, velocities 6; MuJoCo's quaternion w x y z becomes x y z w.
_LINK_ORDER = np.array([0, 1, 2, 4, 5, 6, 3, *range(7, 13)])


def observe(
    task: HandTask,
    quirks: Quirks,
    state: Snapshot,
    goals: dict[str, Array],
    action_BA: Array,
) -> NDArray[np.float32]:
    """Return observations (B, O), float32.

    Args:
        task: The task.
        quirks: Of these, ``clip`` and ``euler``.
        state: The state.
        goals: What is fixed for each episode.
        action_BA: The last actions, the right hand's half first.
    """
    half = action_BA.shape[1] // 2
    parts = [
        part
        for side, hand in enumerate(state.hands)
        for part in _hand_parts(task, quirks, hand, action_BA[:, side * half : (side + 1) * half])
    ]
    observation_BO = np.concatenate([*parts, task.observe(state, goals)], axis=-1)
    if quirks.clip == "on":
        np.clip(observation_BO, -CLIP, CLIP, out=observation_BO)
    return observation_BO.astype(np.float32)


def _hand_parts(task: HandTask, quirks: Quirks, hand: HandState, action_BA: Array) -> list[Array]:
    rows = len(action_BA)
    parts = [
        (2.0 * hand.joint_position_BJ - _SUM_J) / _SPAN_J,
        0.2 * hand.joint_velocity_BJ,
        10.0 * hand.joint_torque_BJ,
        hand.last_links_BFS[..., _LINK_ORDER].reshape(rows, 13 * len(FINGERS)),
        10.0 * hand.forces_BFW.reshape(rows, 6 * len(FINGERS)),
    ]
    if not task.fixed_base:
        angles_B3 = to_euler(hand.root_quaternion_B4)
        if quirks.euler == "positive":
            angles_B3 = np.mod(angles_B3, 2 * np.pi)
        parts += [hand.root_position_B3 if task.observe_root else hand.palm_point_B3, angles_B3]
    return [*parts, action_BA]


def hand_width(*, fixed_base: bool) -> int:
    """Return the entries of one hand."""
    return 3 * JOINTS + 19 * len(FINGERS) + (20 if fixed_base else 6 + 26)


_LOW_J, _HIGH_J = joint_ranges()
_SUM_J, _SPAN_J = _LOW_J + _HIGH_J, _HIGH_J - _LOW_J
