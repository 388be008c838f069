"""Copies of a task on MuJoCo, stepped together, and one of them as a plain environment.

Each copy has its own simulator state; observations and rewards of all of them are computed at
once. What a copy does depends on its seeds and actions alone.

B copies, O observation, A action.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from pipelines.domains.base import BatchEnvironment, StepBatch
from pipelines.domains.bidexhands.hand import joint_names, joint_ranges
from pipelines.domains.bidexhands.scene import Scene, build_scene
from pipelines.domains.bidexhands.snapshot import CLIP, Reader, Snapshot, observe
from pipelines.domains.loop import SingleEnv
from pipelines.domains.remade import RemadeWhenCopied
from pipelines.rng import stream

if TYPE_CHECKING:
    import mujoco
    from numpy.typing import NDArray

    from pipelines.domains.bidexhands.quirks import Quirks
    from pipelines.domains.bidexhands.tasks.base import HandTask

TINY_ACTION = 0.01
"""Half width of the random action that the reference's reset makes."""

_TOO_FAST = 1e6
"""Speed, in metres or radians a second, beyond which a state has blown up."""


class HandsBatch(BatchEnvironment):
    """Copies of one task.

    A copy whose simulation blows up ends its episode: terminated, with a reward of zero and the
    observation it had before.

    Args:
        horizon: Steps after which an episode is truncated.
    """

    def __init__(self, task: HandTask, size: int, horizon: int) -> None:
        import mujoco

        self.task, self.size, self.horizon = task, size, horizon
        self.scene = scene_of(type(task), task.quirks)
        model = self.scene.model
        self._reader = Reader(self.scene)
        self._step1, self._step2 = mujoco.mj_step1, mujoco.mj_step2
        self.datas = [mujoco.MjData(model) for _ in range(size)]
        self._qpos_BQ = np.zeros((size, model.nq))
        self._qvel_BV = np.zeros((size, model.nv))
        self._torque_BV = np.zeros((size, model.nv))
        self._sensor_BS = np.zeros((size, model.nsensordata))
        self._action_BA = np.zeros((size, model.nu))
        self._steps_B = np.zeros(size, np.int64)
        self._goals: dict[str, NDArray[np.float64]] = {}
        self._generators = [np.random.default_rng(0)] * size
        self.action_low_A = -np.ones(model.nu, np.float32)
        self.action_high_A = np.ones(model.nu, np.float32)
        self._start(list(range(size)), [0] * size)
        self._observation_BO = self._observe(slice(None))
        self.observation_dim = self._observation_BO.shape[1]

    def reset(self, indices: Sequence[int], seeds: Sequence[int]) -> NDArray[np.float32]:
        """Begin an episode in some copies; see `BatchEnvironment.reset`."""
        rows = list(indices)
        self._start(rows, seeds)
        self._observation_BO[rows] = self._observe(rows)
        return self._observation_BO[rows]

    def step(self, action_BA: NDArray[np.float32]) -> StepBatch:
        """Advance all copies by one step; see `BatchEnvironment.step`."""
        np.clip(action_BA, -1.0, 1.0, out=self._action_BA)
        for index in range(self.size):
            self._simulate(index)
        self._steps_B += 1
        state = self._read(slice(None))
        outcome = self.task.outcome(state, self._goals, self._action_BA)
        reward_B = np.asarray(outcome.reward_B, np.float64)
        terminated_B = outcome.terminated_B
        success_B = outcome.success_B >= 1.0
        observation_BO = observe(self.task, state, self._goals, self._action_BA)
        self.task.renew(state, self._goals, self._generators, self.scene, self.datas)
        # A comparison that a number fails and that not-a-number fails as well.
        broken_B = ~(np.abs(self._qvel_BV).max(axis=1) < _TOO_FAST)
        if broken_B.any():
            observation_BO[broken_B] = self._observation_BO[broken_B]
            reward_B = np.where(broken_B, 0.0, reward_B)
            terminated_B = terminated_B | broken_B
            success_B = success_B & ~broken_B
        self._observation_BO = observation_BO
        truncated_B = (self._steps_B >= self.horizon) & ~terminated_B
        return StepBatch(observation_BO.copy(), reward_B, terminated_B, truncated_B, success_B)

    def snapshot(self) -> Snapshot:
        """Return the state of all copies, as observations and rewards see it."""
        return self._read(slice(None))

    @property
    def goals(self) -> dict[str, NDArray[np.float64]]:
        """What is fixed for each copy's episode, by name (B, ...)."""
        return self._goals

    def _start(self, rows: list[int], seeds: Sequence[int]) -> None:
        import mujoco

        scene, task = self.scene, self.task
        for row, seed in zip(rows, seeds, strict=True):
            data = self.datas[row]
            generator = stream(int(seed), "bidexhands", task.stem)
            mujoco.mj_resetData(scene.model, data)
            angles_J = self._joint_angles(generator)
            data.qpos[scene.qpos_2J] = angles_J
            goals = task.begin(scene, data, generator)
            for name, value in goals.items():
                if name not in self._goals:
                    self._goals[name] = np.zeros((self.size, *np.shape(value)))
                self._goals[name][row] = value
            self._generators[row] = generator
            self._steps_B[row] = 0
            self._action_BA[row] = 0.0
            # Positions and velocities are computed; the first half of the first step is done.
            self._step1(scene.model, data)
            if task.quirks.first_step == "random":
                size = len(self._action_BA[row])
                self._action_BA[row] = generator.uniform(-TINY_ACTION, TINY_ACTION, size)
                self._simulate(row)
            else:
                data.ctrl[:] = scene.centre_A + scene.half_A * self._action_BA[row]
                mujoco.mj_forward(scene.model, data)
                self._copy(row)

    def _joint_angles(self, generator: np.random.Generator) -> NDArray[np.float64]:
        """Return the angles (24,) that both hands start at.

        With noise they are ``noise * (low + (high - low) u)`` with u uniform in [-1, 1], which may
        lie beyond the limits, and the same for both hands (Bi-DexHands, reset of its tasks).
        """
        low_J, high_J = joint_ranges()
        angles_J = np.array([self.task.start_joints.get(name, 0.0) for name in joint_names()])
        if self.task.joint_noise:
            share_J = generator.uniform(-1.0, 1.0, len(low_J))
            angles_J = angles_J + self.task.joint_noise * (low_J + (high_J - low_J) * share_J)
        return angles_J

    def _simulate(self, row: int) -> None:
        """Apply a copy's action for a 60th of a second.

        The second half of a simulation step comes before the first half of the next, so that
        positions, velocities and sensors are those of the new state, at no cost.
        """
        scene, data = self.scene, self.datas[row]
        data.ctrl[:] = scene.centre_A + scene.half_A * self._action_BA[row]
        for _ in range(scene.substeps):
            self._step2(scene.model, data)
            self._step1(scene.model, data)
        self._copy(row)

    def _copy(self, row: int) -> None:
        data = self.datas[row]
        self._qpos_BQ[row] = data.qpos
        self._qvel_BV[row] = data.qvel
        np.add(data.qfrc_actuator, data.qfrc_damper, out=self._torque_BV[row])
        self._sensor_BS[row] = data.sensordata

    def _read(self, rows: Any) -> Snapshot:
        return self._reader.read(
            self._qpos_BQ[rows], self._qvel_BV[rows], self._torque_BV[rows], self._sensor_BS[rows]
        )

    def _observe(self, rows: Any) -> NDArray[np.float32]:
        goals = {name: values[rows] for name, values in self._goals.items()}
        return observe(self.task, self._read(rows), goals, self._action_BA[rows])


class HandsEnv(RemadeWhenCopied, SingleEnv):
    """One copy of a task; ``info["success"]`` is whether the state counts as a success.

    Args:
        horizon: Steps after which an episode is truncated.
        render_mode: ``rgb_array`` or None.
        size: Width and height of its pictures, pixels.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 60}
    _batch: HandsBatch

    def __init__(
        self,
        task: HandTask,
        horizon: int,
        render_mode: str | None = None,
        size: tuple[int, int] = (640, 480),
    ) -> None:
        self.made_by = (HandsEnv, (task, horizon, render_mode, size))
        bound = CLIP if task.quirks.clip == "on" else np.inf
        super().__init__(HandsBatch(task, 1, horizon), -bound, bound)
        self.render_mode, self._size = render_mode, size
        self._renderer: Any = None

    @property
    def model(self) -> mujoco.MjModel:
        """The simulator's model."""
        return self._batch.scene.model

    @property
    def data(self) -> mujoco.MjData:
        """The simulator's state."""
        return self._batch.datas[0]

    def render(self) -> Any:
        """Return a picture (height, width, 3), uint8, with ``render_mode="rgb_array"``."""
        if self.render_mode != "rgb_array":
            return None
        if self._renderer is None:
            # It takes the OpenGL that is named when it draws first, not when MuJoCo is imported.
            from gymnasium.envs.mujoco.mujoco_rendering import MujocoRenderer

            view = self._batch.task.view
            camera = {**view._asdict(), "lookat": np.array(view.lookat)}
            width, height = self._size
            self._renderer = MujocoRenderer(
                self.model, self.data, default_cam_config=camera, width=width, height=height
            )
        return self._renderer.render("rgb_array")

    def close(self) -> None:
        """Give back the renderer."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None


@functools.lru_cache(maxsize=32)
def scene_of(task_class: type[HandTask], quirks: Quirks) -> Scene:
    """Return the compiled scene of a task; copies share it."""
    return build_scene(task_class(quirks), quirks)
