"""Kinds of actions: uniform draws, noise, what a model sees, faults, and the spec as JSON."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipelines.actions import Box, Discrete, actions_of, box_of, from_json
from pipelines.errors import ConfigError, VintixError
from pipelines.tasks.registry import catalogue

LOW, HIGH = np.array([-1, -2], np.float32), np.array([1, 4], np.float32)
BOX, CHOICE = Box.between(LOW, HIGH), Discrete(3)


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
    mixer = BOX.mixer(draws(), epsilon)
    for step in range(5):
        expected = (1 - epsilon[step]) * policy + epsilon[step] * random[step]
        np.testing.assert_allclose(mixer(step, policy), expected, atol=1e-6)
    np.testing.assert_array_equal(mixer(0, policy), policy)


@pytest.mark.parametrize("spec", [BOX, CHOICE])
def test_each_copy_may_have_noise_of_its_own(spec):
    """A row of it counts when its step is mixed, as where an episode before has set it."""
    steps, policy = 9, spec.idle(3)
    epsilon = np.zeros((steps, 3), np.float32)
    levels = np.float32([0.0, 0.4, 1.0])
    mixer = spec.mixer(draws(), epsilon)
    alike = [spec.mixer(draws(), np.full(steps, level, np.float32)) for level in levels]
    for step in range(steps):
        epsilon[step] = np.roll(levels, step)
        mixed = mixer(step, policy)
        expected = [each(step, policy) for each in alike]
        for copy in range(3):
            np.testing.assert_allclose(mixed[copy], expected[(copy - step) % 3][copy], atol=1e-6)


def test_mixed_actions_are_new_arrays_within_the_bounds():
    mixer = BOX.mixer(draws(1), np.zeros(1, np.float32))
    beyond = np.array([[5, -5]], np.float32)
    mixed = mixer(0, beyond)
    np.testing.assert_array_equal(mixed, [[1, -2]])
    mixed[:] = 0
    np.testing.assert_array_equal(beyond, [[5, -5]])


def test_a_model_sees_the_actions_and_is_clipped_to_the_bounds():
    stored = np.array([[0.5, 3]], np.float32)
    assert torch.equal(BOX.encode(torch.from_numpy(stored)), torch.from_numpy(stored))
    np.testing.assert_array_equal(BOX.decode(np.array([[2.0, -9.0]])), [[1, -2]])
    assert BOX.decode(np.array([[2.0, -9.0]])).dtype == np.float32


def test_a_choice_is_one_whole_number_and_a_channel_each():
    assert (CHOICE.row_shape, CHOICE.row_dtype, CHOICE.width) == ((), "int64", 3)
    shown = CHOICE.encode(torch.tensor([[0, 2]]))
    assert shown.tolist() == [[[1, 0, 0], [0, 0, 1]]] and shown.dtype == torch.float32
    decoded = CHOICE.decode(np.array([2, 0], np.int32))
    assert decoded.tolist() == [2, 0] and decoded.dtype == np.int64
    assert CHOICE.idle(2).tolist() == [0, 0]
    assert BOX.idle(1).tolist() == [[0, 0]] and Box.between(-LOW, HIGH).idle(1)[0, 0] == 1
    for spec in (BOX, CHOICE):
        drawn = spec.draw(draws(), 1)
        assert spec.space.contains(drawn[0, 0]) and spec.find_fault(drawn) is None


def test_choices_are_drawn_evenly_and_by_each_copy_s_own_numbers():
    drawn = CHOICE.draw(draws(), 3000)
    assert drawn.shape == (3000, 3) and drawn.dtype == np.int64
    np.testing.assert_allclose(np.bincount(drawn.ravel()) / drawn.size, 1 / 3, atol=0.02)
    np.testing.assert_array_equal(drawn[:, 1:2], CHOICE.draw(draws()[1:2], 3000))


def test_noise_takes_the_place_of_a_choice_with_probability_epsilon():
    steps, policy = 4000, np.array([2, 0, 1])
    for epsilon in (0.0, 0.3, 1.0):
        mixer = CHOICE.mixer(draws(), np.full(steps, epsilon, np.float32))
        mixed = np.stack([mixer(step, policy) for step in range(steps)])
        # A random choice is the policy's own in a third of the cases.
        expected = 1 - epsilon * 2 / 3
        np.testing.assert_allclose((mixed == policy).mean(0), expected, atol=0.03)
        assert mixed.dtype == np.int64 and (mixed >= 0).all() and (mixed < 3).all()
    assert policy.tolist() == [2, 0, 1]
    for wrong in (np.array([0.0, 1, 1]), np.zeros((3, 2), np.int64)):
        with pytest.raises(VintixError, match="one discrete action"):
            CHOICE.mixer(draws(), np.zeros(1, np.float32))(0, wrong)


@pytest.mark.parametrize(
    ("action", "told"),
    [
        (np.array([[0, 2]]), None),
        (np.array([[0, 3]]), "3"),
        (np.array([-1]), "-1"),
        (np.zeros(2, np.float32), "float32"),
    ],
)
def test_faults_of_choices_are_told(action, told):
    found = CHOICE.find_fault(action)
    assert found is None if told is None else told in found


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
    assert from_json(CHOICE.as_json()) == CHOICE != Discrete(4)
    assert actions_of({"action_dim": 3}) == Box(3)
    assert actions_of({"action_dim": 3, "actions": CHOICE.as_json()}) == CHOICE
    for value in (
        {"kind": "discrete", "n": 1},
        {"kind": "discrete", "n": 2.0},
        {"kind": "hexagon", "dim": 2},
        {"kind": "box"},
        {"kind": "box", "dim": 0},
        {},
    ):
        with pytest.raises(ConfigError):
            from_json(value)


def test_the_catalogue_s_tasks_have_boxes():
    assert {type(task.actions) for task in catalogue().tasks} == {Box}
    task = catalogue().get("hopper")
    assert task.actions == Box(task.action_dim)


def test_what_needs_continuous_actions_says_so():
    assert box_of(BOX, "it", 2) is BOX
    for actions, dim in ((CHOICE, None), (BOX, 3)):
        with pytest.raises(ConfigError, match="it does not fit"):
            box_of(actions, "it", dim)
