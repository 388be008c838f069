"""A task as a plain Gymnasium environment, as everyone gets it; see `pipelines.domains.checked`.

O observation, A action.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np

from pipelines.domains.checked import check_numbers, check_reset, check_spaces, check_step
from pipelines.errors import ConfigError

if TYPE_CHECKING:
    from gymnasium.envs.registration import EnvSpec
    from numpy.typing import NDArray

    from pipelines.tasks.spec import TaskSpec


class CheckedEnv(gymnasium.Wrapper[Any, Any, Any, Any]):
    """An environment whose resets and steps are checked, and whose episodes end at the horizon.

    Observations are float32: the precision in which the stages record them and the model reads.

    Args:
        env: The domain's.
        task: The task.
        where: Domain and task, for errors.

    Raises:
        ConfigError: The environment's spaces are not the task's.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], task: TaskSpec, where: str) -> None:
        super().__init__(env)
        check_spaces(env, where)
        space: Any = env.observation_space
        found = (space.shape, env.action_space.shape)
        if found != ((task.observation_dim,), (task.action_dim,)):
            raise ConfigError(
                "The environment does not fit its task.",
                where=where,
                expected=f"shapes {(task.observation_dim,)} of observations and "
                f"{(task.action_dim,)} of actions",
                found=found,
            )
        self._where, self._horizon, self._steps = where, task.horizon, 0
        self._kind = (space.shape, space.dtype)
        if space.dtype != np.float32:
            self.observation_space = gymnasium.spaces.Box(
                space.low.astype(np.float32), space.high.astype(np.float32), dtype=np.float32
            )

    @property
    def spec(self) -> EnvSpec | None:
        """What `gymnasium.make` made; this wrapper is a part of it."""
        return self.unwrapped.spec

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Begin an episode; the first observation (O,) and the environment's info.

        Raises:
            ConfigError: The environment did not return what it should.
            VintixError: The observation is not finite.
        """
        result: Any = self.env.reset(seed=seed, options=options)
        check_reset(result, self._kind, self._where)
        observation_O = result[0].astype(np.float32, copy=False)
        check_numbers(observation_O, 0.0, f"{self._where}, reset")
        self._steps = 0
        return observation_O, result[1]

    def step(
        self, action: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Advance by one step with an action (A,).

        Raises:
            ConfigError: The environment did not return what it should.
            VintixError: The observation or the reward is not finite.
        """
        result: Any = self.env.step(action)
        check_step(result, self._kind, self._where)
        observation, reward, terminated, truncated, info = result
        observation_O = observation.astype(np.float32, copy=False)
        self._steps += 1
        check_numbers(observation_O, reward, f"{self._where}, step {self._steps}", action)
        over = self._steps >= self._horizon and not terminated
        return observation_O, float(reward), bool(terminated), bool(truncated) or over, info
