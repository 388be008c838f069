from __future__ import annotations

import numpy as np
import pytest

from demonstrators.conftest import get
from pipelines.demonstrators.evaluate import Evaluator
from pipelines.demonstrators.experts import builtin_policy, has_builtin, read_experts
from pipelines.domains.loop import actions_of_space
from pipelines.errors import VintixError
from pipelines.policies.base import Policy, PolicySpec
from pipelines.policies.registry import build_policy
from pipelines.rng import derive_seed, stream


def test_random_play_is_uniform_actions_from_keyed_streams():
    """Against a plain loop over one environment: same seeds, same draws, same returns."""
    task, domain, options = get("tiny-a")
    with Evaluator(task, domain, options, seed=7) as evaluator:
        found = evaluator.random(7)
    env = domain.make_env(task, options)
    low, high = env.action_space.low, env.action_space.high
    for episode in range(7):
        key = (7, "demonstrators", "tiny-a", "random")
        env.reset(seed=derive_seed(*key, "episode", episode))
        draws = stream(*key, episode)
        total, length, success, over = 0.0, 0, False, False
        while not over:
            action = (low + (high - low) * draws.random(1)).astype(np.float32)
            _, reward, terminated, truncated, info = env.step(np.clip(action, low, high))
            total, length, over = total + reward, length + 1, terminated or truncated
            success |= info["success"]
        assert found.returns_E[episode] == total
        assert found.lengths_E[episode] == length
        assert found.success_E[episode] == success


def test_a_policy_is_measured_as_in_a_plain_loop():
    task, domain, options = get("tiny-a")
    spec = domain.demonstrator(task)
    with Evaluator(task, domain, options, seed=1) as evaluator:
        found = evaluator.policy(spec, 12)
    env = domain.make_env(task, options)
    policy = build_policy(spec, actions_of_space(env.action_space))
    for episode in range(12):
        seed = derive_seed(1, "demonstrators", "tiny-a", "expert", "episode", episode)
        observation, over, total = env.reset(seed=seed)[0], False, 0.0
        while not over:
            action = policy.act(observation[None].astype(np.float32))[0]
            observation, reward, _, over, _ = env.step(action)
            total += reward
        assert found.returns_E[episode] == total


def test_an_episode_does_not_depend_on_how_many_are_played():
    task, domain, options = get("tiny-a")
    with Evaluator(task, domain, options, seed=1) as evaluator:
        few, many = evaluator.random(3), evaluator.random(11)
    with Evaluator(task, domain, options, seed=1, per_episode_copies=True) as evaluator:
        apart = evaluator.random(11)
    np.testing.assert_array_equal(few.returns_E, many.returns_E[:3])
    np.testing.assert_array_equal(apart.returns_E, many.returns_E)


def test_every_step_is_told_once():
    task, domain, options = get("tiny-a")
    told = []
    with Evaluator(task, domain, options, seed=1) as evaluator:
        found = evaluator.random(6, told.append)
    assert sum(told) == found.lengths_E.sum()


def test_a_policy_that_gives_no_number_is_named():
    task, domain, options = get("tiny-a")

    class Bad(Policy):
        def act(self, observation_BO):
            return np.full((len(observation_BO), 1), np.nan, np.float32)

    domain.policies = lambda: {"bad": lambda *_: Bad()}
    try:
        with (
            Evaluator(task, domain, options, seed=1) as evaluator,
            pytest.raises(VintixError, match="tiny-a: an action"),
        ):
            evaluator.policy(PolicySpec("bad"), 3)
    finally:
        del domain.policies


@pytest.mark.simulator
@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("inverted-pendulum", 1000, 1000),
        ("inverted-double-pendulum", 9350, 9365),
        ("inverted-pendulum-gravity-1.1x", 1000, 1000),
        ("reacher", -6, 0),
        ("drawer-open", 640, 760),
    ],
)
def test_builtin_experts_of_real_tasks(name, low, high):
    """Returns of facts/environments.md, section D; of drawer-open, of its measured way-points."""
    from pipelines.domains.registry import full_catalogue

    if name == "inverted-pendulum-gravity-1.1x":
        name = next(
            task.name
            for task in full_catalogue().variations
            if task.variation_of == "inverted-pendulum" and "gravity" in (task.variation or {})
        )
    task, domain, options = get(name)
    assert has_builtin(task, domain)
    episodes = 20 if task.horizon <= 100 and task.domain == "mujoco" else 2
    with Evaluator(task, domain, options, seed=0) as evaluator:
        found = evaluator.policy(builtin_policy(task, domain, options), episodes)
    assert low <= found.returns_E.mean() <= high
    if task.domain == "metaworld":
        assert found.success_E.all()


def test_which_tasks_have_a_builtin():
    from pipelines.domains.registry import domain_of, full_catalogue

    having = [task for task in full_catalogue().tasks if has_builtin(task, domain_of(task))]
    names = {task.name for task in having}
    untrained = {"inverted-pendulum", "inverted-double-pendulum", "reacher"}
    trained = set(read_experts("mujoco"))
    assert {"hopper", "pusher", "swimmer"} <= trained and not trained & untrained
    assert {task.name for task in having if task.domain == "mujoco"} == untrained | trained
    assert sum(task.domain == "metaworld" for task in having) == 50
    assert {"tiny-a", "tiny-b", "tiny-c"} <= names and "tiny-bare" not in names
