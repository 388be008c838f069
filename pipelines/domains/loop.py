"""A batch that steps ordinary Gymnasium environments one after the other.

B copies of an environment, O observation, A action.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.domains.base import BatchEnvironment, StepBatch
from pipelines.domains.checked import check_reset, check_spaces, check_step

if TYPE_CHECKING:
    import gymnasium
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
