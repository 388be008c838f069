"""`--fidelity release` is the released training loop: its losses, its rates, its weights.

Conformance data: six micro-batches of the released loop with an accumulation of two.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipelines.artifacts.workspace import Workspace
from pipelines.errors import ConfigError, InterruptedRunError
from pipelines.hardware import Hardware
from pipelines.methods import cut_tasks
from pipelines.methods.base import Rules
from pipelines.methods.release import (
    WINDOW_STRIDE,
    ReleaseRules,
    ReleaseSampler,
    release_numbers,
    release_starts,
)
from pipelines.methods.windows import Subsequence
from pipelines.model.batch import TaskSequence, group_sequences
from pipelines.model.official import read_official
from pipelines.train.config import TrainConfig
from pipelines.train.data import select_tasks
from pipelines.train.loader import MicroBatch
from pipelines.train.loop import Trainer, make_optimizer
from tests.train.support import MemoryData, ToyTask, learning_rate, small_config, write_dataset
from tests.train.test_optimizer import make_model
from tests.train.test_stage import StopAfter, metrics, train

ATOL = 2e-5


def read_micro(path, model, tasks):
    data = np.load(path)
    sequences = []
    for index, name in enumerate(data["tasks"]):
        task = tasks[str(name)]
        fields = (
            torch.from_numpy(data[f"{index}/{field}"])
            for field in ("observation", "prev_action", "prev_reward", "step_num", "action")
        )
        sequences.append(TaskSequence(task.group, task.statistics, *fields))
    batches, places = group_sequences(model.config, sequences)
    order = [index for members in places for index in members]
    return MicroBatch(batches, [str(data["tasks"][index]) for index in order])


def test_three_updates_are_those_of_the_released_loop(conformance):
    """Losses of six micro-steps, the rates, every parameter's final norm, and what follows."""
    folder = conformance / "base"
    expected = json.loads((folder / "expected.json").read_text())
    released = expected["train_loop"]
    theirs = released["config"]
    model, tasks = read_official(folder / "ckpt")[:2]
    model.train()
    config = TrainConfig(
        fidelity="release",
        steps=theirs["total_steps"] // theirs["grad_accum_steps"],
        batch_size=2,
        gradient_accumulation=theirs["grad_accum_steps"],
        learning_rate=theirs["lr"],
        betas=tuple(theirs["betas"]),
        weight_decay=theirs["weight_decay"],
        warmup_fraction=theirs["warmup_steps"] / theirs["total_steps"],
        device="cpu",
    )
    trainer = Trainer(model, config, Hardware("cpu", "float32", 1))
    sizes = [len(group["params"]) for group in trainer.optimizer.param_groups]
    assert sizes == [released["decay_params"], released["no_decay_params"]]
    micros = [read_micro(folder / f"train_batch{i}.npz", model, tasks) for i in range(6)]
    for update in range(config.steps):
        numbers = release_numbers(update, config.gradient_accumulation, len(micros))
        outcome = trainer.step(update, [micros[number] for number in numbers])
        losses = iter(zip(outcome.domains, outcome.losses.tolist(), strict=True))
        for number in numbers:
            logged = released["logged"][number]
            found = dict(next(losses) for _ in range(2))
            assert np.mean(list(found.values())) == pytest.approx(
                logged["train/action_loss"], abs=ATOL
            )
            for task, loss in found.items():
                assert loss == pytest.approx(logged[f"train/{task}_loss"], abs=ATOL)
        # The release logs the rate after the scheduler's step: that of the next update.
        assert learning_rate(update + 1, config) == pytest.approx(logged["train/lr"], abs=1e-12)
    assert learning_rate(0, config) == released["logged"][0]["train/lr"] == 0.0
    for name, parameter in model.named_parameters():
        norm = released["final_param_norms"][name]
        # A shift of all keys changes no attention: these biases have no gradient but rounding,
        # which Adam brings to the size of any other.
        tolerance = 5e-3 if name.endswith("k_norm.bias") else ATOL
        assert parameter.norm().item() == pytest.approx(norm, abs=tolerance, rel=1e-5), name
    batch = read_micro(folder / "batch_full.npz", model, tasks)
    loss, _ = model.loss(batch.batches)
    (loss * len(batch.domains)).backward()
    assert loss.item() * len(batch.domains) == pytest.approx(
        released["after_loss_full"], rel=1e-5, abs=ATOL
    )
    norm = torch.nn.utils.get_total_norm(
        [one.grad for one in model.parameters() if one.grad is not None]
    )
    assert norm.item() == pytest.approx(released["after_grad_norm"], rel=1e-4)


def test_corrected_training_differs_from_the_released_loop(conformance):
    """The comparison above would fail with the default rules: the tolerance is no veil."""
    folder = conformance / "base"
    released = json.loads((folder / "expected.json").read_text())["train_loop"]
    model, tasks = read_official(folder / "ckpt")[:2]
    config = TrainConfig(
        steps=3,
        batch_size=2,
        gradient_accumulation=2,
        learning_rate=1e-3,
        weight_decay=0.1,
        warmup_fraction=1 / 3,
        device="cpu",
    )
    trainer = Trainer(model.train(), config, Hardware("cpu", "float32", 1))
    micros = [read_micro(folder / f"train_batch{i}.npz", model, tasks) for i in range(6)]
    for update in range(3):
        trainer.step(update, micros[2 * update : 2 * update + 2])
    norms = {name: one.norm().item() for name, one in model.named_parameters()}
    worst = max(abs(norm - released["final_param_norms"][name]) for name, norm in norms.items())
    assert worst > 10 * ATOL


def test_the_release_sums_and_does_not_divide_the_last_micro_batch():
    """Quirks 16 and 17; by default each sequence of all processes counts the same."""
    given = {"accumulation": 2, "world": 4}
    assert ReleaseRules().loss_weights([8, 8], **given) == [8 / 2 / 4, 8 / 1 / 4]
    assert ReleaseRules().loss_weights([8, 8, 8], **given) == [1.0, 1.0, 2.0]
    assert Rules().loss_weights([8, 8], **given) == [1 / 8, 1 / 8]


def test_the_released_cosine_stops_half_way():
    """Quirk 18: with an accumulation of 2 the last rate is half the peak, warm-up twice as long."""
    config = small_config(
        fidelity="release", steps=1000, gradient_accumulation=2, warmup_fraction=0.1
    )
    rates = np.array([learning_rate(step, config) for step in range(1000)])
    assert rates[0] == 0.0
    assert rates.argmax() == 200
    halfway = 0.5 * (1 + np.cos(np.pi * (999 - 200) / 1800))
    assert rates[-1] == pytest.approx(config.learning_rate * halfway)
    corrected = small_config(steps=1000, gradient_accumulation=2, warmup_fraction=0.1)
    ours = np.array([learning_rate(step, corrected) for step in range(1000)])
    assert ours[0] > 0 and ours.argmax() == 99 and ours[-1] == pytest.approx(0, abs=1e-9)
    assert learning_rate(10**6, config) == 0.0


@given(st.integers(1, 5), st.integers(1, 23))
def test_left_over_micro_batches_leak_into_the_next_epoch(accumulation, epoch):
    """Quirk 19, against the released loop written out: a counter that restarts each epoch."""
    if epoch < accumulation:
        given = {"a": [Subsequence("a", 0, 0, 9 + WINDOW_STRIDE * epoch)]}
        with pytest.raises(ConfigError, match="fewer micro-batches than an update"):
            ReleaseSampler(given, context=8, batch_size=1, seed=0, accumulation=accumulation)
        return
    updates, gathered = [], []
    for micro in range(4 * epoch):
        gathered.append(micro)
        if (micro % epoch + 1) % accumulation == 0:
            updates.append(gathered)
            gathered = []
    found = [list(release_numbers(each, accumulation, epoch)) for each in range(len(updates))]
    assert found == updates


def test_the_last_legal_start_is_never_drawn_by_the_release():
    """Quirk 27: a window of 9 rows fits 1 + 257 times into 266 rows, and 266 is left out."""
    assert list(release_starts(9, 8)) == []
    assert list(release_starts(10, 8)) == [0]
    assert list(release_starts(9 + WINDOW_STRIDE, 8)) == [0]
    assert list(release_starts(10 + WINDOW_STRIDE, 8)) == [0, WINDOW_STRIDE]
    assert list(release_starts(10 + WINDOW_STRIDE, 8, begin=1)) == [WINDOW_STRIDE]


def test_an_epoch_is_a_shuffle_of_the_index_and_ranks_share_it():
    subsequences = {
        "a": [Subsequence("a", 0, 0, 2000), Subsequence("a", 1, 0, 1000)],
        "b": [Subsequence("b", 0, 0, 3000)],
        "short": [Subsequence("short", 0, 0, 9)],
    }
    sampler = ReleaseSampler(subsequences, context=8, batch_size=4, seed=0)
    total = sampler.windows
    assert total == 8 + 4 + 12 and sampler.epoch == 6
    first = [window for micro in range(6) for window in sampler.batch(micro)]
    assert len(set(first)) == 24
    assert {window.start % WINDOW_STRIDE for window in first} == {0}
    second = [window for micro in range(6, 12) for window in sampler.batch(micro)]
    assert set(second) == set(first) and second != first
    assert sampler.batch(3) == first[12:16]
    dealt = [sampler.batch(3, rank, 2) for rank in range(2)]
    assert dealt == [first[12:16:2], first[13:16:2]]
    # What is drawn for a window is drawn anew for each.
    keys = [(window.step, window.index) for window in first + second]
    assert len(set(keys)) == 48
    assert [[(one.step, one.index) for one in each] for each in dealt] == [
        [(3, 0), (3, 2)],
        [(3, 1), (3, 3)],
    ]
    shares = sampler.shares()
    assert shares == pytest.approx({"a": 0.5, "b": 0.5, "short": 0.0})
    with pytest.raises(ConfigError, match="smaller than a micro-batch"):
        ReleaseSampler(subsequences, context=8, batch_size=25, seed=0)


def test_the_release_keeps_the_first_phase_of_thinned_episodes_only():
    """Quirk 28, whatever is left; by default every phase is a subsequence, where enough is left."""
    data = MemoryData([ToyTask(episode_sparsity=3, rows=(600, 130))])
    tasks = select_tasks(data)
    released = cut_tasks(data, tasks, context=32, fidelity="release")["toy-a"]
    assert [(one.trajectory, one.phase, one.every) for one in released] == [
        (0, 0, 3),
        (1, 0, 3),
    ]
    assert released[1].segment_row_E.tolist() == [0, 60, 120]
    assert released[1].rows == 20 + 20 + 10
    assert {one.every for one in cut_tasks(data, tasks, context=32)["toy-a"]} == {1}


def test_only_weights_of_linear_layers_decay_and_nothing_is_clipped():
    """Quirk 20; `tiny` would decay by 0.01 and clip at 1."""
    config = TrainConfig(fidelity="release", preset="tiny")
    assert (config.weight_decay, config.clip_norm, config.sampling) == (0.1, 0.0, "window")
    groups = make_optimizer(make_model(), config).param_groups
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0]
    assert TrainConfig(fidelity="release", weight_decay=0.3).weight_decay == 0.3
    with pytest.raises(ValueError, match="windows"):
        TrainConfig(fidelity="release", sampling="task")


def test_a_released_run_resumes_exactly_over_an_epoch(tmp_path):
    """An epoch of 3 micro-batches, updates of 2: every epoch leaves one over."""
    tasks = [ToyTask(rows=(1600, 1600)), ToyTask("gym-c", "beta", "gyms", 3, 1, rows=(600,))]
    config = small_config(
        fidelity="release", steps=7, gradient_accumulation=2, checkpoint_every=2, batch_size=5
    )
    artifacts = []
    for name, stops in (("whole", ()), ("resumed", (2, 3))):
        workspace = Workspace(tmp_path / name)
        write_dataset(workspace, tasks=tasks)
        for steps in stops:
            with pytest.raises(InterruptedRunError):
                train(workspace, config, StopAfter(steps))
        artifacts.append(train(workspace, config).artifact)
    whole, resumed = artifacts
    assert whole.digest == resumed.digest
    assert whole.manifest.name == "toys-tiny-release"
    rows = metrics(whole)
    micros = np.diff([0] + [row["tokens"] // (5 * 32) for row in rows])
    assert micros.tolist() == [2, 3, 3, 3, 3, 3, 3]
    assert rows[0]["learning_rate"] == 0.0
    assert whole.config["fidelity"] == "release" and whole.config["processes"] == 1
