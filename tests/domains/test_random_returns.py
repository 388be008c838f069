"""Random play returns what the paper's Tables 7, 8 and 10 say; exceptions are known by reason."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest

from pipelines.domains.registry import domain_of, full_catalogue, resolve_options
from pipelines.rng import derive_seed, stream
from pipelines.tasks.spec import TaskSpec

EPISODES = 20
# The tables print one decimal.
ROUNDING = 0.05


class Deviation(NamedTuple):
    """A task whose random return is known not to be the paper's."""

    ours: float
    reason: str


# Ant (ours -30, paper -459.2 +- 824.1), both inverted pendulums (v5 pays no bonus at the step that
# ends an episode) and pick-out-of-hole (ours 1.5, paper 8.6 +- 50) differ as well, but lie within
# the paper's wide spread.
DEVIATIONS = {
    "humanoid-standup": Deviation(
        32_658,
        "12 % below the paper under v4 and v5 alike; the table of JAT, whose protocol the paper "
        "follows, says 33136",
    ),
    "button-press-topdown-wall": Deviation(
        54.7,
        "Meta-World v3 pays this much for it; why Table 7, made with v2, says less is not known "
        "(the task without the wall agrees: 30 against 31.6)",
    ),
}

TASKS = [
    task
    for task in full_catalogue().tasks
    if task.domain in ("mujoco", "metaworld", "industrial-benchmark")
]


def random_returns(task: TaskSpec) -> np.ndarray:
    domain = domain_of(task)
    options = resolve_options(domain, {})
    seeds = [derive_seed(0, "random-returns", task.name, k) for k in range(EPISODES)]
    total_B = np.zeros(EPISODES)
    if domain.name == "industrial-benchmark":
        groups = [list(range(EPISODES))]
    else:
        groups = [[k] for k in range(EPISODES)]
    batch = domain.make_batch(task, len(groups[0]), options, seeds[: len(groups[0])])
    low_A, high_A = batch.action_low_A, batch.action_high_A
    for group in groups:
        batch.reset(range(len(group)), [seeds[k] for k in group])
        rng = stream(0, "random-returns", task.name, "actions", group[0])
        running_B = np.ones(len(group), np.bool_)
        while running_B.any():
            done = batch.step(rng.uniform(low_A, high_A, (len(group), len(low_A))).astype("f4"))
            total_B[group] += np.where(running_B, done.reward_B, 0)
            running_B &= ~(done.terminated_B | done.truncated_B)
    batch.close()
    return total_B


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_random_returns_agree_with_the_paper_within_its_spread(
    task: TaskSpec, record_property: Callable[[str, object], None]
) -> None:
    """Within one standard deviation of the paper's and two standard errors of our mean."""
    returns = random_returns(task)
    mean, error = float(returns.mean()), float(returns.std(ddof=1) / math.sqrt(EPISODES))
    record_property("random_return", f"{mean:.2f} +- {returns.std(ddof=1):.2f}")
    paper = task.scores["paper"]
    agrees = abs(mean - paper.random) <= (paper.random_std or 0) + 2 * error + ROUNDING
    told = f"ours {mean:.2f} (error {error:.2f}), paper {paper.random} +- {paper.random_std}"
    known = DEVIATIONS.get(task.name)
    if known is None:
        assert agrees, told
    else:
        assert not agrees, f"no exception any more: {told}"
        assert abs(mean - known.ours) <= 3 * error + ROUNDING, told
