"""Tabular Q-learning: a learner of discrete actions, quick enough for thousands of histories.

Watkins' Q(lambda) (Sutton and Barto 2018, section 12.10) with replacing traces: the table has a row
for each observation that was seen, as its bytes, so that it is for tasks with few of them, such as
``dark-room``. The trace is cut where an action is not the best one, and at the end of an episode.

Legend: B copies, O observation, A actions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from pipelines.learners.steps import StepLearner

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pipelines.domains.base import StepBatch

_SMALLEST_TRACE = 1e-4


class QSettings(BaseModel):
    """``distill.train.hyperparameters`` of the algorithm ``q-learning``.

    Attributes:
        learning_rate: How far a value goes to its target.
        discount: Of the rewards to come, a step.
        trace: How much of an error the step before it takes on, beside the discount; 0 for one-step
            Q-learning.
        initial: Value of what was never done. Above 0 it makes the learner try everything.
        exploration: Probability of a random action at the start.
        exploration_fraction: Part of the training in which it falls to 0, linearly.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    learning_rate: float = Field(default=0.5, gt=0, le=1)
    discount: float = Field(default=0.9, ge=0, lt=1)
    trace: float = Field(default=0.9, ge=0, le=1)
    initial: float = Field(default=0.1, allow_inf_nan=False)
    exploration: float = Field(default=0.3, ge=0, le=1)
    exploration_fraction: float = Field(default=0.5, ge=0, le=1)


class QLearner(StepLearner):
    """Tables side by side; see `StepLearner`."""

    hyperparameters = QSettings
    given: QSettings

    def begin(self) -> None:
        """Make the tables, empty."""
        self._exploring = max(1.0, self.given.exploration_fraction * self.settings.total_steps)
        self._steps = 0
        self.tables = [Table(self.given, self.task.actions.width) for _ in self.generators]

    def act(self, observation_BO: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return random actions or, of the best ones, any."""
        random = self.given.exploration * (1 - self._steps / self._exploring)
        seen = self._seen(observation_BO)
        each = zip(self.tables, seen, self.generators, strict=True)
        return np.array([table.act(one, random, draws) for table, one, draws in each], np.int64)

    def learn(self, after: StepBatch) -> None:
        """Move the values of each episode's choices."""
        self._steps += 1
        seen = self._seen(after.observation_BO)
        for copy, table in enumerate(self.tables):
            terminated = bool(after.terminated_B[copy])
            ended = terminated or bool(after.truncated_B[copy])
            following = None if terminated else seen[copy]
            table.learn(float(after.reward_B[copy]), following, ended=ended)

    def _seen(self, observation_BO: NDArray[np.float32]) -> list[bytes]:
        return [row_O.tobytes() for row_O in observation_BO[:, : self.settings.observation_prefix]]


class Table:
    """The values of one learner.

    Attributes:
        values: Those of all actions (A,) by observation.
    """

    def __init__(self, given: QSettings, actions: int) -> None:
        self._given, self._actions = given, actions
        self.values: dict[bytes, list[float]] = {}
        #: Of the running episode: how much of the next error each choice takes on.
        self._traces: dict[tuple[bytes, int], float] = {}

    def act(self, seen: bytes, random: float, draws: np.random.Generator) -> int:
        """Return an action, random with a probability."""
        values = self._of(seen)
        if draws.random() < random:
            action = int(draws.integers(self._actions))
        else:
            most = max(values)
            best = [number for number, value in enumerate(values) if value == most]
            action = best[int(draws.integers(len(best)))] if len(best) > 1 else best[0]
        self._choice = seen, action
        return action

    def learn(self, reward: float, following: bytes | None, *, ended: bool) -> None:
        """Learn from the step that the latest action made.

        Args:
            following: The next observation; None where nothing can follow.
        """
        given, (seen, action) = self._given, self._choice
        values = self._of(seen)
        if values[action] < max(values):
            # What came before does not lead here when the best is done.
            self._traces.clear()
        future = 0.0 if following is None else given.discount * max(self._of(following))
        change = given.learning_rate * (reward + future - values[action])
        decay = given.discount * given.trace
        self._traces = {
            choice: share * decay
            for choice, share in self._traces.items()
            if share * decay > _SMALLEST_TRACE
        }
        self._traces[self._choice] = 1.0
        if change:
            for (before, done), share in self._traces.items():
                self.values[before][done] += share * change
        if ended:
            self._traces.clear()

    def _of(self, seen: bytes) -> list[float]:
        values = self.values.get(seen)
        if values is None:
            values = self.values[seen] = [self._given.initial] * self._actions
        return values
