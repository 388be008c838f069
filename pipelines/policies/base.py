"""The interface of policies and how they are stored.

Shapes: B copies of an environment, O observation, A action: (B, A) of a box, (B,) of discrete
actions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipelines.actions import ActionSpec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class PolicySpec:
    """A policy as data.

    Attributes:
        kind: Which builder makes it, such as ``mlp`` or ``metaworld_script``.
        arrays: Weights by name.
    """

    kind: str
    config: Mapping[str, Any] = field(default_factory=dict)
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)


class Policy(ABC):
    """A deterministic policy over B copies of one task, which may remember within an episode."""

    def reset(self, indices: Sequence[int]) -> None:  # noqa: B027 - most policies are stateless
        """Forget the episode of some copies; called before the first action of a new one."""

    @abstractmethod
    def act(self, observation_BO: NDArray[np.float32]) -> NDArray[Any]:
        """Return actions: float32 (B, A) within the bounds, or whole numbers (B,) below n."""


class RewardPolicy(ABC):
    """A policy over B copies of one task that learns from rewards, over all their episodes."""

    @abstractmethod
    def act(self, observation_BO: NDArray[np.float32]) -> NDArray[Any]:
        """Return actions, as `Policy.act`."""

    @abstractmethod
    def learn(self, reward_B: NDArray[np.float64]) -> None:
        """Take in what the latest actions have paid, unscaled."""


PolicyBuilder = Callable[[PolicySpec, ActionSpec], Policy]
"""Makes a policy from its spec and what the actions of the task are, with their bounds."""
