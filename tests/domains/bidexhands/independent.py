"""What the tests of Bi-DexHands compare with: computed from MuJoCo's state, not by the package.

Quaternions are (w, x, y, z) unless a name says otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import mujoco
import numpy as np

from pipelines.domains.bidexhands.batch import HandsBatch
from pipelines.domains.bidexhands.quirks import Quirks
from pipelines.domains.bidexhands.tasks import make_task

RIGHT, LEFT = "right-", "left-"
FINGERS = ("ff", "mf", "rf", "lf", "th")


def make(env_id: str, size: int = 1, horizon: int = 1000, **quirks: Any) -> HandsBatch:
    """Make copies of a task, started with seeds 0, 1, ..."""
    batch = HandsBatch(make_task(env_id, Quirks(**quirks)), size, horizon)
    batch.reset(range(size), range(size))
    return batch


def fresh(batch: HandsBatch, row: int = 0) -> mujoco.MjData:
    """Return other data in the state of a copy, with everything that depends on it computed."""
    model, source = batch.scene.model, batch.datas[row]
    data = mujoco.MjData(model)
    data.qpos[:], data.qvel[:], data.ctrl[:] = source.qpos, source.qvel, source.ctrl
    mujoco.mj_forward(model, data)
    return data


def settle(batch: HandsBatch) -> None:
    """Let a batch see states that a test has written into its data."""
    for row, data in enumerate(batch.datas):
        mujoco.mj_forward(batch.scene.model, data)
        batch._copy(row)


def put(batch: HandsBatch, joint: str, values: Iterable[float] | float, row: int = 0) -> None:
    """Write a joint's position: seven numbers of a free one, one of another."""
    model = batch.scene.model
    start = int(model.joint(joint).qposadr[0])
    numbers = np.atleast_1d(np.asarray(values, float))
    batch.datas[row].qpos[start : start + len(numbers)] = numbers


def where(batch: HandsBatch, joint: str, row: int = 0) -> np.ndarray:
    """Return position and quaternion (7,) of a free joint."""
    start = int(batch.scene.model.joint(joint).qposadr[0])
    return batch.datas[row].qpos[start : start + 7].copy()


def tips(data: mujoco.MjData, prefix: str) -> list[np.ndarray]:
    """Return the fingertips: 2 cm along z from the origin of each last link."""
    return [
        data.body(f"{prefix}{finger}distal").xpos
        + 0.02 * data.body(f"{prefix}{finger}distal").xmat.reshape(3, 3)[:, 2]
        for finger in FINGERS
    ]


def reach(data: mujoco.MjData, prefix: str, target: np.ndarray) -> float:
    """Return the sum over the fingertips of their distances to a point."""
    return sum(math.dist(tip, target) for tip in tips(data, prefix))


def point(data: mujoco.MjData, body: str, offset: Iterable[float]) -> np.ndarray:
    """Return a point of a body, given in the body's frame."""
    return data.body(body).xpos + data.body(body).xmat.reshape(3, 3) @ np.array(list(offset))


def entries(batch: HandsBatch, data: mujoco.MjData, body: str) -> np.ndarray:
    """Return the 13 entries of a body: position, quaternion xyzw, velocity, 0.2 x turn rate."""
    w, x, y, z = data.body(body).xquat
    speed = np.zeros(6)
    kind = mujoco.mjtObj.mjOBJ_XBODY
    mujoco.mj_objectVelocity(batch.scene.model, data, kind, data.body(body).id, speed, 0)
    return np.array([*data.body(body).xpos, x, y, z, w, *speed[3:], *(0.2 * speed[:3])])


def angle(a: np.ndarray, b: np.ndarray) -> float:
    """Return the angle between two orientations, in [0, pi]."""
    return 2.0 * math.acos(min(1.0, abs(float(np.dot(a, b)))))


def left_over_xyzw(quaternion: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """Return ``q conj(goal)`` as (x, y, z, w), by MuJoCo's own functions."""
    result, opposite = np.zeros(4), np.zeros(4)
    mujoco.mju_negQuat(opposite, goal)
    mujoco.mju_mulQuat(result, quaternion, opposite)
    return result[[1, 2, 3, 0]]


def bring(
    batch: HandsBatch,
    prefix: str,
    target: np.ndarray,
    bent: Mapping[str, float] | None = None,
    row: int = 0,
) -> None:
    """Move a free hand, without turning it, so that its fingertips surround a point."""
    for joint, value in (bent or {}).items():
        put(batch, f"{prefix}{joint}", value, row)
    centre = np.mean(tips(fresh(batch, row), prefix), axis=0)
    base = where(batch, f"{prefix}base", row)
    put(batch, f"{prefix}base", [*(base[:3] + target - centre), *base[3:]], row)


def idle(batch: HandsBatch) -> np.ndarray:
    """Return actions that hold the joints at zero and push no base, (B, A)."""
    still = np.zeros(len(batch.scene.centre_A))
    aims = [
        number
        for number in range(batch.scene.model.nu)
        if "base" not in batch.scene.model.actuator(number).name
    ]
    still[aims] = -batch.scene.centre_A[aims] / batch.scene.half_A[aims]
    return np.tile(still.astype(np.float32), (batch.size, 1))


def wander(batch: HandsBatch, steps: int, seed: int = 0) -> np.ndarray:
    """Make steps with uniform actions; return the last observations (B, O)."""
    generator = np.random.default_rng(seed)
    observation_BO = np.zeros((batch.size, batch.observation_dim), np.float32)
    for _ in range(steps):
        action_BA = generator.uniform(-1, 1, (batch.size, batch.scene.model.nu))
        observation_BO = batch.step(action_BA.astype(np.float32)).observation_BO
    return observation_BO


def play(env_id: str, horizon: int, episodes: int, size: int) -> None:
    """Play episodes with uniform actions; fail at what is not finite and at any warning."""
    batch = make(env_id, size, horizon)
    generator = np.random.default_rng(1)
    finished = 0
    while finished < episodes:
        action_BA = generator.uniform(-1, 1, (size, batch.scene.model.nu)).astype(np.float32)
        done = batch.step(action_BA)
        assert np.isfinite(done.observation_BO).all()
        assert (np.abs(done.observation_BO) <= 5.0).all()
        assert np.isfinite(done.reward_B).all()
        over = np.flatnonzero(done.terminated_B | done.truncated_B)
        for row in over:
            warnings = {
                mujoco.mjtWarning(kind).name: batch.datas[row].warning[kind].number
                for kind in range(int(mujoco.mjtWarning.mjNWARNING))
                if batch.datas[row].warning[kind].number
            }
            assert not warnings, (env_id, warnings)
        finished += len(over)
        if len(over):
            batch.reset(over.tolist(), [1000 + finished + int(row) for row in over])
