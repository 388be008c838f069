"""A task as a plain Gymnasium environment: a batch of one copy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import gymnasium
import numpy as np

from pipelines.domains.bidexhands.batch import HandsBatch
from pipelines.domains.bidexhands.observation import CLIP
from pipelines.domains.remade import RemadeWhenCopied

if TYPE_CHECKING:
    import mujoco
    from numpy.typing import NDArray

    from pipelines.domains.bidexhands.tasks.base import HandTask


class HandsEnv(RemadeWhenCopied, gymnasium.Env[Any, Any]):
    """One copy of a task; ``info["success"]`` tells whether the state counts as a success.

    Args:
        task: The task.
        horizon: Steps after which an episode is truncated.
        render_mode: ``rgb_array`` or None.
        size: Width and height of its pictures, pixels.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 60}

    def __init__(
        self,
        task: HandTask,
        horizon: int,
        render_mode: str | None = None,
        size: tuple[int, int] = (640, 480),
    ) -> None:
        self.made_by = (HandsEnv, (task, horizon, render_mode, size))
        self._batch = HandsBatch(task, 1, horizon)
        bound = CLIP if task.quirks.clip == "on" else np.inf
        self.observation_space = gymnasium.spaces.Box(
            -bound, bound, (self._batch.observation_dim,), np.float32
        )
        self.action_space = gymnasium.spaces.Box(
            self._batch.action_low_A, self._batch.action_high_A, dtype=np.float32
        )
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

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Begin an episode; without a seed, one drawn from the seeds before."""
        super().reset(seed=seed)
        if seed is None:
            seed = int(self.np_random.integers(2**31))
        return self._batch.reset([0], [seed])[0], {}

    def step(
        self, action: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Advance by a 60th of a second."""
        done = self._batch.step(np.asarray(action, np.float32)[None])
        success = done.success_B is not None and bool(done.success_B[0])
        return (
            done.observation_BO[0],
            float(done.reward_B[0]),
            bool(done.terminated_B[0]),
            bool(done.truncated_B[0]),
            {"success": success},
        )

    def render(self) -> Any:
        """Return a picture (height, width, 3), uint8, with ``render_mode="rgb_array"``."""
        if self.render_mode != "rgb_array":
            return None
        if self._renderer is None:
            # It takes the OpenGL that is named when it draws first, not when MuJoCo is imported.
            from gymnasium.envs.mujoco.mujoco_rendering import MujocoRenderer

            view = self._batch.task.view
            self._renderer = MujocoRenderer(
                self.model,
                self.data,
                default_cam_config={
                    "lookat": np.array(view.target),
                    "distance": view.distance,
                    "azimuth": view.azimuth,
                    "elevation": view.elevation,
                },
                width=self._size[0],
                height=self._size[1],
            )
        return self._renderer.render("rgb_array")

    def close(self) -> None:
        """Give back the renderer."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None
