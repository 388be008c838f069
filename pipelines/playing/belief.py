"""What rewards have told of hidden goals, and a demonstrator that knows no more.

A demonstrator acts for a guess, drawn among goals in proportion to how well they agree with the
rewards of the stream so far. It keeps the guess for an episode, unless rewards exclude it before.

Shapes: B copies, O observation, A action, G numbers of a goal, P goals that a belief is over.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.domains.goals import HiddenGoals, check_goals, no_rewards
from pipelines.playing.episodes import PolicyActor

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pipelines.domains.base import BatchEnvironment, StepBatch
    from pipelines.policies.base import Policy

EXCLUDED = 3.0
"""A guess is given up within an episode once its log weight is so far below that of the best goal:
it is then twenty times less likely."""


class Belief:
    """How likely goals are by the rewards so far, and a guess among them, in each of B streams.

    A reward that would exclude all goals that are left is not counted: the true goal then lies
    between them.

    Args:
        generator_of: Returns the generator of a copy for a key.
        where: What an error names.

    Attributes:
        guess_BG: The present guesses.

    Raises:
        ConfigError: The domain cannot say rewards for a goal, or goals do not stay.
    """

    def __init__(
        self,
        goals: HiddenGoals,
        size: int,
        generator_of: Callable[..., np.random.Generator],
        where: str,
    ) -> None:
        self._goals, self._generator_of, self._where = goals, generator_of, where
        check_goals(goals, "belief", where)
        every = goals.every()
        if every is not None:
            self._goal_BPG = np.tile(every[None], (size, 1, 1))
        else:
            drawn = [goals.draw(generator_of(copy, "goals"), goals.count) for copy in range(size)]
            self._goal_BPG = np.stack(drawn)
        # Of the best goal 0: after each step, and as it was when the running episode began.
        self._weight_BP = np.zeros(self._goal_BPG.shape[:2], np.float32)
        self._start_BP = self._weight_BP.copy()
        self._guess_B = np.zeros(size, np.int64)
        self._step_B = np.zeros(size, np.int64)
        self._copies = np.arange(size)
        self._replaying = False

    @property
    def guess_BG(self) -> NDArray[np.float32]:  # noqa: N802 - carries its shape
        """The present guess of each copy."""
        guess_BG: NDArray[np.float32] = self._goal_BPG[self._copies, self._guess_B]
        return guess_BG

    def begin(self, copies: Sequence[int], start_B: NDArray[np.int64] | None = None) -> None:
        """Draw a guess for an episode of some copies.

        Args:
            start_B: First step of each copy's episode in its stream; None for as many steps as
                have been learned from.
        """
        for copy in copies:
            if self._replaying:
                self._weight_BP[copy] = self._start_BP[copy]
            else:
                self._start_BP[copy] = self._weight_BP[copy]
            if start_B is not None:
                self._step_B[copy] = start_B[copy]
            self._choose(copy)

    def learn(self, reward_B: NDArray[np.float64]) -> None:
        """Weigh the goals by a step's rewards, and choose anew where they exclude the guess.

        Called before any copy is reset.

        Raises:
            ConfigError: The domain cannot say rewards for a goal.
        """
        likely_BP = self._goals.log_likelihoods(self._goal_BPG, reward_B)
        if likely_BP is None:
            raise no_rewards(self._where)
        weight_BP = self._weight_BP + likely_BP
        best_B1 = weight_BP.max(axis=1, keepdims=True)
        counted_B1 = np.isfinite(best_B1)
        weight_BP -= np.where(counted_B1, best_B1, 0)
        self._weight_BP = np.where(counted_B1, weight_BP, self._weight_BP).astype(np.float32)
        self._step_B += 1
        excluded_B = self._weight_BP[self._copies, self._guess_B] < -EXCLUDED
        if excluded_B.any():
            for copy in np.flatnonzero(excluded_B).tolist():
                self._choose(copy)

    def state(self, copy: int, *, beginning: bool) -> str:
        """Return the weights (P,) when the running episode began: float32, deflated, in base64.

        Args:
            beginning: Whether the episode has no step yet.
        """
        weight_P = (self._weight_BP if beginning else self._start_BP)[copy]
        return base64.b64encode(zlib.compress(weight_P.astype("<f4").tobytes())).decode("ascii")

    def restore(self, states: Sequence[str | None] | None) -> None:
        """Have each episode that begins, begin with the weights that are recorded.

        Args:
            states: From `state`, of each copy, None for those of the beginning; None once the
                running episodes have been replayed.
        """
        self._replaying = states is not None
        for copy, state in enumerate(states or ()):
            if state is not None:
                weight_P = np.frombuffer(zlib.decompress(base64.b64decode(state)), "<f4")
                self._start_BP[copy] = weight_P

    def _choose(self, copy: int) -> None:
        """Draw a copy's guess, keyed by the step of its stream."""
        share_P = np.cumsum(np.exp(self._weight_BP[copy].astype(np.float64)))
        at = self._generator_of(copy, "guess", int(self._step_B[copy])).random() * share_P[-1]
        self._guess_B[copy] = min(np.searchsorted(share_P, at, side="right"), len(share_P) - 1)


class BeliefActor(PolicyActor):
    """A demonstrator that is shown guesses: what rewards can tell at best.

    Args:
        generator_of: As of `Belief`.
        where: What an error names.

    Raises:
        ConfigError: As of `Belief`, or the task's goals are not hidden.
    """

    def __init__(
        self,
        batch: BatchEnvironment,
        policy: Policy,
        generator_of: Callable[..., np.random.Generator],
        where: str,
    ) -> None:
        super().__init__(batch, policy)
        goals = check_goals(batch.hidden_goals, "belief", where)
        self._goals, self._belief = goals, Belief(goals, batch.size, generator_of, where)

    def begin(self, copies: list[int], number_B: NDArray[np.int64]) -> None:
        """Draw a guess for each of the episodes."""
        super().begin(copies, number_B)
        self._belief.begin(copies)

    def act(self, observation_BO: NDArray[np.float32]) -> NDArray[Any]:
        """Return what the policy does for the guesses."""
        return self._policy.act(self._goals.show(observation_BO, self._belief.guess_BG))

    def observe(self, after: StepBatch) -> None:
        """Weigh the goals by a step's rewards."""
        self._belief.learn(after.reward_B)


class BlindActor(PolicyActor):
    """A demonstrator that is shown no goal, and takes the mean one for it."""

    def act(self, observation_BO: NDArray[np.float32]) -> NDArray[Any]:
        """Return what the policy does by the observation alone."""
        return self._policy.act(observation_BO)
