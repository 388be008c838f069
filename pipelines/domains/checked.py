"""Environments as everyone gets them: checked, and ended at the task's horizon.

Whoever steps a task makes its environments here and not by the domain's own methods. What an
environment says is compared with its task when it is made, and at each reset and step; an episode
that has run to the horizon is truncated, whether or not the domain does so itself.

Shapes: B copies of an environment, O observation, A action.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.domains.base import BatchEnvironment, Domain, Options, StepBatch
from pipelines.errors import ConfigError, VintixError

if TYPE_CHECKING:
    import gymnasium
    from numpy.typing import NDArray

    from pipelines.tasks.spec import TaskSpec

Kind = tuple[tuple[int, ...], "np.dtype[Any]"]
"""Shape and dtype of an array."""

_FLOAT32, _FLOAT64, _BOOL = np.dtype(np.float32), np.dtype(np.float64), np.dtype(np.bool_)
_NUMBER = (float, int, np.floating, np.integer)
_FLAG = (bool, np.bool_)
_DICTIONARY = (dict,)
_WRONG = "{} of the environment returned something else."
_FIX = "put the domain's environment right; docs/domains.md says what the stages rely on"


def make_batch(
    domain: Domain, task: TaskSpec, size: int, options: Options, stream_seeds: Sequence[int]
) -> BatchEnvironment:
    """Make copies of a task, checked; see `Domain.make_batch`.

    Raises:
        ConfigError: They do not fit the task.
        MissingDependencyError: The simulator is not there.
    """
    where = _where(domain, task)
    try:
        batch = domain.make_batch(task, size, options, stream_seeds)
    except ConfigError as error:
        _place(error, where)
        raise
    try:
        return CheckedBatch(batch, task, size, where)
    except ConfigError:
        batch.close()
        raise


def make_env(domain: Domain, task: TaskSpec, options: Options) -> gymnasium.Env[Any, Any]:
    """Make a task as a plain Gymnasium environment, checked; see `Domain.make_env`.

    Returns:
        Its observations are float32, as the stages record them.

    Raises:
        ConfigError: It does not fit the task.
        MissingDependencyError: The simulator is not there.
    """
    return _checked(domain.make_env(task, options), domain, task)


def make_rendered_env(
    domain: Domain,
    task: TaskSpec,
    options: Options,
    size: tuple[int, int],
    stream_seed: int | None = None,
) -> gymnasium.Env[Any, Any]:
    """Make a task that draws itself, checked; see `Domain.make_rendered_env`.

    Args:
        domain: The task's domain.
        task: The task.
        options: Values of all options of the domain.
        size: Width and height in pixels.
        stream_seed: Of `Domain.begin_stream`; None where the episodes are no trajectory.

    Raises:
        ConfigError: It does not fit the task.
        UsageError: The domain's environments draw nothing.
        MissingDependencyError: The simulator, or what it draws with, is not there.
    """
    env = domain.make_rendered_env(task, options, size)
    if stream_seed is not None:
        domain.begin_stream(env, options, stream_seed)
    return _checked(env, domain, task)


class CheckedBatch(BatchEnvironment):
    """Copies of a task whose resets and steps are checked, and whose episodes end at the horizon.

    Args:
        batch: The domain's; it belongs to this one, which closes it.
        task: The task.
        size: How many copies were asked for.
        where: Domain and task, for errors.

    Raises:
        ConfigError: Size, dims or bounds of the actions are not the task's.
    """

    def __init__(self, batch: BatchEnvironment, task: TaskSpec, size: int, where: str) -> None:
        self._batch, self._where, self._horizon = batch, where, task.horizon
        self.packages = batch.packages
        self.size, self.observation_dim = size, task.observation_dim
        self.action_low_A = np.asarray(batch.action_low_A, dtype=np.float32)
        self.action_high_A = np.asarray(batch.action_high_A, dtype=np.float32)
        expected = (size, task.observation_dim, (task.action_dim,), (task.action_dim,))
        shapes = (self.action_low_A.shape, self.action_high_A.shape)
        found = (batch.size, batch.observation_dim, *shapes)
        if found != expected:
            raise _fault(
                "The environment does not fit its task.",
                "copies, observation dims, shapes of the actions' bounds " + str(expected),
                found,
                where,
            )
        _check_bounds(self.action_low_A, self.action_high_A, where)
        self._shape_B, self._shape_BO = (size,), (size, task.observation_dim)
        self._zero_N = np.zeros(size * task.observation_dim, np.float32)
        self._tick, self._first_end = 0, task.horizon
        self._end_tick_B = np.full(size, task.horizon)

    @property
    def unwrapped(self) -> BatchEnvironment:
        """The domain's own batch."""
        return self._batch.unwrapped

    def reset(self, indices: Sequence[int], seeds: Sequence[int]) -> NDArray[np.float32]:
        """Begin an episode in some copies; see `BatchEnvironment.reset`.

        Raises:
            ConfigError: The domain did not return what it should.
            VintixError: An observation is not finite.
        """
        try:
            observation = self._batch.reset(indices, seeds)
        except ConfigError as error:
            _place(error, self._where)
            raise
        shape = (len(indices), self.observation_dim)
        if _kind(observation) != (shape, _FLOAT32):
            raise _fault(
                "A reset of the environment returned something else than observations.",
                _told(shape, _FLOAT32),
                _described(observation),
                self._where,
            )
        if not np.isfinite(observation).all():
            row = int(np.flatnonzero(~np.isfinite(observation).all(axis=1))[0])
            raise _not_finite("observation of a reset", observation[row], self._where)
        self._end_tick_B[np.asarray(indices, dtype=np.intp)] = self._tick + self._horizon
        self._first_end = int(self._end_tick_B.min())
        return observation

    def step(self, action_BA: NDArray[np.float32]) -> StepBatch:
        """Advance all copies by one step; see `BatchEnvironment.step`.

        Raises:
            ConfigError: The domain did not return what it should.
            VintixError: An observation or a reward is not finite.
        """
        try:
            after = self._batch.step(action_BA)
        except ConfigError as error:
            _place(error, self._where)
            raise
        self._tick += 1
        # Fast where all is well: a step may take no more than some tens of microseconds.
        if not isinstance(after, StepBatch):
            raise _fault(_WRONG.format("step()"), "a StepBatch", _described(after), self._where)
        observation_BO, reward_B, success_B = after.observation_BO, after.reward_B, after.success_B
        terminated_B, truncated_B, shape_B = after.terminated_B, after.truncated_B, self._shape_B
        if not (
            type(observation_BO) is type(reward_B) is np.ndarray
            and type(terminated_B) is type(truncated_B) is np.ndarray
            and observation_BO.shape == self._shape_BO
            and reward_B.shape == terminated_B.shape == truncated_B.shape == shape_B
            and observation_BO.dtype is _FLOAT32
            and reward_B.dtype is _FLOAT64
            and terminated_B.dtype is truncated_B.dtype is _BOOL
            and (success_B is None or _kind(success_B) == (shape_B, _BOOL))
            # Times zero, what is not finite is no zero: a fraction of the time of np.isfinite.
            and not observation_BO.ravel().dot(self._zero_N)
            and math.isfinite(sum(reward_B.tolist()))
        ):
            self._explain(after, action_BA)
        if self._tick >= self._first_end:
            over_B = self._end_tick_B <= self._tick
            late_B = over_B & ~(after.terminated_B | after.truncated_B)
            if late_B.any():
                return replace(after, truncated_B=after.truncated_B | late_B)
        return after

    def demonstrator_view(self, observation_BO: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what demonstrators see; see `BatchEnvironment.demonstrator_view`."""
        return self._batch.demonstrator_view(observation_BO)

    def close(self) -> None:
        """Give back what the copies hold."""
        self._batch.close()

    def _explain(self, after: StepBatch, action_BA: NDArray[np.float32]) -> None:
        """Raise what is wrong with a step, if it is; large numbers add up to infinity, too."""
        wanted: dict[str, Kind] = {
            "observation_BO": (self._shape_BO, _FLOAT32),
            "reward_B": (self._shape_B, _FLOAT64),
            "terminated_B": (self._shape_B, _BOOL),
            "truncated_B": (self._shape_B, _BOOL),
            "success_B": (self._shape_B, _BOOL),
        }
        for name, (shape, dtype) in wanted.items():
            value = getattr(after, name)
            if _kind(value) != (shape, dtype) and not (name == "success_B" and value is None):
                raise _fault(
                    f"A step of the environment returned something else as {name}.",
                    _told(shape, dtype),
                    _described(value),
                    self._where,
                )
        for name, values in (("observation", after.observation_BO), ("reward", after.reward_B)):
            finite_B = np.isfinite(values).reshape(self.size, -1).all(axis=1)
            if not finite_B.all():
                copy = int(np.flatnonzero(~finite_B)[0])
                step = self._tick - int(self._end_tick_B[copy]) + self._horizon
                where = f"{self._where}, copy {copy}, step {step} of its episode"
                raise _not_finite(name, values[copy], where, action_BA[copy])


def check_spaces(env: gymnasium.Env[Any, Any], where: str | None = None) -> None:
    """Check that an environment observes and acts by vectors, and that its actions are bounded.

    Args:
        env: As its domain made it.
        where: Domain and task; None where they are not known.

    Raises:
        ConfigError: It does not.
    """
    from gymnasium.spaces import Box

    spaces = {"observation": env.observation_space, "action": env.action_space}
    for name, space in spaces.items():
        if not (isinstance(space, Box) and len(space.shape) == 1 and space.dtype.kind in "fiu"):
            raise _fault(
                f"The environment's {name} space is none that the stages can use.",
                "a gymnasium.spaces.Box of one dimension",
                space,
                where,
            )
    action: Any = spaces["action"]
    _check_bounds(action.low, action.high, where)


def check_reset(result: Any, kind: Kind, where: str | None = None) -> None:
    """Check what an environment's reset returned, but for its finiteness.

    Args:
        result: What it was.
        kind: Shape and dtype of its observation space.
        where: Domain and task; None where they are not known.

    Raises:
        ConfigError: It is no observation of the space and a dictionary.
    """
    if not (isinstance(result, tuple) and len(result) == 2):
        expected = "a tuple of 2: observation, info"
        raise _fault(_WRONG.format("reset()"), expected, _described(result), where)
    _check_parts(
        "reset()",
        [("observation", result[0], kind), ("info", result[1], _DICTIONARY)],
        where,
    )


def check_step(result: Any, kind: Kind, where: str | None = None) -> None:
    """Check what an environment's step returned, but for its finiteness; fast where all is well.

    Args:
        result: What it was.
        kind: Shape and dtype of its observation space.
        where: Domain and task; None where they are not known.

    Raises:
        ConfigError: It is not observation, reward, terminated, truncated and info.
    """
    if not (isinstance(result, tuple) and len(result) == 5):
        expected = "a tuple of 5: observation, reward, terminated, truncated, info"
        raise _fault(_WRONG.format("step()"), expected, _described(result), where)
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
        _check_parts(
            "step()",
            [
                ("observation", observation, kind),
                ("reward", reward, _NUMBER),
                ("terminated", terminated, _FLAG),
                ("truncated", truncated, _FLAG),
                ("info", info, _DICTIONARY),
            ],
            where,
        )


def check_numbers(
    observation: NDArray[Any], reward: float, where: str, action: NDArray[Any] | None = None
) -> None:
    """Check that an observation and a reward are finite numbers.

    Args:
        observation: Of any shape.
        reward: The reward; 0 for a reset.
        where: Domain and task.
        action: What led there; None for a reset.

    Raises:
        VintixError: One is not; or the action was not.
    """
    for name, value in (("observation", observation), ("reward", reward)):
        if not np.isfinite(value).all():
            raise _not_finite(name, value, where, action)


def _checked(
    env: gymnasium.Env[Any, Any], domain: Domain, task: TaskSpec
) -> gymnasium.Env[Any, Any]:
    from pipelines.domains.checked_env import CheckedEnv

    try:
        return CheckedEnv(env, task, _where(domain, task))
    except ConfigError:
        env.close()
        raise


def _check_parts(source: str, parts: list[tuple[str, Any, Any]], where: str | None) -> None:
    for name, value, wanted in parts:
        if name == "observation":
            kind = _kind(value)
            # As Gymnasium judges whether an observation is one of a space.
            sound = kind is not None and kind[0] == wanted[0] and np.can_cast(kind[1], wanted[1])
            expected = _told(*wanted)
        else:
            sound = isinstance(value, wanted)
            expected = " or ".join(each.__name__ for each in wanted)
        if not sound:
            message = _WRONG.format(source).replace("else", f"else as {name}")
            raise _fault(message, expected, _described(value), where)


def _check_bounds(low_A: NDArray[Any], high_A: NDArray[Any], where: str | None) -> None:
    if not (np.isfinite(low_A).all() and np.isfinite(high_A).all() and (low_A <= high_A).all()):
        raise _fault(
            "The environment's box of actions is not bounded.",
            "finite lower and upper bounds",
            f"{low_A.tolist()} to {high_A.tolist()}",
            where,
        )


def _where(domain: Domain, task: TaskSpec) -> str:
    return f"domain {domain.name}, task {task.name}"


def _place(error: ConfigError, where: str) -> None:
    """Tell where an error is, if it does not say so itself."""
    if error.where is None:
        error.where = where


def _kind(value: Any) -> Kind | None:
    return (value.shape, value.dtype) if isinstance(value, np.ndarray) else None


def _told(shape: tuple[int, ...], dtype: np.dtype[Any]) -> str:
    return f"an array of shape {shape}, {dtype}"


def _described(value: Any) -> str:
    kind = _kind(value)
    if kind is not None:
        return _told(*kind)
    if isinstance(value, tuple):
        return f"a tuple of {len(value)}: {', '.join(type(each).__name__ for each in value)}"
    return f"{type(value).__name__} {value!r}"[:200]


def _fault(message: str, expected: object, found: object, where: str | None) -> ConfigError:
    return ConfigError(message, where=where, expected=expected, found=found, fix=_FIX)


def _not_finite(name: str, value: Any, where: str, action: Any = None) -> VintixError:
    if action is not None and not np.isfinite(action).all():
        return VintixError(
            "An action is not finite, and what the environment made of it is not, either.",
            where=where,
            expected="finite numbers",
            found=np.asarray(action).tolist(),
            fix="find out why the policy acts so: its weights or its normalisation are damaged",
        )
    return VintixError(
        f"The environment's {name} is not finite.",
        where=where,
        expected="finite numbers",
        found=np.asarray(value).tolist(),
        fix=_FIX,
    )
