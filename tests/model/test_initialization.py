"""First weights: the published distributions, from streams that nothing else moves."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from pipelines.model.config import GroupDims, ModelConfig
from pipelines.model.initialization import init_weights
from pipelines.model.vintix import Vintix

MakeConfig = Callable[..., ModelConfig]


def equal(first: Vintix, second: Vintix) -> bool:
    left, right = first.state_dict(), second.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


def test_weights_are_a_function_of_the_seed_alone(config: MakeConfig) -> None:
    torch.manual_seed(1)
    first = Vintix(config(), seed=7)
    torch.manual_seed(2)
    assert equal(first, Vintix(config(), seed=7))
    assert not equal(first, Vintix(config(), seed=8))
    other = Vintix(config(), seed=8)
    init_weights(other, 7)
    assert equal(first, other)


def test_making_a_model_does_not_touch_the_global_generator(config: MakeConfig) -> None:
    before = torch.random.get_rng_state()
    Vintix(config(inner_episode_position=True))
    assert torch.equal(before, torch.random.get_rng_state())


def test_another_group_leaves_the_other_weights_as_they_are(config: MakeConfig) -> None:
    """So an ablation over tasks starts from the same transformer."""
    few = Vintix(config()).state_dict()
    groups = {"first": GroupDims(observation_dim=9, action_dim=9), **config().groups}
    many = Vintix(config(groups=groups)).state_dict()
    assert many.keys() > few.keys()
    for name, values in few.items():
        assert torch.equal(values, many[name]), name


@pytest.mark.parametrize("mlp", ["gpt_neox", "llama"])
def test_distributions_are_the_released_ones(config: MakeConfig, mlp: str) -> None:
    """NeoX for the transformer, PyTorch's own for encoders and heads, normal paddings."""
    model = Vintix(
        config(
            layers=3,
            width=256,
            heads=4,
            feed_forward=512,
            mlp=mlp,
            inner_episode_position=True,
            action_embedding=127,
            observation_embedding=127,
        )
    )
    trunk, output = math.sqrt(0.4 / 256), 1 / (math.sqrt(256) * 3)
    for name, parameter in model.named_parameters():
        values = parameter.detach()
        if name.startswith("transformer") and values.dim() == 2:
            std = output if name.endswith(("out_proj.weight", "mlp.proj.weight")) else trunk
            assert values.std().item() == pytest.approx(std, rel=0.02), name
            assert abs(values.mean().item()) < std * 0.02, name
        elif name.startswith("transformer"):
            assert (values == (1.0 if name.endswith("weight") else 0.0)).all(), name
        elif "padding" in name:
            assert values.abs().max() > 0.3, name
        elif "trans_ep_pos_emb" in name:
            assert values.std().item() == pytest.approx(1.0, rel=0.01)
    bound = 1 / math.sqrt(256)
    for name in ("weight", "bias"):
        parameter = model.get_parameter(f"head.acs_decoders.reach.layers.0.{name}")
        assert parameter.abs().max().item() <= bound
        assert parameter.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.1)
    assert model.encoder.prev_acs_padding.std().item() == pytest.approx(1.0, rel=0.2)


def test_no_two_parameters_are_drawn_from_one_stream(config: MakeConfig) -> None:
    """The first numbers of each drawn parameter, put on one scale, differ from all others'."""
    model = Vintix(config())
    starts = {}
    for name, parameter in model.named_parameters():
        values = parameter.detach().flatten()[:3]
        if len(values) == 3 and values.std() > 0:
            starts[name] = tuple((values / values[0]).tolist())
    assert len(starts) > 30
    assert len(set(starts.values())) == len(starts)


def test_no_parameter_is_left_unset(config: MakeConfig) -> None:
    """Layers do not draw weights when made, so every one must be reached afterwards."""
    model = Vintix(config(inner_episode_position=True, norm="rmsnorm", mlp="llama"))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(math.nan)
    init_weights(model, 3)
    for name, parameter in model.named_parameters():
        assert parameter.isfinite().all(), name
