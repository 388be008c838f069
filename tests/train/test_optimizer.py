"""AdamW decays what it should, the rate is a function of the step, states come back exactly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipelines.artifacts.workspace import Workspace
from pipelines.errors import ConfigError
from pipelines.model.vintix import Vintix
from pipelines.train.checkpoint import checkpoints
from pipelines.train.data import select_tasks
from pipelines.train.loop import make_optimizer
from pipelines.train.run import model_config

from .support import MemoryData, learning_rate, load_checkpoint, save_checkpoint, small_config
from .test_loader import make_loader


def make_model(seed=0, **changes):
    return Vintix(model_config(small_config(**changes), select_tasks(MemoryData())), seed=seed)


def test_only_weights_of_linear_layers_decay():
    model = make_model()
    optimizer = make_optimizer(model, small_config(weight_decay=0.1))
    decayed = {id(one) for one in optimizer.param_groups[0]["params"]}
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.0]
    names = {name for name, one in model.named_parameters() if id(one) in decayed}
    for name, parameter in model.named_parameters():
        is_matrix = parameter.dim() == 2 and "padding" not in name
        assert (name in names) == is_matrix, name
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(
        list(model.parameters())
    )


def test_absent_groups_are_left_alone():
    """A step without a group's sequences moves neither its weights nor their decay."""
    from pipelines.hardware import Hardware
    from pipelines.methods.windows import Window
    from pipelines.train.loop import Trainer

    _, loader, _ = make_loader()
    model = Vintix(loader._config)
    before = {name: one.detach().clone() for name, one in model.named_parameters()}
    trainer = Trainer(model, small_config(), Hardware("cpu", "float32", 1))
    trainer.step(3, [loader.assemble([Window("toy-a", 0, 5, 0)])])
    moved = {name for name, one in model.named_parameters() if not torch.equal(one, before[name])}
    assert not any("beta" in name for name in moved)
    assert any("alpha" in name for name in moved)
    assert any("transformer" in name for name in moved)


def test_a_step_is_the_mean_over_sequences_however_it_is_split(monkeypatch):
    """Uneven micro-batches, and parts of them, give the whole batch's gradient (quirks 16, 17)."""
    from pipelines.hardware import Hardware
    from pipelines.train import loop
    from pipelines.train.loop import Trainer

    _, loader, sampler = make_loader()
    windows = sampler.batch(0)
    results = []
    for split, at_once in (([8], None), ([5, 3], None), ([1, 1, 6], None), ([8], 3), ([5, 3], 1)):
        ends = np.cumsum(split)
        micro = [
            loader.assemble(windows[end - size : end])
            for end, size in zip(ends, split, strict=True)
        ]
        model = Vintix(loader._config)
        config = small_config(learning_rate=1.0, weight_decay=0.0)
        monkeypatch.setattr(loop, "sequences_at_once", lambda *_, most=at_once: most)
        trainer = Trainer(model, config, Hardware("cpu", "float32", 1))
        norm = trainer.step(0, micro).gradient_norm
        first = next(iter(trainer.optimizer.state.values()))["exp_avg"].clone()
        results.append((norm, first))
    for norm, first in results[1:]:
        torch.testing.assert_close(norm, results[0][0])
        torch.testing.assert_close(first, results[0][1], rtol=1e-4, atol=1e-7)


@given(
    steps=st.integers(1, 500),
    warmup=st.floats(0, 0.9),
    floor=st.floats(0, 1),
)
def test_the_rate_rises_then_falls_and_ends_where_it_should(steps, warmup, floor):
    config = small_config(
        steps=steps, warmup_fraction=warmup, final_lr_fraction=floor, learning_rate=0.1
    )
    rates = np.array([learning_rate(step, config) for step in range(steps)])
    peak = max(0, round(warmup * steps) - 1)
    assert (rates > 0).all() or floor < 1e-9
    assert (rates <= 0.1 + 1e-12).all()
    assert (np.diff(rates[: peak + 1]) > 0).all()
    assert (np.diff(rates[peak:]) <= 1e-12).all()
    if round(warmup * steps) < steps > 1:
        assert rates[-1] == pytest.approx(0.1 * floor, abs=1e-9)


def test_the_whole_cosine_is_used():
    """The mean over a cosine to 0 is half the peak (the release stops half-way: quirk 18)."""
    config = small_config(steps=1000, warmup_fraction=0.0, learning_rate=1.0)
    rates = [learning_rate(step, config) for step in range(1000)]
    assert np.mean(rates) == pytest.approx(0.5, abs=1e-3)


def test_a_checkpoint_restores_every_bit(tmp_path):
    """Weights, moments and update counts, of parameters never updated as well."""
    from pipelines.hardware import Hardware
    from pipelines.methods.windows import Window
    from pipelines.train.loop import Trainer

    _, loader, _ = make_loader()
    hardware = Hardware("cpu", "float32", 1)
    trainer = Trainer(Vintix(loader._config), small_config(), hardware)
    for step in range(3):
        tasks = ["toy-a", "gym-c"] if step == 1 else ["toy-a"]
        windows = [Window(task, 0, 5 + step, 0) for task in tasks]
        trainer.step(step, [loader.assemble(windows)])
    other = Trainer(Vintix(loader._config, seed=9), small_config(), hardware)
    with Workspace(tmp_path).stage("checkpoints", "x", config={}) as staging:
        assert load_checkpoint(staging, other.model, other.optimizer) == (0, None)
        save_checkpoint(staging, trainer.model, trainer.optimizer, 3, {"kept": [1]})
        assert load_checkpoint(staging, other.model, other.optimizer) == (3, {"kept": [1]})
    counts = set()
    pairs = zip(trainer.model.parameters(), other.model.parameters(), strict=True)
    for parameter, restored in pairs:
        assert torch.equal(parameter, restored)
        state, again = trainer.optimizer.state[parameter], other.optimizer.state[restored]
        assert set(state) == set(again)
        assert all(torch.equal(state[name], again[name]) for name in state)
        counts.add(int(state["step"]) if state else 0)
    assert counts == {1, 3}


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    model = make_model()
    optimizer = make_optimizer(model, small_config())
    other = make_model(model={**small_config().model, "layers": 1})
    with Workspace(tmp_path).stage("checkpoints", "x", config={}) as staging:
        save_checkpoint(staging, model, optimizer, 3)
        with pytest.raises(ConfigError, match="other parameters"):
            load_checkpoint(staging, other, make_optimizer(other, small_config()))


def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path):
    """One flipped byte: the unit is no longer durable, and the older one is used."""
    model = make_model()
    optimizer = make_optimizer(model, small_config())
    workspace = Workspace(tmp_path)
    with workspace.stage("checkpoints", "x", config={}) as staging:
        save_checkpoint(staging, model, optimizer, 3)
        save_checkpoint(staging, model, optimizer, 6)
        assert checkpoints(staging) == [3, 6]
        damaged = staging.directory / "scratch/checkpoint/00000006/weights/c/0"
        content = bytearray(damaged.read_bytes())
        content[100] ^= 1
        damaged.write_bytes(content)
    with workspace.stage("checkpoints", "x", config={}) as staging:
        assert load_checkpoint(staging, model, optimizer) == (3, None)
