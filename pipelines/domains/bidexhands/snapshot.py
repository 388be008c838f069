"""The state of B copies of a scene, read from the simulator's arrays, and the hands' observation.

B copies of an environment; quaternions (w, x, y, z); metres, radians, seconds, newtons; world axes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pipelines.domains.bidexhands.geometry import Array, conjugate, multiply, rotate, to_euler
from pipelines.domains.bidexhands.hand import FINGERS, JOINTS, MOUNT, joint_ranges
from pipelines.domains.bidexhands.scene import PREFIXES, Scene

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pipelines.domains.bidexhands.tasks.base import HandTask

CLIP = 5.0
"""Largest entry of an observation in the reference."""

LOW_J, HIGH_J = joint_ranges()
SUM_J, SPAN_J = LOW_J + HIGH_J, HIGH_J - LOW_J
# Position 3, quaternion 4, velocities 6; MuJoCo's quaternion w x y z becomes x y z w.
_LINK_ORDER = np.array([0, 1, 2, 4, 5, 6, 3, *range(7, 13)])

# From the palm's frame to the point that rewards call the hand's position, and from the frame of a
# last link to the tip of its finger (Bi-DexHands, compute_observations of its tasks).
PALM_POINT = np.array([0.0, -0.02, 0.08])
FINGERTIP = np.array([0.0, 0.0, 0.02])


@dataclass(frozen=True, slots=True)
class HandState:
    """One hand of each copy.

    Attributes:
        joint_position_BJ: 24 joints.
        joint_velocity_BJ: Their speeds.
        joint_torque_BJ: What servo, damping and limit exert on each, newton metres.
        last_links_BFS: Of five last links in the order of `FINGERS`: position 3, quaternion 4,
            linear velocity 3, angular velocity 3.
        forces_BFW: Force 3 and torque 3 that each last link's finger exerts on it, in the link's
            axes; nothing for its weight, as gravity does not act on the reference's hands.
        root_position_B3: Of the actor, which is the mount.
        root_quaternion_B4: Of the actor, without the rotation that the hand's file has.
        palm_position_B3: Of the palm's body.
        palm_point_B3: The point below the palm's centre that rewards use.
        fingertips_BF3: Tips of the five fingers.
    """

    joint_position_BJ: Array
    joint_velocity_BJ: Array
    joint_torque_BJ: Array
    last_links_BFS: Array
    forces_BFW: Array
    root_position_B3: Array
    root_quaternion_B4: Array
    palm_position_B3: Array
    palm_point_B3: Array
    fingertips_BF3: Array

    def reach(self, target_B3: Array) -> Array:
        """Return the sum (B,) over the fingertips of their distances to a point."""
        apart_BF3 = self.fingertips_BF3 - target_B3[:, None]
        reach_B: Array = np.sqrt((apart_BF3**2).sum(axis=-1)).sum(axis=-1)
        return reach_B


@dataclass(frozen=True, slots=True)
class ObjectState:
    """One tracked body of each copy: pose and velocity of its frame."""

    position_B3: Array
    quaternion_B4: Array
    linear_B3: Array
    angular_B3: Array


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that observations and rewards are made of.

    Attributes:
        points: Marked points (B, 3) by name.
        joints: Read joints (B,) by name.
    """

    hands: tuple[HandState, HandState]
    objects: dict[str, ObjectState]
    points: dict[str, Array]
    joints: dict[str, Array]


class Reader:
    """Reads snapshots of a scene."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        at = scene.sensors

        def span(first: str, last: str) -> slice:
            return slice(at[first].start, at[last].stop)

        self._links = [span(f"{p}ff:position", f"{p}th:angular") for p in PREFIXES]
        self._forces = [span(f"{p}ff:force", f"{p}th:torque") for p in PREFIXES]
        self._limits = [span(f"{p}WRJ1:limit", f"{p}THJ0:limit") for p in PREFIXES]
        self._middle_J = np.mean((LOW_J, HIGH_J), axis=0)
        model = scene.model
        links = [model.body(f"{PREFIXES[0]}{finger}distal").id for finger in FINGERS]
        # The sensors take the weight for held by the finger, although it is compensated.
        self._held_F3 = -model.body_mass[links][:, None] * model.opt.gravity
        self._centres_F3 = model.body_ipos[links].copy()

    def read(self, qpos_BQ: Array, qvel_BV: Array, torque_BV: Array, sensor_BS: Array) -> Snapshot:
        """Read a snapshot.

        Args:
            qpos_BQ: Positions.
            qvel_BV: Velocities.
            torque_BV: ``qfrc_actuator + qfrc_damper``; the torque of drives and damping.
            sensor_BS: Sensor data.
        """
        at = self._scene.sensors
        hands = [self._hand(side, qpos_BQ, qvel_BV, torque_BV, sensor_BS) for side in (0, 1)]
        objects = {
            name: ObjectState(
                *(
                    sensor_BS[:, at[f"{name}:{what}"]]
                    for what in ("position", "quaternion", "linear", "angular")
                )
            )
            for name in self._scene.tracked
        }
        return Snapshot(
            hands=(hands[0], hands[1]),
            objects=objects,
            points={name: sensor_BS[:, at[f"{name}:position"]] for name in self._scene.points},
            joints={name: sensor_BS[:, at[f"{name}:joint"].start] for name in self._scene.hinges},
        )

    def _hand(
        self, side: int, qpos_BQ: Array, qvel_BV: Array, torque_BV: Array, sensor_BS: Array
    ) -> HandState:
        scene, prefix = self._scene, PREFIXES[side]
        at = scene.sensors
        rows = len(qpos_BQ)
        links_BFS = sensor_BS[:, self._links[side]].reshape(rows, len(FINGERS), 13)
        palm_B3 = sensor_BS[:, at[f"{prefix}palm:position"]]
        palm_B4 = sensor_BS[:, at[f"{prefix}palm:quaternion"]]
        # The sensor has the size of a limit's torque: a lower one pushes up, an upper one down.
        joint_BJ = qpos_BQ[:, scene.qpos_2J[side]]
        limit_BJ = sensor_BS[:, self._limits[side]] * np.where(joint_BJ < self._middle_J, 1.0, -1.0)
        held_BF3 = rotate(conjugate(links_BFS[..., 3:7]), self._held_F3)
        held_BFW = np.concatenate([held_BF3, np.cross(self._centres_F3, held_BF3)], axis=-1)
        return HandState(
            joint_position_BJ=joint_BJ,
            joint_velocity_BJ=qvel_BV[:, scene.dof_2J[side]],
            joint_torque_BJ=torque_BV[:, scene.dof_2J[side]] + limit_BJ,
            last_links_BFS=links_BFS,
            forces_BFW=sensor_BS[:, self._forces[side]].reshape(rows, len(FINGERS), 6) - held_BFW,
            root_position_B3=sensor_BS[:, at[f"{prefix}mount:position"]],
            root_quaternion_B4=multiply(
                sensor_BS[:, at[f"{prefix}mount:quaternion"]], conjugate(MOUNT)
            ),
            palm_position_B3=palm_B3,
            palm_point_B3=palm_B3 + rotate(palm_B4, PALM_POINT),
            fingertips_BF3=links_BFS[..., :3] + rotate(links_BFS[..., 3:7], FINGERTIP),
        )


def observe(
    task: HandTask, state: Snapshot, goals: dict[str, Array], action_BA: Array
) -> NDArray[np.float32]:
    """Return observations (B, O), float32 (Bi-DexHands, compute_full_state).

    A hand has, in this order: 24 joint positions scaled to [-1, 1], 24 joint velocities times 0.2,
    24 joint torques times 10, five last links of position, quaternion xyzw, velocity and turn rate,
    five times force and torque times 10, and the last action. A free hand has the position and the
    Euler angles of its base before the action. That makes 187 entries for a fixed and 199 for a
    free one; a task's objects follow the two hands.

    Args:
        task: The task, and its quirks ``clip`` and ``euler``.
        goals: What is fixed for each episode.
        action_BA: The last actions, the right hand's half first.
    """
    rows, half = len(action_BA), action_BA.shape[1] // 2
    parts = []
    for side, hand in enumerate(state.hands):
        parts += [
            (2.0 * hand.joint_position_BJ - SUM_J) / SPAN_J,
            0.2 * hand.joint_velocity_BJ,
            10.0 * hand.joint_torque_BJ,
            hand.last_links_BFS[..., _LINK_ORDER].reshape(rows, 13 * len(FINGERS)),
            10.0 * hand.forces_BFW.reshape(rows, 6 * len(FINGERS)),
        ]
        if not task.fixed_base:
            angles_B3 = to_euler(hand.root_quaternion_B4)
            if task.quirks.euler == "positive":
                angles_B3 = np.mod(angles_B3, 2 * np.pi)
            parts += [hand.root_position_B3 if task.observe_root else hand.palm_point_B3, angles_B3]
        parts.append(action_BA[:, side * half : (side + 1) * half])
    observation_BO = np.concatenate([*parts, task.observe(state, goals)], axis=-1)
    if task.quirks.clip == "on":
        np.clip(observation_BO, -CLIP, CLIP, out=observation_BO)
    return observation_BO.astype(np.float32)


def hand_width(*, fixed_base: bool) -> int:
    """Return the entries of one hand in an observation."""
    return 3 * JOINTS + 19 * len(FINGERS) + (20 if fixed_base else 6 + 26)
