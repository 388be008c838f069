"""What is stepped: copies of a task, all at once.

B copies of an environment, O observation, A action: actions are (B, A), or (B,) where they are
discrete.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Self

from pipelines.actions import ActionSpec, Box

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipelines.domains.goals import HiddenGoals


@dataclass(frozen=True, slots=True)
class StepBatch:
    """One step of B environments.

    Attributes:
        observation_BO: float32, the observation after the step, also where an episode ended.
        reward_B: float64, unscaled.
        terminated_B: bool, the episode ended for a reason of the task.
        truncated_B: bool, the episode ended by its time limit; set at the task's horizon by
            `pipelines.domains.checked`, whatever the domain says.
        success_B: bool, or None where the domain knows no success.
    """

    observation_BO: NDArray[np.float32]
    reward_B: NDArray[np.float64]
    terminated_B: NDArray[np.bool_]
    truncated_B: NDArray[np.bool_]
    success_B: NDArray[np.bool_] | None


class BatchEnvironment(ABC):
    """B independent copies of one task, stepped together.

    There is no automatic reset: whoever drives the batch resets the copies whose episode ended
    before the next step. What a copy does depends on its own seeds and actions alone, never on
    the size of the batch or on its neighbours.

    Attributes:
        action_low_A: float32, lower bound of each action dimension, where the actions are a box.
        action_high_A: float32, upper bound.
        actions: What the actions are. A batch whose actions are no box sets it in place of the
            bounds.
        packages: Versions of what simulates, where that is not the domain's packages; for the
            fingerprint.
        hidden_goals: The goals of the copies, where demonstrators know of a goal that the
            observation does not show; then the batch is never in worker processes.
    """

    packages: Mapping[str, str] | None = None
    hidden_goals: HiddenGoals | None = None
    size: int
    observation_dim: int
    action_low_A: NDArray[np.float32]
    action_high_A: NDArray[np.float32]

    @cached_property
    def actions(self) -> ActionSpec:
        """What the actions are, by default the box between the bounds."""
        return Box.between(self.action_low_A, self.action_high_A)

    @property
    def unwrapped(self) -> BatchEnvironment:
        """The domain's own batch, inside of what checks it (`pipelines.domains.checked`)."""
        return self

    @abstractmethod
    def reset(self, indices: Sequence[int], seeds: Sequence[int]) -> NDArray[np.float32]:
        """Begin an episode in some copies.

        Args:
            seeds: The seed of each one's episode, in [0, 2**31); the same seed, the same bytes.

        Returns:
            First observations (len(indices), O), float32.
        """

    @abstractmethod
    def step(self, action_BA: NDArray[Any]) -> StepBatch:
        """Advance all copies by one step.

        Args:
            action_BA: float32 (B, A) within the bounds, or int64 (B,) from 0 to n - 1 where
                actions are discrete.
        """

    def demonstrator_view(self, observation_BO: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what demonstrators see of the present step.

        It is the observation, and the goal where there are `hidden_goals`: then what they do is
        recorded, and not all that they see.

        Args:
            observation_BO: The latest observations of all copies (B, O).
        """
        if self.hidden_goals is None:
            return observation_BO
        return self.hidden_goals.show(observation_BO, self.hidden_goals.current())

    def reset_async(
        self, indices: Sequence[int], seeds: Sequence[int]
    ) -> Callable[[], NDArray[np.float32]]:
        """Ask for a reset; the function that is returned makes it, or waits for it."""
        return partial(self.reset, indices, seeds)

    def step_async(self, action_BA: NDArray[Any]) -> Callable[[], StepBatch]:
        """Ask for a step; the function that is returned makes it, or waits for it."""
        return partial(self.step, action_BA)

    def close(self) -> None:  # noqa: B027 - most batches hold nothing to give back
        """Give back what the copies hold."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
