"""Speed of the vectorised Industrial Benchmark against the package's own dynamics."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest

from pipelines.domains.industrial_benchmark.environment import HORIZON, IndustrialBenchmarkBatch
from pipelines.domains.industrial_benchmark.reference import reference_class


def steps_per_second(run: Callable[[], int], repetitions: int) -> float:
    """Best rate in process CPU time, so that a busy machine does not count against either."""
    best = 0.0
    for _ in range(repetitions):
        begin = time.process_time()
        steps = run()
        best = max(best, steps / (time.process_time() - begin))
    return best


def vectorized(size: int) -> Callable[[], int]:
    actions = np.random.default_rng(0).uniform(-1, 1, (HORIZON, size, 3)).astype(np.float32)
    batch = IndustrialBenchmarkBatch([50] * size)

    def run() -> int:
        batch.reset(range(size), range(size))
        for action_BA in actions:
            batch.step(action_BA)
        return HORIZON * size

    return run


def reference() -> int:
    """One episode of the bare package: no observation is read, no wrapper is in the way."""
    actions = np.random.default_rng(0).uniform(-1, 1, (HORIZON, 3))
    dynamics = reference_class(np.random.RandomState())(p=50, inital_seed=0)
    for action_A in actions:
        dynamics.step(action_A)
    return HORIZON


@pytest.mark.benchmark
def test_256_copies_are_a_hundred_times_the_reference(record_property):
    """Whole episodes with their resets and noise, on one core, both in this run."""
    base = steps_per_second(reference, 6)
    rates = {size: steps_per_second(vectorized(size), 6) for size in (1, 15, 256)}
    record_property("reference", base)
    for size, rate in rates.items():
        record_property(f"batch {size}", rate)
    assert rates[256] >= 100 * base, (base, rates)
    # The paper's 15 trajectories a task are what distillation drives.
    assert rates[15] >= 10 * base, (base, rates)
