"""Environments of all tasks: dims, spaces, determinism, independence, limits, what blows up."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from domains.bidexhands.support import NAMES, TASKS, make_batch
from pipelines.domains.bidexhands.quirks import OPTIONS, Quirks
from pipelines.domains.bidexhands.tasks import make_task, task_classes
from pipelines.domains.registry import domain_of, full_catalogue, resolve_options
from pipelines.errors import UsageError

pytestmark = pytest.mark.simulator


def actions(task, seed, size):
    drawn = np.random.default_rng(seed).uniform(-1, 1, (size, task.action_dim))
    return drawn.astype(np.float32)


def test_every_task_of_the_catalogue_has_a_class():
    assert {task.env_id for task in TASKS} == set(task_classes())
    assert len(TASKS) == 20


def test_an_unknown_environment_is_a_usage_error():
    with pytest.raises(UsageError, match="ShadowHandJuggle"):
        make_task("ShadowHandJuggle", Quirks())


@pytest.mark.parametrize("task", TASKS, ids=NAMES)
def test_dims_are_those_of_table_4_and_values_are_clipped(task):
    batch = make_batch(task.name, 2)
    observation_BO = batch.reset([0, 1], [3, 4])
    assert observation_BO.shape == (2, task.observation_dim)
    assert observation_BO.dtype == np.float32
    assert len(batch.action_low_A) == len(batch.action_high_A) == task.action_dim
    assert (batch.action_low_A == -1).all() and (batch.action_high_A == 1).all()
    for step in range(5):
        after = batch.step(actions(task, step, 2))
        assert np.isfinite(after.observation_BO).all()
        assert np.abs(after.observation_BO).max() <= 5
        assert np.isfinite(after.reward_B).all()
        assert after.success_B.dtype == np.bool_


@pytest.mark.parametrize("task", TASKS, ids=NAMES)
def test_what_a_copy_does_depends_on_its_seeds_and_actions_alone(task):
    """The same bytes again, alone and beside others, whatever was played before."""
    crowd, alone = make_batch(task.name, 3), make_batch(task.name, 1)
    first_BO = crowd.reset([0, 1, 2], [5, 6, 7])
    for step in range(4):
        crowd.step(actions(task, step, 3))
    # Again, the copies in another order, after another history: seed 6 is now the first copy.
    assert np.array_equal(crowd.reset([2, 0, 1], [5, 6, 7]), first_BO)
    assert np.array_equal(alone.reset([0], [6])[0], first_BO[1])
    for step in range(4):
        action_BA = actions(task, 10 + step, 3)
        among = crowd.step(action_BA)
        single = alone.step(action_BA[:1])
        assert np.array_equal(single.observation_BO[0], among.observation_BO[0])
        assert single.reward_B[0] == among.reward_B[0]


def test_resetting_one_copy_leaves_the_others_alone():
    task = full_catalogue().get("hand-catch-underarm")
    one, other = make_batch(task.name, 2), make_batch(task.name, 2)
    for batch in (one, other):
        batch.reset([0, 1], [1, 2])
        batch.step(actions(task, 0, 2))
    one.reset([0], [9])
    action_BA = actions(task, 1, 2)
    assert np.array_equal(
        one.step(action_BA).observation_BO[1], other.step(action_BA).observation_BO[1]
    )


def test_actions_beyond_the_bounds_are_clipped():
    task = full_catalogue().get("hand-push-block")
    one, other = make_batch(task.name, 1), make_batch(task.name, 1)
    for batch in (one, other):
        batch.reset([0], [1])
    wild_BA = 7 * actions(task, 0, 1)
    assert np.array_equal(
        one.step(wild_BA).observation_BO, other.step(wild_BA.clip(-1, 1)).observation_BO
    )


@pytest.mark.parametrize("name", ["hand-over", "hand-push-block"])
def test_an_episode_is_truncated_at_the_catalogues_horizon(name):
    task = full_catalogue().get(name)
    batch = make_batch(task.name, 1)
    batch.reset([0], [2])
    still = np.zeros((1, task.action_dim), np.float32)
    still[:, 0:] = -0.2
    for step in range(1, task.horizon + 1):
        after = batch.step(0 * still if name == "hand-push-block" else still)
        if after.terminated_B[0]:
            break
        assert after.truncated_B[0] == (step == task.horizon)
    assert step == task.horizon or after.terminated_B[0]


def test_a_state_that_blows_up_ends_the_episode_and_stays_finite(tmp_path, monkeypatch):
    # MuJoCo logs its warning to a file where it is run.
    monkeypatch.chdir(tmp_path)
    task = full_catalogue().get("hand-push-block")
    batch = make_batch(task.name, 2)
    batch.reset([0, 1], [1, 2])
    before = batch.step(actions(task, 0, 2))
    batch.datas[0].qvel[:] = np.nan
    after = batch.step(actions(task, 1, 2))
    assert after.terminated_B.tolist() == [True, False]
    assert after.reward_B[0] == 0 and not after.success_B[0] and not after.truncated_B[0]
    assert np.array_equal(after.observation_BO[0], before.observation_BO[0])
    assert np.isfinite(batch.reset([0], [3])).all()


def test_noise_at_reset_moves_eggs_and_fingers():
    task = full_catalogue().get("hand-catch-underarm")
    batch = make_batch(task.name, 40, first_step="none")
    observation_BO = batch.reset(range(40), range(40))
    egg_B3 = observation_BO[:, 398:401] - np.array([0, -0.39, 0.54])
    assert 0.005 < np.abs(egg_B3).max() <= 0.01 + 1e-6
    angle_BJ = observation_BO[:, :24]
    assert (angle_BJ.std(axis=0) > 0.05).all()
    # The same draw for both hands.
    assert np.array_equal(observation_BO[:, :24], observation_BO[:, 199:223])


def test_quirks_are_the_options_of_the_domain_but_for_the_backends():
    names = {option.name for option in OPTIONS}
    assert names == {"backend", "copies_per_simulation", *Quirks.__dataclass_fields__}
    defaults = {option.name: option.default for option in OPTIONS}
    assert Quirks.of(defaults) == Quirks()


def test_angles_can_be_signed_and_observations_unclipped():
    task = full_catalogue().get("hand-catch-underarm")
    signed_O = make_batch(task.name, 1, euler="signed", clip="off").reset([0], [0])[0]
    positive_O = make_batch(task.name, 1, clip="off").reset([0], [0])[0]
    angles, wrapped = signed_O[369:372], positive_O[369:372]
    assert np.allclose(np.mod(angles, 2 * np.pi), wrapped, atol=1e-5)
    assert (wrapped >= 0).all()


@pytest.mark.parametrize("task", TASKS, ids=NAMES)
def test_gymnasiums_own_checker_has_no_complaint(task, recwarn):
    domain = domain_of(task)
    env = domain.make_env(task, resolve_options(domain, {}))
    check_env(env, skip_render_check=True)
    env.close()
    assert not [str(w.message) for w in recwarn if "gymnasium" in str(w.filename)]
