"""What is measured while training: on data that is not trained on, without moving training."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from pipelines.artifacts.workspace import Workspace
from pipelines.errors import ConfigError
from pipelines.methods.windows import Subsequence, WindowSampler
from pipelines.model.saved import load_model
from pipelines.train.assembly import cut_held_out
from pipelines.train.data import select_tasks
from pipelines.train.measure import split_trajectories
from pipelines.train.run import prepare

from .support import MemoryData, ToyTask, small_config, write_dataset
from .test_stage import content, metrics, train


def weights(artifact):
    model = load_model(artifact).model
    return torch.cat([one.detach().reshape(-1) for one in model.parameters()])


def test_trajectories_are_set_aside_whole():
    """At least one stays and one goes; of a single one none goes; the draw is the task's own."""
    tasks = select_tasks(
        MemoryData(
            [
                ToyTask(rows=(100,) * 10),
                ToyTask("two", rows=(100, 100)),
                ToyTask("one", rows=(100,)),
            ]
        )
    )
    kept, aside = split_trajectories(tasks, 0.3, seed=0)
    assert {name: len(each) for name, each in aside.items()} == {"toy-a": 3, "two": 1}
    assert kept["one"] == [0]
    for name, each in aside.items():
        assert sorted([*each, *kept[name]]) == list(range(10 if name == "toy-a" else 2))
    alone = [task for task in tasks if task.name == "toy-a"]
    assert split_trajectories(alone, 0.3, seed=0)[1] == {"toy-a": aside["toy-a"]}
    assert split_trajectories(tasks, 0.99, seed=0)[0]["toy-a"] != []
    assert split_trajectories(tasks, 0.0, seed=0)[1] == {}
    draws = {tuple(split_trajectories(tasks, 0.3, seed=seed)[1]["toy-a"]) for seed in range(8)}
    assert len(draws) > 1


def test_nothing_held_out_is_trained_on(workspace, monkeypatch):
    """The rows of steps and of measurements come from different trajectories."""
    seen = {True: set(), False: set()}
    pieces = Subsequence.pieces

    def watch(self, data, start, length, fields):
        # Steps are read ahead in a thread of their own, measurements where training runs.
        measuring = threading.current_thread() is threading.main_thread()
        seen[measuring].add((self.task, self.trajectory))
        return pieces(self, data, start, length, fields)

    monkeypatch.setattr(Subsequence, "pieces", watch)
    config = small_config(validation_fraction=0.5, validation_every=5, validation_windows=10)
    rows = metrics(train(workspace, config).artifact)
    assert seen[True] and seen[False] and not seen[True] & seen[False]
    assert [row["step"] for row in rows if "validation" in row] == [5, 10, 12]
    for row in rows:
        if "validation" in row:
            assert set(row["validation"]["domains"]) == {"toys", "gyms"}
            assert np.isfinite(row["validation"]["loss"])


@pytest.mark.parametrize("part", [{"residual_dropout": 0.2}, {"head": "flow"}])
def test_measuring_moves_nothing(workspace, part):
    """How often it is measured is no content: the same losses and weights, dropout and all."""
    model = {**small_config().model, **part}
    settings = {"validation_fraction": 0.5, "model": model, "steps": 6}
    often = train(workspace, small_config(**settings, validation_every=1)).artifact
    assert train(workspace, small_config(**settings, validation_every=100)).up_to_date
    other = Workspace(workspace.root / "other")
    write_dataset(other)
    seldom = train(other, small_config(**settings, validation_every=100)).artifact
    assert content(metrics(often)) == content(metrics(seldom))
    last = [metrics(each)[-1]["validation"] for each in (often, seldom)]
    assert last[0] == last[1]
    assert torch.equal(weights(often), weights(seldom))


def test_without_it_the_configuration_is_as_before(workspace):
    """Artifacts made before there was such a thing are still up to date."""
    config = train(workspace, small_config(steps=2)).artifact.config
    added = {
        "validation_fraction",
        "fidelity",
        "compile",
        "keep_last",
        "track",
        "random_map",
        "context_order",
    }
    assert not added & set(config)
    held_out = train(workspace, small_config(steps=2, validation_fraction=0.5)).artifact
    assert held_out.config["validation_fraction"] == 0.5


def test_held_out_windows_have_fixed_maps_of_their_own(workspace, monkeypatch):
    """Each measurement draws the same ones, and training none of them."""
    from pipelines.train import loader

    drawn = {True: [], False: []}
    stream = loader.stream

    def watch(*key):
        drawn[threading.current_thread() is threading.main_thread()].append(key)
        return stream(*key)

    monkeypatch.setattr(loader, "stream", watch)
    held_out = {"validation_fraction": 0.5, "validation_every": 5, "validation_windows": 10}
    train(workspace, small_config(**held_out, random_map=True))
    first, second, last = (drawn[True][start : start + 10] for start in (0, 10, 20))
    assert first == second == last and len(set(first)) == 10 and len(drawn[True]) == 30
    assert len(set(drawn[False])) == 12 * 4 and not set(first) & set(drawn[False])


def test_held_out_windows_of_the_release_start_where_training_may(tmp_path):
    """In the last part of a trajectory that has room for one; shorter ones are left out."""
    workspace = Workspace(tmp_path)
    rows = (2000, 2000, 40, 40)
    write_dataset(workspace, tasks=[ToyTask(rows=rows), ToyTask("short", rows=(40, 40))])
    changes = {"fidelity": "release", "last_fraction": 0.5, "validation_fraction": 0.75}
    for seed in range(3):
        config = small_config(**changes, seed=seed, batch_size=2, validation_windows=64)
        prepared = prepare(config, workspace)
        held_out = cut_held_out(prepared)
        assert set(held_out) == {"toy-a"}
        sampler = WindowSampler(held_out, context=config.context, batch_size=64, seed=0)
        for window in sampler.batch(0):
            length = rows[window.trajectory]
            assert length // 2 <= window.start <= length - config.context - 1
            assert held_out["toy-a"][window.subsequence].trajectory == window.trajectory
    with pytest.raises(ConfigError, match="no room for a window"):
        cut_held_out(prepare(small_config(**changes, tasks=["short"]), workspace))


def test_nothing_to_set_aside_is_refused(tmp_path):
    workspace = Workspace(tmp_path)
    write_dataset(workspace, tasks=[ToyTask(rows=(600,))])
    with pytest.raises(ConfigError, match="set aside"):
        train(workspace, small_config(validation_fraction=0.5))


def test_rollouts_of_tasks_nobody_can_play_are_refused(workspace):
    with pytest.raises(ConfigError, match="can be played"):
        train(workspace, small_config(rollout_every=5))


@pytest.mark.simulator
def test_a_short_rollout_is_logged_and_moves_nothing(tmp_path):
    """A task of the catalogue with made-up histories: its return is logged, nothing else moves."""
    group = "mujoco-inverted-pendulum"
    task = ToyTask("inverted-pendulum", group, "mujoco", 4, 1, options={})
    logs = []
    for name, every in (("without", 0), ("with", 3)):
        workspace = Workspace(tmp_path / name)
        write_dataset(workspace, tasks=[task])
        config = small_config(steps=6, rollout_every=every, rollout_steps=20)
        logs.append(metrics(train(workspace, config).artifact))
    without, played = logs
    assert content(without) == content(played)
    found = [row["rollout"] for row in played if "rollout" in row]
    assert [row["step"] for row in played if "rollout" in row] == [3, 6]
    for one in found:
        # One point a step, and every episode has a first step.
        assert one["inverted-pendulum"]["return"] >= 1
        assert np.isfinite(one["inverted-pendulum"]["score"])


@pytest.mark.simulator
def test_short_rollouts_are_played_through_maps_where_training_is(tmp_path, monkeypatch):
    """As the checkpoint's own rollouts will be; only what changes is handed to the engine."""
    from pipelines.playing import model

    found, roll = [], model.roll

    def watch(played, tasks, **options):
        found.append(tasks[0].view.random_map)
        return roll(played, tasks, **options)

    monkeypatch.setattr(model, "roll", watch)
    workspace = Workspace(tmp_path)
    task = ToyTask("inverted-pendulum", "mujoco-inverted-pendulum", "mujoco", 4, 1, options={})
    write_dataset(workspace, tasks=[task])
    for random_map in (False, True):
        config = small_config(steps=1, rollout_every=1, rollout_steps=5, random_map=random_map)
        train(workspace, config)
    assert found == [False, True]


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_computing_activations_again_changes_nothing(workspace, dropout):
    """Gradient checkpointing is no content: equal bits, with dropout as well."""
    settings = {"steps": 4, "model": {**small_config().model, "residual_dropout": dropout}}
    one = train(workspace, small_config(**settings, gradient_checkpointing=True)).artifact
    other = Workspace(workspace.root / "other")
    write_dataset(other)
    two = train(other, small_config(**settings)).artifact
    assert one.digest == two.digest
