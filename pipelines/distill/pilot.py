"""The pilot: what noise does to the return of a demonstrator, and the schedule that follows.

Runs before the collection, one job a task, each with streams of its own: the same configuration
finds the same schedule. What it found is staged, so a resumed run does not repeat it.

Shapes: B copies of an environment, O observation, A action, T steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.distill.response import (
    LINEAR,
    Response,
    fit_curve,
    fit_family,
    fit_levels,
    levels_along,
    predicted_straightness,
    share_played,
)
from pipelines.playing.environments import make_batch
from pipelines.playing.episodes import PolicyActor, one_each, play, policy_for
from pipelines.rng import derive_seed, stream
from pipelines.tasks.schedule import Decay, schedule_json

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pipelines.domains.base import BatchEnvironment
    from pipelines.policies.base import Policy, PolicySpec
    from pipelines.reporter import Advance
    from pipelines.tasks.spec import TaskSpec

LEVELS = tuple(level / 10 for level in range(11))
"""Levels of noise that every pilot measures."""

ROUNDS, LEVELS_A_ROUND = 3, 4
"""After them, rounds of levels at equal steps of the return as it is known by then, each round
between those of the one before: a cliff is measured where it falls."""

MOST_LEVELS = len(LEVELS) + ROUNDS * LEVELS_A_ROUND


@dataclass(frozen=True, slots=True)
class PilotJob:
    """The pilot of one task.

    Attributes:
        options: Values of all options of the domain.
    """

    task: TaskSpec
    options: Mapping[str, Any]
    policy: PolicySpec
    seed: int
    episodes: int


def run_pilot(job: PilotJob, advance: Advance) -> Response:
    """Measure the response of a task's demonstrator to noise; runs in a worker.

    Raises:
        VintixError: An observation or a reward is not finite.
    """
    from pipelines.domains.registry import domain_of

    seeds = [
        derive_seed(job.seed, "pilot", job.task.name, "stream", episode)
        for episode in range(job.episodes)
    ]
    with make_batch(job.task, job.episodes, job.options, seeds) as batch:
        policy = policy_for(batch, job.policy, domain_of(job.task))
        returns, lengths = {}, {}
        for level in LEVELS:
            returns[level], lengths[level] = _play(job, batch, policy, level)
        advance(0.5)
        for number in range(ROUNDS):
            between = (number + 0.5) / ROUNDS
            shares = [(step + between) / LEVELS_A_ROUND for step in range(LEVELS_A_ROUND)]
            for level in levels_along(Response.of(returns), shares):
                returns[level], lengths[level] = _play(job, batch, policy, level)
        advance(0.5)
    return Response.of(returns, lengths)


def describe_fit(response: Response, fit: str) -> dict[str, Any]:
    """Return what a history records of its pilot; JSON.

    Returns:
        ``fit``; ``schedule``, what was found; ``response``: level of noise, mean return,
        episodes and their mean length; of a decay the R-squared of a straight line through the
        return that is predicted, for it and for linear decay; of noise that is drawn
        ``predicted_played``, the share of the way from random play to the demonstrator.
    """
    if fit == "playable":
        drawn = fit_levels(response)
        return {
            "fit": fit,
            "schedule": schedule_json(drawn),
            "response": response.as_json(),
            "predicted_played": share_played(response, drawn),
        }
    found: Decay = fit_curve(response) if fit == "fitted" else fit_family(response)
    return {
        "fit": fit,
        "schedule": schedule_json(found),
        "response": response.as_json(),
        "predicted_r_squared": predicted_straightness(response, found),
        "predicted_r_squared_of_linear": predicted_straightness(response, LINEAR),
    }


class _NoisyActor(PolicyActor):
    """A demonstrator under a constant level of uniform noise, from a generator for each copy."""

    def __init__(
        self, job: PilotJob, batch: BatchEnvironment, policy: Policy, level: float
    ) -> None:
        super().__init__(batch, policy)
        self._actions = batch.actions
        self._level_1 = np.array([level])
        key = (job.seed, "pilot", job.task.name, repr(level), "noise")
        self._generators = [stream(*key, copy) for copy in range(batch.size)]

    def act(self, observation_BO: NDArray[np.float32]) -> NDArray[Any]:
        return self._actions.mixer(self._generators, self._level_1)(0, super().act(observation_BO))


def _play(
    job: PilotJob, batch: BatchEnvironment, policy: Policy, level: float
) -> tuple[list[float], list[float]]:
    """Return return and length of one episode of every copy under a constant level of noise."""
    key = (job.seed, "pilot", job.task.name, repr(level), "episode")
    seeds = [derive_seed(*key, copy) for copy in range(batch.size)]
    played = play(batch, _NoisyActor(job, batch, policy, level), one_each(seeds))
    return [each.total for each in played], [float(each.length) for each in played]
