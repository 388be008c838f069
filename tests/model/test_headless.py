"""The head for action sets of any size: its scores, and that numbers of actions mean nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from pipelines.actions import Box, Discrete
from pipelines.errors import ConfigError
from pipelines.model.batch import GroupBatch, stack_embeddings
from pipelines.model.config import GroupDims, ModelConfig
from pipelines.model.heads import HEADS
from pipelines.model.heads.base import Draws, choose
from pipelines.model.heads.headless import Headless, Orthonormal
from pipelines.model.initialization import init_weights
from pipelines.model.vintix import Vintix
from pipelines.rng import stream

WIDTH, CHANNELS = 32, 16
SIZES = {"layers": 2, "heads": 2, "width": WIDTH, "feed_forward": 32, "context": 12}
PARTS = {"action_embedding": 20, "observation_embedding": 8, "reward_embedding": 4}
CONFIG = ModelConfig(
    groups={
        "set": GroupDims.of(3, Discrete(5)),
        "boxes": GroupDims(observation_dim=3, action_dim=2),
    },
    head="headless",
    head_options={"embedding": CHANNELS},
    **SIZES,
    **PARTS,
)


@pytest.fixture
def model():
    return Vintix(CONFIG).eval()


def embeddings(count, streams):
    return [Orthonormal(CHANNELS).draw(count, stream(0, "test", count, one)) for one in streams]


def batch_of(count, streams, length=10, seed=0):
    """Streams of a task with so many actions, of random steps."""
    draw = np.random.default_rng(seed)
    size = len(streams)
    return GroupBatch(
        group="set",
        observation_BLO=torch.tensor(draw.standard_normal((size, length, 3)), dtype=torch.float32),
        previous_action_BLA=torch.tensor(draw.integers(count, size=(size, length))),
        previous_reward_BL=torch.tensor(draw.standard_normal((size, length)), dtype=torch.float32),
        episode_step_BL=torch.arange(length).expand(size, -1) % 5,
        action_BLA=torch.tensor(draw.integers(count, size=(size, length))),
        embedding_BNE=stack_embeddings(embeddings(count, streams)),
    )


def scores(model, batch):
    with torch.no_grad():
        hidden_BLD = model.backbone(model.encode([batch]))
        return model.head.of("set").scores(hidden_BLD, batch.embedding_BNE)


@pytest.mark.parametrize("count", [2, 5, CHANNELS])
def test_embeddings_are_orthonormal_and_another_stream_has_others(count):
    one_NE, other_NE = embeddings(count, (0, 1))
    assert one_NE.shape == (count, CHANNELS) and one_NE.dtype == np.float32
    np.testing.assert_allclose(one_NE @ one_NE.T, np.eye(count), atol=1e-6)
    assert np.abs(one_NE - other_NE).max() > 0.1
    np.testing.assert_array_equal(embeddings(count, (0,))[0], one_NE)


def test_embeddings_favour_no_direction():
    drawn = np.stack(embeddings(3, range(2000))).reshape(-1, CHANNELS)
    assert np.abs(drawn.mean(axis=0)).max() < 0.02
    np.testing.assert_allclose(drawn.T @ drawn / len(drawn), np.eye(CHANNELS) / CHANNELS, atol=0.01)


def test_the_loss_is_that_of_the_target_against_the_whole_set():
    """InfoNCE with the actions of the stream as candidates, written out."""
    head = Headless(WIDTH, Discrete(4), embedding=CHANNELS)
    init_weights(head, 0)
    hidden_BLD = torch.randn(2, 3, WIDTH, generator=torch.Generator().manual_seed(0))
    target_BL = torch.tensor([[0, 3, 1], [2, 2, 0]])
    embedding_BNE = stack_embeddings(embeddings(4, (0, 1)))
    loss_BL = head.loss(hidden_BLD, target_BL, None, embedding_BNE=embedding_BNE)
    for row in range(2):
        for step in range(3):
            wanted_E = head.out(hidden_BLD[row, step])
            likely_N = torch.exp(embedding_BNE[row] @ wanted_E)
            expected = -torch.log(likely_N[target_BL[row, step]] / likely_N.sum())
            assert loss_BL[row, step].item() == pytest.approx(expected.item(), abs=1e-5)
    loss_BL.mean().backward()
    assert all(each.grad is not None and each.grad.any() for each in head.parameters())


def test_it_has_no_parameters_of_single_actions():
    shapes = [
        [tuple(each.shape) for each in Headless(WIDTH, Discrete(count)).parameters()]
        for count in (2, 50)
    ]
    assert shapes[0] == shapes[1]


def test_a_number_above_the_sum_of_all_is_the_last_action_of_the_set():
    """The sum may be a rounding below 1; what a smaller set does not have stays out."""
    scores_BLN = torch.tensor([[[0.1, 0.2, 0.3, -torch.inf, -torch.inf]], [[0.1] * 5]])
    assert choose(scores_BLN, torch.ones(2, 1)).tolist() == [[2], [4]]


def test_actions_beyond_a_stream_s_own_are_never_chosen_and_change_nothing(model):
    small, large = batch_of(3, (0, 1)), batch_of(9, (2, 3))
    together = GroupBatch(
        group="set",
        **{
            name: torch.cat([getattr(small, name), getattr(large, name)])
            for name in (
                "observation_BLO", "previous_action_BLA", "previous_reward_BL", "episode_step_BL",
                "action_BLA",
            )
        },
        embedding_BNE=stack_embeddings([*embeddings(3, (0, 1)), *embeddings(9, (2, 3))]),
    )  # fmt: skip
    found = scores(model, together)
    torch.testing.assert_close(found[:2, :, :3], scores(model, small), atol=1e-5, rtol=0)
    torch.testing.assert_close(found[2:], scores(model, large), atol=1e-5, rtol=0)
    assert (found[:2, :, 3:] == -torch.inf).all()
    losses = model.loss([together])[1][0]
    apart = torch.cat([model.loss([each])[1][0] for each in (small, large)])
    torch.testing.assert_close(losses, apart, atol=1e-5, rtol=0)
    head = model.head.of("set")
    # However untrained, 2,000 draws of a stream with three actions are among these.
    hidden_BLD = torch.randn(2000, 1, WIDTH)
    draws = Draws([stream(0, "act", one) for one in range(2000)])
    padded_BNE = stack_embeddings([*embeddings(3, (0,)) * 2000, *embeddings(9, (1,))])[:2000]
    chosen = head.act(hidden_BLD, None, draws, embedding_BNE=padded_BNE)
    assert set(chosen.flatten().tolist()) == {0, 1, 2}


@pytest.mark.parametrize("count", [5, 12])
def test_permuted_actions_are_chosen_as_often(model, count):
    """The numbers of the actions mean nothing: a model that was made for 5, and one of 12."""
    batch = batch_of(count, (0, 1, 2))
    order = torch.tensor(np.random.default_rng(1).permutation(count))
    permuted = replace(
        batch,
        previous_action_BLA=order[batch.previous_action_BLA],
        action_BLA=order[batch.action_BLA],
        embedding_BNE=batch.embedding_BNE[:, torch.argsort(order)],
    )
    torch.testing.assert_close(
        scores(model, permuted)[..., order], scores(model, batch), atol=1e-5, rtol=0
    )
    torch.testing.assert_close(model.loss([permuted])[0], model.loss([batch])[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("count", [5, 12])
def test_steps_equal_the_pass_over_the_window(model, count):
    """Also for a set of another size than the group's; and a prompt before them."""
    batch = batch_of(count, (0, 1, 2))
    expected = model([batch])[0]

    def part(start, stop):
        names = ("observation_BLO", "previous_action_BLA", "previous_reward_BL", "episode_step_BL")
        return replace(
            batch, action_BLA=None, **{name: getattr(batch, name)[:, start:stop] for name in names}
        )

    with torch.no_grad():
        cache = model.make_cache(3)
        stepped = [model.step([part(step, step + 1)], cache)[0] for step in range(10)]
        assert torch.equal(torch.stack(stepped, dim=1), expected)
        cache = model.make_cache(3)
        found = [model.prefill([part(0, 6)], cache)[0]]
        found += [model.step([part(step, step + 1)], cache)[0] for step in range(6, 10)]
    assert torch.equal(torch.stack(found, dim=1), expected[:, 5:])
    assert len(torch.unique(expected)) > 2


def test_what_goes_through_a_group():
    config = CONFIG
    assert config.fits("set", 3, Discrete(2)) and config.fits("set", 3, Discrete(CHANNELS))
    assert not config.fits("set", 3, Discrete(CHANNELS + 1))
    assert not config.fits("set", 4, Discrete(5))
    assert not config.fits("set", 3, Box(5)) and not config.fits("other", 3, Discrete(5))
    assert config.fits("boxes", 3, Box(2)) and not config.fits("boxes", 3, Box(1))
    assert config.embedding_of("boxes") is None
    plain = config.model_copy(update={"head": "categorical", "head_options": {}})
    assert plain.fits("set", 3, Discrete(5)) and not plain.fits("set", 3, Discrete(4))
    assert config.describe("set") == f"3 observation dims, up to {CHANNELS} actions"
    assert plain.describe("set") == "3 observation dims, 5 discrete actions"


def test_a_batch_without_embeddings_is_refused(model):
    with pytest.raises(ConfigError, match="embeddings"):
        model([replace(batch_of(5, (0,)), embedding_BNE=None)])


def test_other_heads_embed_nothing():
    for name in HEADS.own:
        assert (HEADS.find(name).embedding(**HEADS.options(name, {})) is None) == (
            name != "headless"
        )
