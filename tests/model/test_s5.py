"""The state-space backbone: its scan, its steps, and what it forgets."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from pipelines.artifacts.workspace import Workspace
from pipelines.errors import ConfigError, UsageError
from pipelines.model.backbones.s5 import Scan, scan
from pipelines.model.batch import GroupBatch
from pipelines.model.config import ModelConfig
from pipelines.model.saved import load_model
from pipelines.model.vintix import Vintix
from pipelines.reporter import NullReporter
from pipelines.train.stage import run
from tests.train.support import SMALL_MODEL, small_config, write_dataset

MakeConfig = Callable[..., ModelConfig]
MakeBatch = Callable[..., GroupBatch]
Cut = Callable[[GroupBatch, int, int], GroupBatch]


def make(config: MakeConfig, *, reset: bool = False, **fields: object) -> Vintix:
    options = {"state": 6, "reset": reset}
    return Vintix(config(backbone="s5", backbone_options=options, **fields)).eval()


def loop(pole: torch.Tensor, inputs: torch.Tensor, keep: torch.Tensor | None) -> torch.Tensor:
    """The recurrence, written out."""
    state, states = torch.zeros_like(inputs[:, 0]), []
    for step in range(inputs.shape[1]):
        state = pole * (state if keep is None else keep[:, step] * state) + inputs[:, step]
        states.append(state)
    return torch.stack(states, dim=1)


@pytest.mark.parametrize("resets", [False, True])
@pytest.mark.parametrize("length", [1, 2, 3, 7, 8, 33])
def test_the_scan_is_the_recurrence_and_so_is_its_gradient(length: int, resets: bool) -> None:
    torch.manual_seed(length)
    keep = (torch.rand(2, length, 1) > 0.2).double() if resets else None
    pole = torch.polar(torch.rand(4).double(), torch.randn(4).double()).requires_grad_()
    inputs = torch.randn(2, length, 4, dtype=torch.complex128, requires_grad=True)
    weights = torch.randn_like(inputs)
    found, expected = Scan.apply(pole, inputs, keep), loop(pole, inputs, keep)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-12)
    gradients = [
        torch.autograd.grad((states * weights).real.sum(), (pole, inputs))
        for states in (found, expected)
    ]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-10, rtol=1e-10)


def test_the_scan_keeps_its_digits_over_long_contexts() -> None:
    """Poles next to the unit circle and in its middle, 32,768 steps, float32 beside float64."""
    torch.manual_seed(0)
    pole = torch.polar(torch.tensor([0.99999, 0.999, 0.5, 1e-4]), torch.tensor([1.0, 0.1, 3.0, 0]))
    inputs = torch.randn(1, 32_768, 4, dtype=torch.complex64)
    exact = scan(pole.to(torch.complex128), inputs.to(torch.complex128), None)
    error = (scan(pole, inputs, None) - exact).abs().amax(dim=1)
    # A rounding of the pole itself grows with the steps that it remembers.
    assert (error / exact.abs().amax(dim=1) < 2e-3).all()


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("prompt", [0, 1, 9])
def test_steps_equal_the_full_pass(
    config: MakeConfig, batch: MakeBatch, slice_steps: Cut, reset: bool, prompt: int
) -> None:
    """After a prompt or none, over episodes, far beyond the context; also over a window."""
    model = make(config, reset=reset, context=4).double()
    whole = [batch("reach", 3, 25), batch("turn", 2, 25)]
    expected = model(whole)
    cache = model.make_cache(5)
    if prompt:
        out = model.prefill([slice_steps(one, 0, prompt) for one in whole], cache)
        for one, other in zip(out, expected, strict=True):
            torch.testing.assert_close(one, other[:, prompt - 1], atol=1e-10, rtol=0)
    for step in range(prompt, 25):
        out = model.step([slice_steps(one, step, step + 1) for one in whole], cache)
        for one, other in zip(out, expected, strict=True):
            torch.testing.assert_close(one, other[:, step], atol=1e-10, rtol=0)
    assert cache.position == 25
    window = model.make_window(5, context=25)
    for step in range(25):
        out = model.step([slice_steps(one, step, step + 1) for one in whole], window)
    for one, other in zip(out, expected, strict=True):
        torch.testing.assert_close(one, other[:, -1], atol=1e-10, rtol=0)


def test_streams_that_leave_and_prompts_of_a_few_at_a_time(
    config: MakeConfig, batch: MakeBatch, slice_steps: Cut, slice_rows: Cut
) -> None:
    model = make(config)
    whole = batch("reach", 4, 12)
    cache = model.make_cache(4)
    for first, last in ((0, 1), (1, 4)):
        part = slice_rows(slice_steps(whole, 0, 8), first, last)
        model.prefill([part], cache.part(first, last))
    cache.advance(8)
    cache.keep([2, 0])
    out = model.step(
        [slice_steps(slice_rows(whole, 2, 3), 8, 9), slice_steps(slice_rows(whole, 0, 1), 8, 9)],
        cache,
    )
    expected = model([whole])[0][[2, 0], 8]
    torch.testing.assert_close(torch.cat(out), expected, atol=1e-5, rtol=0)


def test_with_resets_an_episode_knows_nothing_of_those_before(
    config: MakeConfig, batch: MakeBatch
) -> None:
    """Without them it does: that is what in-context learning over episodes needs."""
    one, other = batch("reach", 2, 20, seed=1), batch("reach", 2, 20, seed=2)
    steps = (torch.arange(20) % 5).expand(2, 20)
    mixed = {
        name: torch.cat([getattr(other, name)[:, :10], getattr(one, name)[:, 10:]], dim=1)
        for name in ("observation_BLO", "previous_action_BLA", "previous_reward_BL")
    }
    plain = {name: getattr(one, name) for name in mixed}
    for reset in (False, True):
        model = make(config, reset=reset)
        first, second = (
            model([GroupBatch("reach", **values, episode_step_BL=steps)])[0][:, 10:]
            for values in (plain, mixed)
        )
        assert torch.allclose(first, second, atol=1e-6) == reset


def test_every_parameter_gets_a_gradient(config: MakeConfig, batch: MakeBatch) -> None:
    model = make(config, reset=True).train()
    model.loss([batch(group, 2, 12) for group in ("reach", "walk", "turn")])[0].backward()
    assert all(each.grad is not None and each.grad.any() for each in model.parameters())


def test_a_state_is_as_large_for_any_context_and_has_no_sinks(config: MakeConfig) -> None:
    model = make(config)
    assert model.make_cache(3, 16).nbytes == model.make_cache(3, 32_768).nbytes == 2 * 3 * 6 * 8
    with pytest.raises(UsageError, match="--sinks"):
        model.make_cache(3, 16, sinks=2)
    with pytest.raises(ConfigError, match="no option 'size': it has state, reset"):
        config(backbone="s5", backbone_options={"size": 2})


def test_it_trains_by_the_same_stage_and_comes_back(tmp_path) -> None:
    """With checkpointing and without, the same weights; and its head may be any."""
    workspace = Workspace(tmp_path)
    write_dataset(workspace)
    model = {**SMALL_MODEL, "backbone": "s5", "backbone_options": {"state": 4}, "head": "bins"}
    weights = []
    for name, checkpointing in (("one", False), ("two", True)):
        config = small_config(steps=2, model=model, name=name, gradient_checkpointing=checkpointing)
        artifact = run(config, workspace, NullReporter()).artifact
        saved = load_model(artifact)
        weights.append(torch.cat([each.detach().flatten() for each in saved.model.parameters()]))
        assert saved.config.backbone_options == {"state": 4, "reset": False}
        assert artifact.config["model"]["backbone"] == "s5"
    torch.testing.assert_close(*weights, atol=1e-6, rtol=0)
