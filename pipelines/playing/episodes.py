"""Copies of one task that play episode after episode, each from a seed of its own.

Shapes: B copies, O observation, A action: (B, A) of a box, (B,) of discrete actions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pipelines.errors import VintixError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pipelines.domains.base import BatchEnvironment, Domain, StepBatch
    from pipelines.policies.base import Policy, PolicySpec, RewardPolicy


class ReplayError(VintixError):
    """An environment did not repeat a recorded episode from its seed and actions."""


class Episode(NamedTuple):
    """An episode that has ended.

    Attributes:
        number: Its number among those of the copy.
        start: The step of the batch at which it began.
        total: Sum of its rewards, unscaled.
        success: Whether it succeeded at any step; None where the domain has told of none so far.
        final_observation_O: float32, the observation after its last step, a copy.
    """

    copy: int
    number: int
    start: int
    length: int
    total: float
    success: bool | None
    final_observation_O: NDArray[np.float32]


class Episodes:
    """The running episodes of a batch.

    A copy begins its next episode where one has ended. One that has played its last is stepped on
    from its last seed, since a batch is stepped as a whole; nothing of it is told. `begin` is to be
    called after each step, before the observations are read. `ask` and `observe` are the halves of
    `step`, by which the environments of many tasks work at once where they live in workers: `ask`
    for all, `observe` for all, `begin` for all; to start, `ask_start` for all, `begin` for all.

    Args:
        seed_of: Gives the seed of an episode by copy and number; None where the copy has played
            its last. Called once an episode, in the order of the copies where several end at once.
        on_begin: Called with the copies whose episode begins, before they act, and with the numbers
            (B,) of all copies' episodes.
        on_end: Called with a step by which episodes have ended, and with these.
        steps: Where no further episode begins, since nothing is played from there on; None for no
            such limit.

    Attributes:
        observation_BO: float32, what each copy shows; until `begin`, the last of an ended episode.
            The next step may overwrite it.
        playing: The copies that still play, ascending.
        number_B: Number of each copy's running episode, or of those that it has played.
        start_B: The step at which each running episode began.
        return_B: float64, sum of each running episode's rewards.
        beginning: The copies that `begin` would begin an episode of.
    """

    def __init__(
        self,
        batch: BatchEnvironment,
        seed_of: Callable[[int, int], int | None],
        on_begin: Callable[[list[int], NDArray[np.int64]], None] = lambda copies, number_B: None,
        on_end: Callable[[StepBatch, list[Episode]], None] = lambda after, ended: None,
        steps: int | None = None,
    ) -> None:
        self.batch, self._seed_of, self._steps = batch, seed_of, steps
        self._on_begin, self._on_end, self._step = on_begin, on_end, batch.step
        self.observation_BO = np.zeros((batch.size, batch.observation_dim), np.float32)
        self.number_B, self.start_B = np.zeros((2, batch.size), np.int64)
        self.return_B = np.zeros(batch.size, np.float64)
        self.now = 0
        self._success_B: NDArray[np.bool_] | None = None
        self._playing_B = np.ones(batch.size, np.bool_)
        self.playing = np.flatnonzero(self._playing_B)
        self._seeds = [0] * batch.size
        self.beginning: list[int] = []

    def start(self) -> None:
        """Begin the first episode of every copy."""
        self.ask_start()
        self.begin()

    def ask_start(self) -> None:
        """Ask for the first episode of every copy."""
        copies = list(range(self.batch.size))
        self._choose_seeds(copies)
        self._ask_reset(copies)

    def step(self, action_BA: NDArray[Any]) -> StepBatch:
        """Make a step of all copies.

        Args:
            action_BA: As of `BatchEnvironment.step`; the environment may keep it or work in place.
        """
        return self._count(self._step(action_BA))

    def ask(self, action_BA: NDArray[Any]) -> None:
        """Ask for a step of all copies."""
        self._answer = self.batch.step_async(action_BA)

    def observe(self) -> StepBatch:
        """Take the step that was asked for."""
        return self._count(self._answer())

    def begin(self) -> None:
        """Begin the episodes that follow those that have ended, if any have."""
        if copies := self.beginning:
            self.observation_BO[copies] = self._first()
            self.beginning = []
            self._on_begin([copy for copy in copies if self._playing_B[copy]], self.number_B)

    def cut(self) -> list[Episode]:
        """End the running episodes that have a step, without a flag, and return them."""
        return self._close(np.flatnonzero(self.start_B < self.now).tolist())

    def leave(self) -> list[Episode]:
        """As `cut`, and begin the next episodes."""
        ended = self.cut()
        self._restart([each.copy for each in ended])
        return ended

    def replay(
        self,
        now: int,
        numbers: Sequence[int],
        starts: Sequence[int],
        recorded: Sequence[Mapping[str, NDArray[Any]]],
        act: Callable[[NDArray[np.float32]], NDArray[Any]],
        where: Callable[[int, int], str],
        on_step: Callable[[StepBatch], object] = lambda after: None,
    ) -> None:
        """Start in the middle of episodes, by simulating them again from their seeds.

        All copies step together, so shorter replays begin later: until its turn comes, a copy
        plays an episode that nobody records.

        Args:
            now: The step to come to.
            numbers: Number of each copy's running episode.
            starts: Step at which it began.
            recorded: ``observation``, ``action`` and ``demonstrator_action`` of each copy's running
                episode so far, a row a step.
            act: What the demonstrator does at an observation of all copies.
            where: Returns what an error says of a copy and a step.
            on_step: Called with each step, those of episodes that nobody records among them.

        Raises:
            ReplayError: An episode came out differently.
        """
        self.number_B[:], self.start_B[:], self.now = numbers, starts, now
        everyone = list(range(self.batch.size))
        self._choose_seeds(everyone)
        self._restart(everyone)
        length_B = now - self.start_B
        ahead_B = length_B.max() - length_B
        action_BA = self.batch.actions.idle(self.batch.size)
        ended_B = np.zeros(self.batch.size, np.bool_)
        for step in range(length_B.max()):
            if step:
                self._restart(np.flatnonzero(ended_B | (ahead_B == step)).tolist())
            expert_BA = act(self.observation_BO)
            replaying = np.flatnonzero(ahead_B <= step).tolist()
            for copy in replaying:
                row = {name: rows[step - ahead_B[copy]] for name, rows in recorded[copy].items()}
                # The demonstrator's, too: an older version may have shown it less.
                if not (
                    np.array_equal(row["observation"], self.observation_BO[copy])
                    and np.array_equal(row["demonstrator_action"], expert_BA[copy])
                ):
                    raise _replay_error(where(copy, int(starts[copy] + step - ahead_B[copy])))
                action_BA[copy] = row["action"]
            after = self._step(action_BA.copy())
            on_step(after)
            self.observation_BO = np.array(after.observation_BO, np.float32)
            self.return_B += after.reward_B
            ended_B = after.terminated_B | after.truncated_B
            for copy in replaying:
                if ended_B[copy]:
                    raise _replay_error(where(copy, int(starts[copy] + step - ahead_B[copy])))
        if length_B.any():
            self._restart(np.flatnonzero(length_B == 0).tolist())

    def _count(self, after: StepBatch) -> StepBatch:
        self.now += 1
        self.return_B += after.reward_B
        if after.success_B is not None:
            if self._success_B is None:
                self._success_B = np.zeros(self.batch.size, np.bool_)
            self._success_B |= after.success_B
        # A list of a few flags is searched in a fifth of the time that any() takes.
        if True not in (after.terminated_B | after.truncated_B).tolist():
            self.observation_BO = after.observation_BO
            return after
        copies = np.flatnonzero(after.terminated_B | after.truncated_B).tolist()
        # By value: the environment may reuse its array.
        self.observation_BO = np.array(after.observation_BO, np.float32)
        if ended := self._close(copies):
            self._on_end(after, ended)
        if len(self.playing) and self.now != self._steps:
            self._ask_reset(copies)
        return after

    def _close(self, copies: list[int]) -> list[Episode]:
        """End the running episodes of some copies; return those that count."""
        ended = [
            Episode(
                copy,
                int(self.number_B[copy]),
                int(self.start_B[copy]),
                self.now - int(self.start_B[copy]),
                float(self.return_B[copy]),
                None if self._success_B is None else bool(self._success_B[copy]),
                self.observation_BO[copy].copy(),
            )
            for copy in copies
            if self._playing_B[copy]
        ]
        self.number_B[[each.copy for each in ended]] += 1
        self.start_B[copies] = self.now
        self._choose_seeds([each.copy for each in ended])
        return ended

    def _choose_seeds(self, copies: list[int]) -> None:
        for copy in copies:
            seed = self._seed_of(copy, int(self.number_B[copy]))
            if seed is None:
                self._playing_B[copy] = False
                self.playing = np.flatnonzero(self._playing_B)
            else:
                self._seeds[copy] = seed

    def _ask_reset(self, copies: list[int]) -> None:
        self.return_B[copies] = 0.0
        if self._success_B is not None:
            self._success_B[copies] = False
        self._first = self.batch.reset_async(copies, [self._seeds[copy] for copy in copies])
        self.beginning = copies

    def _restart(self, copies: list[int]) -> None:
        if copies:
            self._ask_reset(copies)
            self.begin()


class Actor(ABC):
    """Acts for all copies of a batch."""

    def begin(self, copies: list[int], number_B: NDArray[np.int64]) -> None:  # noqa: B027 - optional
        """Make ready for an episode of some copies; see `Episodes`."""

    @abstractmethod
    def act(self, observation_BO: NDArray[np.float32]) -> NDArray[Any]:
        """Return the next actions of all copies, as `BatchEnvironment.step` takes them."""

    def observe(self, after: StepBatch) -> None:  # noqa: B027 - optional
        """Take in a step, before any copy is reset."""


class PolicyActor(Actor):
    """A policy, shown what demonstrators are shown."""

    def __init__(self, batch: BatchEnvironment, policy: Policy) -> None:
        self._view, self._policy = batch.demonstrator_view, policy

    def begin(self, copies: list[int], number_B: NDArray[np.int64]) -> None:
        """Have the policy forget the copies' last episode."""
        self._policy.reset(copies)

    def act(self, observation_BO: NDArray[np.float32]) -> NDArray[Any]:
        """Return what the policy does."""
        return self._policy.act(self._view(observation_BO))


class RewardActor(Actor):
    """A policy that learns from rewards, over all episodes of a copy."""

    def __init__(self, policy: RewardPolicy) -> None:
        self._policy = policy

    def act(self, observation_BO: NDArray[np.float32]) -> NDArray[Any]:
        """Return what the policy does by what it has learnt."""
        return self._policy.act(observation_BO)

    def observe(self, after: StepBatch) -> None:
        """Tell the policy what was paid."""
        self._policy.learn(after.reward_B)


class RandomActor(Actor):
    """Uniformly random actions, from a generator by copy and number of the episode."""

    def __init__(
        self,
        batch: BatchEnvironment,
        generator_of: Callable[[int, int], np.random.Generator],
    ) -> None:
        self._actions = batch.actions
        self._generator_of = generator_of
        self._generators: dict[int, np.random.Generator] = {}

    def begin(self, copies: list[int], number_B: NDArray[np.int64]) -> None:
        """Take the generators of the episodes."""
        for copy in copies:
            self._generators[copy] = self._generator_of(copy, int(number_B[copy]))

    def act(self, observation_BO: NDArray[np.float32]) -> NDArray[Any]:
        """Draw an action of each copy."""
        generators = [self._generators[copy] for copy in range(len(observation_BO))]
        return self._actions.draw(generators, 1, double=True)[0]


def policy_for(batch: BatchEnvironment, spec: PolicySpec, domain: Domain) -> Policy:
    """Build a policy for a batch of a domain's task.

    Raises:
        ConfigError: It does not fit the task.
    """
    from pipelines.policies.registry import build_policy

    return build_policy(spec, batch.actions, domain.policies())


def play(
    batch: BatchEnvironment,
    actor: Actor,
    seed_of: Callable[[int, int], int | None],
    *,
    on_step: Callable[[NDArray[np.int64], StepBatch], None] = lambda playing, after: None,
    on_end: Callable[[StepBatch, list[Episode]], None] = lambda after, ended: None,
    steps: int | None = None,
    where: str | None = None,
) -> list[Episode]:
    """Play the episodes of a batch to their end.

    Args:
        seed_of: As of `Episodes`.
        on_step: Called with each step and the copies that still played when it was made.
        on_end: As of `Episodes`.
        steps: Most steps of the batch; None for no limit.
        where: What the error of an action that is no number names; None for no check of the
            actions but that of the environment.

    Returns:
        The episodes in the order of copies and numbers; those that `steps` cuts off among them.

    Raises:
        VintixError: An action is not a finite number, or as the environment raised it.
    """
    episodes: list[Episode] = []

    def end(after: StepBatch, ended: list[Episode]) -> None:
        episodes.extend(ended)
        on_end(after, ended)

    running = Episodes(batch, seed_of, actor.begin, end, steps)
    running.start()
    while len(playing := running.playing) and running.now != steps:
        action_BA = actor.act(running.observation_BO)
        if where is not None and not np.isfinite(action_BA).all():
            raise VintixError(
                f"{where}: an action is not a finite number",
                where=f"step {running.now}",
                expected="finite numbers",
                fix="check the policy's weights and normalisation",
            )
        after = running.step(action_BA)
        actor.observe(after)
        on_step(playing, after)
        running.begin()
    return sorted([*episodes, *running.cut()], key=lambda each: each[:2])


def one_each(seeds: Sequence[int]) -> Callable[[int, int], int | None]:
    """Return the seeds of one episode of each copy, for `Episodes`."""
    return lambda copy, number: None if number else seeds[copy]


def _replay_error(where: str) -> ReplayError:
    return ReplayError(
        "the environment did not repeat a recorded episode",
        where=where,
        expected="the recorded observations for the same seed and actions",
        fix="the trajectories of this block have to be collected from their beginning",
    )
