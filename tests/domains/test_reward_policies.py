"""Thompson sampling and upper confidence bounds: their indices, and that they learn bandits."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pipelines.domains.hidden_goal.reward_policies import (
    UCB,
    LinUCB,
    Thompson,
)
from pipelines.domains.registry import domain_of, full_catalogue
from pipelines.playing.episodes import RewardActor
from pipelines.playing.streams import ModelView, StreamTask, play_streams

NOTHING = np.zeros((1, 1), np.float32)


def told(policy, history, observation_BO=NOTHING):
    """A policy that has seen pulls and what they paid."""
    for arm, reward in history:
        policy._pulled_B = np.array([arm])
        policy.learn(np.array([reward]))
    return policy


def test_ucb_is_the_mean_and_the_width_of_its_interval():
    history = [(0, 1.0), (1, 0.0), (2, 1.0), (0, 0.0)]
    policy = told(UCB(3, [np.random.default_rng(0)]), history)
    time = math.log(4)
    expected = [0.5 + math.sqrt(2 * time / 2), math.sqrt(2 * time), 1 + math.sqrt(2 * time)]
    np.testing.assert_allclose(policy.indices(NOTHING)[0], expected)
    assert policy.act(NOTHING).tolist() == [2]


def test_ucb_pulls_each_arm_once_before_any_twice():
    policy, pulled = UCB(5, [np.random.default_rng(0)]), []
    for _ in range(5):
        pulled.append(int(policy.act(NOTHING)[0]))
        policy.learn(np.array([1.0]))
    assert sorted(pulled) == list(range(5))


def test_thompson_draws_from_beta_posteriors():
    """Means and variances of Beta(1 + wins, 1 + losses), arm by arm."""
    history = [(0, 1.0)] * 3 + [(0, 0.0)] + [(1, 0.0)] * 2
    policy = told(Thompson(3, [np.random.default_rng(0)]), history)
    drawn_DN = np.stack([policy.indices(NOTHING)[0] for _ in range(20_000)])
    for arm, (won, lost) in enumerate(((4, 2), (1, 3), (1, 1))):
        total = won + lost
        assert drawn_DN[:, arm].mean() == pytest.approx(won / total, abs=0.01)
        variance = won * lost / (total**2 * (total + 1))
        assert drawn_DN[:, arm].var() == pytest.approx(variance, abs=0.002)


def test_the_posterior_of_weights_is_that_of_ridge_regression():
    """Prior variance 1/2 a weight and noise of variance 1: (2 I + C'C)^-1 C'r."""
    draw = np.random.default_rng(0)
    context_TX, reward_T = draw.standard_normal((30, 2)), draw.standard_normal(30)
    policy = LinUCB(2, [draw])
    for context_X, reward in zip(context_TX, reward_T, strict=True):
        policy.act(np.array([[*context_X, 0]], np.float32))
        policy._pulled_B = np.array([1])
        policy.learn(np.array([reward]))
    covariance_XX = np.linalg.inv(2 * np.eye(2) + context_TX.T @ context_TX)
    weight_X = covariance_XX @ context_TX.T @ reward_T
    now_X = np.array([0.3, -0.8])
    policy.act(np.array([[*now_X, 0]], np.float32))
    std = math.sqrt(now_X @ covariance_XX @ now_X)
    prior = math.sqrt(now_X @ now_X / 2)
    np.testing.assert_allclose(policy.estimates()[0][0], [0, weight_X @ now_X], rtol=1e-5)
    np.testing.assert_allclose(policy.estimates()[1][0], [prior, std], rtol=1e-5)
    np.testing.assert_allclose(
        policy.indices(NOTHING)[0], [prior, weight_X @ now_X + std], rtol=1e-5
    )


def streams(name, count=64, shots=20):
    view = ModelView("none", None)
    options = {"goal": "demonstrator", "goals": "all"}
    return StreamTask(full_catalogue().get(name), options, shots, tuple(range(count)), view)


@pytest.mark.parametrize("policy", ["thompson", "ucb"])
@pytest.mark.parametrize("name", ["bernoulli-bandit-5", "contextual-bandit-5"])
def test_they_learn_over_episodes(name, policy):
    """Returns of the last of 20 episodes come near the expert's; pulls of a copy are its own."""
    task = streams(name)

    def actor_of(task, batch):
        generators = [np.random.default_rng(copy) for copy in range(batch.size)]
        return RewardActor(domain_of(task.spec).reward_policy(task.spec, policy, generators))

    records = play_streams([task], actor_of, seed=0)[name]
    returns_SE = np.stack([records[stream].episode_return_E for stream in range(64)])
    score = task.spec.scores["measured"]
    last = float(score.normalize(returns_SE[:, -5:].mean()))
    assert float(score.normalize(returns_SE[:, 0].mean())) < last
    # UCB1 explores for longer than 400 pulls.
    assert last > (0.65 if policy == "ucb" else 0.85)


def test_names():
    catalogue = full_catalogue()
    for name, expected in (
        ("bernoulli-bandit-20", ("thompson", "ucb")),
        ("contextual-bandit-50", ("thompson", "ucb")),
        ("dark-room", ()),
        ("reach", ()),
    ):
        task = catalogue.get(name)
        assert domain_of(task).reward_policies(task) == expected
