from __future__ import annotations

import io

import numpy as np
import pytest

from demonstrators.conftest import get
from demonstrators.test_train import assert_killed_resumes
from pipelines.demonstrators.evaluate import Evaluator
from pipelines.demonstrators.train import train_policy
from pipelines.errors import ConfigError
from pipelines.learners.evolution import (
    EvolutionLearner,
    EvolutionSettings,
    Layout,
    best_pairs_direction,
)
from pipelines.learners.settings import TrainSettings
from pipelines.policies.registry import build_policy

SMALL = {"pairs": 4, "copies": 2, "hidden": (5,)}


def settings(total_steps=1500, normalize=True, **hyperparameters):
    return TrainSettings(
        algorithm="es",
        total_steps=total_steps,
        segment_steps=500,
        evaluation_episodes=3,
        normalize_observations=normalize,
        hyperparameters={**SMALL, **hyperparameters},
    )


def learner(given, name="tiny-a", seed=0):
    task, domain, options = get(name)
    return EvolutionLearner(given, task, domain, options, seed)


def train(given, directory, advance=None, name="tiny-a"):
    task, domain, options = get(name)
    with Evaluator(task, domain, options, seed=3) as evaluator:
        return train_policy(given, evaluator, options, directory, advance)


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"policy": "linear", "normalize": False},
        {"rule": "ars"},
    ],
)
def test_a_resumed_training_equals_an_uninterrupted_one(more, tmp_path, monkeypatch):
    given = settings(**more)
    assert_killed_resumes(
        lambda directory, advance: train(given, directory, advance), tmp_path, monkeypatch, 700
    )


def test_segments_leave_no_trace(tmp_path):
    """One segment or many: the same search, so the same policy at the same step."""
    one, many = learner(settings()), learner(settings())
    one.learn(1500)
    for until in (400, 800, 1500):
        many.learn(until)
        dumped = many.dump()
        many.close()
        many = learner(settings())
        many.load(dumped)
    assert one.dump() == many.dump() and one.steps >= 1500


def test_checkpoints_hold_plain_arrays():
    trained = learner(settings())
    trained.learn(300)
    with np.load(io.BytesIO(trained.dump()), allow_pickle=False) as file:
        assert all(file[name].dtype != object for name in file.files)
        assert int(file["steps"]) == trained.steps


@pytest.mark.parametrize("output", ["clip", "tanh_squash"])
@pytest.mark.parametrize("policy", ["mlp", "linear"])
def test_the_policy_acts_as_its_candidate_did(policy, output):
    """The stored policy against the actor of the search, on the same observations."""
    given = settings(policy=policy, output=output, hidden=(5, 4))
    trained = learner(given)
    trained.learn(300)
    batch = trained.make_copies([0])
    observation = np.random.default_rng(0).normal(size=(1, 3)).astype(np.float32)
    parameters = trained._state.parameters_D[None].astype(np.float32)
    expected = trained._actor(parameters, batch)(observation)
    stored = build_policy(trained.policy(), batch.actions)
    np.testing.assert_allclose(stored.act(observation), expected, atol=2e-6)


def test_a_search_finds_a_better_policy(tmp_path):
    """The tiny task with its spring: the return without control is far below a trained one's."""
    trained = train(settings(15_000, noise=0.2, pairs=8, policy="linear"), tmp_path / "run")
    assert (trained.steps, max(mean for _, mean in trained.curve)) in trained.curve
    task, domain, options = get("tiny-a")
    with Evaluator(task, domain, options, seed=5) as evaluator:
        random = evaluator.random(40).returns_E.mean()
        found = evaluator.policy(trained.policy, 40).returns_E.mean()
    assert found > random / 2


@pytest.mark.simulator
def test_all_candidates_play_the_same_episodes_whether_together_or_in_turn():
    """A vectorised domain plays all at once; the returns are those of playing one by one."""
    task, domain, options = get("industrial-benchmark-50")
    given = settings(pairs=2, copies=2, normalize=False)
    together = EvolutionLearner(given, task, domain, options, 0)
    together.learn(1)
    assert together.batch.size == 8 and together.steps == 8 * 250

    class OneByOne(type(domain)):
        vectorized = False

    in_turn = EvolutionLearner(given, task, OneByOne(), options, 0)
    in_turn.learn(1)
    assert in_turn.batch.size == 1 and in_turn.steps == 8 * 250
    expected = together.policy().arrays
    for name, found in in_turn.policy().arrays.items():
        np.testing.assert_allclose(found, expected[name], rtol=1e-6)


def test_the_rule_of_random_search_counts_the_best_pairs_alone():
    """Against the rule written out for two of four pairs."""
    steps = np.random.default_rng(0).normal(size=(4, 11))
    plus, minus = np.array([1.0, 7.0, 2.0, 0.0]), np.array([3.0, 1.0, 2.5, 9.0])
    found = best_pairs_direction(np.concatenate([plus, minus]), steps, 2)
    sigma = np.std([7.0, 1.0, 0.0, 9.0])
    np.testing.assert_allclose(found, (6 * steps[1] - 9 * steps[3]) / (2 * sigma))


def test_the_alive_bonus_is_left_out():
    plain, without = learner(settings()), learner(settings(alive_bonus=1.0))
    candidates = np.repeat(plain._state.parameters_D[None], 2, axis=0)
    before, after = plain._play(candidates), without._play(candidates)
    length = plain.steps / 4
    np.testing.assert_allclose(before - after, length)


def test_statistics_are_those_of_all_observations():
    trained = learner(settings())
    rows = [np.random.default_rng(k).normal(k, 2, (20 + k, 3)).astype(np.float32) for k in (0, 1)]
    for each in rows:
        trained._observe(each)
    both = np.concatenate(rows).astype(np.float64)
    mean, std = trained._normalization()
    np.testing.assert_allclose(mean, both.mean(axis=0))
    np.testing.assert_allclose(std, both.std(axis=0))


def test_a_layout_covers_every_parameter_once():
    layout = Layout(EvolutionSettings(hidden=(5, 4)), 3, 2)
    parameters = np.arange(2 * layout.size, dtype=float).reshape(2, -1)
    parts = [part.reshape(2, -1) for layer in layout.layers(parameters) for part in layer]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), parameters)
    assert layout.size == 3 * 5 + 5 + 5 * 4 + 4 + 4 * 2 + 2


@pytest.mark.parametrize(
    "wrong", [{"speed": 3}, {"noise": 0}, {"policy": "cnn"}, {"hidden": ["x"]}, {"final": 2}]
)
def test_wrong_hyperparameters_are_a_configuration_error(wrong):
    with pytest.raises(ConfigError, match="algorithm es"):
        learner(settings(**wrong))


def test_normalised_rewards_are_refused():
    given = settings().model_copy(update={"normalize_rewards": True})
    with pytest.raises(ConfigError, match="normalised rewards"):
        learner(given)
