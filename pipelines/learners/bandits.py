"""Thompson sampling and upper confidence bounds as learners, for histories of bandits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from pipelines.learners.episodes import read_hyperparameters
from pipelines.learners.steps import StepLearner

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipelines.domains.base import StepBatch
    from pipelines.learners.settings import TrainSettings
    from pipelines.tasks.spec import TaskSpec


class NoSettings(BaseModel):
    """``distill.train.hyperparameters`` of these algorithms: none."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class BanditLearner(StepLearner):
    """What `pipelines.domains.base.Domain.reward_policy` gives; see `StepLearner`."""

    def __init__(
        self,
        settings: TrainSettings,
        task: TaskSpec,
        generators: Sequence[np.random.Generator],
    ) -> None:
        from pipelines.domains.registry import domain_of

        super().__init__(settings, task, generators)
        read_hyperparameters(NoSettings, settings, section="distill.train")
        self._policy = domain_of(task).reward_policy(task, settings.algorithm, generators)

    def act(self, observation_BO: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return what the policy pulls (B,)."""
        return self._policy.act(observation_BO)

    def learn(self, after: StepBatch) -> None:
        """Tell the policy what its pulls paid."""
        self._policy.learn(after.reward_B)
