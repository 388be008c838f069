"""What hands and objects are computed with in these tests: MuJoCo's poses and plain formulas."""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np

from pipelines.domains.bidexhands.batch import HandsBatch, scene_of
from pipelines.domains.bidexhands.quirks import Quirks
from pipelines.domains.bidexhands.snapshot import Reader
from pipelines.domains.bidexhands.tasks import make_task
from pipelines.domains.bidexhands.tasks.base import HandTask, Outcome
from pipelines.tasks.registry import catalogue

OBJECTS = 398
"""Where the objects begin in an observation of free hands."""

_DISTAL = ("ffdistal", "mfdistal", "rfdistal", "lfdistal", "thdistal")


class Pose:
    """A task at a pose that a test sets: change ``data.qpos``, then ask."""

    def __init__(self, env_id: str, **quirks: Any) -> None:
        self.task: HandTask = make_task(env_id, Quirks(**quirks))
        self.scene = scene_of(type(self.task), self.task.quirks)
        self.model = self.scene.model
        self.data = mujoco.MjData(self.model)
        self.task.begin(self.scene, self.data, np.random.default_rng(0))
        mujoco.mj_forward(self.model, self.data)

    def set(self, joint: str, value: float) -> None:
        self.data.qpos[self.scene.qpos(joint)] = value
        mujoco.mj_forward(self.model, self.data)

    def move(self, prefix: str, shift: Any) -> None:
        """Move a hand's base."""
        start = self.scene.qpos(f"{prefix}-base")
        self.data.qpos[start : start + 3] += shift
        mujoco.mj_forward(self.model, self.data)

    def reach_for(self, prefix: str, target: Any, off: float = 0.0) -> None:
        """Put the middle of a hand's fingertips at a point, or `off` metres above it."""
        middle = tips(self.model, self.data, prefix).mean(axis=0)
        self.move(prefix, np.asarray(target) + np.array([0, 0, off]) - middle)

    def outcome(self) -> Outcome:
        """Return the task's outcome of this pose."""
        data = self.data
        torque = data.qfrc_actuator + data.qfrc_damper
        rows = (data.qpos, data.qvel, torque, data.sensordata)
        state = Reader(self.scene).read(*(row[None] for row in rows))
        return self.task.outcome(state, {}, np.zeros((1, self.model.nu)))

    def reward(self) -> float:
        """Return the reward of this pose."""
        return float(self.outcome().reward_B[0])


def tips(model: Any, data: Any, prefix: str) -> np.ndarray:
    """Return a hand's five fingertips (5, 3): 2 cm along z from the last links' frames."""
    rows = []
    for name in _DISTAL:
        body = model.body(f"{prefix}-{name}").id
        rows.append(data.xpos[body] + data.xmat[body].reshape(3, 3) @ [0.0, 0.0, 0.02])
    return np.array(rows)


def reach(model: Any, data: Any, prefix: str, target: Any) -> float:
    """Return the sum of the fingertips' distances to a point."""
    return sum(float(np.linalg.norm(tip - target)) for tip in tips(model, data, prefix))


def palm(model: Any, data: Any, prefix: str) -> np.ndarray:
    """Return the point that rewards call a hand's position (3,)."""
    body = model.body(f"{prefix}-palm").id
    point: np.ndarray = data.xpos[body] + data.xmat[body].reshape(3, 3) @ [0.0, -0.02, 0.08]
    return point


def batch_of(name: str, size: int = 1, **quirks: Any) -> HandsBatch:
    """Return copies of a task by its name in the catalogue, checked against its dims."""
    task = catalogue().get(name)
    batch = HandsBatch(make_task(task.env_id, Quirks(**quirks)), size, task.horizon)
    assert batch.observation_dim == task.observation_dim
    assert len(batch.action_low_A) == task.action_dim
    return batch


def copy_of(batch: HandsBatch, row: int = 0) -> Any:
    """Return a copy of a simulator's state, computed anew from positions and velocities."""
    data = mujoco.MjData(batch.scene.model)
    data.qpos[:], data.qvel[:] = batch.datas[row].qpos, batch.datas[row].qvel
    mujoco.mj_forward(batch.scene.model, data)
    return data


def play(batch: HandsBatch, episodes: int, seed: int) -> None:
    """Play episodes of random actions; they are finite and the simulator does not complain."""
    for first in range(0, episodes, batch.size):
        batch.reset(range(batch.size), range(seed + first, seed + first + batch.size))
        generator = np.random.default_rng(seed + first)
        live = np.ones(batch.size, bool)
        for _ in range(batch.horizon):
            actions = generator.uniform(-1, 1, (batch.size, len(batch.action_low_A)))
            done = batch.step(actions.astype(np.float32))
            live &= ~(done.terminated_B | done.truncated_B)
            assert np.isfinite(done.observation_BO[live]).all()
            assert np.isfinite(done.reward_B[live]).all()
            if not live.any():
                break
        for data in batch.datas:
            assert not any(data.warning[kind].number for kind in range(8))


def body_twist(model: Any, data: Any, name: str) -> np.ndarray:
    """Return a body frame's velocity and turn rate (6,), world axes, from MuJoCo."""
    twist = np.zeros(6)
    kind = mujoco.mjtObj.mjOBJ_XBODY
    mujoco.mj_objectVelocity(model, data, kind, model.body(name).id, twist, 0)
    return np.concatenate([twist[3:], twist[:3]])
