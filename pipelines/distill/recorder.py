"""An environment that writes down what a learner does in it.

Shapes: R recorded rows, O observation, A action.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np

from pipelines.distill.block import Block, EpisodeMark, episode_seed
from pipelines.distill.buffers import Episodes
from pipelines.distill.collect import replay_error
from pipelines.rows import row_layout

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pipelines.domains.base import BatchEnvironment
    from pipelines.policies.base import Policy

_FIRST_ROWS = 1024


class TrajectoryComplete(Exception):  # noqa: N818 - a way to stop a learner, not an error
    """The trajectory has all of its steps: whatever the learner is at may stop."""


class Recorder(gymnasium.Env[Any, Any]):
    """A batch of one copy as a Gymnasium environment, its steps kept as rows of a history.

    It is the innermost environment of a learner: it sees observations and rewards before any
    normalisation, and actions as they are executed. Episodes have the seeds that noise
    distillation gives to the episodes of the same trajectory, whatever seed a learner asks for.

    Args:
        block: The trajectory; one alone.
        environment: A batch of one copy, checked; whoever made it closes it.
        demonstrator: The policy whose action is kept beside the learner's, for one copy.
        mark: The episode in progress, or the first one.
        first: Step of the trajectory that `carried` begins with.
        carried: Rows (R, ...) of each field to begin with, among them all of the episode in
            progress, which is simulated again from its seed.
        advance: Told of every step.

    Attributes:
        first: Step of the trajectory that the rows begin with.
        filled: Number of rows.
        rows: Array of at least `filled` rows for each per-step field.
        mark: The episode in progress, or the next one where none is.

    Raises:
        ReplayError: The episode in progress came out differently.
    """

    def __init__(
        self,
        block: Block,
        environment: BatchEnvironment,
        demonstrator: Policy,
        mark: EpisodeMark,
        first: int,
        carried: Mapping[str, NDArray[Any]],
        advance: Callable[[int], None] = lambda steps: None,
    ) -> None:
        self._block, self._environment, self._demonstrator = block, environment, demonstrator
        self._advance = advance
        self._low_A, self._high_A = environment.action_low_A, environment.action_high_A
        self.observation_space = gymnasium.spaces.Box(
            -np.inf, np.inf, (environment.observation_dim,), np.float32
        )
        self.action_space = gymnasium.spaces.Box(self._low_A, self._high_A, dtype=np.float32)
        self.first, self.filled = first, len(carried["reward"]) if carried else 0
        layout = row_layout("histories", block.task.observation_dim, block.task.actions)
        self.rows: dict[str, NDArray[Any]] = {
            name: np.zeros((self.filled + _FIRST_ROWS, *shape), dtype)
            for name, (shape, dtype) in layout.items()
        }
        for name, values in carried.items():
            self.rows[name][: self.filled] = values
        self.mark, self._episodes = mark, Episodes()
        self._return = 0.0
        self._observation_O = np.zeros(environment.observation_dim, dtype=np.float32)
        self._resting = True
        if mark.start < self.total:
            self._replay()

    @property
    def total(self) -> int:
        """Steps of the trajectory so far."""
        return self.first + self.filled

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Begin an episode, or go on with the one in progress after `rest`.

        An episode that the learner leaves before its end is marked as truncated.
        """
        running = self.mark.start < self.total
        if running and not self._resting:
            self.rows["truncated"][self.filled - 1] = True
            self._end()
        if not (running and self._resting):
            self._begin()
        self._resting = False
        return self._observation_O.copy(), {}

    def step(
        self, action: NDArray[Any]
    ) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Make a step and keep it.

        Raises:
            TrajectoryComplete: It was the trajectory's last.
        """
        row = self._next_row()
        # Rescaling from [-1, 1], as some learners do, may step over a bound by a rounding.
        executed_A = np.clip(np.asarray(action, dtype=np.float32), self._low_A, self._high_A)
        rows = self.rows
        rows["observation"][row] = self._observation_O
        rows["action"][row] = executed_A
        rows["demonstrator_action"][row] = self._demonstrate()
        result = self._environment.step(executed_A[None])
        reward = float(result.reward_B[0])
        terminated, truncated = bool(result.terminated_B[0]), bool(result.truncated_B[0])
        rows["reward"][row] = reward
        rows["terminated"][row], rows["truncated"][row] = terminated, truncated
        self._return += reward
        self._observation_O = np.array(result.observation_BO[0], dtype=np.float32)
        if terminated or truncated:
            self._end()
        self._advance(1)
        if self.total == self._block.steps:
            if self.mark.start < self.total:
                # As in noise distillation, what the end of the trajectory cuts off has no flag.
                self._end()
            raise TrajectoryComplete
        return self._observation_O.copy(), reward, terminated, truncated, {}

    def rest(self) -> None:
        """Let the next learner, which begins with a reset, go on with the episode in progress."""
        self._resting = True

    def take_episodes(self) -> Episodes:
        """Return the episodes that have ended since the last call."""
        taken, self._episodes = self._episodes, Episodes()
        return taken

    def forget(self, step: int) -> None:
        """Drop the rows before a step of the trajectory."""
        dropped = step - self.first
        for name, values in self.rows.items():
            kept = np.zeros((self.filled - dropped + _FIRST_ROWS, *values.shape[1:]), values.dtype)
            kept[: self.filled - dropped] = values[dropped : self.filled]
            self.rows[name] = kept
        self.first, self.filled = step, self.filled - dropped

    def _begin(self) -> None:
        block = self._block
        seed = episode_seed(block.seed, block.task.name, block.trajectories[0], self.mark.episode)
        observation_BO = self._environment.reset([0], [seed])
        self._demonstrator.reset([0])
        self._observation_O = np.array(observation_BO[0], dtype=np.float32)
        self._return = 0.0

    def _demonstrate(self) -> NDArray[np.float32]:
        """Return what the demonstrator does now (A,), by all that it sees."""
        seen_BO = self._environment.demonstrator_view(self._observation_O[None])
        action_A: NDArray[np.float32] = self._demonstrator.act(seen_BO)[0]
        return action_A

    def _end(self) -> None:
        self._episodes.add(self.mark.start, self.total, self._return, self._observation_O.copy())
        self.mark = EpisodeMark(self.mark.episode + 1, self.total)

    def _replay(self) -> None:
        self._begin()
        for row in range(self.mark.start - self.first, self.filled):
            # Compared as well, since an older version may have shown the demonstrator less.
            shown = {"observation": self._observation_O, "demonstrator_action": self._demonstrate()}
            if any(not np.array_equal(self.rows[name][row], shown[name]) for name in shown):
                raise replay_error(self._block, 0, self.first + row)
            # A copy: working in place on what it is given is an environment's right.
            result = self._environment.step(self.rows["action"][row][None].copy())
            self._return += float(result.reward_B[0])
            self._observation_O = np.array(result.observation_BO[0], dtype=np.float32)
            if result.terminated_B[0] or result.truncated_B[0]:
                raise replay_error(self._block, 0, self.first + row)

    def _next_row(self) -> int:
        row, room = self.filled, len(self.rows["reward"])
        if row == room:
            for name, values in self.rows.items():
                self.rows[name] = np.concatenate([values, np.zeros_like(values)])
        self.filled += 1
        return row
