from __future__ import annotations

import numpy as np
import pytest
import yaml

from pipelines.actions import Box
from pipelines.errors import ConfigError
from pipelines.policies.base import PolicySpec
from pipelines.policies.feedback import double_pendulum_features
from pipelines.policies.metaworld_script import mean_goals
from pipelines.policies.registry import build_policy
from pipelines.tasks.registry import catalogue

ONE = np.ones(1, np.float32)
TWO = np.ones(2, np.float32)
FOUR = np.ones(4, np.float32)


def test_double_pendulum_angles_come_back_from_their_sines_and_cosines():
    angles = np.array([[0.1, -0.2], [3.0, -2.5]])
    cart, velocity = np.array([[0.3], [-1.0]]), np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    observation = np.concatenate(
        [cart, np.sin(angles), np.cos(angles), velocity, np.full((2, 1), 99.0)], axis=1
    )
    expected = np.concatenate([cart, angles, velocity], axis=1)
    np.testing.assert_allclose(double_pendulum_features(observation), expected, atol=1e-12)


def test_state_feedback_pushes_against_the_deviation():
    gain = np.array([[1.0, 2.0, 0.0, -1.0]])
    policy = build_policy(
        PolicySpec("state_feedback", {}, {"gain": gain}), Box.between(-3 * ONE, 3 * ONE)
    )
    observation = np.array([[1, 0.5, 7, 0.25], [10, 0, 0, 0]], np.float32)
    np.testing.assert_allclose(policy.act(observation), [[-1.75], [-3.0]])


def test_state_feedback_refuses_a_gain_for_another_task():
    with pytest.raises(ConfigError):
        build_policy(
            PolicySpec("state_feedback", {}, {"gain": np.ones((2, 4))}), Box.between(-ONE, ONE)
        )
    with pytest.raises(ConfigError):
        build_policy(
            PolicySpec("state_feedback", {"features": "magic"}, {"gain": np.ones((1, 4))}),
            Box.between(-ONE, ONE),
        )


def reacher_observation(joints, target):
    tip = 0.1 * np.array([np.cos(joints[0]), np.sin(joints[0])]) + 0.11 * np.array(
        [np.cos(joints.sum()), np.sin(joints.sum())]
    )
    return np.array([*np.cos(joints), *np.sin(joints), *target, 0, 0, *(tip - target)], np.float32)


def test_reacher_comes_to_rest_on_its_target():
    """Following the torques as if they were velocities ends with the fingertip on the target."""
    policy = build_policy(PolicySpec("reacher"), Box.between(-TWO, TWO))
    generator = np.random.default_rng(0)
    for _ in range(20):
        joints = generator.uniform(-np.pi, np.pi, 2)
        radius, angle = generator.uniform(0.03, 0.2), generator.uniform(-np.pi, np.pi)
        target = radius * np.array([np.cos(angle), np.sin(angle)])
        for _ in range(200):
            joints = joints + policy.act(reacher_observation(joints, target)[None])[0]
        assert np.abs(reacher_observation(joints, target)[8:10]).max() < 1e-3


def test_reacher_needs_two_joints():
    with pytest.raises(ConfigError):
        build_policy(PolicySpec("reacher"), Box.between(-ONE, ONE))
    with pytest.raises(ConfigError):
        build_policy(PolicySpec("reacher", {"first_link": 0}), Box.between(-TWO, TWO))


def test_every_metaworld_task_has_a_mean_goal():
    tasks = catalogue().select(domains=["metaworld"])
    assert len(tasks) == 50
    assert set(mean_goals()) == {task.env_id for task in tasks}
    assert all(len(goal) == 3 and np.isfinite(goal).all() for goal in mean_goals().values())


@pytest.mark.simulator
def test_the_mean_goals_are_those_of_the_environments():
    """A few fresh resets lie around the committed mean; the header names what made it."""
    from pathlib import Path

    from metaworld.env_dict import ALL_V3_ENVIRONMENTS

    import pipelines.policies

    path = Path(pipelines.policies.__file__).with_name("metaworld_goals.yaml")
    text = path.read_text()
    assert "runs/metaworld_mean_goals.py" in text.partition("assembly")[0]
    assert len(yaml.safe_load(text)) == 50
    for name in ("reach-v3", "sweep-v3"):
        env = ALL_V3_ENVIRONMENTS[name](reward_function_version="v2")
        env._freeze_rand_vec, env.seeded_rand_vec, env._set_task_called = False, True, True
        goals = []
        for seed in range(12):
            env.seed(seed)
            env.reset()
            goals.append(np.array(env._target_pos))
        env.close()
        spread = np.std(goals, axis=0)
        error = np.abs(np.mean(goals, axis=0) - mean_goals()[name])
        assert (error < 3 * spread / np.sqrt(12) + 1e-4).all()


def script(goal=(0.1, 0.8, 0.2)):
    spec = PolicySpec("metaworld_script", {"script": "reach-v3", "goal": list(goal)})
    return build_policy(spec, Box.between(-FOUR, FOUR))


def test_a_script_reads_the_mean_goal_where_the_goal_is_hidden():
    observation = np.random.default_rng(0).uniform(-0.3, 0.3, (3, 39)).astype(np.float32)
    hidden = observation.copy()
    hidden[:, 36:39] = 0
    near, far = script((0.1, 0.8, 0.2)).act(hidden), script((-0.1, 0.4, 0.2)).act(hidden)
    assert not np.array_equal(near, far)
    shown = hidden.copy()
    shown[:, 36:39] = (0.1, 0.8, 0.2)
    np.testing.assert_allclose(script((9, 9, 9)).act(shown), near, atol=1e-6)


def test_a_script_is_clipped_to_the_box_without_a_warning(recwarn):
    hidden = np.zeros((2, 39), np.float32)
    hidden[:, 0] = [5.0, -5.0]
    action = script().act(hidden)
    assert action.dtype == np.float32
    assert (np.abs(action) <= 1).all() and (np.abs(action) == 1).any()
    assert not [each for each in recwarn if "too high" in str(each.message)]


def test_an_unknown_script_is_refused():
    with pytest.raises(ConfigError):
        build_policy(
            PolicySpec("metaworld_script", {"script": "fly-v3", "goal": [0, 0, 0]}),
            Box.between(-FOUR, FOUR),
        )
