"""Sampling is a pure function of (seed, step, place), in bounds, and distributed as promised."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import ConfigError
from pipelines.methods.windows import Subsequence, WindowSampler

subsequence_rows = st.lists(st.integers(9, 400), min_size=1, max_size=4)
all_rows = st.dictionaries(
    st.sampled_from(["a", "b", "c", "d"]), subsequence_rows, min_size=1, max_size=4
)


def make(rows, *, context=8, batch_size=12, seed=0, sampling="task"):
    subsequences = {
        name: [Subsequence(name, k, 0, count) for k, count in enumerate(counts)]
        for name, counts in rows.items()
    }
    return WindowSampler(
        subsequences, context=context, batch_size=batch_size, seed=seed, sampling=sampling
    )


@given(
    all_rows,
    st.integers(0, 2**31),
    st.integers(0, 10**6),
    st.sampled_from(["task", "window"]),
)
def test_pure_and_in_bounds(rows, seed, step, sampling):
    """Equal arguments give equal windows in any order and object; all rows read exist."""
    one, other = (make(rows, seed=seed, sampling=sampling) for _ in range(2))
    windows = one.batch(step)
    other.batch(step + 1)
    assert windows == other.batch(step)
    assert windows == [other.window(step, index) for index in reversed(range(12))][::-1]
    for window in windows:
        length = rows[window.task][window.subsequence]
        assert window.trajectory == window.subsequence
        assert window.start >= 0 and window.start + 8 + 1 <= length


@given(all_rows, st.integers(0, 10**6), st.sampled_from([1, 2, 3, 4, 6, 12]))
def test_slices_of_every_world_size_partition_the_global_batch(rows, step, world):
    sampler = make(rows)
    slices = [sampler.batch(step, rank, world) for rank in range(world)]
    assert [window for each in slices for window in each] == sampler.batch(step)


def test_steps_and_seeds_differ():
    rows = {"a": [400, 400]}
    assert make(rows).batch(0) != make(rows).batch(1)
    assert make(rows).batch(0) != make(rows, seed=1).batch(0)


def draws(sampler, steps=500):
    return [window for step in range(steps) for window in sampler.batch(step)]


def within(count, total, share):
    """Whether a count is within five standard deviations of a binomial's mean."""
    return abs(count - total * share) < 5 * np.sqrt(total * share * (1 - share))


def test_sampling_by_task_is_uniform_over_tasks():
    sampler = make({"a": [20], "b": [400, 400], "c": [100]})
    windows = draws(sampler)
    counts = Counter(window.task for window in windows)
    assert all(within(counts[task], len(windows), 1 / 3) for task in "abc")
    assert sampler.shares() == pytest.approx(dict.fromkeys("abc", 1 / 3))


def test_sampling_by_window_is_proportional_to_windows():
    sampler = make({"a": [28], "b": [108, 208], "c": [88]}, sampling="window")
    windows = draws(sampler)
    counts = Counter(window.task for window in windows)
    for task, share in {"a": 0.05, "b": 0.75, "c": 0.2}.items():
        assert within(counts[task], len(windows), share)


def test_starts_are_uniform_within_a_task():
    """Long trajectories get more windows than short ones; the ends are drawn like the middle."""
    sampler = make({"a": [18, 38]})
    windows = draws(sampler, steps=1000)
    counts = Counter((window.subsequence, window.start) for window in windows)
    assert len(counts) == 10 + 30
    assert all(within(count, len(windows), 1 / 40) for count in counts.values())


def test_phases_of_a_thinned_trajectory_count_once():
    """Two phases of 100 windows each weigh as much as one subsequence of 100."""
    thinned = [Subsequence("a", 0, 0, 108, phase=phase, every=2) for phase in range(2)]
    subsequences = {"a": thinned, "b": [Subsequence("b", 0, 0, 108)]}
    sampler = WindowSampler(subsequences, context=8, batch_size=4, seed=0, sampling="window")
    assert sampler.shares() == pytest.approx({"a": 0.5, "b": 0.5})
    assert {window.subsequence for window in draws(sampler, 30) if window.task == "a"} == {0, 1}


def test_a_world_that_does_not_divide_the_batch_is_refused():
    with pytest.raises(ConfigError, match="dealt out"):
        make({"a": [50]}).batch(0, 0, 5)


def test_a_subsequence_shorter_than_a_window_is_refused():
    with pytest.raises(ConfigError, match="room"):
        make({"a": [50, 8]})
