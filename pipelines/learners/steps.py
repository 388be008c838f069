"""Learners that are trained for their histories alone: small ones that learn from each step once.

Those of many trajectories learn side by side, each in a copy of the task and from its own steps, so
that thousands of histories take seconds.

Legend: B copies, O observation.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from pipelines.learners.settings import HISTORY_LEARNERS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipelines.domains.base import StepBatch
    from pipelines.learners.settings import TrainSettings
    from pipelines.tasks.spec import TaskSpec


class StepLearner(ABC):
    """B learners of a task of discrete actions, from scratch.

    Args:
        section: Where the settings are in a configuration, for messages.

    Raises:
        ConfigError: A hyperparameter is unknown or not valid.
    """

    def __init__(
        self,
        settings: TrainSettings,
        task: TaskSpec,
        generators: Sequence[np.random.Generator],
        section: str = "distill.train",
    ) -> None:
        self.settings, self.task, self.section = settings, task, section
        self.generators = generators

    @abstractmethod
    def act(self, observation_BO: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return the next actions (B,)."""

    @abstractmethod
    def learn(self, after: StepBatch) -> None:
        """Learn from the step that the latest actions made, before any copy is reset."""


def make_step_learner(
    settings: TrainSettings,
    task: TaskSpec,
    generators: Sequence[np.random.Generator],
    section: str = "distill.train",
) -> StepLearner:
    """Make the learners that settings name; see `StepLearner`."""
    kind: Any = resolve_name(HISTORY_LEARNERS[settings.algorithm])
    found: StepLearner = kind(settings, task, generators, section)
    return found
