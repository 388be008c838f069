"""Demonstrators that know less than the goal, or less than the task.

Where the demonstrator sees the goal, its actions tell it, and a model learns to read the goal off
past actions instead of rewards. Two kinds of histories have no such leak:

* decoys: one demonstrator acts for a wrong goal, drawn anew for each episode; the action that is
  recorded as the demonstrator's is what another instance, which sees the true goal, would do.
* beliefs: the demonstrator acts for a guess, drawn among goals in proportion to how well they
  agree with the rewards of the trajectory so far. It keeps the guess for an episode, unless
  rewards exclude it before. Acting on draws from a posterior is Thompson sampling, over episodes
  as in Osband et al., "(More) Efficient Reinforcement Learning via Posterior Sampling" (2013).

The same is done for tasks that look alike (`--decoys task`): in a history, a few other tasks'
demonstrators play as often as the task's own, and what is recorded is what the task's own would do.
Past actions then name these tasks and its own alike: which of them it is, only rewards tell.

Every draw is keyed by seed, task, trajectory and episode or step, so that a resumed run has the
bytes of an uninterrupted one.

Shapes: B trajectories of the job, O observation, A action, G numbers of a goal, P goals that a
belief is over.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.domains.goals import HiddenGoals, check_goals, knowledge_of
from pipelines.learners.settings import HISTORY_LEARNERS
from pipelines.playing.belief import Belief

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pipelines.distill.job import Job
    from pipelines.domains.base import BatchEnvironment, StepBatch
    from pipelines.learners.steps import StepLearner
    from pipelines.policies.base import Policy


class Demonstrators(ABC):
    """Who acts in the trajectories of a job, and whose action is recorded beside."""

    @abstractmethod
    def begin(
        self, copies: Sequence[int], number_B: NDArray[np.int64], start_B: NDArray[np.int64]
    ) -> None:
        """Make ready for an episode of some copies.

        Args:
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
            beginning: Whether the episode has no step yet.
        """
        return None

    def restore(self, states: Sequence[str | None] | None) -> None:  # noqa: B027 - as `learn`
        """Have each episode that begins, begin as recorded.

        Args:
            states: From `state`, of each copy; None once the running episodes have been replayed.
        """

    def player(self, copy: int, number: int) -> int | None:
        """Return who plays an episode, as ``episode_demonstrator`` of `pipelines.rows`.

        Args:
            number: Number of the episode in its trajectory.

        Returns:
            None where nobody but the task's demonstrator plays.
        """
        return None


class Beside(Demonstrators):
    """The task's demonstrator, which sees all there is to see, is recorded beside whoever acts."""

    def __init__(self, environment: BatchEnvironment, policy: Policy) -> None:
        self._view, self._policy = environment.demonstrator_view, policy

    def begin(
        self, copies: Sequence[int], number_B: NDArray[np.int64], start_B: NDArray[np.int64]
    ) -> None:
        """Have the demonstrator forget the copies' last episode."""
        self._policy.reset(copies)

    def demonstrate(self, observation_BO: NDArray[np.float32]) -> NDArray[Any]:
        """Return what the demonstrator would do (B, A)."""
        return self._policy.act(self._view(observation_BO))


class Informed(Beside):
    """The demonstrator acts, and is recorded as it acts."""

    def act(
        self, observation_BO: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return twice what the policy does."""
        action_BA = self.demonstrate(observation_BO)
        return action_BA, action_BA


class Decoys(Demonstrators):
    """One instance acts for a wrong goal, another is recorded that sees the true one."""

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
    """Acts for a guess of the goal, and is recorded as it acts."""

    def __init__(self, job: Job, goals: HiddenGoals, policy: Policy) -> None:
        self._belief = Belief(goals, len(job.trajectories), job.stream, f"task {job.task.name}")
        self._goals, self._policy = goals, policy

    def begin(
        self, copies: Sequence[int], number_B: NDArray[np.int64], start_B: NDArray[np.int64]
    ) -> None:
        """Draw a guess for each of the episodes."""
        self._belief.begin(copies, start_B)
        self._policy.reset(copies)

    def act(
        self, observation_BO: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return twice what the demonstrator does for the guesses."""
        action_BA = self._policy.act(self._goals.show(observation_BO, self._belief.guess_BG))
        return action_BA, action_BA

    def learn(self, after: StepBatch) -> None:
        """Weigh the goals by a step's rewards."""
        self._belief.learn(after.reward_B)

    def state(self, copy: int, *, beginning: bool) -> str:
        """Return what was believed when the running episode began."""
        return self._belief.state(copy, beginning=beginning)

    def restore(self, states: Sequence[str | None] | None) -> None:
        """Have each episode that begins, begin with what is recorded."""
        self._belief.restore(states)


class OtherTasks(Demonstrators):
    """In some episodes another task's demonstrator acts; recorded is what the task's own would do.

    Who plays is drawn for each episode among the task's own demonstrator and those that the
    trajectory has drawn (`Job.drawn_decoys`), each as likely.

    Args:
        others: The demonstrators of the tasks that its trajectories have drawn.
    """

    def __init__(
        self,
        job: Job,
        environment: BatchEnvironment,
        true: Policy,
        others: Mapping[str, Policy],
    ) -> None:
        if job.decoys is None:
            raise ValueError("the job has no decoys")
        self._job, self._view, self._true = job, environment.demonstrator_view, true
        self._drawn = [job.drawn_decoys(copy) for copy in range(len(job.trajectories))]
        names = job.decoys.tasks
        self._others = {place + 1: others[names[place]] for drawn in self._drawn for place in drawn}
        self._player_B = np.zeros(len(job.trajectories), np.int64)

    def begin(
        self, copies: Sequence[int], number_B: NDArray[np.int64], start_B: NDArray[np.int64]
    ) -> None:
        """Draw who plays each of the episodes."""
        for copy in copies:
            self._player_B[copy] = player = self.player(copy, int(number_B[copy]))
            if player:
                self._others[player].reset([copy])
        self._true.reset(copies)

    def act(
        self, observation_BO: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return what those who play do, and what the task's demonstrator would."""
        seen_BO = self._view(observation_BO)
        true_BA = self._true.act(seen_BO)
        acted_BA = true_BA.copy()
        for player in set(self._player_B.tolist()) - {0}:
            mine_B = self._player_B == player
            acted_BA[mine_B] = self._others[player].act(seen_BO)[mine_B]
        return acted_BA, true_BA

    def player(self, copy: int, number: int) -> int:
        """Return who plays an episode: 0 for the task's own, else a place, from 1, of a task."""
        drawn = self._drawn[copy]
        choice = int(self._job.stream(copy, "decoy", number).integers(len(drawn) + 1))
        return drawn[choice - 1] + 1 if choice else 0


class Learners(Beside):
    """Learners act; the demonstrator is recorded beside them.

    Args:
        job: The job, of one shard.

    Raises:
        ConfigError: A hyperparameter of the learner is unknown or not valid.
    """

    def __init__(self, job: Job, environment: BatchEnvironment, policy: Policy) -> None:
        super().__init__(environment, policy)
        if job.training is None:
            raise ValueError("the job is of noise distillation")
        generators = [job.stream(copy, "learner") for copy in range(len(job.trajectories))]
        kind: Any = resolve_name(HISTORY_LEARNERS[job.training.algorithm])
        self._learner: StepLearner = kind(job.training, job.task, generators)

    def act(
        self, observation_BO: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return what the learners do, and what the demonstrator would."""
        demonstrated_BA = self.demonstrate(observation_BO)
        acted_BA: NDArray[Any] = self._learner.act(observation_BO)
        return acted_BA, demonstrated_BA

    def learn(self, after: StepBatch) -> None:
        """Have the learners learn from a step."""
        self._learner.learn(after)


def demonstrators_of(
    job: Job,
    environment: BatchEnvironment,
    policy: Policy,
    decoy: Policy | None,
    others: Mapping[str, Policy],
) -> Demonstrators:
    """Return who demonstrates in a job.

    Args:
        decoy: Another instance of the demonstrator, where there are decoys of goals.
        others: Demonstrators of other tasks, where there are decoys of tasks.

    Raises:
        ConfigError: The environment's goals are not of a kind that this can be done with.
    """
    if job.training is not None:
        return Learners(job, environment, policy)
    if job.decoys is not None:
        return OtherTasks(job, environment, policy, others)
    knowledge = knowledge_of(job.options)
    if knowledge not in ("decoy", "belief"):
        return Informed(environment, policy)
    goals = check_goals(environment.hidden_goals, knowledge, f"task {job.task.name}")
    if knowledge == "belief":
        return Beliefs(job, goals, policy)
    if decoy is None:
        raise ValueError("decoys need a second instance of the demonstrator")
    return Decoys(job, goals, decoy, policy)
