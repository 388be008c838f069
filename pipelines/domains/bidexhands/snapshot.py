"""The state of B copies of a scene, by name, read from the simulator's arrays.

B copies of an environment; quaternions (w, x, y, z); metres, radians, seconds, newtons; world axes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipelines.domains.bidexhands.geometry import Array, conjugate, multiply, rotate
from pipelines.domains.bidexhands.hand import FINGERS, MOUNT, joint_ranges
from pipelines.domains.bidexhands.scene import PREFIXES, Scene

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
        hands: The right and the left hand.
        objects: Tracked bodies by name.
        points: Marked points (B, 3) by name.
        joints: Read joints (B,) by name.
    """

    hands: tuple[HandState, HandState]
    objects: dict[str, ObjectState]
    points: dict[str, Array]
    joints: dict[str, Array]


class Reader:
    """Reads snapshots of a scene.

    Args:
        scene: The scene.
    """

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        at = scene.sensors

        def span(first: str, last: str) -> slice:
            return slice(at[first].start, at[last].stop)

        self._links = [span(f"{p}ff:position", f"{p}th:angular") for p in PREFIXES]
        self._forces = [span(f"{p}ff:force", f"{p}th:torque") for p in PREFIXES]
        self._limits = [span(f"{p}WRJ1:limit", f"{p}THJ0:limit") for p in PREFIXES]
        self._middle_J = np.mean(joint_ranges(), axis=0)
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
