"""What the tests of Bi-DexHands share: tasks, poses, and what MuJoCo alone says of a state.

The formulas are the reference's own definitions, computed from MuJoCo's state and without the
domain's code: a fingertip is 2 cm along z of a finger's last link; the palm point is 8 cm along z
and -2 cm along y of a palm. Quaternions are (w, x, y, z) unless a name says otherwise.

B copies, O observation, A action.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import mujoco
import numpy as np

from pipelines.domains.bidexhands.batch import HandsBatch
from pipelines.domains.bidexhands.snapshot import Reader
from pipelines.domains.registry import domain_of, full_catalogue, resolve_options

TASKS = [task for task in full_catalogue().tasks if task.domain == "bidexhands"]
NAMES = [task.name for task in TASKS]
SIDES = ("right", "left")
FINGERS = ("ff", "mf", "rf", "lf", "th")
HANDS = 398
"""Entries of two hands with free bases in an observation; the objects' come after them."""

FIXED_HANDS = 374
"""Entries of two hands with fixed bases."""


def make_batch(name: str, size: int = 1, **options: Any) -> HandsBatch:
    """Return copies of a task of the catalogue, started with seeds 0, 1, ..."""
    task = full_catalogue().get(name)
    domain = domain_of(task)
    batch = domain.make_batch(task, size, resolve_options(domain, options), [0] * size)
    assert isinstance(batch, HandsBatch)
    batch.reset(range(size), range(size))
    return batch


def idle(batch: HandsBatch) -> np.ndarray:
    """Return actions that push no base and hold the joints at zero (B, A)."""
    still_A = np.clip(-batch.scene.centre_A / batch.scene.half_A, -1.0, 1.0)
    return np.tile(still_A, (batch.size, 1)).astype(np.float32)


def draw(batch: HandsBatch, generator: np.random.Generator) -> np.ndarray:
    """Draw uniform actions (B, A)."""
    return generator.uniform(-1, 1, (batch.size, len(batch.action_low_A))).astype(np.float32)


def wander(batch: HandsBatch, steps: int, seed: int = 0) -> np.ndarray:
    """Make steps with uniform actions; return the last observations (B, O)."""
    generator = np.random.default_rng(seed)
    for _ in range(steps):
        observation_BO = batch.step(draw(batch, generator)).observation_BO
    return observation_BO


def objects_after_steps(name: str, **options: Any) -> tuple[np.ndarray, mujoco.MjData]:
    """Return what a task observes of its objects once they were thrown about, and the state."""
    batch = make_batch(name, **options)
    generator = np.random.default_rng(1)
    for body in batch.scene.tracked:
        batch.datas[0].joint(body).qvel[:] = generator.normal(0, 1, 6)
    observation_BO = wander(batch, 6, seed=1)
    return observation_BO[0, HANDS:], fresh(batch)


def check_episodes(name: str, episodes: int, size: int) -> None:
    """Play uniform actions until all copies' episodes are over; fail at what is not sound.

    That is a number that is not finite or out of bounds, and any warning of the simulator.
    """
    batch = make_batch(name, size)
    generator = np.random.default_rng(1)
    for first in range(0, episodes, size):
        batch.reset(range(size), range(first, first + size))
        over_B = np.zeros(size, bool)
        while not over_B.all():
            done = batch.step(draw(batch, generator))
            assert np.isfinite(done.observation_BO).all(), first
            assert np.abs(done.observation_BO).max() <= 5.0, first
            assert np.isfinite(done.reward_B).all(), first
            for data in batch.datas:
                assert np.abs(data.qvel).max() < 1e3, first
            over_B |= done.terminated_B | done.truncated_B
        for data in batch.datas:
            told = {
                mujoco.mjtWarning(kind).name: warning.number
                for kind, warning in enumerate(data.warning)
                if warning.number
            }
            assert not told, (first, told)


def fresh(batch: HandsBatch, row: int = 0) -> mujoco.MjData:
    """Return other data in the state of a copy, with all that depends on it computed anew."""
    model, source = batch.scene.model, batch.datas[row]
    data = mujoco.MjData(model)
    data.qpos[:], data.qvel[:], data.ctrl[:] = source.qpos, source.qvel, source.ctrl
    mujoco.mj_forward(model, data)
    return data


def put(data: mujoco.MjData, joint: str, values: Any) -> None:
    """Put a joint somewhere: a number, or position and quaternion (7,) of a free one.

    A free joint that is given a position alone is not turned.
    """
    numbers = np.atleast_1d(np.asarray(values, float))
    address = data.model.joint(joint).qposadr[0]
    whole = 7 if data.model.joint(joint).type[0] == mujoco.mjtJoint.mjJNT_FREE else 1
    assert len(numbers) in (whole, min(whole, 3)), "another number of values than the joint has"
    data.qpos[address : address + len(numbers)] = numbers
    mujoco.mj_forward(data.model, data)


def where(data: mujoco.MjData, joint: str) -> np.ndarray:
    """Return position and quaternion (7,) of a free joint, or the position (1,) of another."""
    position: np.ndarray = data.joint(joint).qpos.copy()
    return position


def point(data: mujoco.MjData, body: str, offset: Any = (0, 0, 0)) -> np.ndarray:
    """Return a point of a body (3,), given in the body's frame."""
    found = data.body(body)
    place: np.ndarray = found.xpos + found.xmat.reshape(3, 3) @ np.asarray(offset, float)
    return place


def fingertips(data: mujoco.MjData, side: str) -> np.ndarray:
    """Return a hand's fingertips (5, 3)."""
    return np.array([point(data, f"{side}-{finger}distal", (0, 0, 0.02)) for finger in FINGERS])


def palm_point(data: mujoco.MjData, side: str) -> np.ndarray:
    """Return the point that rewards call a hand's position (3,)."""
    return point(data, f"{side}-palm", (0, -0.02, 0.08))


def reach(data: mujoco.MjData, side: str, target: Any) -> float:
    """Return the sum over a hand's fingertips of their distances to a point."""
    return sum(math.dist(tip, target) for tip in fingertips(data, side))


def entries(data: mujoco.MjData, body: str, turn_scale: float = 0.2) -> np.ndarray:
    """Return the 13 entries of a body: position, quaternion xyzw, velocity, scaled turn rate."""
    found, motion = data.body(body), np.zeros(6)
    kind = mujoco.mjtObj.mjOBJ_XBODY
    mujoco.mj_objectVelocity(data.model, data, kind, found.id, motion, 0)
    w, x, y, z = found.xquat
    return np.array([*found.xpos, x, y, z, w, *motion[3:], *(turn_scale * motion[:3])])


def angle(a: np.ndarray, b: np.ndarray) -> float:
    """Return the angle between two orientations, in [0, pi]."""
    return 2.0 * math.acos(min(1.0, abs(float(np.dot(a, b)))))


def left_over_xyzw(quaternion: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """Return ``q conj(goal)`` as (x, y, z, w), by MuJoCo's own functions."""
    result, opposite = np.zeros(4), np.zeros(4)
    mujoco.mju_negQuat(opposite, goal)
    mujoco.mju_mulQuat(result, quaternion, opposite)
    return result[[1, 2, 3, 0]]


class Judgement(NamedTuple):
    """What a task says of a pose."""

    reward: float
    over: bool
    success: float


class Pose:
    """A task at its start, whose joints and hands can be put anywhere.

    Args:
        name: Of the task in the catalogue.
        **options: The domain's.
    """

    def __init__(self, name: str, **options: Any) -> None:
        batch = make_batch(name, first_step="none", **options)
        self.task, self.scene, self.goals = batch.task, batch.scene, batch.goals
        self.data: mujoco.MjData = batch.datas[0]

    def put(self, joint: str, values: Any) -> None:
        """Put a joint somewhere; see `put`."""
        put(self.data, joint, values)

    def where(self, joint: str) -> np.ndarray:
        """Return where a joint is; see `where`."""
        return where(self.data, joint)

    def at(self, body: str, offset: Any = (0, 0, 0)) -> np.ndarray:
        """Return a point of a body (3,); see `point`."""
        return point(self.data, body, offset)

    def reach(self, side: str, target: Any) -> float:
        """Return a hand's reach; see `reach`."""
        return reach(self.data, side, target)

    def bend(self, **angles: float) -> None:
        """Bend both hands: ``J2`` is that joint of the four long fingers, ``THJ4`` one joint."""
        for name, value in angles.items():
            fingers = ("FF", "MF", "RF", "LF") if name.startswith("J") else ("",)
            for side in SIDES:
                for finger in fingers:
                    self.put(f"{side}-{finger}{name}", value)

    def shift(self, side: str, by: Any) -> None:
        """Move a hand, without turning it."""
        self.put(f"{side}-base", self.where(f"{side}-base")[:3] + by)

    def bring_palm(self, side: str, target: Any, above: float) -> None:
        """Put a hand's palm point at a height above a point."""
        self.shift(side, np.add(target, (0, 0, above)) - palm_point(self.data, side))

    def surround(self, side: str, target: Any, above: float = 0.0) -> None:
        """Put the middle of a hand's fingertips at a point, or at a height above it."""
        middle = fingertips(self.data, side).mean(axis=0)
        self.shift(side, np.add(target, (0, 0, above)) - middle)

    def bring(self, side: str, target: Any, total: float) -> None:
        """Put a hand where its reach of a point is a number, above the point."""
        target = np.asarray(target, float)
        self.surround(side, target)
        tips = fingertips(self.data, side)

        def reach_at(height: float) -> float:
            return float(np.linalg.norm(np.add(tips, (0, 0, height)) - target, axis=1).sum())

        low, high = 0.0, total
        assert reach_at(low) < total < reach_at(high), "no such place"
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if reach_at(middle) < total else (low, middle)
        self.shift(side, [0, 0, low])

    def judge(self, action: float = 0.0) -> Judgement:
        """Return what the task says of this pose after an action whose entries are a number."""
        data = self.data
        torque = data.qfrc_actuator + data.qfrc_damper
        rows = (data.qpos, data.qvel, torque, data.sensordata)
        state = Reader(self.scene).read(*(row[None] for row in rows))
        outcome = self.task.outcome(state, self.goals, np.full((1, data.model.nu), action))
        return Judgement(
            float(outcome.reward_B[0]),
            bool(outcome.terminated_B[0]),
            float(outcome.success_B[0]),
        )
