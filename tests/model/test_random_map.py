"""Random maps: drawn uniformly, without loss, and as their formulas say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.actions import Discrete
from pipelines.model.normalization import STD_EPSILON, TaskStatistics
from pipelines.model.random_map import RandomMap, haar
from pipelines.rng import stream


def statistics(action_std: list[float]) -> TaskStatistics:
    actions = len(action_std)
    return TaskStatistics(
        observation_mean=[1.0, -2.0, 0.5, 30.0],
        observation_std=[0.5, 2.0, 0.0, 10.0],
        action_mean=np.linspace(-0.5, 0.5, actions),
        action_std=action_std,
        reward_scale=0.5,
    )


def draw(one: TaskStatistics, *key: int, normalized: bool = True) -> RandomMap:
    return RandomMap.draw(one, stream(0, *key), normalized=normalized)


@given(st.integers(1, 40), st.integers(0, 2**31))
def test_matrices_are_orthogonal_and_follow_from_the_state(size: int, seed: int) -> None:
    """Nothing of an observation is lost, and a run may be repeated."""
    matrix = haar(size, stream(seed))
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(size), atol=1e-12)
    np.testing.assert_array_equal(matrix, haar(size, stream(seed)))
    assert size == 1 or not np.allclose(matrix, haar(size, stream(seed, 1)))


def test_matrices_are_drawn_uniformly() -> None:
    """Every entry has mean 0 and variance 1/n: no direction and no sign is favoured."""
    draws = np.array([haar(3, stream(5, number)) for number in range(3000)])
    assert np.abs(draws.mean(axis=0)).max() < 5 * np.sqrt(1 / 3 / 3000)
    np.testing.assert_allclose((draws**2).mean(axis=0), 1 / 3, atol=0.03)
    assert abs(np.linalg.det(draws).mean()) < 5 / np.sqrt(3000)


@given(
    st.lists(st.one_of(st.just(0.0), st.floats(1e-7, 10.0)), min_size=1, max_size=6),
    st.integers(0, 1000),
)
def test_what_is_mapped_and_mapped_back_is_what_it_was(stds: list[float], seed: int) -> None:
    """To the rounding of float32, whatever the deviations, constant channels and all."""
    one = statistics(stds)
    drawn = draw(one, seed)
    noise = stream(seed, "actions").normal(size=(20, len(stds)))
    action = (one.action_mean + one.action_std * noise).astype(np.float32)
    scale = 1.0 + np.abs(action).max()
    np.testing.assert_allclose(drawn.executed(drawn.action(action)), action, atol=1e-4 * scale)
    np.testing.assert_allclose(drawn.action(drawn.executed(action)), action, atol=1e-4 * scale)
    assert drawn.action(action).dtype == np.float32
    alone = np.stack([drawn.executed(row) for row in action])
    np.testing.assert_allclose(alone, drawn.executed(action), atol=1e-5 * scale)


def test_a_channel_that_never_moves_stays_as_it_is_and_spreads_nothing() -> None:
    """The error of predicting it must not be divided by its deviation of nearly 0."""
    drawn = draw(statistics([0.5, 0.0, 0.3, 0.004]), 1)
    action = np.array([0.1, 0.2, 0.3, 0.4], np.float32)
    moved = action + np.array([0.0, 0.05, 0.0, -0.05], np.float32)
    for mapped in (drawn.action, drawn.executed):
        np.testing.assert_allclose(mapped(moved) - mapped(action), moved - action, atol=1e-6)
        assert np.abs(mapped(action) - action)[[0, 2]].min() > 1e-3
    unmoved = draw(statistics([0.0, 0.0]), 1)
    np.testing.assert_allclose(unmoved.action(action[:2]), action[:2], atol=1e-6)


@pytest.mark.parametrize("normalized", [True, False])
def test_observations_are_mapped_by_the_formula(normalized: bool) -> None:
    """Q z for normalised observations, m + s Q ((x - m) / s) for those in the task's units."""
    one = statistics([0.5, 0.3])
    drawn = draw(one, 3, normalized=normalized)
    matrix = haar(4, stream(0, 3))
    mean, scale = one.observation_mean, one.observation_std + STD_EPSILON
    raw = mean + one.observation_std * stream(1).normal(size=(7, 4)).astype(np.float32)
    z = (raw - mean) / scale
    if normalized:
        np.testing.assert_allclose(drawn.observation(z), z @ matrix.T, atol=1e-5)
        length = np.linalg.norm(drawn.observation(z), axis=1)
        np.testing.assert_allclose(length, np.linalg.norm(z, axis=1), rtol=1e-5)
    else:
        expected = mean + scale * (z @ matrix.T)
        np.testing.assert_allclose(drawn.observation(raw), expected, rtol=1e-4, atol=1e-5)


def test_a_window_is_mapped_in_place() -> None:
    """Its observations and each of its arrays of actions, all by one map."""
    drawn = draw(statistics([0.5, 0.3]), 4)
    observation = stream(1).normal(size=(5, 4)).astype(np.float32)
    first, second = (stream(2, n).normal(size=(5, 2)).astype(np.float32) for n in range(2))
    expected = [drawn.observation(observation), drawn.action(first), drawn.action(second)]
    drawn.apply(observation, first, second)
    for found, wanted in zip((observation, first, second), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_discrete_actions_are_permuted_and_put_back() -> None:
    actions = Discrete(5)
    one = TaskStatistics(
        observation_mean=np.zeros(3),
        observation_std=np.ones(3),
        action_mean=np.zeros(5),
        action_std=np.ones(5),
        reward_scale=1.0,
    )
    drawn = [RandomMap.draw(one, stream(0, key), actions, normalized=True) for key in range(9)]
    every = np.arange(5)
    for each in drawn:
        assert sorted(each.action(every)) == every.tolist()
        np.testing.assert_array_equal(each.executed(each.action(every)), every)
        observation, action = np.ones((5, 3), np.float32), every.copy()
        each.apply(observation, action)
        np.testing.assert_array_equal(action, each.action(every))
    assert len({tuple(each.action(every)) for each in drawn}) > 3
