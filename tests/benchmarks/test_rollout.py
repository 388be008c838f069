"""Acting step by step against the released procedure: one environment, nothing kept but the cache.

The baseline is written here after the description of the release: at each step the whole history
is encoded again though only its last token is used, the whole cache is moved by one row, its last
row is filled with NaN, and environments come one after the other. Both sides have the same weights,
see the same observations and must act alike; ours is the engine as it plays, environments included.

Ratios within one run: both sides take turns, in processor time of one thread, with full windows.
"""

from __future__ import annotations

import math
import statistics
import time
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from pipelines.domains.base import BatchEnvironment, StepBatch
from pipelines.hardware import torch_threads
from pipelines.model.batch import GroupBatch
from pipelines.model.cache import KVCache
from pipelines.model.config import GroupDims
from pipelines.model.normalization import TaskStatistics
from pipelines.model.presets import preset
from pipelines.model.vintix import Vintix
from pipelines.playing.model import Player
from pipelines.playing.streams import ModelView, PromptRows, StreamTask
from pipelines.tasks.registry import catalogue

from .support import paired_ratio, show

pytestmark = pytest.mark.benchmark

GROUP = "mw"
DIMS = GroupDims(observation_dim=39, action_dim=4)
CONTEXT = 1024
ROUNDS, STEPS = 9, 6
STATISTICS = TaskStatistics(
    observation_mean=np.full(DIMS.observation_dim, 0.1),
    observation_std=np.full(DIMS.observation_dim, 1.1),
    action_mean=np.zeros(DIMS.action_dim),
    action_std=np.ones(DIMS.action_dim),
    reward_scale=1.0,
)


class Released:
    """One stream, acted for as the released code does it, with this project's parameters.

    Its keys and values lie as flash-attn's interface for caches has them, (layers, B, C, H, K).
    """

    def __init__(self, model: Vintix, cache: KVCache, history: GroupBatch) -> None:
        self.model, self.history = model, history
        # Full, as after its last step: the oldest row is the first.
        self.keys_NBCHK = cache._keys[:, :1].transpose(2, 3).contiguous()
        self.values_NBCHK = cache._values[:, :1].transpose(2, 3).contiguous()
        self.slopes = model.transformer.slopes_H.float()[None, :, None, None]

    @torch.no_grad()
    def act(self, token: GroupBatch) -> torch.Tensor:
        model = self.model
        self.keys_NBCHK = torch.roll(self.keys_NBCHK, -1, dims=2)
        self.values_NBCHK = torch.roll(self.values_NBCHK, -1, dims=2)
        self.keys_NBCHK[:, :, -1] = self.values_NBCHK[:, :, -1] = math.nan
        self.history = joined(self.history, token)
        # Histories are kept as they came and normalised with each pass.
        observation_BLO = STATISTICS.normalize_observation(self.history.observation_BLO)
        hidden = model.encode([replace(self.history, observation_BLO=observation_BLO)])[:, -1:]
        for layer, block in enumerate(model.transformer.blocks):
            hidden = block(hidden, partial(self._attend, layer))
        return model.decode([token], model.transformer.ln_f(hidden))[0][:, 0]

    def _attend(self, layer: int, q, k, v, _bound):
        keys, values = self.keys_NBCHK[layer], self.values_NBCHK[layer]
        keys[:, -1], values[:, -1] = k[:, :, 0], v[:, :, 0]
        keys_BHCK, values_BHCK = keys.transpose(1, 2), values.transpose(1, 2)
        distance = torch.arange(keys.shape[1] - 1, -1, -1, dtype=torch.float32)
        scores = q @ keys_BHCK.transpose(-1, -2) / math.sqrt(q.shape[-1]) - self.slopes * distance
        return scores.softmax(-1) @ values_BHCK


def joined(history: GroupBatch, token: GroupBatch) -> GroupBatch:
    """Add a token to a history and drop the oldest."""
    fields = {
        name: torch.cat([getattr(history, name)[:, 1:], value], dim=1)
        for name, value in vars(token).items()
        if isinstance(value, torch.Tensor)
    }
    return replace(token, **fields)


class Still(BatchEnvironment):
    """Copies whose observations are drawn beforehand: what is timed is the acting."""

    def __init__(self, size: int) -> None:
        self.size, self.observation_dim, self._step = size, DIMS.observation_dim, 0
        self.action_low_A = np.full(DIMS.action_dim, -1, np.float32)
        self.action_high_A = np.ones(DIMS.action_dim, np.float32)
        generator = np.random.default_rng(0)
        shape = (256, size, DIMS.observation_dim)
        self.observations = generator.normal(size=shape).astype(np.float32)
        self.actions: list[np.ndarray] = []

    def reset(self, indices, seeds):
        return self.observations[0, list(indices)]

    def step(self, action_BA):
        self.actions.append(action_BA.copy())
        self._step += 1
        over = np.zeros(self.size, np.bool_)
        return StepBatch(self.observations[self._step], np.ones(self.size), over, over, None)


class Recorded:
    """A prompt that fills the context."""

    steps = CONTEXT

    def rows(self, stream: int) -> PromptRows:
        generator = np.random.default_rng(stream)
        return PromptRows(
            generator.normal(size=(CONTEXT, DIMS.observation_dim)).astype(np.float32),
            generator.uniform(-1, 1, (CONTEXT, DIMS.action_dim)).astype(np.float32),
            generator.normal(size=CONTEXT).astype(np.float32),
            np.arange(CONTEXT) % 100,
        )


def play(model: Vintix, streams: int) -> tuple[Player, Still]:
    """Streams of the engine whose windows are full."""
    made: list[Still] = []

    def make_batch(spec, size, options, seeds):
        made.append(Still(size))
        return made[0]

    spec = catalogue().get("reach")
    # Long enough an episode for all rounds.
    view = ModelView(GROUP, STATISTICS, prompt=Recorded())
    task = StreamTask(replace(spec, horizon=10_000), {}, 1, tuple(range(streams)), view)
    return Player(model, [task], seed=0, make_batch=make_batch), made[0]


def baseline(model: Vintix, player: Player) -> Released:
    """The released procedure, with the first stream's window as it is now."""
    prompt = Recorded().rows(0)
    history = GroupBatch(
        group=GROUP,
        observation_BLO=torch.from_numpy(prompt.observation_LO)[None],
        previous_action_BLA=torch.from_numpy(prompt.previous_action_LA)[None],
        previous_reward_BL=torch.from_numpy(prompt.previous_reward_L)[None],
        episode_step_BL=torch.from_numpy(prompt.episode_step_L)[None],
    )
    cache = player._context
    assert isinstance(cache, KVCache) and cache.position == CONTEXT
    return Released(model, cache, history)


def next_token(batch: Still, step: int) -> GroupBatch:
    """What the first stream sees at a step."""
    first = step == 0
    return GroupBatch(
        group=GROUP,
        observation_BLO=torch.from_numpy(batch.observations[step, :1])[:, None],
        previous_action_BLA=torch.zeros(1, 1, DIMS.action_dim)
        if first
        else torch.from_numpy(batch.actions[step - 1][:1])[:, None],
        previous_reward_BL=torch.full((1, 1), float(not first)),
        episode_step_BL=torch.full((1, 1), step),
    )


@pytest.mark.parametrize(("streams", "needed"), [(1, 2.0), (16, 6.0)])
def test_acting_outruns_the_released_procedure(
    capsys: pytest.CaptureFixture[str], streams: int, needed: float
) -> None:
    config = preset("small", {GROUP: DIMS}, context=CONTEXT)
    assert (config.width, config.layers) == (256, 6)
    model, plain = Vintix(config).eval().lay_out_for_steps(), Vintix(config).eval()
    theirs: list[float] = []
    ours: list[float] = []
    with torch_threads(1), torch.inference_mode():
        player, batch = play(model, streams)
        released = baseline(plain, player)
        step = 0
        for _ in range(ROUNDS):
            acted = []
            begin = time.process_time()
            for _ in range(STEPS):
                player.tick()
            ours.append((time.process_time() - begin) / STEPS / streams)
            tokens = [next_token(batch, step + ahead) for ahead in range(STEPS)]
            begin = time.process_time()
            for token in tokens:
                acted.append(released.act(token))
            theirs.append((time.process_time() - begin) / STEPS)
            for ahead, action in enumerate(acted):
                np.testing.assert_allclose(
                    batch.actions[step + ahead][0], action[0].clamp(-1, 1).numpy(), atol=1e-5
                )
            step += STEPS
        player.close()
    ratio = paired_ratio(theirs, ours)
    show(
        capsys,
        f"acting, width 256, depth 6, context {CONTEXT} full, {streams} streams, one thread: "
        f"{1e3 * statistics.median(ours):.2f} ms a step and stream, released "
        f"{1e3 * statistics.median(theirs):.2f} ms, {ratio:.1f} x",
    )
    assert ratio >= needed
