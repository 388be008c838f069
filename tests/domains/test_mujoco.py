"""MuJoCo tasks: variations change what they say and nothing else, limits and seeds hold."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest

from pipelines.domains.registry import domain_of, find_domain, full_catalogue, resolve_options
from pipelines.tasks.spec import TaskSpec

pytestmark = pytest.mark.simulator

TASKS = [task for task in full_catalogue().tasks if task.domain == "mujoco"]
VARIATIONS = [task for task in full_catalogue().variations if task.domain == "mujoco"]


def make(task: TaskSpec | str, **options: Any) -> Any:
    spec = full_catalogue().get(task) if isinstance(task, str) else task
    domain = domain_of(spec)
    return domain.make_env(spec, resolve_options(domain, options))


def rollout(env: Any, steps: int, seed: int = 3) -> list[bytes]:
    rng = np.random.default_rng(0)
    space = env.action_space
    seen = [env.reset(seed=seed)[0].tobytes()]
    for _ in range(steps):
        action = rng.uniform(space.low, space.high).astype(np.float32)
        observation, reward, terminated, truncated, _ = env.step(action)
        seen.append(observation.tobytes() + np.float64(reward).tobytes())
        if terminated or truncated:
            seen.append(env.reset(seed=seed + 1)[0].tobytes())
    return seen


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_a_task_equals_gymnasiums_own_to_the_last_bit(task: TaskSpec) -> None:
    env = make(task)
    assert env.observation_space.shape == (task.observation_dim,)
    assert env.action_space.shape == (task.action_dim,)
    assert rollout(env, 40) == rollout(gymnasium.make(task.env_id), 40)


@pytest.mark.parametrize("task", VARIATIONS, ids=lambda task: task.name)
def test_a_variation_changes_what_it_says_and_keeps_it_over_resets(task: TaskSpec) -> None:
    assert task.variation_of is not None
    base, varied = make(task.variation_of), make(task)
    (name, value), *others = (task.variation or {}).items()
    assert not others
    default, changed = base.unwrapped.model.opt, varied.unwrapped.model.opt
    varied.reset(seed=0)
    if name == "gravity":
        factor = float(str(value).removesuffix("x"))
        np.testing.assert_array_equal(changed.gravity, default.gravity * factor)
        assert changed.viscosity == default.viscosity
    else:
        assert changed.viscosity == value
        np.testing.assert_array_equal(changed.gravity, default.gravity)
    same = rollout(base, 25) == rollout(varied, 25)
    assert same == task.inert, "the catalogue marks exactly the variations that change nothing"


def test_seven_variations_are_inert() -> None:
    assert sum(task.inert for task in VARIATIONS) == 7
    assert len(VARIATIONS) == 44


def test_an_explicit_option_wins_over_the_variation_and_joins_the_other_one() -> None:
    env = make("hopper-gravity-1.1", gravity=1, viscosity="0.05")
    assert env.unwrapped.model.opt.gravity[2] == -9.81
    assert env.unwrapped.model.opt.viscosity == 0.05
    assert make("hopper-gravity-1.1").unwrapped.model.opt.gravity[2] == pytest.approx(-10.791)


def test_the_options_of_a_variation_give_the_same_bytes_as_the_variation() -> None:
    assert rollout(make("walker2d", gravity=1.1), 30) == rollout(make("walker2d-gravity-1.1"), 30)


def test_a_factor_on_viscosity_scales_the_default() -> None:
    assert make("swimmer", viscosity="0.5x").unwrapped.model.opt.viscosity == 0.05


@pytest.mark.parametrize("name", ["reacher", "half-cheetah"])
def test_an_episode_is_truncated_at_its_horizon_and_not_before(name: str) -> None:
    task = full_catalogue().get(name)
    env = make(task)
    env.reset(seed=0)
    action = np.zeros(task.action_dim, np.float32)
    ends = [env.step(action)[2:4] for _ in range(task.horizon)]
    assert ends[:-1] == [(False, False)] * (task.horizon - 1)
    assert ends[-1] == (False, True)


def test_a_batch_of_copies_equals_single_environments() -> None:
    task = full_catalogue().get("hopper")
    domain = find_domain("mujoco")
    options = resolve_options(domain, {"gravity": 0.9})
    batch = domain.make_batch(task, 3, options, [0, 0, 0])
    single = [domain.make_env(task, options) for _ in range(3)]
    np.testing.assert_array_equal(
        batch.reset([2, 0, 1], [12, 10, 11]),
        [single[i].reset(seed=10 + i)[0].astype(np.float32) for i in (2, 0, 1)],
    )
    rng = np.random.default_rng(0)
    ended = 0
    for step in range(60):
        action_BA = rng.uniform(-1, 1, (3, 3)).astype(np.float32)
        done = batch.step(action_BA)
        assert done.observation_BO.dtype == np.float32
        for i, env in enumerate(single):
            observation, reward, terminated, truncated, _ = env.step(action_BA[i])
            np.testing.assert_array_equal(done.observation_BO[i], observation.astype(np.float32))
            assert done.reward_B[i] == reward
            assert (done.terminated_B[i], done.truncated_B[i]) == (terminated, truncated)
            if terminated or truncated:
                ended += 1
                np.testing.assert_array_equal(
                    batch.reset([i], [step])[0], env.reset(seed=step)[0].astype(np.float32)
                )
    assert ended > 0
    batch.close()


def test_the_global_generator_is_left_alone() -> None:
    np.random.seed(5)
    before = np.random.get_state()[1].copy()  # type: ignore[index,union-attr]
    rollout(make("ant"), 5)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # type: ignore[index]
