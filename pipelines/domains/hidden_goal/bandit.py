"""Bandits: the tasks ``bernoulli-bandit-N`` and ``contextual-bandit-N`` with N arms.

An action pulls an arm. What the arms are worth is the hidden goal; both kinds are those of Sinii et
al. 2023 (Headless-AD, arXiv:2312.13327). An arm of a Bernoulli bandit pays 1 with a probability of
its own, uniform in [0, 1], else 0. In a contextual bandit a step shows a context c and pays
<w, c> + e, with weights w of the arm and e standard normal; contexts and weights are normal in two
dimensions, with a variance of 1/2 in each.

An episode is a fixed number of pulls and not one. Then a return says something of the policy, and
what is learned is seen within an episode as well: the first step of an episode is shown no reward.

Chance comes from the seed of the episode and the number of the step alone, whatever is pulled.

Shapes: see `batch`; N arms. Actions are (B,) from 0 to N - 1. The last entry of an observation is
for the number of the arm to pull; a Bernoulli bandit has no other.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.actions import Discrete
from pipelines.domains.hidden_goal.batch import HiddenGoalBatch, Setting, Trace
from pipelines.drawing import COLOURS, GRID

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

CONTEXT = 2
"""Dimensions of a context."""

_GAMMA, _FIRST, _SECOND = (
    np.uint64(number) for number in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)
_CHANNELS = np.uint64(8)


class Bandit(HiddenGoalBatch):
    """B bandits with N arms; see `HiddenGoalBatch`."""

    def __init__(self, setting: Setting, arms: int) -> None:
        size = len(setting.stream_seeds)
        self.arms, self.actions = arms, Discrete(arms)
        self._seed_B = np.zeros(size, np.uint64)
        self._arm_B = np.zeros(size, np.int64)
        super().__init__(setting)

    def begin(self, where: NDArray[np.intp], seeds: Sequence[int]) -> None:
        """Take the seeds of the episodes."""
        self._seed_B[where] = np.asarray(seeds, np.uint64)

    def move(self, action_BA: NDArray[Any]) -> None:
        """Pull."""
        self._arm_B = np.asarray(action_BA, np.int64)

    def show(self, observation_BO: NDArray[np.float32], goal_BG: NDArray[np.float32]) -> None:
        """Write the number of the best arm into the last entry."""
        observation_BO[:, -1] = self.means(goal_BG).argmax(axis=1)

    @abstractmethod
    def means(self, goal_BG: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return what the arms pay at the present step, on average (B, N)."""

    def _chance(self, channel: int) -> NDArray[np.float64]:
        return uniform(self._seed_B, self._age_B, channel)

    def draw(self, axes: Axes, trail: Sequence[Trace]) -> None:
        """Draw what the arms are worth now, what was pulled, and what it paid."""
        mean_N = self.means(self.goal_BG[:1])[0]
        axes.bar(np.arange(self.arms), mean_N, color=GRID, label="mean, not observed")
        pulled = [(int(each.action_A), each.reward) for each in trail if each.action_A is not None]
        if pulled:
            axes.plot(*zip(*pulled, strict=True), "o", color=COLOURS[0], alpha=0.5, label="pulls")
        axes.set(xlabel="arm", ylabel="reward")


class BernoulliBandit(Bandit):
    """The goal is the probability of each arm; cells are tenths of it."""

    observation_dim = 1

    def __init__(self, setting: Setting, arms: int) -> None:
        self.goal_dim = arms
        super().__init__(setting, arms)

    def any_goals(self, generator: np.random.Generator, count: int) -> NDArray[np.float32]:
        """Draw probabilities."""
        return generator.random((count, self.arms), np.float32)

    def cells(self, goal_NG: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return tenths, 0 to 9."""
        return np.minimum(np.floor(goal_NG * 10), 9).astype(np.int64)

    def observe(self) -> NDArray[np.float32]:
        """Return nothing but zeros."""
        return np.zeros((self.size, 1), np.float32)

    def means(self, goal_BG: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the probabilities."""
        return goal_BG.astype(np.float64)

    def rewards(self, goal_BPG: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return 1 or 0, by the same chance under all goals."""
        return (self._chance(0)[:, None] < self._pulled(goal_BPG)).astype(np.float64)

    def log_likelihoods(
        self, goal_BPG: NDArray[np.float32], reward_B: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return the logarithm of the probability of what was paid."""
        pays_BP = self._pulled(goal_BPG)
        with np.errstate(divide="ignore"):
            return np.log(np.where(reward_B[:, None] > 0, pays_BP, 1 - pays_BP))

    def _pulled(self, goal_BPG: NDArray[np.float32]) -> NDArray[np.float64]:
        pulled = np.take_along_axis(goal_BPG, self._arm_B[:, None, None], axis=2)[..., 0]
        return pulled.astype(np.float64)


class ContextualBandit(Bandit):
    """The goal is the weights of each arm, one arm after the other; cells are halves of them."""

    observation_dim = CONTEXT + 1

    def __init__(self, setting: Setting, arms: int) -> None:
        self.goal_dim = CONTEXT * arms
        self._context_BX = np.zeros((len(setting.stream_seeds), CONTEXT))
        self._shown_BX = self._context_BX
        super().__init__(setting, arms)

    def any_goals(self, generator: np.random.Generator, count: int) -> NDArray[np.float32]:
        """Draw weights."""
        drawn_NG = generator.standard_normal((count, self.goal_dim), np.float32)
        return drawn_NG / np.float32(np.sqrt(CONTEXT))

    def cells(self, goal_NG: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return halves."""
        return np.floor(goal_NG * 2).astype(np.int64)

    def begin(self, where: NDArray[np.intp], seeds: Sequence[int]) -> None:
        """Take the seeds of the episodes, and show their first contexts."""
        super().begin(where, seeds)
        self._show_contexts()

    def move(self, action_BA: NDArray[Any]) -> None:
        """Pull, and show the next contexts."""
        super().move(action_BA)
        self._shown_BX = self._context_BX
        self._show_contexts()

    def _show_contexts(self) -> None:
        self._context_BX = np.stack(self._normal(0), axis=1) / np.sqrt(CONTEXT)

    def _normal(self, channel: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return two standard normal numbers of each copy, by the method of Box and Muller."""
        radius_B = np.sqrt(-2 * np.log1p(-self._chance(channel)))
        angle_B = 2 * np.pi * self._chance(channel + 1)
        return radius_B * np.cos(angle_B), radius_B * np.sin(angle_B)

    def observe(self) -> NDArray[np.float32]:
        """Return the contexts, and a zero for the arm to pull."""
        observation_BO = np.zeros((self.size, self.observation_dim), np.float32)
        observation_BO[:, :CONTEXT] = self._context_BX
        return observation_BO

    def means(self, goal_BG: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the products of weights and contexts."""
        weight_BNX = goal_BG.reshape(self.size, self.arms, CONTEXT)
        return _products(weight_BNX, self._context_BX)

    def rewards(self, goal_BPG: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the products for the pulled arms and the context there was, with the noise."""
        return self._pulled(goal_BPG) + self._normal(2)[0][:, None]

    def log_likelihoods(
        self, goal_BPG: NDArray[np.float32], reward_B: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return the logarithm of the normal density of what was paid."""
        return -0.5 * np.square(reward_B[:, None] - self._pulled(goal_BPG))

    def _pulled(self, goal_BPG: NDArray[np.float32]) -> NDArray[np.float64]:
        first_B = CONTEXT * self._arm_B
        where_B1X = (first_B[:, None] + np.arange(CONTEXT))[:, None]
        return _products(np.take_along_axis(goal_BPG, where_B1X, axis=2), self._shown_BX)


def _products(weight_BPX: NDArray[Any], context_BX: NDArray[np.float64]) -> NDArray[np.float64]:
    # Term by term, so that the last bit does not depend on the number of goals.
    first_BP, second_BP = (weight_BPX[..., x] * context_BX[:, None, x] for x in range(CONTEXT))
    return first_BP + second_BP


def uniform(
    seed_B: NDArray[np.uint64], step_B: NDArray[np.int64], channel: int
) -> NDArray[np.float64]:
    """Return a number in [0, 1) for each seed, step and channel (0 to 7), by hashing them.

    The hash is that of SplitMix64 (Steele et al. 2014, "Fast splittable pseudorandom number
    generators"), applied to the seed and then to the rest. Generators of NumPy would have to be
    made one by one, at each reset.
    """
    with np.errstate(over="ignore"):
        count_B = step_B.astype(np.uint64) * _CHANNELS + np.uint64(channel + 1)
        hashed_B = _mixed(_mixed(seed_B + _GAMMA) + count_B * _GAMMA)
    return (hashed_B >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mixed(number_B: NDArray[np.uint64]) -> NDArray[np.uint64]:
    number_B = (number_B ^ (number_B >> np.uint64(30))) * _FIRST
    number_B = (number_B ^ (number_B >> np.uint64(27))) * _SECOND
    return number_B ^ (number_B >> np.uint64(31))
