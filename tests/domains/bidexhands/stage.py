"""A task at set poses, and what tests compute from MuJoCo's state without the domain's code.

The reference's own definitions: a fingertip is 2 cm along z of a finger's last link; a palm point
is 8 cm along z and -2 cm along y of a palm.
"""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np

from pipelines.domains.bidexhands.batch import HandsBatch, scene_of
from pipelines.domains.bidexhands.quirks import Quirks
from pipelines.domains.bidexhands.snapshot import Reader
from pipelines.domains.bidexhands.tasks import make_task
from pipelines.domains.registry import full_catalogue

SIDES = ("right-", "left-")
HANDS = 398
"""Entries of two hands with free bases; the objects' come after them."""


def recomputed(model: mujoco.MjModel, data: mujoco.MjData) -> mujoco.MjData:
    """Return a fresh state with the positions and velocities of another."""
    fresh = mujoco.MjData(model)
    fresh.qpos[:], fresh.qvel[:], fresh.ctrl[:] = data.qpos, data.qvel, data.ctrl
    mujoco.mj_forward(model, fresh)
    return fresh


def along(data: mujoco.MjData, body: str, offset: Any) -> np.ndarray:
    """Return a point of a body, by its rotation matrix."""
    found = data.body(body)
    return found.xpos + found.xmat.reshape(3, 3) @ np.asarray(offset, float)


def fingertips(data: mujoco.MjData, side: int) -> np.ndarray:
    """Return the fingertips (5, 3)."""
    links = [f"{SIDES[side]}{finger}distal" for finger in ("ff", "mf", "rf", "lf", "th")]
    return np.array([along(data, link, (0, 0, 0.02)) for link in links])


def palm_point(data: mujoco.MjData, side: int) -> np.ndarray:
    """Return the palm point (3,)."""
    return along(data, f"{SIDES[side]}palm", (0, -0.02, 0.08))


def entries(model: mujoco.MjModel, data: mujoco.MjData, body: str) -> np.ndarray:
    """Return position, quaternion xyzw, velocity and a fifth of the turn rate (13,)."""
    found = data.body(body)
    motion = np.zeros(6)
    mujoco.mj_objectVelocity(model, data, mujoco.mjtObj.mjOBJ_XBODY, found.id, motion, 0)
    w, x, y, z = found.xquat
    return np.array([*found.xpos, x, y, z, w, *motion[3:], *(0.2 * motion[:3])])


class Stage:
    """One copy of a task whose bodies and hands can be put anywhere.

    Args:
        name: Of the task in the catalogue.
        **options: Quirks.
    """

    def __init__(self, name: str, **options: Any) -> None:
        spec = full_catalogue().get(name)
        self.task = make_task(spec.env_id, Quirks(**options))
        self.scene = scene_of(type(self.task), self.task.quirks)
        self.model = self.scene.model
        self.data = mujoco.MjData(self.model)
        mujoco.mj_forward(self.model, self.data)

    def put(self, body: str, position: Any, quaternion: Any = (1, 0, 0, 0)) -> None:
        """Put a free body somewhere."""
        joint = self.data.joint(body)
        joint.qpos[:] = [*position, *quaternion]
        mujoco.mj_forward(self.model, self.data)

    def at(self, body: str) -> np.ndarray:
        """Return where a body is."""
        return self.data.body(body).xpos.copy()

    def curl(self, angle: float) -> None:
        """Bend the middle joints of all long fingers, so that their tips can be close together."""
        for prefix in SIDES:
            for finger in ("FF", "MF", "RF", "LF"):
                self.data.joint(f"{prefix}{finger}J2").qpos[0] = angle
        mujoco.mj_forward(self.model, self.data)

    def shift(self, side: int, by: Any) -> None:
        """Move a hand."""
        self.data.joint(f"{SIDES[side]}base").qpos[:3] += by
        mujoco.mj_forward(self.model, self.data)

    def bring_palm(self, side: int, target: Any, distance: float) -> None:
        """Put a hand's palm point at a distance above a point."""
        where = np.asarray(target) + np.array([0, 0, distance])
        self.shift(side, where - palm_point(self.data, side))

    def bring(self, side: int, target: Any, total: float) -> None:
        """Put a hand where its fingertips' distances to a point sum to a number."""
        target = np.asarray(target)
        self.shift(side, target - fingertips(self.data, side).mean(axis=0))
        tips = fingertips(self.data, side)

        def sum_at(height: float) -> float:
            return float(np.linalg.norm(tips + np.array([0, 0, height]) - target, axis=1).sum())

        low, high = 0.0, total
        assert sum_at(low) < total < sum_at(high), "no such place"
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if sum_at(middle) < total else (low, middle)
        self.shift(side, [0, 0, low])

    def outcome(self) -> tuple[float, bool, float]:
        """Return reward, end and success of the state."""
        data = self.data
        torque = data.qfrc_actuator + data.qfrc_damper
        state = Reader(self.scene).read(
            data.qpos[None], data.qvel[None], torque[None], data.sensordata[None]
        )
        outcome = self.task.outcome(state, {}, np.zeros((1, self.model.nu)))
        return (
            float(outcome.reward_B[0]),
            bool(outcome.terminated_B[0]),
            float(outcome.success_B[0]),
        )


def make_batch(name: str, size: int, **options: Any) -> HandsBatch:
    """Return copies of a task of the catalogue, with its horizon."""
    spec = full_catalogue().get(name)
    return HandsBatch(make_task(spec.env_id, Quirks(**options)), size, spec.horizon)


def objects_after_steps(
    name: str, **options: Any
) -> tuple[np.ndarray, mujoco.MjModel, mujoco.MjData]:
    """Return what a task observes of its objects once they were thrown about, and the state."""
    batch = make_batch(name, 1, **options)
    batch.reset([0], [0])
    rng = np.random.default_rng(1)
    for body in batch.scene.tracked:
        batch.datas[0].joint(body).qvel[:] = rng.normal(0, 1, 6)
    for _ in range(6):
        done = batch.step(rng.uniform(-1, 1, (1, 52)).astype(np.float32))
    model = batch.scene.model
    return done.observation_BO[0, HANDS:], model, recomputed(model, batch.datas[0])


def idle(batch: HandsBatch) -> np.ndarray:
    """Return actions that leave the bases alone and hold the joints at zero."""
    scene = batch.scene
    action_A = np.clip(-scene.centre_A / scene.half_A, -1.0, 1.0)
    return np.tile(action_A, (batch.size, 1)).astype(np.float32)


def check_random_episodes(name: str, episodes: int) -> None:
    """Play uniform actions to the horizon; fail on a warning or a number out of bounds."""
    batch = make_batch(name, 10 if episodes >= 10 else episodes)
    rng = np.random.default_rng(0)
    for first in range(0, episodes, batch.size):
        batch.reset(range(batch.size), range(first, first + batch.size))
        for step in range(batch.horizon):
            action_BA = rng.uniform(-1, 1, (batch.size, len(batch.action_low_A)))
            done = batch.step(action_BA.astype(np.float32))
            assert np.isfinite(done.reward_B).all(), (first, step)
            assert np.isfinite(done.observation_BO).all(), (first, step)
            assert np.abs(done.observation_BO).max() <= 5.0
            for data in batch.datas:
                assert np.abs(data.qvel).max() < 1e3, (first, step)
    for data in batch.datas:
        assert not any(warning.number for warning in data.warning), "the simulator warns"


def check_resets(name: str) -> None:
    """Reset is decided by the seed alone, and without the tiny first action by nothing."""
    used, fresh = make_batch(name, 2), make_batch(name, 2)
    rng = np.random.default_rng(0)
    used.reset([0, 1], [5, 6])
    for _ in range(20):
        used.step(rng.uniform(-1, 1, (2, len(used.action_low_A))).astype(np.float32))
    assert np.array_equal(used.reset([1], [3]), fresh.reset([0], [3]))
    assert not np.array_equal(fresh.reset([0], [4]), fresh.reset([1], [3]))
    for key in ("qpos", "qvel"):
        still = make_batch(name, 2, first_step="none")
        still.reset([0, 1], [1, 2])
        assert np.array_equal(getattr(still.datas[0], key), getattr(still.datas[1], key))
