"""Box actions: uniform draws, Algorithm 1's mix, what a model sees, and the spec as JSON."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.actions import Box, from_json
from pipelines.errors import ConfigError
from pipelines.tasks.registry import catalogue

LOW, HIGH = np.array([-1, -2], np.float32), np.array([1, 4], np.float32)
BOX = Box(2).bounded(LOW, HIGH)


def draws(count=3):
    return [np.random.default_rng(seed) for seed in range(count)]


def test_stored_rows_and_channels():
    assert (BOX.row_shape, BOX.row_dtype, BOX.width) == ((2,), "float32", 2)


@pytest.mark.parametrize("double", [False, True])
def test_draws_fill_the_box_and_are_each_copy_s_own(double):
    drawn = BOX.draw(draws(), 2000, double=double)
    assert drawn.shape == (2000, 3, 2) and drawn.dtype == np.float32
    assert (drawn >= LOW).all() and (drawn <= HIGH).all()
    np.testing.assert_allclose(drawn.mean((0, 1)), (LOW + HIGH) / 2, atol=0.1)
    np.testing.assert_allclose(drawn.min((0, 1)), LOW, atol=0.01)
    np.testing.assert_allclose(drawn.max((0, 1)), HIGH, atol=0.01)
    alone = BOX.draw(draws()[1:2], 2000, double=double)
    np.testing.assert_array_equal(drawn[:, 1:2], alone)


def test_noise_is_mixed_as_algorithm_1_says():
    policy = np.array([[1, 4], [-1, -2], [0, 1]], np.float32)
    epsilon = np.linspace(0, 1, 5, dtype=np.float32)
    random = BOX.draw(draws(), 5)
    mixer = BOX.mixer(random.copy(), epsilon)
    for step in range(5):
        expected = (1 - epsilon[step]) * policy + epsilon[step] * random[step]
        np.testing.assert_allclose(mixer(step, policy), expected, atol=1e-6)
        np.testing.assert_allclose(
            BOX.mix(policy, random[step], float(epsilon[step])), expected, atol=1e-6
        )
    np.testing.assert_array_equal(mixer(0, policy), policy)


def test_mixed_actions_are_new_arrays_within_the_bounds():
    mixer = BOX.mixer(BOX.draw(draws(1), 1), np.zeros(1, np.float32))
    beyond = np.array([[5, -5]], np.float32)
    mixed = mixer(0, beyond)
    np.testing.assert_array_equal(mixed, [[1, -2]])
    mixed[:] = 0
    np.testing.assert_array_equal(beyond, [[5, -5]])


def test_a_model_sees_the_actions_and_is_clipped_to_the_bounds():
    stored = np.array([[0.5, 3]], np.float32)
    np.testing.assert_array_equal(BOX.encode(stored), stored)
    np.testing.assert_array_equal(BOX.decode(np.array([[2.0, -9.0]])), [[1, -2]])
    assert BOX.decode(np.array([[2.0, -9.0]])).dtype == np.float32


@pytest.mark.parametrize(
    ("action", "told"),
    [
        (np.zeros((4, 2), np.float32), None),
        (np.zeros((4, 3), np.float32), "shape"),
        (np.zeros((4, 2)), "float64"),
        (np.array([[0, 1], [np.nan, 1]], np.float32), "nan"),
    ],
)
def test_faults_are_told(action, told):
    found = BOX.find_fault(action)
    assert found is None if told is None else told in found


def test_bounds_are_no_part_of_what_a_group_s_actions_are():
    assert Box(2) == BOX and hash(Box(2)) == hash(BOX) and Box(2) != Box(3)
    with pytest.raises(ValueError, match="bounds"):
        Box(2).draw(draws(), 1)


def test_json_comes_back_and_other_json_is_refused():
    assert from_json(BOX.as_json()) == Box(2)
    for value in ({"kind": "hexagon", "dim": 2}, {"kind": "box"}, {"kind": "box", "dim": 0}, {}):
        with pytest.raises(ConfigError):
            from_json(value)


def test_the_catalogue_s_tasks_have_boxes():
    assert {type(task.actions) for task in catalogue().tasks} == {Box}
    task = catalogue().get("hopper")
    assert task.actions == Box(task.action_dim)
