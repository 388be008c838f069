"""Subsequences hold the rows they promise: whole, noise-free, or every k-th episode."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import ConfigError
from pipelines.methods import cut_tasks
from pipelines.methods.windows import THINNED_WINDOWS
from tests.train.support import MemoryData, ToyTask, read_subsequence, rows_of


def subsequences_of(task, **options):
    data = MemoryData([task])
    return data, cut_tasks(data, list(data.tasks.values()), **options)[task.name]


@given(
    every=st.integers(2, 4),
    episode_length=st.integers(3, 30),
    rows=st.integers(400, 700),
    start=st.integers(0, 60),
)
def test_a_thinned_subsequence_is_every_kth_episode(every, episode_length, rows, start):
    """Against the plain definition: rows whose episode's number is the phase modulo k."""
    task = ToyTask(episode_sparsity=every, episode_length=episode_length, rows=(rows,))
    data, subsequences = subsequences_of(task, context=20)
    assert [one.phase for one in subsequences] == list(range(every))
    whole = rows_of(task, 0)
    episode = np.cumsum(whole["episode_step"] == 0) - 1
    for subsequence in subsequences:
        kept = np.flatnonzero(episode % every == subsequence.phase)
        assert subsequence.rows == len(kept)
        first = min(start, subsequence.rows - 21)
        read = read_subsequence(subsequence, data, first, 21)
        for name, values in whole.items():
            np.testing.assert_array_equal(read[name], values[kept[first : first + 21]])
    assert sum(one.rows for one in subsequences) == rows


def test_thinning_is_left_out_where_too_little_would_remain():
    task = ToyTask(episode_sparsity=2, rows=(600, 120))
    assert {
        subsequence.every
        for subsequence in subsequences_of(task, context=120 // 2 // THINNED_WINDOWS - 1)[1]
    } == {2}
    assert {
        subsequence.every
        for subsequence in subsequences_of(task, context=120 // 2 // THINNED_WINDOWS)[1]
    } == {1}


def test_thinning_can_be_switched_off():
    task = ToyTask(episode_sparsity=2)
    assert {
        subsequence.every
        for subsequence in subsequences_of(task, context=20, episode_sparsity=False)[1]
    } == {1}


@pytest.mark.parametrize("sparsity", [1, 2])
def test_expert_distillation_sees_noise_free_rows_only(sparsity):
    task = ToyTask(noise_free=0.3, episode_sparsity=sparsity, rows=(600, 500))
    data, subsequences = subsequences_of(task, context=30, method="ed")
    for subsequence in subsequences:
        read = read_subsequence(subsequence, data, 0, subsequence.rows)
        assert not read["noise"].any()
        np.testing.assert_array_equal(read["noise"].shape, (subsequence.rows,))
    free = sum(int((rows_of(task, k)["noise"] == 0).sum()) for k in range(2))
    assert sum(one.rows for one in subsequences) == free


def test_a_context_longer_than_a_trajectory_names_the_task_and_the_fix():
    with pytest.raises(ConfigError) as caught:
        subsequences_of(ToyTask(name="short", rows=(600, 50)), context=50)
    message = str(caught.value)
    assert "short, trajectory 1" in message and "--context 49" in message


def test_a_context_longer_than_the_noise_free_end_says_so():
    with pytest.raises(ConfigError) as caught:
        subsequences_of(ToyTask(noise_free=0.1), context=100, method="ed")
    assert "noise-free end" in str(caught.value) and "--context 59" in str(caught.value)


def test_a_history_with_noise_to_the_end_cannot_be_expert_distilled():
    with pytest.raises(ConfigError) as caught:
        subsequences_of(ToyTask(noise_free=0.0), context=100, method="ed")
    assert "larger f" in str(caught.value)
