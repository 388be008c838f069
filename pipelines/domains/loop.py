"""Plain Gymnasium environments: as a batch, made of a batch of one, and what they have to return.

B copies of an environment, O observation, A action: (B, A) of a box, (B,) of discrete actions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import gymnasium
import numpy as np

from pipelines.actions import ActionSpec, Box, Discrete
from pipelines.domains.batch import BatchEnvironment, StepBatch
from pipelines.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import NDArray


Kind = tuple[tuple[int, ...], "np.dtype[Any]"]
"""Shape and dtype of an array."""


FIX = "put the domain's environment right; docs/domains.md says what the stages rely on"
_NUMBER = (float, int, np.floating, np.integer)
_FLAG = (bool, np.bool_)


class LoopBatch(BatchEnvironment):
    """Copies of one task, each a Gymnasium environment that observes vectors.

    Success is read from ``info["success"]``; where no copy ever reports one, it is None.

    Args:
        envs: The copies; at least one. They belong to the batch, which closes them.

    Raises:
        ConfigError: Here, at a reset or at a step: an environment is not what Gymnasium asks for,
            or its spaces are none that the stages can use.
    """

    def __init__(self, envs: Sequence[gymnasium.Env[Any, Any]]) -> None:
        for env in envs:
            check_spaces(env)
        observation_space: Any = envs[0].observation_space
        self._envs = list(envs)
        self._kind = (observation_space.shape, observation_space.dtype)
        self.size = len(self._envs)
        self.observation_dim = int(observation_space.shape[0])
        self.actions = actions_of_space(envs[0].action_space)
        # Gymnasium's environments take a choice as a plain number.
        self._listed = self.actions.row_shape == ()

    def reset(self, indices: Sequence[int], seeds: Sequence[int]) -> NDArray[np.float32]:
        """Begin an episode in some copies; see `BatchEnvironment.reset`."""
        observation = np.empty((len(indices), self.observation_dim), np.float32)
        for row, (index, seed) in enumerate(zip(indices, seeds, strict=True)):
            result = self._envs[index].reset(seed=int(seed))
            check_reset(result, self._kind)
            observation[row] = result[0]
        return observation

    def step(self, action_BA: NDArray[Any]) -> StepBatch:
        """Advance all copies by one step; see `BatchEnvironment.step`."""
        actions = action_BA.tolist() if self._listed else action_BA
        observation_BO = np.empty((self.size, self.observation_dim), np.float32)
        reward_B = np.empty(self.size, np.float64)
        terminated_B = np.empty(self.size, np.bool_)
        truncated_B = np.empty(self.size, np.bool_)
        success_B: NDArray[np.bool_] | None = None
        for index, env in enumerate(self._envs):
            result = env.step(actions[index])
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
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}

    def __init__(self, batch: BatchEnvironment, low: Any, high: Any) -> None:
        self._batch = batch
        shape = (batch.observation_dim,)
        self.observation_space = gymnasium.spaces.Box(low, high, shape, np.float32)
        self.action_space = batch.actions.space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Begin an episode; `options` are not used."""
        super().reset(seed=seed)
        if seed is None:
            seed = int(self.np_random.integers(2**31))
        return self._batch.reset([0], [seed])[0], {}

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Advance by one step."""
        after = self._batch.step(np.asarray(action, self._batch.actions.row_dtype)[None])
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


def check_spaces(env: gymnasium.Env[Any, Any], where: str | None = None) -> None:
    """Check that an environment observes vectors, and that its actions are bounded or discrete.

    Raises:
        ConfigError: It does not.
    """
    if not _is_vector(env.observation_space):
        raise fault(
            "The environment's observation space is none that the stages can use.",
            "a gymnasium.spaces.Box of one dimension",
            env.observation_space,
            where,
        )
    space: Any = env.action_space
    if isinstance(space, gymnasium.spaces.Discrete) and space.start == 0 and space.n > 1:
        return
    if not _is_vector(space):
        raise fault(
            "The environment's action space is none that the stages can use.",
            "a gymnasium.spaces.Box of one dimension, or a Discrete that starts at 0",
            space,
            where,
        )
    check_bounds(space.low, space.high, where)


def actions_of_space(space: gymnasium.Space[Any]) -> ActionSpec:
    """Return the actions of a space that `check_spaces` has let pass."""
    if isinstance(space, gymnasium.spaces.Discrete):
        return Discrete(int(space.n))
    box: Any = space
    return Box.between(np.asarray(box.low, np.float32), np.asarray(box.high, np.float32))


def _is_vector(space: Any) -> bool:
    return (
        isinstance(space, gymnasium.spaces.Box)
        and len(space.shape) == 1
        and space.dtype is not None
        and space.dtype.kind in "fiu"
    )


def check_reset(result: Any, kind: Kind, where: str | None = None) -> None:
    """Check what an environment's reset returned, but for its finiteness.

    Raises:
        ConfigError: It is no observation of this kind and a dictionary.
    """
    if not (isinstance(result, tuple) and len(result) == 2):
        raise returned("reset()", "a tuple of 2: observation, info", result, where)
    _check_parts("reset()", {"observation": kind, "info": (dict,)}, result, where)


def check_step(result: Any, kind: Kind, where: str | None = None) -> None:
    """Check what an environment's step returned, but for its finiteness; fast where all is well.

    Raises:
        ConfigError: It is not an observation of this kind, reward, terminated, truncated and info.
    """
    if not (isinstance(result, tuple) and len(result) == 5):
        expected = "a tuple of 5: observation, reward, terminated, truncated, info"
        raise returned("step()", expected, result, where)
    observation, reward, terminated, truncated, info = result
    if not (
        isinstance(observation, np.ndarray)
        and observation.shape == kind[0]
        and observation.dtype == kind[1]
        and isinstance(reward, _NUMBER)
        and isinstance(terminated, _FLAG)
        and isinstance(truncated, _FLAG)
        and isinstance(info, dict)
    ):
        flags = {"terminated": _FLAG, "truncated": _FLAG, "info": (dict,)}
        _check_parts("step()", {"observation": kind, "reward": _NUMBER, **flags}, result, where)


def _check_parts(source: str, wanted: dict[str, Any], found: Any, where: str | None) -> None:
    for (name, kind), value in zip(wanted.items(), found, strict=True):
        if name == "observation":
            shape, dtype = array_kind(value) or ((), np.dtype(np.bool_))
            # As Gymnasium judges whether an observation is one of a space.
            sound = shape == kind[0] and np.can_cast(dtype, kind[1])
            expected = array_text(*kind)
        else:
            sound, expected = isinstance(value, kind), " or ".join(each.__name__ for each in kind)
        if not sound:
            raise returned(source, expected, value, where, f" as {name}")


def check_bounds(low_A: NDArray[Any], high_A: NDArray[Any], where: str | None) -> None:
    """Check the bounds (A,) of the actions.

    Raises:
        ConfigError: One is not finite, or a lower one is above its upper one.
    """
    if not (np.isfinite(low_A).all() and np.isfinite(high_A).all() and (low_A <= high_A).all()):
        raise fault(
            "The environment's box of actions is not bounded.",
            "finite lower and upper bounds",
            f"{low_A.tolist()} to {high_A.tolist()}",
            where,
        )


def array_kind(value: Any) -> Kind | None:
    """Return shape and dtype of an array, None for anything else."""
    return (value.shape, value.dtype) if isinstance(value, np.ndarray) else None


def array_text(shape: tuple[int, ...], dtype: np.dtype[Any]) -> str:
    """Return what errors call an array."""
    return f"an array of shape {shape}, {dtype}"


def _described(value: Any) -> str:
    kind = array_kind(value)
    if kind is not None:
        return array_text(*kind)
    if isinstance(value, tuple):
        return f"a tuple of {len(value)}: {', '.join(type(each).__name__ for each in value)}"
    return f"{type(value).__name__} {value!r}"[:200]


def fault(message: str, expected: object, found: object, where: str | None) -> ConfigError:
    """Return the error of an environment that does not do what the stages rely on."""
    return ConfigError(message, where=where, expected=expected, found=found, fix=FIX)


def returned(
    source: str, expected: str, value: Any, where: str | None, part: str = ""
) -> ConfigError:
    """Return the error of a method of an environment that returned something else."""
    message = f"{source} of the environment returned something else{part}."
    return fault(message, expected, _described(value), where)
