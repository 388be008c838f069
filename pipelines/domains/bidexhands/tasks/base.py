"""What a task of Bi-DexHands is: a scene, a start, an observation of its objects, a reward.

Source of all constants: Bi-DexHands (PKU-MARL/DexterousHands, Apache-2.0) as read in its code; a
task's class names the reference's. B copies of an environment.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np

from pipelines.domains.bidexhands.geometry import (
    Array,
    about,
    angle_between,
    conjugate,
    distance,
    multiply,
)
from pipelines.domains.bidexhands.hand import Pose

if TYPE_CHECKING:
    import mujoco
    from numpy.typing import NDArray

    from pipelines.domains.bidexhands.quirks import Quirks
    from pipelines.domains.bidexhands.scene import Scene, SceneBuilder
    from pipelines.domains.bidexhands.snapshot import ObjectState, Snapshot

Goals = dict[str, Array]
"""What is fixed for an episode, by name, of all copies (B, ...)."""

GOAL = "goal-quaternion"
"""The orientation that things are to have, by copy, among the goals."""

OVER_TABLE = (Pose((0.55, 0.2, 0.8), (np.pi, 0, 1.57)), Pose((0.55, -0.2, 0.8), (np.pi, 0, 1.57)))
"""Palms down, fingers towards -x: where the hands of seven tasks start."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a step of B copies earned.

    Attributes:
        terminated_B: Whether the episode is over for a reason other than its length.
        success_B: Whether this state counts as a success. The reference keeps the best of an
            episode and ends none for it. Half a success is 0.5.
    """

    reward_B: Array
    terminated_B: NDArray[np.bool_]
    success_B: Array


class View(NamedTuple):
    """Where a camera stands; see ``mujoco.MjvCamera``.

    Attributes:
        distance: To that point, metres.
        azimuth: Degrees about z; at 180 it looks along -x.
        elevation: Degrees; negative ones look down.
    """

    lookat: tuple[float, float, float]
    distance: float
    azimuth: float
    elevation: float


class HandTask(ABC):
    """A task; a class attribute that is not set has the default below.

    Methods are given the state of all copies, the goals, which `begin` returned, stacked to
    (B, ...), and the compiled scene.

    Attributes:
        stem: What follows ``ShadowHand`` in the catalogue's environment id.
        poses: Where the right and the left hand start.
        fixed_base: Whether the mounts are fixed.
        force_scale: The reference's ``transition_scale``.
        torque_scale: The reference's ``orientation_scale``.
        position_noise: Half width of the uniform noise on objects' positions at reset, metres.
        joint_noise: The same on the hands' joints, as a share of their range (`_start_joints`).
        substeps: Simulation steps in a 60th of a second.
        hands_meet: Whether the hands can touch each other.
        hand_friction: Sliding friction of the hands.
        start_joints: Angles that the hands' joints start at, by name, radians; others at zero.
        observe_root: Whether the base position in the observation is that of the actor's root;
            else it is the palm point.
        view: Where pictures look: a point, the distance to it, azimuth and elevation in degrees.
        quirks: What is kept of the reference's oddities.
    """

    stem: ClassVar[str]
    poses: ClassVar[tuple[Pose, Pose]]
    fixed_base: ClassVar[bool] = False
    force_scale: ClassVar[float] = 0.0
    torque_scale: ClassVar[float] = 0.0
    position_noise: ClassVar[float] = 0.0
    joint_noise: ClassVar[float] = 0.0
    substeps: ClassVar[int] = 2
    hands_meet: ClassVar[bool] = False
    hand_friction: ClassVar[float] = 1.0
    start_joints: ClassVar[Mapping[str, float]] = {}
    observe_root: ClassVar[bool] = False
    view: ClassVar[View] = View((0.1, 0.05, 0.6), 1.05, 155.0, -30.0)

    def __init__(self, quirks: Quirks) -> None:
        self.quirks = quirks

    @abstractmethod
    def build(self, scene: SceneBuilder) -> None:
        """Add the task's objects to a scene with the two hands."""

    def begin(
        self, scene: Scene, data: mujoco.MjData, generator: np.random.Generator
    ) -> dict[str, Array]:
        """Place the objects of one copy at the start of an episode; `data` is changed in place.

        Returns:
            What is fixed for the episode, such as the goal, by name; the same names and shapes in
            every episode.
        """
        return {}

    @abstractmethod
    def observe(self, state: Snapshot, goals: Goals) -> Array:
        """Return what follows the hands in the observation, (B, n)."""

    @abstractmethod
    def outcome(self, state: Snapshot, goals: Goals, action_BA: Array) -> Outcome:
        """Return reward, end and success of a state and the action, in [-1, 1], that led there."""

    def guidance(self, state: Snapshot, goals: Goals) -> Array:
        """Return what a search may add to the reward (B,), where that hardly tells near from far.

        Never part of what an environment returns.
        """
        return np.zeros(len(state.hands[0].root_position_B3))

    def renew(  # noqa: B027 - most tasks keep their goals
        self,
        state: Snapshot,
        goals: Goals,
        generators: list[np.random.Generator],
        scene: Scene,
        datas: Sequence[mujoco.MjData],
    ) -> None:
        """Change goals after a step in place, for the next one; `datas`' markers may be moved.

        What the step returns still has the goals before, as in the reference, which draws new
        ones at the beginning of the next step.
        """


class GoalTask(HandTask):
    """A task of bringing things to places and to an orientation, both drawn anew at each episode.

    All things of a copy start with one offset and one orientation and have one goal orientation, as
    in the reference, which draws one of each for an environment.
    """

    things: ClassVar[tuple[str, ...]]
    starts: ClassVar[Sequence[Sequence[float]] | Array]
    targets: ClassVar[Sequence[Sequence[float]] | Array]

    def begin(
        self, scene: Scene, data: mujoco.MjData, generator: np.random.Generator
    ) -> dict[str, Array]:
        """Move the things by the noise, turn them and their goals at random."""
        offset = self.position_noise * generator.uniform(-1.0, 1.0, 3)
        orientation = random_orientation(generator)
        for name, start in zip(self.things, self.starts, strict=True):
            place(scene, data, name, np.array(start) + offset, orientation)
        goal = random_orientation(generator)
        self.show_goal(scene, data, goal)
        return {GOAL: goal}

    def show_goal(self, scene: Scene, data: mujoco.MjData, orientation: Array) -> None:
        """Turn the markers that pictures show."""
        for name in self.things:
            data.mocap_quat[scene.mocap(f"{name}-goal")] = orientation

    def observe(self, state: Snapshot, goals: Goals) -> Array:
        """Return each thing and its goal."""
        parts = []
        for name, target in zip(self.things, self.targets, strict=True):
            thing = state.objects[name]
            target_B3 = np.broadcast_to(np.array(target), thing.position_B3.shape)
            parts += [object_entries(thing), goal_entries(thing, target_B3, goals[GOAL])]
        return np.concatenate(parts, axis=-1)

    def left(self, state: Snapshot, goals: Goals) -> list[tuple[Array, Array, Array]]:
        """Return each thing's distance and angle to its goal and its height, (B,)."""
        return [
            (
                distance(state.objects[name].position_B3, np.array(target)),
                angle_between(state.objects[name].quaternion_B4, goals[GOAL]),
                state.objects[name].position_B3[:, 2],
            )
            for name, target in zip(self.things, self.targets, strict=True)
        ]


class PointsTask(HandTask):
    """A task about a thing and two points, one for each hand.

    Its observation is the thing's pose and velocity and the points; its reward is about rF and lF,
    the sums of the right and the left fingertips' distances to their points.

    Attributes:
        thing: Name of the body that is handled.
        held: Names of the points, the right hand's and the left hand's.
        left_first: Whether the observation has the left hand's point first.
    """

    thing: ClassVar[str]
    held: ClassVar[tuple[str, str]]
    left_first: ClassVar[bool] = False

    def observe(self, state: Snapshot, goals: Goals) -> Array:
        """Return the thing and the two points."""
        points = [state.points[name] for name in self.held]
        parts = [
            object_entries(state.objects[self.thing]),
            *points[:: -1 if self.left_first else 1],
        ]
        return np.concatenate(parts, axis=-1)

    def outcome(self, state: Snapshot, goals: Goals, action_BA: Array) -> Outcome:
        """Return reward, end and success; see `judge`."""
        reaches = (
            hand.reach(state.points[name])
            for hand, name in zip(state.hands, self.held, strict=True)
        )
        return self.judge(state, *reaches)

    @abstractmethod
    def judge(self, state: Snapshot, right_B: Array, left_B: Array) -> Outcome:
        """Return reward, end and success of a state, given rF and lF."""


def object_entries(state: ObjectState) -> Array:
    """Return the 13 entries of an object: position, quaternion xyzw, velocity, turn rate / 5."""
    return np.concatenate(
        [state.position_B3, xyzw(state.quaternion_B4), state.linear_B3, 0.2 * state.angular_B3],
        axis=-1,
    )


def goal_entries(state: ObjectState, position_B3: Array, quaternion_B4: Array) -> Array:
    """Return the 11 entries of a goal: position, quaternion, and the turn that is left to it."""
    left_B4 = multiply(state.quaternion_B4, conjugate(quaternion_B4))
    return np.concatenate([position_B3, xyzw(quaternion_B4), xyzw(left_B4)], axis=-1)


def xyzw(quaternion: Array) -> Array:
    """Return quaternions (..., 4) in the reference's order."""
    return quaternion[..., [1, 2, 3, 0]]


def random_orientation(generator: np.random.Generator) -> Array:
    """Return the reference's random orientation: Rx(pi u1) Ry(pi u2), u uniform in [-1, 1]."""
    first, second = generator.uniform(-np.pi, np.pi, 2)
    return multiply(about(0, first), about(1, second))


def place(scene: Scene, data: mujoco.MjData, body: str, position: Array, quaternion: Array) -> None:
    """Put a free body somewhere, at rest."""
    start = scene.qpos(body)
    data.qpos[start : start + 3] = position
    data.qpos[start + 3 : start + 7] = quaternion
