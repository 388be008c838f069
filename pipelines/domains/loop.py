"""Plain Gymnasium environments as a batch, and a batch of one as a plain environment.

B copies of an environment, O observation, A action.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import gymnasium
import numpy as np

from pipelines.domains.base import BatchEnvironment, StepBatch
from pipelines.domains.checked import check_reset, check_spaces, check_step

if TYPE_CHECKING:
    from numpy.typing import NDArray


class LoopBatch(BatchEnvironment):
    """Copies of one task, each a Gymnasium environment with vectors for observation and action.

    Success is read from ``info["success"]``; where no copy ever reports one, it is None.

    Args:
        envs: The copies; at least one. They belong to the batch, which closes them.

    Raises:
        ConfigError: Here, at a reset or at a step: an environment is not what Gymnasium asks for,
            or its spaces are no vectors.
    """

    def __init__(self, envs: Sequence[gymnasium.Env[Any, Any]]) -> None:
        for env in envs:
            check_spaces(env)
        space: Any = envs[0].action_space
        observation_space: Any = envs[0].observation_space
        self._envs = list(envs)
        self._kind = (observation_space.shape, observation_space.dtype)
        self.size = len(self._envs)
        self.observation_dim = int(observation_space.shape[0])
        self.action_low_A = np.asarray(space.low, dtype=np.float32)
        self.action_high_A = np.asarray(space.high, dtype=np.float32)

    def reset(self, indices: Sequence[int], seeds: Sequence[int]) -> NDArray[np.float32]:
        """Begin an episode in some copies; see `BatchEnvironment.reset`."""
        observation = np.empty((len(indices), self.observation_dim), np.float32)
        for row, (index, seed) in enumerate(zip(indices, seeds, strict=True)):
            result = self._envs[index].reset(seed=int(seed))
            check_reset(result, self._kind)
            observation[row] = result[0]
        return observation

    def step(self, action_BA: NDArray[np.float32]) -> StepBatch:
        """Advance all copies by one step; see `BatchEnvironment.step`."""
        observation_BO = np.empty((self.size, self.observation_dim), np.float32)
        reward_B = np.empty(self.size, np.float64)
        terminated_B = np.empty(self.size, np.bool_)
        truncated_B = np.empty(self.size, np.bool_)
        success_B: NDArray[np.bool_] | None = None
        for index, env in enumerate(self._envs):
            result = env.step(action_BA[index])
            # What has the wrong shape would be broadcast below.
            check_step(result, self._kind)
            observation, reward, terminated, truncated, info = result
            observation_BO[index] = observation
            reward_B[index] = reward
            terminated_B[index] = terminated
            truncated_B[index] = truncated
            if "success" in info:
                if success_B is None:
                    success_B = np.zeros(self.size, np.bool_)
                success_B[index] = bool(info["success"])
        return StepBatch(observation_BO, reward_B, terminated_B, truncated_B, success_B)

    def close(self) -> None:
        """Close the copies."""
        for env in self._envs:
            env.close()


class SingleEnv(gymnasium.Env[Any, Any]):
    """A batch of one copy as a Gymnasium environment, whose info has ``success`` where it is known.

    ``reset(seed=s)`` begins the episode that the batch begins for seed s; a reset without seed
    takes the episode's seed from ``np_random``.

    Args:
        batch: One copy; it belongs to the environment, which closes it.
        low: Lower bound of the observations, a number or (O,).
        high: Upper bound.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}

    def __init__(self, batch: BatchEnvironment, low: Any, high: Any) -> None:
        self._batch = batch
        shape = (batch.observation_dim,)
        self.observation_space = gymnasium.spaces.Box(low, high, shape, np.float32)
        self.action_space = gymnasium.spaces.Box(batch.action_low_A, batch.action_high_A)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Begin an episode; `options` are not used."""
        super().reset(seed=seed)
        if seed is None:
            seed = int(self.np_random.integers(2**31))
        return self._batch.reset([0], [seed])[0], {}

    def step(
        self, action: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Advance by one step."""
        after = self._batch.step(np.asarray(action, np.float32)[None])
        return (
            after.observation_BO[0],
            float(after.reward_B[0]),
            bool(after.terminated_B[0]),
            bool(after.truncated_B[0]),
            {} if after.success_B is None else {"success": bool(after.success_B[0])},
        )

    def close(self) -> None:
        """Give back what the batch holds."""
        self._batch.close()
