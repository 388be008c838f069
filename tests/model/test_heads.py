"""Heads: what they fit, what they draw, and that no stream's action depends on another's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from pipelines.actions import Box, Discrete
from pipelines.artifacts.workspace import Workspace
from pipelines.errors import ConfigError
from pipelines.model.batch import GroupBatch
from pipelines.model.config import GroupDims, ModelConfig
from pipelines.model.heads import HEADS
from pipelines.model.heads.base import Draws
from pipelines.model.initialization import init_weights
from pipelines.model.saved import SavedModel, load_model, save_model
from pipelines.model.vintix import Vintix
from pipelines.rng import stream

WIDTH = 32
LOW, HIGH = (-2.0, 0.0), (2.0, 1.0)
BOXED = [name for name in HEADS.own if "box" in HEADS.find(name).kinds]
SAMPLED = [name for name in BOXED if not HEADS.find(name).deterministic]


def box(low=LOW, high=HIGH):
    return Box(len(low), np.array(low, np.float32), np.array(high, np.float32))


def make(name, actions=None, **options):
    head = HEADS.find(name)(WIDTH, actions or box(), **options)
    init_weights(head, 0)
    return head


def draws(streams, step=0, seed=0):
    return Draws([stream(seed, "act", one, step) for one in streams])


def fitted(name, target_NA, steps=200, **options):
    """A head that was trained to give these targets, each as likely, whatever it is shown."""
    head = make(name, **options)
    hidden_BLD, target_BLA = torch.ones(100, len(target_NA), WIDTH), target_NA.expand(100, -1, -1)
    optimizer = torch.optim.Adam(head.parameters())
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for step in range(steps):
            optimizer.param_groups[0]["lr"] = 0.01 * (1 - step / steps)
            optimizer.zero_grad()
            head.loss(hidden_BLD, target_BLA, None).mean().backward()
            optimizer.step()
    return head


@pytest.mark.parametrize("name", BOXED)
def test_every_parameter_gets_a_gradient(name):
    head = make(name)
    target = torch.rand(4, 5, 2)
    loss = head.loss(torch.randn(4, 5, WIDTH), target, None)
    assert loss.shape[:2] == (4, 5) and loss.dtype == torch.float32
    loss.mean().backward()
    assert all(each.grad is not None and each.grad.any() for each in head.parameters())


@pytest.mark.parametrize("name", SAMPLED)
def test_a_sampled_head_gives_both_modes_where_the_mean_is_between_them(name):
    """Two actions that are as likely, and dimensions that go together: no other one is drawn."""
    modes = torch.tensor([[-1.6, 0.1], [1.6, 0.9]])
    head = fitted(name, modes)
    drawn = head.act(torch.ones(400, 1, WIDTH), None, draws(range(400)))[:, 0]
    near = torch.cdist(drawn, modes) < 0.3
    assert near.any(dim=1).float().mean() > 0.85
    share = near.float().mean(dim=0)
    assert (share > 0.35).all()
    mean = fitted("mse", modes).act(torch.ones(1, 1, WIDTH), None, None)[0, 0]
    assert (mean - modes.mean(dim=0)).abs().max() < 0.1


@pytest.mark.parametrize("name", SAMPLED)
def test_actions_are_a_function_of_the_key(name):
    """Not of the other streams, nor of what was drawn before."""
    head = make(name)
    hidden = torch.randn(6, 1, WIDTH)
    together = head.act(hidden, None, draws(range(6)))
    alone = torch.cat([head.act(hidden[k : k + 1], None, draws([k])) for k in range(6)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    assert torch.equal(together, head.act(hidden, None, draws(range(6))))
    assert not torch.equal(together, head.act(hidden, None, draws(range(6), step=1)))
    assert not torch.equal(together, head.act(hidden, None, draws(range(6), seed=1)))
    whole = torch.randn(2, 3, WIDTH)
    greedy = head.act(whole, None, None)
    assert greedy.shape == (2, 3, 2) and torch.equal(greedy, head.act(whole, None, None))


def test_bins_give_centres_between_the_bounds_and_the_bounds_themselves():
    head = make("bins", bins=5)
    drawn = head.act(torch.randn(300, 1, WIDTH), None, draws(range(300)))[:, 0]
    assert set(drawn[:, 0].tolist()) == {-2.0, -1.0, 0.0, 1.0, 2.0}
    assert set(drawn[:, 1].tolist()) == {0.0, 0.25, 0.5, 0.75, 1.0}


def test_the_loss_of_bins_is_the_cross_entropy_of_the_nearest_centre():
    """What is beyond a bound counts as the bound; by the chances that sampling has."""
    head = fitted("bins", torch.tensor([[1.4, 0.4], [-0.6, 0.9]]), steps=20, bins=5)
    hidden = torch.randn(1, 1, WIDTH)
    repeated = hidden.expand(4000, 1, WIDTH)
    drawn = head.act(repeated, None, draws(range(4000)))[:, 0]
    for target, centre in (((1.4, 0.4), (1.0, 0.5)), ((-9.0, 7.0), (-2.0, 1.0))):
        loss = head.loss(hidden, torch.tensor([[target]]), None)[0, 0]
        chance = (drawn == torch.tensor(centre)).all(dim=1).float().mean()
        assert float(chance) == pytest.approx(float(torch.exp(-loss.sum()).detach()), abs=0.03)


def test_a_dimension_that_never_moves_stays_where_it_is():
    head = make("bins", box((-1.0, 0.3), (1.0, 0.3)))
    action = head.act(torch.randn(5, 1, WIDTH), None, draws(range(5)))
    assert torch.equal(action[..., 1], torch.full((5, 1), 0.3))
    assert head.loss(torch.randn(5, 1, WIDTH), action, None).isfinite().all()


def test_a_single_dimension_and_half_precision():
    for name in SAMPLED:
        head = make(name, box((-1.0,), (1.0,)))
        with torch.autocast("cpu", torch.bfloat16):
            loss = head.loss(torch.randn(2, 3, WIDTH), torch.rand(2, 3, 1), None)
            assert loss.dtype == torch.float32 and loss.isfinite().all()
            assert head.act(torch.randn(2, 1, WIDTH), None, draws(range(2))).isfinite().all()


@pytest.mark.parametrize("name", [n for n in HEADS.own if HEADS.find(n).needs_bounds])
def test_a_head_that_does_not_know_the_bounds_says_so(name):
    with pytest.raises(ConfigError, match="bounds"):
        make(name, Box(2)).loss(torch.randn(1, 1, WIDTH), torch.rand(1, 1, 2), None)


GROUP = GroupDims(observation_dim=3, action_dim=2, action_bounds=(LOW, HIGH))
SMALL = {
    "groups": {"a": GROUP},
    "layers": 1,
    "heads": 2,
    "width": WIDTH,
    "feed_forward": 32,
    "action_embedding": 15,
    "observation_embedding": 15,
    "reward_embedding": 2,
    "context": 8,
}


@pytest.mark.parametrize("name", BOXED)
def test_a_checkpoint_brings_back_its_head(tmp_path, name):
    options = {"bins": 7} if name == "bins" else {}
    config = ModelConfig.model_validate({**SMALL, "head": name, "head_options": options})
    model = Vintix(config).eval()
    with Workspace(tmp_path).stage("checkpoints", "one", config={}) as staging:
        with staging.work_item("model") as unit:
            save_model(unit, SavedModel(model, {}, step=1, method="ad"))
        artifact = staging.publish(summary={})
    back = load_model(artifact)
    assert back.config == config and back.config.head_options == config.head_options
    hidden = torch.randn(3, 1, WIDTH)
    for source in (None, draws(range(3))):
        mine = model.head.of("a").act(hidden, None, source)
        source = None if source is None else draws(range(3))
        assert torch.equal(back.model.head.of("a").act(hidden, None, source), mine)


def test_options_are_complete_in_the_configuration_and_checked_by_their_annotations():
    config = ModelConfig.model_validate({**SMALL, "head": "bins"})
    assert config.head_options == {"bins": 21}
    assert config.model_dump(mode="json")["head_options"] == {"bins": 21}
    assert "head_options" not in ModelConfig.model_validate(SMALL).model_dump(mode="json")
    for options, told in (
        ({"bins": 1}, "greater than or equal to 2"),
        ({"bins": "many"}, "option bins of the action head bins"),
        ({"bin": 9}, "no option 'bin': it has bins"),
    ):
        with pytest.raises(ConfigError, match=told):
            ModelConfig.model_validate({**SMALL, "head": "bins", "head_options": options})
    with pytest.raises(
        ConfigError, match="not valid: the action head mse has no option 'bins': it has none"
    ):
        ModelConfig.model_validate({**SMALL, "head_options": {"bins": 3}})


def test_bounds_fit_the_group():
    for bounds in (((0.0,), (1.0,)), ((0.0, 2.0), (1.0, 1.0))):
        with pytest.raises(ConfigError, match="bound"):
            ModelConfig.model_validate(
                {
                    **SMALL,
                    "groups": {
                        "a": {"observation_dim": 3, "action_dim": 2, "action_bounds": bounds}
                    },
                }
            )


def test_choices_are_drawn_as_often_as_they_were_trained_on():
    """Whole numbers in and out; without draws the most likely one."""
    head = make("categorical", Discrete(4))
    target_BL = torch.tensor([0, 2, 2, 2]).expand(100, -1)
    hidden_BLD = torch.ones(100, 4, WIDTH)
    optimizer = torch.optim.Adam(head.parameters(), 0.01)
    for _ in range(100):
        optimizer.zero_grad()
        loss_BL = head.loss(hidden_BLD, target_BL, None)
        loss_BL.mean().backward()
        optimizer.step()
    assert loss_BL.shape == (100, 4) and loss_BL.dtype == torch.float32
    assert all(each.grad is not None and each.grad.any() for each in head.parameters())
    drawn = head.act(torch.ones(2000, 1, WIDTH), None, draws(range(2000)))
    assert drawn.shape == (2000, 1) and drawn.dtype == torch.int64
    share = torch.bincount(drawn.flatten(), minlength=4) / 2000
    assert (share - torch.tensor([0.25, 0, 0.75, 0])).abs().max() < 0.05
    assert head.act(torch.ones(1, 1, WIDTH), None, None).item() == 2


def test_each_group_has_a_head_that_fits_its_actions():
    """That of the configuration where it fits, else the default of their kind."""
    groups = {
        "boxes": GroupDims(observation_dim=3, action_dim=2, action_bounds=(LOW, HIGH)),
        "choices": GroupDims.of(3, Discrete(5)),
    }
    sizes = {"layers": 1, "heads": 2, "width": 32, "feed_forward": 32, "context": 8}
    parts = {"action_embedding": 12, "observation_embedding": 12, "reward_embedding": 8}
    for head, expected in (
        ("mse", ("mse", "categorical")),
        ("bins", ("bins", "categorical")),
        ("categorical", ("mse", "categorical")),
    ):
        config = ModelConfig(groups=groups, head=head, **sizes, **parts)
        assert tuple(config.head_of(group)[0] for group in groups) == expected
        read = ModelConfig.model_validate(config.model_dump(mode="json"))
        assert read == config and read.groups["choices"].actions == Discrete(5)
    assert "action_kind" not in config.model_dump()["groups"]["boxes"]
    model = Vintix(config)
    assert not model.deterministic
    choice = GroupBatch(
        group="choices",
        observation_BLO=torch.zeros(2, 3, 3),
        previous_action_BLA=torch.tensor([[0, 4, 1], [0, 4, 2]]),
        previous_reward_BL=torch.zeros(2, 3),
        episode_step_BL=torch.arange(3).expand(2, -1),
        action_BLA=torch.tensor([[4, 1, 0], [4, 2, 0]]),
    )
    (acted,) = model([choice])
    assert acted.shape == (2, 3) and acted.dtype == torch.int64
    tokens = model.encode([choice])
    # Only the last step's previous action differs.
    assert torch.equal(tokens[0, :2], tokens[1, :2]) and not torch.equal(tokens[0, 2], tokens[1, 2])
    model.loss([choice])[0].backward()
    with pytest.raises(ConfigError, match="dimensions"):
        model([replace(choice, previous_action_BLA=torch.zeros(2, 3, 5))])
