"""A task of Bi-DexHands on Isaac Gym as a plain Gymnasium environment: a batch of one copy."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from pipelines.domains.isaacgym.batch import IsaacGymBatch
from pipelines.domains.isaacgym.worker import CLIP
from pipelines.domains.remade import RemadeWhenCopied


class IsaacGymEnv(RemadeWhenCopied, gymnasium.Env[NDArray[np.float32], NDArray[np.float32]]):
    """One copy of a task; spaces as of the MuJoCo port.

    Args:
        batch: A batch of size 1, which the environment closes.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 - as Gymnasium declares it

    def __init__(self, batch: IsaacGymBatch) -> None:
        self._batch = batch
        self.observation_space = gymnasium.spaces.Box(
            -CLIP, CLIP, (batch.observation_dim,), np.float32
        )
        self.action_space = gymnasium.spaces.Box(
            batch.action_low_A, batch.action_high_A, dtype=np.float32
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Begin an episode; without a seed, with one drawn from the environment's stream."""
        super().reset(seed=seed)
        drawn = int(self.np_random.integers(2**31)) if seed is None else seed % 2**31
        return self._batch.reset([0], [drawn])[0], {}

    def step(
        self, action: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Advance by one step; ``info["success"]`` tells whether the episode succeeded so far."""
        done = self._batch.step(np.asarray(action, np.float32)[None])
        assert done.success_B is not None
        return (
            done.observation_BO[0],
            float(done.reward_B[0]),
            bool(done.terminated_B[0]),
            bool(done.truncated_B[0]),
            {"success": bool(done.success_B[0])},
        )

    def close(self) -> None:
        """End the worker."""
        self._batch.close()
