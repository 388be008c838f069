"""Random play returns what the paper's Tables 7 to 10 and its release say, but for known reasons.

For Bi-DexHands, whose reference runs on another simulator, the release is asked.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest

from pipelines.domains.registry import domain_of, full_catalogue, resolve_options
from pipelines.rng import derive_seed, stream
from pipelines.tasks.spec import TaskSpec

pytestmark = pytest.mark.simulator

EPISODES = 20
# The tables print one decimal.
ROUNDING = 0.05
# Of the release's random return, which has no spread.
SHARE = 0.25
BATCHED = ("industrial-benchmark", "bidexhands")


class Deviation(NamedTuple):
    """A task whose random return is known not to be the published one."""

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
    "hand-grasp-and-place": Deviation(
        18.7,
        "a bucket and a block that nobody moves pay 18 in an episode; in the reference the bucket "
        "starts within the table and is likely thrown out of it",
    ),
    "hand-bottle-cap": Deviation(
        107.8,
        "the release (75) and the paper (110.6 +- 17.6) disagree; the bottle's friction here was "
        "fitted between them, and agrees with the paper",
    ),
}

TASKS = [
    task
    for task in full_catalogue().tasks
    if task.domain in ("mujoco", "metaworld", "industrial-benchmark", "bidexhands")
]


def random_returns(task: TaskSpec) -> np.ndarray:
    domain = domain_of(task)
    options = resolve_options(domain, {})
    seeds = [derive_seed(0, "random-returns", task.name, k) for k in range(EPISODES)]
    total_B = np.zeros(EPISODES)
    size = EPISODES if domain.name in BATCHED else 1
    groups = [list(range(k, k + size)) for k in range(0, EPISODES, size)]
    batch = domain.make_batch(task, size, options, seeds[:size])
    low_A, high_A = batch.actions.bounds
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


def published(task: TaskSpec) -> tuple[float, float]:
    """Return the random return that is asked for, and how far off it is allowed to be."""
    paper = task.scores["paper"]
    spread = paper.random_std or 0.0
    if task.domain != "bidexhands":
        return paper.random, spread
    release = task.scores["release"]
    return release.random, max(spread, SHARE * abs(release.random))


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_random_returns_agree_with_the_published_ones(
    task: TaskSpec, record_property: Callable[[str, object], None]
) -> None:
    """Within the paper's standard deviation and two standard errors of our mean."""
    returns = random_returns(task)
    mean, error = float(returns.mean()), float(returns.std(ddof=1) / math.sqrt(EPISODES))
    record_property("random_return", f"{mean:.2f} +- {returns.std(ddof=1):.2f}")
    expected, allowed = published(task)
    agrees = abs(mean - expected) <= allowed + 2 * error + ROUNDING
    told = f"ours {mean:.2f} (error {error:.2f}), published {expected} +- {allowed}"
    known = DEVIATIONS.get(task.name)
    if known is None:
        assert agrees, told
    else:
        assert not agrees, f"no exception any more: {told}"
        assert abs(mean - known.ours) <= 3 * error + ROUNDING, told
