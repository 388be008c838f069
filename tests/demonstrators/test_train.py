from __future__ import annotations

import errno
import os
import shutil

import numpy as np
import pytest
from artifacts.helpers import FileSystem
from pydantic import ValidationError

from demonstrators.conftest import get
from pipelines.actions import Box
from pipelines.artifacts import files
from pipelines.demonstrators.evaluate import Evaluator
from pipelines.demonstrators.train import train_policy
from pipelines.errors import ConfigError, StorageError
from pipelines.learners.settings import EPISODE_LEARNERS, TrainSettings, segment_length
from pipelines.policies.registry import build_policy

pytestmark = pytest.mark.stage

SMALL = {
    "ppo": {"n_steps": 32, "batch_size": 16, "net_arch": [8]},
    "sac": {"learning_starts": 20, "net_arch": [8], "batch_size": 16, "buffer_size": 50},
    "crossq": {"learning_starts": 20, "net_arch": [8, 8], "batch_size": 16},
    "td3": {"learning_starts": 20, "net_arch": [8], "batch_size": 16, "action_noise": 0.1},
    "ars": {"n_delta": 1, "policy": "LinearPolicy"},
}


def settings(algorithm, **more):
    fields = {"total_steps": 96, "segment_steps": 32, "evaluation_episodes": 3}
    return TrainSettings(
        algorithm=algorithm, hyperparameters=SMALL[algorithm], **{**fields, **more}
    )


def train(given, directory, advance=None):
    task, domain, options = get("tiny-a")
    with Evaluator(task, domain, options, seed=3) as evaluator:
        return train_policy(given, evaluator, options, directory, advance)


def assert_equal(one, other):
    assert one.curve == other.curve
    assert one.policy.config == other.policy.config
    for name, array in one.policy.arrays.items():
        assert array.tobytes() == other.policy.arrays[name].tobytes()


class Killed(BaseException):
    """Like a kill: nothing catches it."""


def assert_killed_resumes(run, directory, monkeypatch, steps):
    """Kill a training twice, inside the second segment and in the third checkpoint; then let it be.

    Args:
        run: Trains in a directory, and calls back with steps.
        directory: For the trainings.
        monkeypatch: Undoes what is patched.
        steps: Steps after which the second segment is under way.
    """
    whole = run(directory / "whole", None)
    done = 0

    def kill_in_second_segment(amount=1):
        nonlocal done
        done += amount
        if done > steps:
            raise Killed

    with pytest.raises(Killed):
        run(directory / "parts", kill_in_second_segment)
    written = files.write_json

    def kill_at_third_checkpoint(path, value):
        if len(value["curve"]) == 3:
            raise Killed
        return written(path, value)

    if len(whole.curve) >= 3:
        with monkeypatch.context() as patch:
            patch.setattr(files, "write_json", kill_at_third_checkpoint)
            with pytest.raises(Killed):
                run(directory / "parts", None)
    assert_equal(run(directory / "parts", None), whole)


@pytest.mark.parametrize(
    "algorithm",
    [*("ppo", "sac", "ars"), *(pytest.param(n, marks=pytest.mark.slow) for n in ("crossq", "td3"))],
)
def test_a_resumed_training_equals_an_uninterrupted_one(algorithm, tmp_path, monkeypatch):
    given = settings(algorithm, normalize_observations=algorithm in ("ppo", "sac"))
    assert_killed_resumes(
        lambda directory, advance: train(given, directory, advance), tmp_path, monkeypatch, 50
    )


def test_the_best_policy_is_kept(tmp_path):
    trained = train(settings("ppo", total_steps=160), tmp_path / "run")
    means = [mean for _, mean in trained.curve]
    assert len(means) == 5
    assert trained.steps == trained.curve[int(np.argmax(means))][0]
    task, domain, options = get("tiny-a")
    with Evaluator(task, domain, options, seed=3) as evaluator:
        again = evaluator.policy(trained.policy, 3, "train-evaluation")
    assert again.returns_E.mean() == max(means)


def test_all_steps_are_told_also_after_resuming(tmp_path):
    told = []
    train(settings("ppo", total_steps=64), tmp_path / "run", lambda amount=1: told.append(amount))
    assert sum(told) == 64
    again = []
    train(settings("ppo", total_steps=64), tmp_path / "run", lambda amount=1: again.append(amount))
    assert sum(again) == 64


def test_checkpoints_hold_no_pickled_code(tmp_path):
    import torch

    train(settings("sac", total_steps=64), tmp_path / "run")
    names = sorted(path.name for path in (tmp_path / "run").iterdir())
    assert [name for name in names if name.startswith("learner")] == ["learner-00002.pt"]
    state = torch.load(tmp_path / "run" / "learner-00002.pt", weights_only=True)
    assert state["counters"]["num_timesteps"] == 64
    for path in (tmp_path / "run").glob("*.npz"):
        with np.load(path, allow_pickle=False) as file:
            assert all(file[name].dtype != object for name in file.files)


def test_a_damaged_checkpoint_is_not_gone_on_from(tmp_path):
    """One flipped bit, or a file that is lost: the training begins again, with the same result."""
    given = settings("sac", total_steps=64)
    whole = train(given, tmp_path / "whole")
    train(settings("sac", total_steps=32), tmp_path / "half")
    for name, damage in (
        *(("state.json", "flip"), ("learner-*", "lose")),
        *(("transitions-00001.npz", "flip"), ("best-*", "lose")),
    ):
        directory = tmp_path / f"{damage} {name[:5]}"
        shutil.copytree(tmp_path / "half", directory)
        (path,) = directory.glob(name)
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 4
        if damage == "lose":
            path.unlink()
        else:
            path.write_bytes(data)
        told = []
        assert_equal(
            train(given, directory, lambda amount=1, told=told: told.append(amount)), whole
        )
        assert len(told) == 64


def test_a_checkpoint_that_cannot_be_read_is_not_begun_again(tmp_path):
    given = settings("ppo", total_steps=32)
    train(given, tmp_path / "run")
    path = str(next((tmp_path / "run").glob("best-*")))
    error = OSError(errno.EIO, os.strerror(errno.EIO))
    system = FileSystem(tmp_path, lambda: error, lambda n, name, at: at == path, reads=True)
    with system.installed(), pytest.raises(StorageError, match="cannot read") as caught:
        train(given, tmp_path / "run")
    assert caught.value.where == path
    assert (tmp_path / "run" / "state.json").is_file()


def test_training_options_hold_in_training_only(tmp_path):
    task, domain, options = get("tiny-a")
    made = []
    make_env = domain.make_env
    domain.make_env = lambda task, options: made.append(dict(options)) or make_env(task, options)
    try:
        with Evaluator(task, domain, options, seed=3) as evaluator:
            given = settings("ppo", total_steps=32)
            train_policy(given, evaluator, {"pull": 3.0}, tmp_path / "run")
    finally:
        del domain.make_env
    assert made[0] == {"pull": 3.0}
    assert all(each == {"pull": 1.0} for each in made[1:]) and len(made) > 1


@pytest.mark.parametrize("algorithm", SMALL)
@pytest.mark.parametrize("normalize", [False, True])
def test_a_policy_that_looks_at_a_prefix_is_one_of_whole_observations(
    algorithm, normalize, tmp_path
):
    given = settings(algorithm, observation_prefix=2, normalize_observations=normalize)
    policy = train(given, tmp_path / "run").policy
    act = build_policy(policy, Box.between(-np.ones(1, np.float32), np.ones(1, np.float32))).act
    observation_BO = np.random.default_rng(0).standard_normal((16, 3)).astype(np.float32)
    action_BA = act(observation_BO)
    assert np.ptp(action_BA, axis=0).min() > 0
    other_BO = observation_BO + np.array([0, 0, 5], np.float32)
    assert np.array_equal(act(other_BO), action_BA)
    other_BO = observation_BO + np.array([0, 5, 0], np.float32)
    assert not np.array_equal(act(other_BO), action_BA)


@pytest.mark.parametrize("algorithm", ["sac", "ppo"])
def test_the_learning_rate_falls_over_the_whole_training(algorithm, tmp_path, monkeypatch):
    """Resumed and uninterrupted segments go on where the one before was."""
    from stable_baselines3.common.base_class import BaseAlgorithm

    used = []
    update = BaseAlgorithm._update_learning_rate

    def record(self, optimizers):
        used.append((self.num_timesteps, self.lr_schedule(self._current_progress_remaining)))
        update(self, optimizers)

    monkeypatch.setattr(BaseAlgorithm, "_update_learning_rate", record)
    given = settings(algorithm)
    rates = {"learning_rate": 0.01, "learning_rate_end": 0.002}
    given = given.model_copy(update={"hyperparameters": {**given.hyperparameters, **rates}})
    train(given, tmp_path / "run")
    assert len(used) > 2
    for steps, rate in used:
        assert rate == pytest.approx(0.01 - 0.008 * min(1, steps / given.total_steps))
    assert used[-1][1] < used[0][1]


def test_a_prefix_beyond_the_observation_is_a_configuration_error(tmp_path):
    with pytest.raises(ConfigError, match="observation_prefix"):
        train(settings("ppo", observation_prefix=4), tmp_path / "run")


@pytest.mark.parametrize("algorithm", EPISODE_LEARNERS)
def test_searches_take_no_prefix(algorithm):
    with pytest.raises(ValidationError, match="takes no observation_prefix"):
        TrainSettings(algorithm=algorithm, observation_prefix=2)


@pytest.mark.parametrize(
    "wrong",
    [{"speed": 3}, {"env": "x"}, {"activation_fn": "gelu"}, {"policy": "CnnPolicyOfMine"}],
)
def test_wrong_hyperparameters_are_a_configuration_error(wrong, tmp_path):
    given = TrainSettings(algorithm="ppo", hyperparameters=wrong)
    with pytest.raises(ConfigError):
        train(given, tmp_path / "run")


def test_the_default_segment_is_a_twentieth():
    assert segment_length(TrainSettings(total_steps=1_000_000)) == 50_000
    assert segment_length(TrainSettings(total_steps=5000)) == 2000
    assert segment_length(TrainSettings(total_steps=5000, segment_steps=10)) == 10
