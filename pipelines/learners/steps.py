"""Learners that are trained for their histories alone: small ones that learn from each step once.

Those of many trajectories learn side by side, each in a copy of the task and from its own steps, so
that thousands of histories take seconds.

Legend: B copies, O observation.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from pipelines.learners.episodes import read_hyperparameters

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipelines.domains.base import StepBatch
    from pipelines.learners.settings import TrainSettings
    from pipelines.tasks.spec import TaskSpec


class NoSettings(BaseModel):
    """``distill.train.hyperparameters`` of learners that have none."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class StepLearner(ABC):
    """B learners of a task of discrete actions, from scratch.

    Attributes:
        hyperparameters: The fields of ``distill.train.hyperparameters``.
        given: Their values.

    Raises:
        ConfigError: A hyperparameter is unknown or not valid.
    """

    hyperparameters: type[BaseModel] = NoSettings

    def __init__(
        self,
        settings: TrainSettings,
        task: TaskSpec,
        generators: Sequence[np.random.Generator],
    ) -> None:
        self.settings, self.task, self.generators = settings, task, generators
        self.given = read_hyperparameters(self.hyperparameters, settings, section="distill.train")
        self.begin()

    @abstractmethod
    def begin(self) -> None:
        """Make what it learns in."""

    @abstractmethod
    def act(self, observation_BO: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return the next actions (B,)."""

    @abstractmethod
    def learn(self, after: StepBatch) -> None:
        """Learn from the step that the latest actions made, before any copy is reset."""


class BanditLearner(StepLearner):
    """What `pipelines.domains.base.Domain.reward_policy` gives; see `StepLearner`."""

    def begin(self) -> None:
        """Make the policy."""
        from pipelines.domains.registry import domain_of

        algorithm, domain = self.settings.algorithm, domain_of(self.task)
        self._policy = domain.reward_policy(self.task, algorithm, self.generators)

    def act(self, observation_BO: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return what the policy pulls (B,)."""
        return self._policy.act(observation_BO)

    def learn(self, after: StepBatch) -> None:
        """Tell the policy what its pulls paid."""
        self._policy.learn(after.reward_B)
