"""A step of a rollout by backbone and context: the transformer's grows, that of a state does not.

All backbones have the preset's layers and width, and full contexts; they take turns, in processor
time of one thread.
"""

from __future__ import annotations

import statistics
import time

import pytest
import torch

from pipelines.hardware import torch_threads
from pipelines.model.batch import GroupBatch
from pipelines.model.config import GroupDims
from pipelines.model.presets import preset
from pipelines.model.vintix import Vintix

from .support import show

pytestmark = pytest.mark.benchmark

DIMS = GroupDims(observation_dim=39, action_dim=4)
BACKBONES = ("transformer", "s5")
CONTEXTS = (512, 4_096, 32_768)
STREAMS, ROUNDS, STEPS = 2, 7, 10
TRAINED, BATCH = 512, 8


def times_of_steps(models: dict[str, Vintix]) -> dict[tuple[str, int], float]:
    token = GroupBatch(
        group="mw",
        observation_BLO=torch.randn(STREAMS, 1, 39),
        previous_action_BLA=torch.randn(STREAMS, 1, 4),
        previous_reward_BL=torch.randn(STREAMS, 1),
        episode_step_BL=torch.ones(STREAMS, 1, dtype=torch.int64),
    )
    caches = {}
    for name, model in models.items():
        for context in CONTEXTS:
            caches[name, context] = cache = model.make_cache(STREAMS, context)
            cache.assume_full()
            model.step([token], cache)
    taken: dict[tuple[str, int], list[float]] = {key: [] for key in caches}
    for _ in range(ROUNDS):
        for (name, context), cache in caches.items():
            begin = time.process_time()
            for _ in range(STEPS):
                models[name].step([token], cache)
            taken[name, context].append((time.process_time() - begin) / STEPS)
    return {key: statistics.median(times) for key, times in taken.items()}


def time_of_training(model: Vintix) -> float:
    batch = GroupBatch(
        group="mw",
        observation_BLO=torch.randn(BATCH, TRAINED, 39),
        previous_action_BLA=torch.randn(BATCH, TRAINED, 4),
        previous_reward_BL=torch.randn(BATCH, TRAINED),
        episode_step_BL=torch.arange(TRAINED).expand(BATCH, -1) % 100,
        action_BLA=torch.rand(BATCH, TRAINED, 4),
    )
    model.train()
    taken = []
    for _ in range(4):
        begin = time.process_time()
        model.loss([batch])[0].backward()
        taken.append(time.process_time() - begin)
    return statistics.median(taken[1:])


def test_a_step_of_a_state_does_not_grow_with_the_context(capsys) -> None:
    models = {
        name: Vintix(preset("tiny", {"mw": DIMS}, backbone=name)).eval().lay_out_for_steps()
        for name in BACKBONES
    }
    with torch_threads(1), torch.inference_mode():
        found = times_of_steps(models)
    lines = [f"a step of {STREAMS} streams of tiny, ms, at a context of {CONTEXTS}:"]
    for name in BACKBONES:
        held = [models[name].make_cache(STREAMS, each).nbytes / 2**20 for each in CONTEXTS]
        times = ", ".join(f"{1e3 * found[name, each]:.2f}" for each in CONTEXTS)
        lines.append(f"  {name}: {times}; MiB held: {', '.join(f'{one:.3f}' for one in held)}")
    trained = {name: Vintix(preset("tiny", {"mw": DIMS}, backbone=name)) for name in BACKBONES}
    with torch_threads(1):
        seconds = {name: time_of_training(model) for name, model in trained.items()}
    lines.append(
        f"forward and backward of {BATCH} sequences of {TRAINED}, ms: "
        + ", ".join(f"{name} {1e3 * each:.0f}" for name, each in seconds.items())
    )
    counts = {
        name: sum(one.numel() for one in model.parameters()) for name, model in trained.items()
    }
    lines.append("parameters: " + ", ".join(f"{name} {each:,}" for name, each in counts.items()))
    show(capsys, "\n".join(lines))
    assert found["s5", CONTEXTS[-1]] < 1.5 * found["s5", CONTEXTS[0]]
    assert found["transformer", CONTEXTS[-1]] > 4 * found["s5", CONTEXTS[-1]]
