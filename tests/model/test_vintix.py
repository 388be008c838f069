"""The whole model: grouping, padding, options, loss and refusals."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pairs import pairwise

from pipelines.errors import ConfigError
from pipelines.model.batch import GroupBatch
from pipelines.model.config import ModelConfig
from pipelines.model.vintix import Vintix

MakeConfig = Callable[..., ModelConfig]
MakeBatch = Callable[..., GroupBatch]
Cut = Callable[[GroupBatch, int, int], GroupBatch]


def gradients(model: Vintix) -> dict[str, torch.Tensor | None]:
    return {
        name: None if parameter.grad is None else parameter.grad.clone()
        for name, parameter in model.named_parameters()
    }


def test_grouped_batches_equal_single_sequences_forward_and_backward(
    config: MakeConfig, batch: MakeBatch, slice_rows: Cut
) -> None:
    """Encoders and heads once per group give what one pass per sequence gives."""
    model = Vintix(config()).double()
    grouped = [batch("reach", 3, 12), batch("walk", 2, 12)]
    singles = [
        slice_rows(whole, row, row + 1) for whole in grouped for row in range(whole.batch_size)
    ]
    predictions = model(grouped)
    loss, per_sequence = model.loss(grouped)
    loss.backward()
    expected = gradients(model)
    model.zero_grad()
    total = torch.zeros((), dtype=torch.float64)
    rows = [row for prediction in predictions for row in prediction]
    losses = torch.cat(per_sequence)
    for index, single in enumerate(singles):
        alone = model([single])
        torch.testing.assert_close(alone[0][0], rows[index], atol=1e-12, rtol=1e-12)
        one, _ = model.loss([single])
        torch.testing.assert_close(one, losses[index], atol=1e-12, rtol=1e-12)
        total = total + one / len(singles)
    total.backward()
    torch.testing.assert_close(total, loss)
    for name, gradient in gradients(model).items():
        if expected[name] is None:
            assert gradient is None, name
            assert ".turn." in name
        else:
            torch.testing.assert_close(gradient, expected[name], atol=1e-12, rtol=1e-9)


def test_the_order_of_groups_does_not_matter(config: MakeConfig, batch: MakeBatch) -> None:
    model = Vintix(config()).double()
    first, second = batch("reach", 2, 9), batch("turn", 1, 9)
    forward = model([first, second])
    backward = model([second, first])
    torch.testing.assert_close(forward[0], backward[1], atol=1e-12, rtol=0)
    torch.testing.assert_close(forward[1], backward[0], atol=1e-12, rtol=0)


def test_the_future_does_not_move_the_past(config: MakeConfig, batch: MakeBatch) -> None:
    model = Vintix(config())
    whole = batch("reach", 2, 12)
    changed = replace(whole, observation_BLO=whole.observation_BLO.clone())
    changed.observation_BLO[:, 8:] += 1.0
    before, after = model([whole])[0], model([changed])[0]
    assert torch.equal(before[:, :8], after[:, :8])
    assert not torch.equal(before[:, 8:], after[:, 8:])


@pytest.mark.parametrize("normalize_actions", [False, True])
def test_action_and_reward_before_an_episode_are_never_seen(
    config: MakeConfig, batch: MakeBatch, normalize_actions: bool
) -> None:
    """Learned padding replaces both wherever the episode step is 0, and only there."""
    model = Vintix(config(normalize_actions=normalize_actions))
    whole = batch("walk", 2, 12)
    first = whole.episode_step_BL == 0
    assert first.any()
    assert not first.all()
    noise = replace(
        whole,
        previous_action_BLA=torch.where(first[..., None], 1e3, whole.previous_action_BLA),
        previous_reward_BL=torch.where(first, -1e3, whole.previous_reward_BL),
    )
    assert torch.equal(model.encode([whole]), model.encode([noise]))
    tokens = model.encode([whole])
    padding = torch.cat([model.encoder.prev_acs_padding, model.encoder.prev_rew_padding], dim=1)
    assert torch.equal(tokens[first][:, 17:], padding.expand(int(first.sum()), -1))
    assert not (tokens[~first][:, 17:] == padding).any()


def test_padding_learns_from_first_steps_only(config: MakeConfig, batch: MakeBatch) -> None:
    model = Vintix(config())
    whole = batch("reach", 1, 4)
    for steps, learns in (([0, 1, 2, 3], True), ([1, 2, 3, 4], False)):
        model.zero_grad()
        model([replace(whole, episode_step_BL=torch.tensor([steps]))])[0].sum().backward()
        gradient = model.encoder.prev_acs_padding.grad
        assert gradient is not None
        assert bool(gradient.abs().sum() > 0) is learns


def test_rewards_may_have_a_last_axis_of_one(config: MakeConfig, batch: MakeBatch) -> None:
    model = Vintix(config())
    whole = batch("reach", 2, 6)
    other = replace(whole, previous_reward_BL=whole.previous_reward_BL[..., None])
    assert torch.equal(model([whole])[0], model([other])[0])


@pytest.mark.parametrize(
    ("norm", "mlp", "qk_norm", "bias", "residual", "normalize_actions", "position"),
    pairwise(
        ("layernorm", "rmsnorm"),
        ("gpt_neox", "llama"),
        (True, False),
        (True, False),
        ("sequential", "parallel", "shared"),
        (True, False),
        (True, False),
    ),
)
def test_any_two_options_together_train_and_step(
    config: MakeConfig,
    batch: MakeBatch,
    slice_steps: Cut,
    norm: str,
    mlp: str,
    qk_norm: bool,
    bias: bool,
    residual: str,
    normalize_actions: bool,
    position: bool,
) -> None:
    """Every parameter of the groups in the batch gets a gradient; cached equals full."""
    model = Vintix(
        config(
            norm=norm,
            mlp=mlp,
            qk_norm=qk_norm,
            bias=bias,
            parallel_residual=residual != "sequential",
            shared_attention_norm=residual == "shared",
            normalize_actions=normalize_actions,
            inner_episode_position=position,
        )
    )
    whole = batch("reach", 2, 4)
    predictions = model([whole])
    loss, _ = model.loss([whole])
    loss.backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is None) == (".walk." in name or ".turn." in name), name
    names = model.state_dict().keys()
    assert ("transformer.blocks.0.norm2.weight" in names) == (residual != "shared")
    assert ("transformer.blocks.0.attention.q_norm.bias" in names) == qk_norm
    assert ("transformer.blocks.0.attention.in_proj.bias" in names) == bias
    assert ("transformer.blocks.0.mlp.fc_2.weight" in names) == (mlp == "llama")
    assert ("transformer.ln_f.bias" in names) == (norm == "layernorm")
    assert ("encoder.trans_ep_pos_emb.weight" in names) == position
    model.eval()
    cache = model.make_cache(2)
    for step in range(4):
        action = model.step([slice_steps(whole, step, step + 1)], cache)[0]
        torch.testing.assert_close(action, predictions[0][:, step].detach(), atol=1e-5, rtol=1e-4)


def test_positions_beyond_the_table_take_its_last_row(config: MakeConfig, batch: MakeBatch) -> None:
    """The released code fails at episode step 10000; long episodes go on here."""
    model = Vintix(config(inner_episode_position=True))
    whole = batch("reach", 1, 2)
    tokens = [
        model.encode([replace(whole, episode_step_BL=torch.tensor([[1, step]]))])[0, 1]
        for step in (9_998, 9_999, 10_000, 123_456)
    ]
    assert not torch.equal(tokens[0], tokens[1])
    assert torch.equal(tokens[1], tokens[2])
    assert torch.equal(tokens[1], tokens[3])


def test_parallel_and_sequential_residuals_differ(config: MakeConfig, batch: MakeBatch) -> None:
    sequential, parallel = Vintix(config()), Vintix(config(parallel_residual=True))
    parallel.load_state_dict(sequential.state_dict())
    whole = batch("reach", 1, 5)
    assert not torch.allclose(sequential([whole])[0], parallel([whole])[0], atol=1e-4)


@pytest.mark.parametrize("field", ["attention_dropout", "residual_dropout"])
def test_dropout_acts_in_training_only(config: MakeConfig, batch: MakeBatch, field: str) -> None:
    plain, model = Vintix(config()), Vintix(config(**{field: 0.5}))
    whole = batch("reach", 2, 8)
    torch.manual_seed(1)
    assert not torch.allclose(model([whole])[0], plain([whole])[0], atol=1e-4)
    assert torch.equal(model.eval()([whole])[0], plain.eval()([whole])[0])


def test_a_copy_computes_the_same(config: MakeConfig, batch: MakeBatch) -> None:
    """Weight averages and evaluation copies are deep copies of the model."""
    model = Vintix(config())
    whole = batch("reach", 2, 8)
    expected = model([whole])[0]
    assert torch.equal(copy.deepcopy(model)([whole])[0], expected)


def test_autocast_trains(config: MakeConfig, batch: MakeBatch) -> None:
    """Norms return float32 and projections bfloat16 there; both meet in attention."""
    model = Vintix(config())
    whole = batch("reach", 2, 8)
    exact = model([whole])[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        predictions = model([whole])
        loss, _ = model.loss([whole])
    loss.backward()
    assert loss.dtype == torch.float32
    torch.testing.assert_close(predictions[0].float(), exact, atol=0.05, rtol=0.1)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=st.lists(st.integers(1, 4), min_size=1, max_size=3), length=st.integers(1, 6))
def test_loss_is_the_mean_of_sequence_losses(
    config: MakeConfig, batch: MakeBatch, sizes: list[int], length: int
) -> None:
    """Each sequence weighs the same, whatever its group's size and action dimension."""
    groups = ["reach", "walk", "turn"]
    batches = [batch(group, size, length) for group, size in zip(groups, sizes, strict=False)]
    model = Vintix(config())
    errors = [one - whole.action_BLA for one, whole in zip(model(batches), batches, strict=True)]
    loss, per_sequence = model.loss(batches)
    expected = [float(row.detach().double().square().mean()) for one in errors for row in one]
    assert torch.cat(per_sequence).tolist() == pytest.approx(expected, rel=1e-5)
    assert loss.item() == pytest.approx(sum(expected) / len(expected), rel=1e-5)


def test_batches_that_do_not_fit_are_refused(config: MakeConfig, batch: MakeBatch) -> None:
    model = Vintix(config())
    whole = batch("reach", 2, 8)
    with pytest.raises(ConfigError, match=r"(?s)expected: reach, walk, turn.*found: fly"):
        model([replace(whole, group="fly")])
    with pytest.raises(ConfigError, match=r"(?s)expected: observation 7.*found: observation 5"):
        model([replace(whole, group="walk")])
    with pytest.raises(ConfigError, match="steps 9"):
        model([whole, batch("walk", 1, 9)])
    with pytest.raises(ConfigError, match="nothing to encode"):
        model([])
    with pytest.raises(ConfigError, match="action_mean_BA"):
        Vintix(config(normalize_actions=True))([replace(whole, action_std_BA=None)])
    with pytest.raises(ConfigError, match="no target actions"):
        model.loss([replace(whole, action_BLA=None)])


def test_a_group_named_like_a_module_attribute_is_refused(config: MakeConfig) -> None:
    dims = config().groups["reach"]
    with pytest.raises(ConfigError, match=r"(?s)PyTorch keeps for itself.*found: half"):
        Vintix(config(groups={"half": dims}))


def test_an_unknown_attention_backend_is_refused(config: MakeConfig) -> None:
    with pytest.raises(ConfigError, match="no such attention backend"):
        Vintix(config(), attention="nearest")


def test_the_layout_for_steps_changes_how_weights_lie_and_nothing_else(
    config: MakeConfig, batch: MakeBatch
) -> None:
    """What a rollout on a CPU does first; a saved or compared model must not notice."""
    plain, laid_out = Vintix(config()).eval(), Vintix(config()).eval().lay_out_for_steps()
    assert not laid_out.transformer.blocks[0].mlp.fc.weight.is_contiguous()
    for (name, one), (other_name, other) in zip(
        plain.state_dict().items(), laid_out.state_dict().items(), strict=True
    ):
        assert name == other_name
        assert torch.equal(one, other)
    whole = batch("reach", 3, 12)
    with torch.no_grad():
        torch.testing.assert_close(plain([whole])[0], laid_out([whole])[0], atol=1e-6, rtol=1e-5)
