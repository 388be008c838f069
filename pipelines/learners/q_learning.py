"""Tabular Q-learning: a learner of discrete actions, quick enough for thousands of histories.

Watkins' Q(lambda) (Sutton and Barto 2018, section 12.10) with replacing traces: the table has a row
for each observation that was seen, as its bytes, so that it is for tasks with few of them, such as
``dark-room``. The trace is cut where an action is not the best one, and at the end of an episode.

Legend: N observations seen, O observation, A actions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from pipelines.artifacts.arrays import from_npz, to_npz
from pipelines.learners.episodes import read_hyperparameters
from pipelines.rng import stream

if TYPE_CHECKING:
    import gymnasium
    from numpy.typing import NDArray

    from pipelines.learners.settings import TrainSettings
    from pipelines.tasks.spec import TaskSpec

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


class QLearner:
    """A learner for one segment of training, with the methods of `pipelines.learners.sb3.Learner`.

    Args:
        settings: What and how to train.
        task: The task, of discrete actions.
        make_env: Makes the training environment.
        seed: Of the segment's random numbers.
        section: Where the settings are in a configuration, for messages.

    Attributes:
        steps: Environment steps trained so far, over all segments.

    Raises:
        ConfigError: A hyperparameter is unknown or not valid.
    """

    def __init__(
        self,
        settings: TrainSettings,
        task: TaskSpec,
        make_env: Callable[[], gymnasium.Env[Any, Any]],
        seed: int,
        section: str = "distill.train",
    ) -> None:
        self._given = read_hyperparameters(QSettings, settings, section=section)
        self._total = settings.total_steps
        self._prefix = settings.observation_prefix
        self._actions = task.actions.width
        self._env = make_env()
        self._draws = stream(seed, "q-learning")
        self.steps = 0
        self._rows: dict[bytes, int] = {}
        self._seen: list[NDArray[np.float32]] = []
        self._values: list[NDArray[np.float64]] = []
        #: Of the episode in progress: how much of the next error each choice takes on.
        self._traces: dict[tuple[int, int], float] = {}

    def learn(self, until: int, advance: Callable[[int], None] | None = None) -> None:
        """Train until this many steps."""
        row = self._row(self._env.reset()[0])
        while self.steps < until:
            action = self._choose(row)
            observation_O, reward, terminated, truncated, _ = self._env.step(np.int64(action))
            following = self._row(observation_O)
            future = 0.0 if terminated else self._given.discount * self._values[following].max()
            self._update(row, action, float(reward) + future)
            self.steps += 1
            if advance is not None:
                advance(1)
            row = following
            if terminated or truncated:
                self._traces.clear()
                row = self._row(self._env.reset()[0])

    def _choose(self, row: int) -> int:
        """Return a random action or, of the best ones, any."""
        given, value_A = self._given, self._values[row]
        left = 1 - self.steps / max(1.0, given.exploration_fraction * self._total)
        if self._draws.random() < given.exploration * left:
            return int(self._draws.integers(self._actions))
        best = np.flatnonzero(value_A == value_A.max())
        return int(best[self._draws.integers(len(best))])

    def _update(self, row: int, action: int, target: float) -> None:
        value_A = self._values[row]
        if value_A[action] < value_A.max():
            # What came before does not lead here when the best is done.
            self._traces.clear()
        error = target - value_A[action]
        decay = self._given.discount * self._given.trace
        self._traces = {
            choice: share * decay
            for choice, share in self._traces.items()
            if share * decay > _SMALLEST_TRACE
        }
        self._traces[row, action] = 1.0
        for (before, done), share in self._traces.items():
            self._values[before][done] += self._given.learning_rate * share * error

    def _row(self, observation_O: NDArray[Any]) -> int:
        """Return the row of an observation, a new one at its first sight."""
        seen_O = np.ascontiguousarray(observation_O[: self._prefix], np.float32)
        row = self._rows.setdefault(seen_O.tobytes(), len(self._seen))
        if row == len(self._seen):
            self._seen.append(seen_O)
            self._values.append(np.full(self._actions, self._given.initial))
        return row

    def dump(self) -> bytes:
        """Return the state as the bytes of an .npz file."""
        choices = list(self._traces)
        return to_npz(
            {
                "seen": np.stack(self._seen),
                "values": np.stack(self._values),
                "choices": np.array(choices, np.int64).reshape(-1, 2),
                "traces": np.array([self._traces[each] for each in choices]),
                "steps": self.steps,
            }
        )

    def load(self, dumped: bytes) -> None:
        """Take over what `dump` returned."""
        state = from_npz(dumped)
        self._seen = list(state["seen"])
        self._values = [row_A.copy() for row_A in state["values"]]
        self._rows = {seen_O.tobytes(): row for row, seen_O in enumerate(self._seen)}
        choices = [(int(row), int(action)) for row, action in state["choices"]]
        self._traces = dict(zip(choices, state["traces"].tolist(), strict=True))
        self.steps = int(state["steps"])

    def dump_transitions(self, since: int) -> dict[str, NDArray[Any]]:
        """Return nothing: a step is learnt from once."""
        return {}

    def load_transitions(self, transitions: object) -> None:
        """Take nothing over."""

    def close(self) -> None:
        """Leave the environment to whoever made it."""
