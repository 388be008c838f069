"""What the fast Meta-World environments compute is what the untouched package computes."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest

from pipelines.domains.registry import find_domain, full_catalogue, resolve_options

pytestmark = pytest.mark.simulator

NAMES = [task.name for task in full_catalogue().tasks if task.domain == "metaworld"]
# Bodies moved in the model (door-open, window-open, box-close), a fixed model (reach, push), a
# gripper reward that reads live views (push-back).
FAST = ("box-close", "door-open", "push", "push-back", "reach", "window-open")
EVERY = [pytest.param(name, marks=[] if name in FAST else [pytest.mark.slow]) for name in NAMES]

Step = tuple[bytes, float, bool, bool, float, float]


def make(name: str, **options: Any) -> Any:
    domain = find_domain("metaworld")
    return domain.make_env(full_catalogue().get(name), resolve_options(domain, options))


def untouched(name: str, seed: int, *, visible: bool = False) -> Any:
    """A fresh instance of the package's class, seeded the package's way."""
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS

    env = ALL_V3_ENVIRONMENTS[f"{name}-v3"](reward_function_version="v2")
    env._freeze_rand_vec = False
    env.seeded_rand_vec = True
    env._set_task_called = True
    if visible:
        env._partially_observable = False
        env.__dict__.pop("sawyer_observation_space", None)
    env.max_path_length = 100
    env.seed(seed)
    return env


def episode(env: Any, first: Any, script: Any = None) -> tuple[bytes, list[Step]]:
    rng = np.random.default_rng(1)
    observation = first
    steps = []
    for _ in range(100):
        action = rng.uniform(-1, 1, 4) if script is None else script(observation)
        action = np.clip(action, -1, 1).astype(np.float32)
        observation, reward, terminated, truncated, info = env.step(action)
        steps.append(
            (
                observation.tobytes(),
                float(reward),
                terminated,
                truncated,
                float(info["success"]),
                float(info["grasp_success"]),
            )
        )
    return first.tobytes(), steps


@pytest.mark.parametrize("name", EVERY)
def test_a_used_instance_gives_the_bytes_of_a_fresh_untouched_one(name: str) -> None:
    env = make(name)
    for seed in (5, 77, 5):
        expected_env = untouched(name, seed)
        expected = episode(expected_env, expected_env.reset()[0])
        assert episode(env, env.reset(seed=seed)[0]) == expected


@functools.cache
def script_of(name: str) -> Any:
    from metaworld.policies import ENV_POLICY_MAP

    return ENV_POLICY_MAP[f"{name}-v3"]().get_action


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", EVERY)
def test_contact_rich_episodes_with_a_visible_goal_agree_too(name: str) -> None:
    """The scripted policy touches, grasps and moves the object, as random actions seldom do."""
    expected_env = untouched(name, 9, visible=True)
    first = expected_env.reset()[0]
    env = make(name, goal="visible")
    assert episode(env, env.reset(seed=9)[0], script_of(name)) == episode(
        expected_env, first, script_of(name)
    )


@pytest.mark.parametrize("name", FAST)
def test_unseeded_resets_continue_the_generator_of_the_last_seed(name: str) -> None:
    expected_env = untouched(name, 4)
    # The package's own second reset depends on where the first episode ended only through the
    # frame it stacks, so the places of goal and objects are compared.
    expected_env.reset()
    expected_env.reset()
    env = make(name)
    env.reset(seed=4)
    env.reset()
    np.testing.assert_array_equal(env._last_rand_vec, expected_env._last_rand_vec)
    np.testing.assert_array_equal(env._target_pos, expected_env._target_pos)


def test_quaternions_of_matrices_are_scipys_to_the_last_bit() -> None:
    import mujoco
    from scipy.spatial.transform import Rotation

    from pipelines.domains.sawyer import matrix_to_quaternion

    rng = np.random.default_rng(0)
    for kind in range(2000):
        quaternion = rng.normal(size=4)
        # Near each axis, near none, near the identity, and with exact zeros.
        quaternion[kind % 4] += (0.0, 20.0, 1e5)[kind % 3]
        quaternion[rng.integers(4)] *= kind % 7 > 0
        matrix = np.empty(9)
        mujoco.mju_quat2Mat(matrix, quaternion / np.linalg.norm(quaternion))
        expected = Rotation.from_matrix(matrix.reshape(3, 3)).as_quat()
        assert np.array(matrix_to_quaternion(matrix)).tobytes() == expected.tobytes()
    assert matrix_to_quaternion(np.ones(9)) is None
    assert matrix_to_quaternion(np.full(9, np.nan)) is None
