"""Demonstrators that know less than the goal, for tasks whose goals are hidden.

Where the demonstrator sees the goal, its actions tell it, and a model learns to read the goal off
past actions instead of rewards. Two kinds of histories have no such leak:

* decoys: one demonstrator acts for a wrong goal, drawn anew for each episode; the action that is
  recorded as the demonstrator's is what another instance, which sees the true goal, would do.
* beliefs: the demonstrator acts for a guess, drawn among goals in proportion to how well they
  agree with the rewards of the trajectory so far. It keeps the guess for an episode, unless
  rewards exclude it before. Acting on draws from a posterior is Thompson sampling, over episodes
  as in Osband et al., "(More) Efficient Reinforcement Learning via Posterior Sampling" (2013).

Every draw is keyed by seed, task, trajectory and episode or step, so that a resumed run has the
bytes of an uninterrupted one.

Shapes: B trajectories of the job, O observation, A action, G numbers of a goal, P goals that a
belief is over.
"""

from __future__ import annotations

import base64
import zlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pipelines.domains.goals import HiddenGoals, knowledge_of
from pipelines.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pipelines.distill.job import Job
    from pipelines.domains.base import BatchEnvironment, StepBatch
    from pipelines.policies.base import Policy

EXCLUDED = 3.0
"""A guess is given up within an episode once its log weight is so far below that of the best goal:
it is then twenty times less likely."""


class Demonstrators(ABC):
    """Who acts in the trajectories of a job, and whose action is recorded beside."""

    @abstractmethod
    def begin(
        self, copies: Sequence[int], number_B: NDArray[np.int64], start_B: NDArray[np.int64]
    ) -> None:
        """Make ready for an episode of some copies.

        Args:
            copies: Which.
            number_B: Number of each copy's episode in its trajectory.
            start_B: Its first step.
        """

    @abstractmethod
    def act(
        self, observation_BO: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the actions (B, A) to be executed, before noise, and those to be recorded."""

    def learn(self, after: StepBatch) -> None:  # noqa: B027 - most learn nothing
        """Take in the rewards of a step, before any copy is reset."""

    def state(self, copy: int, *, beginning: bool) -> str | None:
        """Return what a resumed run needs of a copy's running episode; None where nothing.

        Args:
            copy: Which copy.
            beginning: Whether the episode has no step yet.
        """
        return None

    def restore(self, states: Sequence[str | None] | None) -> None:  # noqa: B027 - as `learn`
        """Have each episode that begins, begin as recorded.

        Args:
            states: From `state`, of each copy; None once the running episodes have been replayed.
        """


class Informed(Demonstrators):
    """One policy that sees all there is to see, and is recorded as it acts."""

    def __init__(self, environment: BatchEnvironment, policy: Policy) -> None:
        self._view, self._policy = environment.demonstrator_view, policy

    def begin(
        self, copies: Sequence[int], number_B: NDArray[np.int64], start_B: NDArray[np.int64]
    ) -> None:
        """Have the policy forget the copies' last episode."""
        self._policy.reset(copies)

    def act(
        self, observation_BO: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return twice what the policy does."""
        action_BA = self._policy.act(self._view(observation_BO))
        return action_BA, action_BA


class Decoys(Demonstrators):
    """One instance acts for a wrong goal, another is recorded that sees the true one.

    Args:
        job: The job.
        goals: The goals of its copies.
        acting: The instance that acts.
        true: The instance whose action is recorded.
    """

    def __init__(self, job: Job, goals: HiddenGoals, acting: Policy, true: Policy) -> None:
        self._job, self._goals, self._acting, self._true = job, goals, acting, true
        self._decoy_BG = np.zeros((len(job.trajectories), goals.dim), np.float32)

    def begin(
        self, copies: Sequence[int], number_B: NDArray[np.int64], start_B: NDArray[np.int64]
    ) -> None:
        """Draw a wrong goal for each of the episodes."""
        for copy in copies:
            generator = self._job.stream(copy, "decoy", int(number_B[copy]))
            self._decoy_BG[copy] = self._goals.draw(generator, 1)[0]
        self._acting.reset(copies)
        self._true.reset(copies)

    def act(
        self, observation_BO: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return what both do, each by the goal that it sees."""
        goals = self._goals
        true_BA = self._true.act(goals.show(observation_BO, goals.current()))
        return self._acting.act(goals.show(observation_BO, self._decoy_BG)), true_BA


class Beliefs(Demonstrators):
    """Acts for a guess of the goal, and is recorded as it acts.

    A step's rewards under the goals of a belief are compared with the reward there was. With a
    `reward_spread` the difference is taken for a normal deviate; without, a goal whose reward
    differs is excluded. A reward that would exclude all goals that are left is not counted: the
    true goal then lies between them.

    Args:
        job: The job.
        goals: The goals of its copies.
        policy: The demonstrator.
    """

    def __init__(self, job: Job, goals: HiddenGoals, policy: Policy) -> None:
        self._job, self._goals, self._policy = job, goals, policy
        size, every = len(job.trajectories), goals.every()
        if every is not None:
            self._goal_BPG = np.tile(every[None], (size, 1, 1))
        else:
            drawn = [goals.draw(job.stream(copy, "goals"), goals.count) for copy in range(size)]
            self._goal_BPG = np.stack(drawn)
        # Of the best goal 0: after each step, and as it was when the running episode began.
        self._weight_BP = np.zeros(self._goal_BPG.shape[:2], np.float32)
        self._start_BP = self._weight_BP.copy()
        self._guess_B = np.zeros(size, np.int64)
        self._step_B = np.zeros(size, np.int64)
        self._copies = np.arange(size)
        self._replaying = False

    def begin(
        self, copies: Sequence[int], number_B: NDArray[np.int64], start_B: NDArray[np.int64]
    ) -> None:
        """Draw a guess for each of the episodes."""
        for copy in copies:
            if self._replaying:
                self._weight_BP[copy] = self._start_BP[copy]
            else:
                self._start_BP[copy] = self._weight_BP[copy]
            self._step_B[copy] = start_B[copy]
            self._choose(copy)
        self._policy.reset(copies)

    def act(
        self, observation_BO: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return twice what the demonstrator does for the guesses."""
        guess_BG = self._goal_BPG[self._copies, self._guess_B]
        action_BA = self._policy.act(self._goals.show(observation_BO, guess_BG))
        return action_BA, action_BA

    def learn(self, after: StepBatch) -> None:
        """Weigh the goals by a step's rewards, and choose anew where they exclude the guess.

        Raises:
            ConfigError: The domain cannot say rewards for a goal.
        """
        likely_BP = self._goals.log_likelihoods(self._goal_BPG, after.reward_B)
        if likely_BP is None:
            raise _no_rewards(self._job)
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
        """Return the weights (P,) when the running episode began: float32, deflated, in base64."""
        weight_P = (self._weight_BP if beginning else self._start_BP)[copy]
        return base64.b64encode(zlib.compress(weight_P.astype("<f4").tobytes())).decode("ascii")

    def restore(self, states: Sequence[str | None] | None) -> None:
        """Have each episode that begins, begin with the weights that are recorded."""
        self._replaying = states is not None
        for copy, state in enumerate(states or ()):
            if state is not None:
                weight_P = np.frombuffer(zlib.decompress(base64.b64decode(state)), "<f4")
                self._start_BP[copy] = weight_P

    def _choose(self, copy: int) -> None:
        """Draw a copy's guess, keyed by the step of its trajectory."""
        share_P = np.cumsum(np.exp(self._weight_BP[copy].astype(np.float64)))
        at = self._job.stream(copy, "guess", int(self._step_B[copy])).random() * share_P[-1]
        self._guess_B[copy] = min(np.searchsorted(share_P, at, side="right"), len(share_P) - 1)


def demonstrators_of(
    job: Job, environment: BatchEnvironment, policy: Policy, decoy: Policy | None
) -> Demonstrators:
    """Return who demonstrates in a job.

    Args:
        job: The job.
        environment: Its copies.
        policy: The demonstrator.
        decoy: Another instance of it, where there are decoys.

    Raises:
        ConfigError: The environment's goals are not of a kind that this can be done with.
    """
    knowledge, goals = knowledge_of(job.options), environment.hidden_goals
    if knowledge not in ("decoy", "belief"):
        return Informed(environment, policy)
    where = f"task {job.task.name}"
    if goals is None:
        raise ConfigError(
            "The task has no hidden goal.",
            where=where,
            expected=f"one, for the option goal={knowledge}",
            fix="vintix distill ... without --option goal",
        )
    if knowledge == "belief":
        if type(goals).rewards is HiddenGoals.rewards:
            raise _no_rewards(job)
        if not goals.kept:
            raise ConfigError(
                "The goal is another in each episode: rewards tell nothing of the next one's.",
                where=where,
                expected="a goal that stays for a trajectory, or goal=decoy",
                found="goal=belief",
                fix="vintix distill ... --option goal=belief --option goal_reset=trajectory",
            )
        return Beliefs(job, goals, policy)
    if decoy is None:
        raise ValueError("decoys need a second instance of the demonstrator")
    return Decoys(job, goals, decoy, policy)


def _no_rewards(job: Job) -> ConfigError:
    return ConfigError(
        "The task cannot say what a step would have paid for another goal, so nothing can be "
        "believed of its goal.",
        where=f"task {job.task.name}",
        expected="goal=decoy or goal=demonstrator",
        found="goal=belief",
        fix="vintix distill ... --option goal=decoy",
    )
