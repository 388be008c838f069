"""Goals that a task's observations do not show: what demonstrators may know of them.

A batch with hidden goals has a `HiddenGoals`. It tells the goal of each copy, draws others as the
environment does, shows a demonstrator any of them, and says what a step would have paid under them.
With these, the collection of histories can have a demonstrator that knows the goal, one that is
told a wrong one (a decoy), or one that believes what the rewards so far allow.

Shapes: B copies of an environment, O observation, G numbers of a goal, P other goals.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, get_args

from pipelines.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Knowledge = Literal["demonstrator", "decoy", "belief"]
"""What the demonstrators of a collection are shown: the goal; one drawn anew for each episode; one
drawn among those that the rewards so far allow. Everyone else's demonstrators see the goal."""

KNOWLEDGE: tuple[Knowledge, ...] = get_args(Knowledge)


def knowledge_of(options: Mapping[str, Any]) -> Knowledge | None:
    """Return what demonstrators know by the option ``goal`` of a domain; None if it hides nothing.

    Args:
        options: Values of all options of the domain.
    """
    return next((each for each in KNOWLEDGE if each == options.get("goal")), None)


def shown_to_learners(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options under which observations hold what demonstrators see.

    Args:
        options: Values of all options of the domain.
    """
    return {**options, **({"goal": "visible"} if knowledge_of(options) else {})}


def check_goals(
    goals: HiddenGoals | None, knowledge: Knowledge, where: str, *, stage: str = "distill"
) -> HiddenGoals:
    """Return goals of which demonstrators can be shown what is asked for.

    Args:
        goals: Those of a batch; None where it hides none.
        knowledge: A decoy or a belief.
        where: What an error names.
        stage: Who asks: ``distill``, or ``rollout``, for its baseline.

    Raises:
        ConfigError: There are none, they do not stay, or the domain cannot say rewards for a goal.
    """
    if goals is None:
        raise ConfigError(
            "The task has no hidden goal.",
            where=where,
            expected=f"one, for the option goal={knowledge}",
            fix="leave --option goal out, or choose other tasks with --task",
        )
    if knowledge == "belief":
        kinds = (HiddenGoals.rewards, HiddenGoals.log_likelihoods)
        if (type(goals).rewards, type(goals).log_likelihoods) == kinds:
            raise no_rewards(where, stage=stage)
        if not goals.kept:
            raise ConfigError(
                "The goal is another in each episode: rewards tell nothing of the next one's.",
                where=where,
                expected="a goal that stays for a trajectory",
                found="goal_reset=episode",
                fix=f"vintix {stage} ... --option goal_reset=trajectory",
            )
    return goals


def no_rewards(where: str, *, stage: str = "distill") -> ConfigError:
    """Return the error to raise of a belief without rewards for other goals; see `check_goals`."""
    if stage == "distill":
        expected, fix = "goal=decoy or goal=demonstrator", "vintix distill ... --option goal=decoy"
    else:
        expected, fix = "tasks that can", "leave --baseline belief out"
    return ConfigError(
        "The task cannot say what a step would have paid for another goal, so nothing can be "
        "believed of its goal.",
        where=where,
        expected=expected,
        found="a belief",
        fix=fix,
    )


class HiddenGoals(ABC):
    """The goals of the copies of a batch.

    Attributes:
        dim: G.
        knowledge: What demonstrators are shown while histories are collected.
        reward_spread: Standard deviation of the difference between the rewards of a step under two
            goals so close that they need not be told apart; 0 where equal rewards are equal
            numbers. Only where `rewards` is there.
        kept: Whether the goal of a copy stays for all its episodes.
        count: P, how many goals a belief is drawn over where there is no end of them: so many that
            the nearest to any goal is as good as that.
        goals_per_second: How many goals a belief weighs in a second of one core's time, roughly, at
            each step P for each copy; plans are made from it.
    """

    dim: int
    knowledge: Knowledge
    reward_spread: float = 0.0
    kept: bool = True
    count: int = 512
    goals_per_second: float = 1e7

    @abstractmethod
    def current(self) -> NDArray[np.float32]:
        """Return the goal of each copy's episode (B, G), float32."""

    @abstractmethod
    def draw(self, generator: np.random.Generator, count: int) -> NDArray[np.float32]:
        """Return goals (count, G) from the distribution that the environment draws its own from."""

    def every(self) -> NDArray[np.float32] | None:
        """Return all goals there are (P, G), if they are few and equally likely; else None."""
        return None

    @abstractmethod
    def show(
        self, observation_BO: NDArray[np.float32], goal_BG: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Return what a demonstrator sees of the present step that takes these goals for true.

        Args:
            observation_BO: The latest observations of all copies.
            goal_BG: A goal of each.
        """

    def rewards(self, goal_BPG: NDArray[np.float32]) -> NDArray[np.float64] | None:
        """Return what the latest step would have paid each copy under other goals (B, P).

        Args:
            goal_BPG: P goals of each copy.

        Returns:
            float64, unscaled, exactly the reward of the step for the true goal; None where the
            domain cannot say.
        """
        return None

    def log_likelihoods(
        self, goal_BPG: NDArray[np.float32], reward_B: NDArray[np.float64]
    ) -> NDArray[np.float64] | None:
        """Return how well goals agree with the latest step's rewards, as far as a student can tell.

        By default the difference to what `rewards` says is taken for a normal deviate of
        `reward_spread`; where that is 0, a goal whose reward differs is excluded. Where chance has
        a part in rewards, that would tell more than the rewards do: a domain then has its own.

        Args:
            goal_BPG: P goals of each copy.
            reward_B: The rewards of the step.

        Returns:
            Logarithms (B, P) of likelihoods, up to a constant for each copy; None where the domain
            cannot say.
        """
        import numpy as np

        reward_BP = self.rewards(goal_BPG)
        if reward_BP is None:
            return None
        off_BP = reward_BP - reward_B[:, None]
        if self.reward_spread:
            return -0.5 * np.square(off_BP / self.reward_spread)
        return np.where(off_BP == 0, 0.0, -np.inf)
