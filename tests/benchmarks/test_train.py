"""The training loop costs next to nothing beside the network it trains.

Ratios within one run, against the bare forward, backward and optimizer of the same network on
tensors that lie ready. Both sides take turns, step by step, so that what else the machine does
meets both alike.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from pipelines.artifacts.arrays import create_rows, write_array
from pipelines.artifacts.workspace import Workspace
from pipelines.datasets.reader import DatasetReader
from pipelines.hardware import resolve_hardware, torch_threads
from pipelines.methods import cut_tasks
from pipelines.methods.windows import WindowSampler
from pipelines.model.vintix import Vintix
from pipelines.rng import stream
from pipelines.train.config import TrainConfig
from pipelines.train.data import select_tasks
from pipelines.train.loader import BatchLoader, Prefetcher
from pipelines.train.loop import Trainer
from pipelines.train.run import model_config

from .support import paired_ratio, show

ROWS = 20_000
CHUNK_ROWS = 8_192
TASKS = {"mw-a": (39, 4), "mw-b": (39, 4), "reacher": (10, 2), "ib": (6, 3)}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Four tasks of three groups with the dimensions of real ones."""
    workspace = Workspace(tmp_path_factory.mktemp("bench"))
    with workspace.stage("datasets", "bench", config={}) as staging:
        for name, (observation_dim, action_dim) in TASKS.items():
            draw = stream(0, "bench", name)
            rows = {
                "observation": draw.normal(size=(ROWS, observation_dim)).astype(np.float32),
                "action": draw.uniform(-1, 1, (ROWS, action_dim)).astype(np.float32),
                "reward": draw.normal(size=ROWS).astype(np.float32),
                "episode_step": (np.arange(ROWS) % 100).astype(np.int32),
                "noise": np.zeros(ROWS, np.float32),
            }
            with staging.work_item(name) as unit:
                attributes = {
                    "task": {
                        "domain": "bench",
                        "observation_dim": observation_dim,
                        "action_dim": action_dim,
                    },
                    "group": name.partition("-")[0],
                    "split": "train",
                    "reward_scale": 1.0,
                    "episode_sparsity": 1,
                    "rows": [ROWS],
                }
                group = unit.group(name, attributes)
                for kind, size in (("observation", observation_dim), ("action", action_dim)):
                    write_array(group, f"{kind}_mean", np.zeros(size))
                    write_array(group, f"{kind}_std", np.ones(size))
                trajectory = unit.group(f"{name}/00000")
                for field, values in rows.items():
                    array = create_rows(
                        trajectory,
                        field,
                        values.shape,
                        values.dtype,
                        chunk_rows=CHUNK_ROWS,
                        mapped=True,
                    )
                    array[...] = values
        return DatasetReader(staging.publish(summary={}))


@dataclass
class _Bare:
    """Forward, backward and fused AdamW, nothing else."""

    model: Vintix

    def __post_init__(self):
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3, fused=True)

    def step(self, batches):
        loss, _ = self.model.loss(batches)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


def measure(data, config, steps):
    """Return processor seconds of each whole step and of each bare step on the same windows."""
    tasks = select_tasks(data)
    model = model_config(config, tasks)
    subsequences = cut_tasks(data, tasks, context=config.context)
    sampler = WindowSampler(
        subsequences, context=config.context, batch_size=config.batch_size, seed=0, sampling="task"
    )
    loader = BatchLoader(data, tasks, subsequences, sampler, model)
    hardware = resolve_hardware("cpu", None, "float32", 1)
    trainer, bare = Trainer(Vintix(model).train(), config, hardware), _Bare(Vintix(model).train())
    ready = [loader.step(step)[0].batches for step in range(steps)]
    whole_seconds, bare_seconds = [], []
    with torch_threads(hardware.threads):
        for step in range(steps):
            # Who goes first changes, since the second finds the caches warm.
            for turn in (step % 2, 1 - step % 2):
                begin = time.process_time()
                if turn:
                    bare.step(ready[step])
                    bare_seconds.append(time.process_time() - begin)
                else:
                    trainer.step(step, loader.step(step)).losses.tolist()
                    whole_seconds.append(time.process_time() - begin)
    return np.array(whole_seconds), np.array(bare_seconds)


@pytest.mark.benchmark
@pytest.mark.parametrize(
    ("label", "config", "steps"),
    [
        ("tiny, batch 4, context 1024", TrainConfig(batch_size=4, context=1024), 24),
        (
            "width 256, depth 6, batch 4, context 1024",
            TrainConfig(preset="small", batch_size=4),
            12,
        ),
    ],
)
def test_a_whole_step_runs_at_the_speed_of_the_bare_network(data, label, config, steps, capsys):
    """At least 0.95 of the bare steps per second, with all of the loading counted.

    Processor time of one thread, since others may compute beside this; the run itself loads in a
    thread of its own, so its share of the wall clock is smaller still.
    """
    whole, bare = measure(data, config, steps)
    ratio = paired_ratio(bare[2:], whole[2:])
    whole, bare = whole[2:].min(), bare[2:].min()
    tokens = config.tokens_per_step
    show(
        capsys,
        f"{label}, one thread: {tokens / whole:,.0f} tokens/s, bare {tokens / bare:,.0f}, "
        f"ratio {ratio:.3f}",
    )
    assert ratio >= 0.95


@pytest.mark.benchmark
def test_the_loop_does_not_wait_for_the_loader(data, capsys):
    """`tiny` on all cores: the step finds its batch ready."""
    config = TrainConfig()
    tasks = select_tasks(data)
    model = model_config(config, tasks)
    subsequences = cut_tasks(data, tasks, context=config.context)
    sampler = WindowSampler(subsequences, context=config.context, batch_size=8, seed=0)
    loader = BatchLoader(data, tasks, subsequences, sampler, model)
    hardware = resolve_hardware("cpu", None, "float32", 0)
    trainer = Trainer(Vintix(model).train(), config, hardware)
    waits, seconds = [], []
    with torch_threads(hardware.threads), Prefetcher(loader.step, 0, 12) as prefetched:
        for step in range(12):
            begin = time.perf_counter()
            batches = prefetched.get()
            waits.append(time.perf_counter() - begin)
            trainer.step(step, batches).losses.tolist()
            seconds.append(time.perf_counter() - begin)
    best = min(seconds[2:])
    show(
        capsys,
        f"tiny, {hardware.threads} threads: {config.tokens_per_step / best:,.0f} tokens/s at "
        f"best, {config.tokens_per_step / np.median(seconds[2:]):,.0f} in the middle, "
        f"waited {1e3 * np.median(waits[2:]):.2f} ms a step",
    )
    assert np.median(waits[2:]) < 0.02 * np.median(seconds[2:])


@pytest.mark.benchmark
def test_loading_takes_a_small_part_of_a_step(data, capsys):
    """Batches of `tiny` are assembled at many times the speed at which they are trained on."""
    config = TrainConfig()
    tasks = select_tasks(data)
    subsequences = cut_tasks(data, tasks, context=config.context)
    sampler = WindowSampler(subsequences, context=config.context, batch_size=8, seed=0)
    loader = BatchLoader(data, tasks, subsequences, sampler, model_config(config, tasks))
    loader.step(0)
    begin = time.process_time()
    for step in range(1, 101):
        loader.step(step)
    cost = (time.process_time() - begin) / 100
    show(capsys, f"loader: {1e3 * cost:.2f} ms of processor time a step, {8 / cost:,.0f} windows/s")
    assert cost < 0.02
