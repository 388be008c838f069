"""What plays bandits by their rewards alone: Thompson sampling and upper confidence bounds.

They are exact: what they know of an arm is its posterior under the prior that the tasks draw their
arms from, with goals that are held out taken for possible.

* A Bernoulli bandit: Thompson sampling (Thompson 1933) of Beta posteriors, the prior of which is
  uniform; UCB1 (Auer et al. 2002, "Finite-time analysis of the multiarmed bandit problem").
* A contextual bandit: Thompson sampling of normal posteriors (Agrawal and Goyal 2013); LinUCB with
  alpha = 1 (Li et al. 2010, "A contextual-bandit approach to personalized news article
  recommendation").

Shapes: B copies, N arms, O observation, X dimensions of a context.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pipelines.domains.hidden_goal.bandit import CONTEXT
from pipelines.policies.base import RewardPolicy

if TYPE_CHECKING:
    from numpy.typing import NDArray


class ArmPolicy(RewardPolicy):
    """Pulls the arm with the largest index; what an index is, a class says.

    Args:
        generators: One for each of the B copies.
    """

    def __init__(self, arms: int, generators: Sequence[np.random.Generator]) -> None:
        self.arms, self.generators = arms, generators
        self._copies = np.arange(len(generators))
        self._pulled_B = np.zeros(len(generators), np.int64)

    @abstractmethod
    def indices(self, observation_BO: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the index of each arm (B, N)."""

    def act(self, observation_BO: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return the arms (B,), the first of equals."""
        self._pulled_B = self.indices(observation_BO).argmax(axis=1)
        return self._pulled_B

    @property
    def _pulled(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        return self._copies, self._pulled_B


class BernoulliPolicy(ArmPolicy):
    """Counts what each arm has paid."""

    def __init__(self, arms: int, generators: Sequence[np.random.Generator]) -> None:
        super().__init__(arms, generators)
        self.pulls_BN = np.zeros((len(generators), arms))
        self.paid_BN = np.zeros((len(generators), arms))

    def learn(self, reward_B: NDArray[np.float64]) -> None:
        """Count the rewards of the pulls."""
        self.pulls_BN[self._pulled] += 1
        self.paid_BN[self._pulled] += reward_B


class Thompson(BernoulliPolicy):
    """The index is a draw from the arm's posterior."""

    def indices(self, observation_BO: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return a draw of each arm."""
        won_BN, lost_BN = 1 + self.paid_BN, 1 + self.pulls_BN - self.paid_BN
        each = zip(self.generators, won_BN, lost_BN, strict=True)
        return np.stack([generator.beta(won_N, lost_N) for generator, won_N, lost_N in each])


class UCB(BernoulliPolicy):
    """The index is the mean so far and sqrt(2 ln t / n); what was never pulled comes first."""

    def indices(self, observation_BO: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the bound of each arm."""
        time_B1 = np.maximum(self.pulls_BN.sum(axis=1, keepdims=True), 1)
        with np.errstate(divide="ignore", invalid="ignore"):
            bound_BN = self.paid_BN / self.pulls_BN + np.sqrt(2 * np.log(time_B1) / self.pulls_BN)
        return np.where(self.pulls_BN > 0, bound_BN, np.inf)


class ContextualPolicy(ArmPolicy):
    """Keeps the normal posterior of each arm's weights: prior variance 1 / X, noise variance 1."""

    def __init__(self, arms: int, generators: Sequence[np.random.Generator]) -> None:
        super().__init__(arms, generators)
        shape = (len(generators), arms, CONTEXT)
        self.precision_BNXX = np.zeros((*shape, CONTEXT)) + CONTEXT * np.eye(CONTEXT)
        self.evidence_BNX = np.zeros(shape)
        self._context_BX = np.zeros((len(generators), CONTEXT))

    def act(self, observation_BO: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return the arms (B,) for the contexts that are shown."""
        self._context_BX = observation_BO[:, :CONTEXT].astype(np.float64)
        return super().act(observation_BO)

    def learn(self, reward_B: NDArray[np.float64]) -> None:
        """Update the posterior of the pulled arms."""
        context_BX = self._context_BX
        self.precision_BNXX[self._pulled] += context_BX[:, :, None] * context_BX[:, None]
        self.evidence_BNX[self._pulled] += reward_B[:, None] * context_BX

    def estimates(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return mean and standard deviation of what each arm pays now, on average (B, N)."""
        covariance_BNXX = np.linalg.inv(self.precision_BNXX)
        weight_BNX = np.einsum("bnxy,bny->bnx", covariance_BNXX, self.evidence_BNX)
        mean_BN = np.einsum("bnx,bx->bn", weight_BNX, self._context_BX)
        context_BX = self._context_BX
        variance_BN = np.einsum("bx,bnxy,by->bn", context_BX, covariance_BNXX, context_BX)
        return mean_BN, np.sqrt(variance_BN)


class LinearThompson(ContextualPolicy):
    """The index is a draw of what the arm pays for the context."""

    def indices(self, observation_BO: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return a draw of each arm, whose weights are independent of the others'."""
        mean_BN, std_BN = self.estimates()
        normal_BN = np.stack([each.standard_normal(self.arms) for each in self.generators])
        return mean_BN + std_BN * normal_BN


class LinUCB(ContextualPolicy):
    """The index is the mean and one standard deviation."""

    def indices(self, observation_BO: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the bound of each arm."""
        mean_BN, std_BN = self.estimates()
        return mean_BN + std_BN


REWARD_POLICIES: dict[str, dict[str, type[ArmPolicy]]] = {
    "bernoulli-bandit": {"thompson": Thompson, "ucb": UCB},
    "contextual-bandit": {"thompson": LinearThompson, "ucb": LinUCB},
}
"""By family of tasks."""
