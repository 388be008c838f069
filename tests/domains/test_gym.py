"""Every task is a plain Gymnasium environment that others' code can use."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import warnings
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import pipelines.domains.gym as vintix_gym
from pipelines.domains.registry import domain_of, full_catalogue, resolve_options
from pipelines.errors import MissingDependencyError, UsageError

pytestmark = pytest.mark.simulator


def test_every_task_and_variation_is_registered_once() -> None:
    known = full_catalogue()
    names = {task.name for task in (*known.tasks, *known.variations)}
    registered = {
        spec.id.removeprefix("vintix/")
        for spec in gymnasium.registry.values()
        if spec.namespace == "vintix"
    }
    assert names <= registered
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        vintix_gym.register()


def run(code: str) -> None:
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


@pytest.mark.process
def test_registering_imports_no_simulator() -> None:
    run(
        "import sys, gymnasium, pipelines.domains.gym\n"
        "assert gymnasium.spec('vintix/hopper').kwargs == {'task': 'hopper'}\n"
        "loaded = {'torch', 'mujoco', 'metaworld', 'pydantic'} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
    )


@pytest.mark.process
def test_an_id_that_names_the_module_needs_no_import() -> None:
    run(
        "import gymnasium\n"
        "env = gymnasium.make('pipelines.domains.gym:vintix/reacher', viscosity=0.05)\n"
        "assert env.unwrapped.model.opt.viscosity == 0.05\n"
    )


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("hopper", {}),
        ("pusher", {"gravity": 1.1}),
        ("ant-viscosity-0.05", {}),
        ("reach", {}),
        ("window-open", {"goal": "visible"}),
        ("push", {"goal_reset": "trajectory"}),
        ("industrial-benchmark-50", {}),
    ],
)
def test_gymnasiums_checker_passes(name: str, options: dict[str, Any]) -> None:
    env = gymnasium.make(f"vintix/{name}", **options)
    check_env(env, skip_render_check=True)
    check_env(env.unwrapped, skip_render_check=True)
    env.close()


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", ["hopper", "reach", "industrial-benchmark-50"])
def test_it_gives_the_observations_that_the_stages_record(name: str) -> None:
    task = full_catalogue().get(name)
    domain = domain_of(task)
    batch = domain.make_batch(task, 1, resolve_options(domain, {}), [0])
    env = gymnasium.make(f"vintix/{name}")
    first, _ = env.reset(seed=6)
    assert first.dtype == np.float32
    np.testing.assert_array_equal(batch.reset([0], [6])[0], first)
    rng = np.random.default_rng(0)
    for _ in range(8):
        action = rng.uniform(*batch.actions.bounds).astype(np.float32)
        observation, reward, *_ = env.step(action)
        done = batch.step(action[None])
        np.testing.assert_array_equal(done.observation_BO[0], observation)
        assert done.reward_B[0] == reward


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", ["reacher", "reach", "industrial-benchmark-50"])
def test_an_episode_ends_once_at_the_horizon(name: str) -> None:
    env = gymnasium.make(f"vintix/{name}")
    env.reset(seed=0)
    horizon = full_catalogue().get(name).horizon
    ends = [any(env.step(np.zeros_like(env.action_space.sample()))[2:4]) for _ in range(horizon)]
    assert ends == [False] * (horizon - 1) + [True]


def episodes(env: Any, seed: int) -> list[bytes]:
    """Return what 30 steps of random actions bring, resets without a seed included."""
    rng = np.random.default_rng(seed)
    low, high = env.action_space.low, env.action_space.high
    seen = [env.reset(seed=seed)[0].tobytes()]
    for step in range(30):
        observation, reward, terminated, truncated, _ = env.step(
            rng.uniform(low, high).astype(np.float32)
        )
        seen.append(observation.tobytes() + np.float64(reward).tobytes())
        if terminated or truncated or step == 20:
            seen.append(env.reset()[0].tobytes())
    return seen


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("hopper", {"gravity": 2.0}),
        ("swimmer", {"viscosity": "0.5x"}),
        ("ant-viscosity-0.05", {}),
        ("window-open", {"goal": "visible"}),
        ("push", {"goal_reset": "trajectory"}),
        ("industrial-benchmark-50", {"reward": "delta"}),
        ("industrial-benchmark-50", {"backend": "reference"}),
        ("hand-over", {"clip": "off"}),
    ],
)
def test_copies_play_the_episodes_of_the_original(name: str, options: dict[str, Any]) -> None:
    """What is set on an environment is in its copies, too, however they are made."""
    env: Any = gymnasium.make(f"vintix/{name}", **options)
    env.reset(seed=0)
    env.step(env.action_space.sample())
    copies = [copy.deepcopy(env), pickle.loads(pickle.dumps(env)), copy.deepcopy(env.unwrapped)]
    assert [each.spec for each in copies[:2]] == [env.spec] * 2
    plain, inner = episodes(env, 4), episodes(env.unwrapped, 4)
    assert episodes(copies[0], 4) == plain
    assert episodes(copies[1], 4) == plain
    assert episodes(copies[2], 4) == inner
    again = [copy.deepcopy(each) for each in copies[:2]]
    assert [episodes(each, 5) for each in again] == [episodes(env, 5)] * 2


def test_a_copy_keeps_the_goal_of_a_trajectory() -> None:
    task = full_catalogue().get("push")
    domain = domain_of(task)
    options = resolve_options(domain, {"goal_reset": "trajectory"})
    env = domain.make_env(task, options)
    domain.begin_stream(env, options, 7)
    assert episodes(copy.deepcopy(env), 1) == episodes(env, 1)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["hopper", "reach", "industrial-benchmark-50", "hand-over"])
def test_other_libraries_take_it(name: str) -> None:
    from gymnasium.wrappers import TimeAwareObservation
    from stable_baselines3.common import env_checker

    env = gymnasium.make(f"vintix/{name}")
    env_checker.check_env(env, warn=False, skip_render_check=True)
    env_checker.check_env(env.unwrapped, warn=False, skip_render_check=True)
    assert env.spec is not None
    assert env.spec.max_episode_steps == full_catalogue().get(name).horizon
    assert gymnasium.spec(f"vintix/{name}").max_episode_steps == env.spec.max_episode_steps
    timed: Any = TimeAwareObservation(env)
    assert timed.reset(seed=0)[0].shape == (full_catalogue().get(name).observation_dim + 1,)
    timed.close()


def test_options_are_checked_as_on_the_command_line() -> None:
    env: Any = gymnasium.make("vintix/hopper", gravity=1.1)
    assert env.unwrapped.model.opt.gravity[2] == pytest.approx(-9.81 * 1.1)
    with pytest.raises(UsageError, match="viscosity"):
        gymnasium.make("vintix/hopper", viscosity=-1)
    with pytest.raises(UsageError, match="gravity"):
        gymnasium.make("vintix/reach", gravity=1)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("hopper", "rgb_array"),
        ("reach", "rgb_array"),
        ("industrial-benchmark-50", "rgb_array"),
        ("hopper", "ansi"),
    ],
)
def test_a_render_mode_reaches_the_simulators_that_draw(name: str, mode: str) -> None:
    made = gymnasium.make(f"vintix/{name}", render_mode=mode)
    assert made.render_mode == (mode if mode == "rgb_array" else None)


def test_a_task_without_a_simulator_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VINTIX_ISAACGYM", raising=False)
    with pytest.raises(MissingDependencyError, match="Isaac Gym"):
        gymnasium.make("vintix/hand-over", backend="isaacgym")


def test_the_spec_of_an_environment_makes_it_again() -> None:
    env = gymnasium.make("vintix/hopper", gravity=0.9)
    assert env.spec is not None
    again: Any = gymnasium.make(env.spec)
    assert again.unwrapped.model.opt.gravity[2] == pytest.approx(-9.81 * 0.9)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", ["hopper", "reach", "industrial-benchmark-50"])
def test_stable_baselines3_learns_on_it(name: str) -> None:
    from stable_baselines3 import PPO

    model = PPO("MlpPolicy", f"vintix/{name}", n_steps=64, batch_size=64, device="cpu", seed=0)
    model.learn(128)
    assert model.num_timesteps == 128
