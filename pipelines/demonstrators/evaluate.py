"""Measures the return of random play and of a policy.

Shapes: E episodes, A action.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pipelines.domains.checked import make_batch
from pipelines.playing.episodes import (
    Actor,
    Episode,
    PolicyActor,
    RandomActor,
    one_each,
    play,
    policy_for,
)
from pipelines.rng import derive_seed, stream

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pipelines.actions import ActionSpec
    from pipelines.domains.base import BatchEnvironment, Domain, Options, StepBatch
    from pipelines.policies.base import PolicySpec
    from pipelines.reporter import Advance
    from pipelines.tasks.spec import TaskSpec

_COPIES = 5


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Episodes of one policy.

    Attributes:
        returns_E: float64, sum of unscaled rewards of each episode.
        lengths_E: int32, steps of each episode.
        success_E: bool, whether success was reached at some step; None where the domain knows
            none.
    """

    returns_E: NDArray[np.float64]
    lengths_E: NDArray[np.int32]
    success_E: NDArray[np.bool_] | None

    def summary(self) -> dict[str, float | int]:
        """Return mean, spread (of the population), episodes, mean length and success rate."""
        values: dict[str, float | int] = {
            "mean": float(self.returns_E.mean()),
            "std": float(self.returns_E.std()),
            "episodes": len(self.returns_E),
            "length": float(self.lengths_E.mean()),
        }
        if self.success_E is not None:
            values["success"] = float(self.success_E.mean())
        return values


class Evaluator:
    """Plays episodes of one task in a batch of copies.

    Every episode has its own keyed seeds, so its return does not depend on how many are played,
    in which order, or beside which others.

    Args:
        options: Values of all options of the domain.
        per_episode_copies: Make new copies for every episode. An option may fix something for a
            whole trajectory, such as a goal: then each episode counts as one of its own.
    """

    def __init__(
        self,
        task: TaskSpec,
        domain: Domain,
        options: Options,
        seed: int,
        *,
        per_episode_copies: bool = False,
    ) -> None:
        self.task, self.domain, self.options, self.seed = task, domain, options, seed
        self._per_episode_copies = per_episode_copies
        self._batch: BatchEnvironment | None = None

    def __enter__(self) -> Evaluator:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._batch is not None:
            self._batch.close()
            self._batch = None

    def actions(self) -> ActionSpec:
        """Return what the actions of the task are, with their bounds."""
        seed = derive_seed(self.seed, "demonstrators", self.task.name, "bounds")
        with make_batch(self.domain, self.task, 1, self.options, [seed]) as batch:
            return batch.actions

    def random(self, episodes: int, advance: Advance | None = None) -> Evaluation:
        """Measure uniformly random actions, from the streams (..., "random", episode)."""

        def make(batch: BatchEnvironment, numbers: Sequence[int]) -> Actor:
            key = (self.seed, "demonstrators", self.task.name, "random")
            return RandomActor(batch, lambda copy, _: stream(*key, numbers[copy]))

        return self._play("random", episodes, make, advance)

    def policy(
        self,
        spec: PolicySpec,
        episodes: int,
        purpose: str = "expert",
        advance: Advance | None = None,
    ) -> Evaluation:
        """Measure a policy.

        Args:
            purpose: Keys the seeds of the episodes.

        Raises:
            ConfigError: The policy does not fit the task.
            VintixError: It acted with something that is no number, or the environment did.
        """

        def make(batch: BatchEnvironment, _: Sequence[int]) -> Actor:
            return PolicyActor(batch, policy_for(batch, spec, self.domain))

        return self._play(purpose, episodes, make, advance)

    def _play(
        self,
        purpose: str,
        episodes: int,
        make: Callable[[BatchEnvironment, Sequence[int]], Actor],
        advance: Advance | None,
    ) -> Evaluation:
        key = (self.seed, "demonstrators", self.task.name, purpose)
        played: list[Episode] = []

        def step(playing: NDArray[np.int64], _: StepBatch) -> None:
            if advance is not None:
                advance(len(playing))

        for first in range(0, episodes, _COPIES):
            numbers = range(first, min(first + _COPIES, episodes))
            batch = self._copies(purpose, numbers)
            played += play(
                batch,
                make(batch, numbers),
                one_each([derive_seed(*key, "episode", number) for number in numbers]),
                on_step=step,
                where=f"task {self.task.name}",
            )
        success = [each.success for each in played]
        return Evaluation(
            np.array([each.total for each in played]),
            np.array([each.length for each in played], np.int32),
            None if set(success) == {None} else np.array(success, np.bool_),
        )

    def _copies(self, purpose: str, numbers: Sequence[int]) -> BatchEnvironment:
        """Return a batch for some episodes, the one before where possible."""
        if self._batch is not None and (
            self._per_episode_copies or self._batch.size != len(numbers)
        ):
            self._batch.close()
            self._batch = None
        if self._batch is None:
            key = (self.seed, "demonstrators", self.task.name, purpose, "stream")
            seeds = [derive_seed(*key, number) for number in numbers]
            self._batch = make_batch(self.domain, self.task, len(numbers), self.options, seeds)
        return self._batch
