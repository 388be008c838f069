"""Measures the return of random play and of a policy.

Shapes: E episodes, B copies of an environment, A action.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.errors import VintixError
from pipelines.policies.registry import build_policy
from pipelines.rng import derive_seed, stream

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pipelines.domains.base import BatchEnvironment, Domain, Options
    from pipelines.policies.base import Policy, PolicySpec
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
        task: The task.
        domain: Its domain.
        options: Values of all options of the domain.
        seed: Base seed.
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

    def action_bounds(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the lower and upper action bounds (A,) of the task."""
        from pipelines.domains.checked import make_batch

        seed = derive_seed(self.seed, "demonstrators", self.task.name, "bounds")
        batch = make_batch(self.domain, self.task, 1, self.options, [seed])
        try:
            return batch.action_low_A, batch.action_high_A
        finally:
            batch.close()

    def random(self, episodes: int, advance: Advance | None = None) -> Evaluation:
        """Measure uniformly random actions, from the streams (..., "random", episode)."""

        def make(batch: BatchEnvironment, wave: Sequence[int]) -> _Act:
            low_A, high_A = batch.action_low_A, batch.action_high_A
            draws = [
                stream(self.seed, "demonstrators", self.task.name, "random", episode)
                for episode in wave
            ]

            def act(_: NDArray[np.float32]) -> NDArray[np.float32]:
                unit_BA = np.stack([each.random(len(low_A)) for each in draws])
                return _within(low_A + (high_A - low_A) * unit_BA, low_A, high_A)

            return act

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
            spec: The policy.
            episodes: How many episodes.
            purpose: Keys the seeds of the episodes.
            advance: Told of every step.

        Raises:
            ConfigError: The policy does not fit the task.
            VintixError: It acted with something that is no number, or the environment did.
        """
        built: list[Policy] = []

        def make(batch: BatchEnvironment, wave: Sequence[int]) -> _Act:
            if not built:
                built.append(
                    build_policy(
                        spec, batch.action_low_A, batch.action_high_A, self.domain.policies()
                    )
                )
            built[0].reset(range(len(wave)))
            return lambda observation_BO: built[0].act(batch.demonstrator_view(observation_BO))

        return self._play(purpose, episodes, make, advance)

    def _play(
        self,
        purpose: str,
        episodes: int,
        make: Callable[[BatchEnvironment, Sequence[int]], _Act],
        advance: Advance | None,
    ) -> Evaluation:
        key = (self.seed, "demonstrators", self.task.name, purpose)
        returns_E = np.zeros(episodes)
        lengths_E = np.zeros(episodes, dtype=np.int32)
        success_E: NDArray[np.bool_] | None = None
        for first in range(0, episodes, _COPIES):
            wave = range(first, min(first + _COPIES, episodes))
            batch = self._copies(purpose, wave)
            seeds = [derive_seed(*key, "episode", episode) for episode in wave]
            observation_BO = batch.reset(range(len(wave)), seeds)
            act = make(batch, wave)
            running_B = np.ones(len(wave), dtype=bool)
            while running_B.any():
                action_BA = act(observation_BO)
                if not np.isfinite(action_BA).all():
                    raise self._not_a_number(purpose, wave, lengths_E)
                step = batch.step(action_BA)
                ended_B = step.terminated_B | step.truncated_B
                wave_slice = slice(first, first + len(wave))
                returns_E[wave_slice][running_B] += step.reward_B[running_B]
                lengths_E[wave_slice][running_B] += 1
                if step.success_B is not None:
                    success_E = np.zeros(episodes, dtype=bool) if success_E is None else success_E
                    success_E[wave_slice] |= step.success_B & running_B
                if advance is not None:
                    advance(float(running_B.sum()))
                observation_BO = step.observation_BO
                running_B = running_B & ~ended_B
                if running_B.any() and ended_B.any():
                    # Copies that are done idle along: the batch steps all of its copies.
                    observation_BO = observation_BO.copy()
                    idle = np.flatnonzero(ended_B)
                    observation_BO[idle] = batch.reset(idle.tolist(), [seeds[i] for i in idle])
        return Evaluation(returns_E, lengths_E, success_E)

    def _copies(self, purpose: str, wave: Sequence[int]) -> BatchEnvironment:
        """Return a batch for the episodes of a wave, the one of the wave before where possible."""
        if self._batch is not None and (self._per_episode_copies or self._batch.size != len(wave)):
            self._batch.close()
            self._batch = None
        if self._batch is None:
            from pipelines.domains.checked import make_batch

            key = (self.seed, "demonstrators", self.task.name, purpose, "stream")
            seeds = [derive_seed(*key, episode) for episode in wave]
            self._batch = make_batch(self.domain, self.task, len(wave), self.options, seeds)
        return self._batch

    def _not_a_number(
        self, purpose: str, wave: Sequence[int], lengths_E: NDArray[np.int32]
    ) -> VintixError:
        return VintixError(
            f"task {self.task.name}: an action is not a finite number",
            where=f"{purpose} episodes {wave[0]} to {wave[-1]}, step {lengths_E[list(wave)].max()}",
            expected="finite numbers",
            fix="check the policy's weights and normalisation",
        )


_Act = Callable[["NDArray[np.float32]"], "NDArray[np.float32]"]


def _within(
    action_BA: NDArray[Any], low_A: NDArray[np.float32], high_A: NDArray[np.float32]
) -> NDArray[np.float32]:
    # Rounding to float32 may step over a bound by one unit in the last place.
    return np.clip(action_BA.astype(np.float32), low_A, high_A)
