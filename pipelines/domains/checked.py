"""Environments as everyone gets them: checked, and ended at the task's horizon.

Whoever steps a task makes its environments here and not by the domain's own methods. What an
environment says is compared with its task when it is made, and at each reset and step; an episode
that has run to the horizon is truncated, whether or not the domain does so itself.

Shapes: B copies of an environment, O observation, A action: (B, A) of a box, (B,) of discrete
actions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np

from pipelines.actions import Box
from pipelines.domains.base import BatchEnvironment, Domain, Options, StepBatch
from pipelines.domains.loop import (
    FIX,
    Kind,
    actions_of_space,
    array_kind,
    array_text,
    check_bounds,
    check_reset,
    check_spaces,
    check_step,
    fault,
    returned,
)
from pipelines.errors import ConfigError, VintixError

if TYPE_CHECKING:
    from gymnasium.envs.registration import EnvSpec
    from numpy.typing import NDArray

    from pipelines.tasks.spec import TaskSpec

_FLOAT32, _FLOAT64, _BOOL = np.dtype(np.float32), np.dtype(np.float64), np.dtype(np.bool_)


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


def _checked(
    env: gymnasium.Env[Any, Any], domain: Domain, task: TaskSpec
) -> gymnasium.Env[Any, Any]:
    try:
        return CheckedEnv(env, task, _where(domain, task))
    except ConfigError:
        env.close()
        raise


class CheckedBatch(BatchEnvironment):
    """Copies of a task whose resets and steps are checked, and whose episodes end at the horizon.

    Args:
        batch: The domain's; it belongs to this one, which closes it.

    Raises:
        ConfigError: Here, at a reset or at a step: the batch does not fit the task, or did not
            return what it should.
        VintixError: At a reset or at a step: an observation or a reward is not finite.
    """

    def __init__(self, batch: BatchEnvironment, task: TaskSpec, size: int, where: str) -> None:
        self._batch, self._where, self._horizon = batch, where, task.horizon
        self.packages, self.hidden_goals = batch.packages, batch.hidden_goals
        self.size, self.observation_dim = size, task.observation_dim
        actions = batch.actions
        if isinstance(actions, Box):
            low_A, high_A = (np.asarray(each, dtype=np.float32) for each in actions.bounds)
            if low_A.shape != high_A.shape:
                shapes = f"shapes {low_A.shape} and {high_A.shape}"
                raise fault("The environment's box is none.", "bounds of one shape", shapes, where)
            check_bounds(low_A, high_A, where)
            actions = Box.between(low_A, high_A)
        self.actions = actions
        expected = (size, task.observation_dim, task.actions)
        found = (batch.size, batch.observation_dim, actions)
        if found != expected:
            parts = "{} copies, {} observation dims, {}"
            message = "The environment does not fit its task."
            raise fault(message, parts.format(*expected), parts.format(*found), where)
        self._shape_B, self._shape_BO = (size,), (size, task.observation_dim)
        self._zero_N = np.zeros(size * task.observation_dim, np.float32)
        self._tick, self._first_end = 0, task.horizon
        self._end_tick_B = np.full(size, task.horizon)

    @property
    def unwrapped(self) -> BatchEnvironment:
        """The domain's own batch."""
        return self._batch.unwrapped

    def reset(self, indices: Sequence[int], seeds: Sequence[int]) -> NDArray[np.float32]:
        """Begin an episode in some copies; see `BatchEnvironment.reset`."""
        try:
            observation = self._batch.reset(indices, seeds)
        except ConfigError as error:
            _place(error, self._where)
            raise
        shape = (len(indices), self.observation_dim)
        if array_kind(observation) != (shape, _FLOAT32):
            expected = array_text(shape, _FLOAT32)
            raise returned("A reset", expected, observation, self._where, " than observations")
        if not np.isfinite(observation).all():
            row = int(np.flatnonzero(~np.isfinite(observation).all(axis=1))[0])
            raise _not_finite("observation of a reset", observation[row], self._where)
        self._end_tick_B[np.asarray(indices, dtype=np.intp)] = self._tick + self._horizon
        self._first_end = int(self._end_tick_B.min())
        return observation

    def step(self, action_BA: NDArray[Any]) -> StepBatch:
        """Advance all copies by one step; see `BatchEnvironment.step`."""
        try:
            after = self._batch.step(action_BA)
        except ConfigError as error:
            _place(error, self._where)
            raise
        self._tick += 1
        # Fast where all is well: a step may take no more than some tens of microseconds.
        if not isinstance(after, StepBatch):
            raise returned("step()", "a StepBatch", after, self._where)
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
            and (success_B is None or array_kind(success_B) == (shape_B, _BOOL))
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

    def _explain(self, after: StepBatch, action_BA: NDArray[Any]) -> None:
        """Raise what is wrong with a step, if it is; large numbers add up to infinity, too."""
        wanted: dict[str, Kind] = {
            "observation_BO": (self._shape_BO, _FLOAT32),
            "reward_B": (self._shape_B, _FLOAT64),
            "terminated_B": (self._shape_B, _BOOL),
            "truncated_B": (self._shape_B, _BOOL),
            "success_B": (self._shape_B, _BOOL),
        }
        for name, kind in wanted.items():
            value = getattr(after, name)
            if array_kind(value) != kind and not (name == "success_B" and value is None):
                raise returned("A step", array_text(*kind), value, self._where, f" as {name}")
        for name, values in (("observation", after.observation_BO), ("reward", after.reward_B)):
            finite_B = np.isfinite(values).reshape(self.size, -1).all(axis=1)
            if not finite_B.all():
                copy = int(np.flatnonzero(~finite_B)[0])
                step = self._tick - int(self._end_tick_B[copy]) + self._horizon
                where = f"{self._where}, copy {copy}, step {step} of its episode"
                raise _not_finite(name, values[copy], where, action_BA[copy])


class CheckedEnv(gymnasium.Wrapper[Any, Any, Any, Any]):
    """A plain environment whose resets and steps are checked, and that ends at the horizon.

    Observations are float32: the precision in which the stages record them and the model reads.

    Raises:
        ConfigError: Here, at a reset or at a step: the environment does not fit the task, or did
            not return what it should.
        VintixError: At a reset or at a step: the observation or the reward is not finite.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], task: TaskSpec, where: str) -> None:
        super().__init__(env)
        check_spaces(env, where)
        space: Any = env.observation_space
        expected = (task.observation_dim, task.actions)
        found = (space.shape[0], actions_of_space(env.action_space))
        if found != expected:
            raise ConfigError(
                "The environment does not fit its task.",
                where=where,
                expected="{} observation dims, {}".format(*expected),
                found="{} observation dims, {}".format(*found),
                fix="correct the task, or make_env of its domain, so that they agree",
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
        """Begin an episode; the first observation (O,) and the environment's info."""
        result: Any = self.env.reset(seed=seed, options=options)
        check_reset(result, self._kind, self._where)
        observation_O = result[0].astype(np.float32, copy=False)
        self._check_finite(observation_O, 0.0, "reset")
        self._steps = 0
        return observation_O, result[1]

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Advance by one step with an action of the environment's space."""
        result: Any = self.env.step(action)
        check_step(result, self._kind, self._where)
        observation, reward, terminated, truncated, info = result
        observation_O = observation.astype(np.float32, copy=False)
        self._steps += 1
        self._check_finite(observation_O, reward, f"step {self._steps}", action)
        over = self._steps >= self._horizon and not terminated
        return observation_O, float(reward), bool(terminated), bool(truncated) or over, info

    def _check_finite(self, observation: Any, reward: float, when: str, action: Any = None) -> None:
        for name, value in (("observation", observation), ("reward", reward)):
            if not np.isfinite(value).all():
                raise _not_finite(name, value, f"{self._where}, {when}", action)


def _where(domain: Domain, task: TaskSpec) -> str:
    return f"domain {domain.name}, task {task.name}"


def _place(error: ConfigError, where: str) -> None:
    """Tell where an error is, if it does not say so itself."""
    error.where = where if error.where is None else error.where


def _not_finite(name: str, value: Any, where: str, action: Any = None) -> VintixError:
    message, found, fix = f"The environment's {name} is not finite.", value, FIX
    if action is not None and not np.isfinite(action).all():
        message = "An action is not finite, and what the environment made of it is not, either."
        found = action
        fix = "find out why the policy acts so: its weights or its normalisation are damaged"
    numbers = np.asarray(found).tolist()
    return VintixError(message, where=where, expected="finite numbers", found=numbers, fix=fix)
