"""An environment that writes down what a learner does in it.

Shapes: R recorded rows, O observation, A action.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np

from pipelines.distill.job import EpisodeMark, Job
from pipelines.playing.episodes import Episode, Episodes
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

    It is a learner's innermost environment, before any normalisation. Episodes have the seeds that
    noise distillation gives to those of the same trajectory, whatever seed a learner asks for.

    Args:
        environment: A batch of one copy, checked; whoever made it closes it.
        demonstrator: The policy whose action is kept beside the learner's, for one copy.
        mark: The episode in progress, or the first one.
        first: Step of the trajectory that `carried` begins with.
        carried: Rows (R, ...) of each field to begin with, among them all of the episode in
            progress, which is simulated again from its seed.

    Attributes:
        first: Step of the trajectory that the rows begin with.
        rows: Array of at least `filled` rows for each per-step field.

    Raises:
        ReplayError: The episode in progress came out differently.
    """

    def __init__(
        self,
        job: Job,
        environment: BatchEnvironment,
        demonstrator: Policy,
        mark: EpisodeMark,
        first: int,
        carried: Mapping[str, NDArray[Any]],
        advance: Callable[[int], None] = lambda steps: None,
    ) -> None:
        self._job, self._demonstrator, self._advance = job, demonstrator, advance
        self._view = environment.demonstrator_view
        self._actions = environment.actions
        self.observation_space = gymnasium.spaces.Box(
            -np.inf, np.inf, (environment.observation_dim,), np.float32
        )
        self.action_space = self._actions.space
        self.first, self.filled = first, len(carried["reward"]) if carried else 0
        layout = row_layout("histories", job.task.observation_dim, job.task.actions)
        self.rows: dict[str, NDArray[Any]] = {
            name: np.zeros((self.filled + _FIRST_ROWS, *shape), dtype)
            for name, (shape, dtype) in layout.items()
        }
        for name, values in carried.items():
            self.rows[name][: self.filled] = values
        # Bound here, for a circle of references would keep the simulator when its job is done.
        ended_episodes: list[Episode] = []
        self._ended = ended_episodes
        self._resumed = True
        self._episodes = Episodes(
            environment,
            job.episode_seed,
            on_begin=lambda copies, _: demonstrator.reset(copies),
            on_end=lambda _, ended: ended_episodes.extend(ended),
            steps=job.steps,
        )
        running = slice(mark.start - first, self.filled)
        names = ("observation", "action", "demonstrator_action")
        self._episodes.replay(
            self.total,
            [mark.episode],
            [mark.start],
            [{name: self.rows[name][running] for name in names}],
            self._demonstrate,
            job.where,
        )

    @property
    def total(self) -> int:
        """Steps of the trajectory so far."""
        return self.first + self.filled

    @property
    def mark(self) -> EpisodeMark:
        """The episode in progress, or the next one where none is."""
        return EpisodeMark(int(self._episodes.number_B[0]), int(self._episodes.start_B[0]))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Begin an episode, or go on with the one in progress after `resume`.

        An episode that the learner leaves before its end is marked as truncated.
        """
        self._episodes.begin()
        if not self._resumed and (left := self._episodes.leave()):
            self.rows["truncated"][self.filled - 1] = True
            self._ended += left
        self._resumed = False
        return self._observation(), {}

    def step(
        self, action: NDArray[Any]
    ) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Make a step and keep it.

        Raises:
            TrajectoryComplete: It was the trajectory's last.
        """
        rows, row = self.rows, self._next_row()
        # Rescaling from [-1, 1], as some learners do, may step over a bound by a rounding.
        executed_A = self._actions.decode(np.asarray(action))
        rows["observation"][row] = self._episodes.observation_BO[0]
        rows["action"][row] = executed_A
        rows["demonstrator_action"][row] = self._demonstrate(self._episodes.observation_BO)[0]
        after = self._episodes.step(executed_A[None])
        reward = float(after.reward_B[0])
        terminated, truncated = bool(after.terminated_B[0]), bool(after.truncated_B[0])
        rows["reward"][row] = reward
        rows["terminated"][row], rows["truncated"][row] = terminated, truncated
        self._advance(1)
        if self.total == self._job.steps:
            # As in noise distillation, what the end of the trajectory cuts off has no flag.
            self._ended += self._episodes.cut()
            raise TrajectoryComplete
        return self._observation(), reward, terminated, truncated, {}

    def resume(self) -> None:
        """Let the next learner, which begins with a reset, go on with the episode in progress."""
        self._resumed = True

    def take_episodes(self) -> list[Episode]:
        """Return the episodes that have ended since the last call."""
        taken = list(self._ended)
        self._ended.clear()
        return taken

    def forget(self, step: int) -> None:
        """Drop the rows before a step of the trajectory."""
        dropped = step - self.first
        for name, values in self.rows.items():
            kept = np.zeros((self.filled - dropped + _FIRST_ROWS, *values.shape[1:]), values.dtype)
            kept[: self.filled - dropped] = values[dropped : self.filled]
            self.rows[name] = kept
        self.first, self.filled = step, self.filled - dropped

    def _observation(self) -> NDArray[np.float32]:
        return np.array(self._episodes.observation_BO[0], dtype=np.float32)

    def _demonstrate(self, observation_BO: NDArray[np.float32]) -> NDArray[Any]:
        """Return what the demonstrator does now (1, A), by all that it sees."""
        return self._demonstrator.act(self._view(observation_BO))

    def _next_row(self) -> int:
        row, room = self.filled, len(self.rows["reward"])
        if row == room:
            for name, values in self.rows.items():
                self.rows[name] = np.concatenate([values, np.zeros_like(values)])
        self.filled += 1
        return row
