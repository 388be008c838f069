"""Threads that sleep at their barriers: some is lost alone, and much is won beside other work.

Each measurement is a process of its own, since OpenMP reads its settings once; those that are
compared run one after the other. Alone: the time by OpenMP's own default against ours. Beside two
busy loops: the best of all settings against ours.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys

import pytest

from pipelines.hardware import available_cores, yield_while_waiting

from .support import show

pytestmark = pytest.mark.benchmark

NAMES = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
TRAIN = """
import sys, time, torch
from pipelines.model.batch import GroupBatch
from pipelines.model.config import GroupDims
from pipelines.model.presets import preset
from pipelines.model.vintix import Vintix
threads, steps = int(sys.argv[1]), int(sys.argv[2])
torch.set_num_threads(threads)
model = Vintix(preset("tiny", {"one": GroupDims(observation_dim=39, action_dim=4)}, context=256))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, foreach=True)
draw = torch.Generator().manual_seed(0)
def values(*shape):
    return torch.rand(*shape, generator=draw)
batch = GroupBatch("one", values(8, 256, 39), values(8, 256, 4), values(8, 256),
                   torch.arange(256).remainder(100).expand(8, 256))
target = values(8, 256, 4)
def step():
    loss = ((model([batch])[0] - target) ** 2).mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
step()
begin = time.perf_counter()
for _ in range(steps):
    step()
print(time.perf_counter() - begin)
"""


def settings() -> dict[str, tuple[int, dict[str, str]]]:
    """Threads and environment of each way to run; `ours` is what the command sets."""
    kept = {name: os.environ.pop(name, None) for name in NAMES}
    try:
        yield_while_waiting()
        ours = {name: os.environ.pop(name) for name in NAMES if name in os.environ}
    finally:
        os.environ.update({name: value for name, value in kept.items() if value is not None})
    cores = available_cores()
    return {
        "ours": (cores, ours),
        "default": (cores, {}),
        "passive": (cores, {"OMP_WAIT_POLICY": "passive"}),
        "10,000 spins": (cores, {"GOMP_SPINCOUNT": "10000"}),
        "one thread": (1, {}),
    }


def seconds(threads: int, environment: dict[str, str], steps: int) -> float:
    inherited = {name: value for name, value in os.environ.items() if name not in NAMES}
    done = subprocess.run(
        [sys.executable, "-c", TRAIN, str(threads), str(steps)],
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout)


def measure(names, steps: int, rounds: int) -> dict[str, float]:
    ways = settings()
    times = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            times[name].append(seconds(*ways[name], steps))
    return {name: statistics.median(each) for name, each in times.items()}


def test_alone_sleeping_costs_a_third_at_most(capsys):
    if available_cores() < 2:
        pytest.skip("with one core there is one thread, which waits for nobody")
    times = measure(("default", "passive", "10,000 spins", "ours"), steps=12, rounds=5)
    show(capsys, "alone, seconds of 12 steps: " + str({k: round(v, 2) for k, v in times.items()}))
    assert times["ours"] <= 1.33 * min(times.values())


def test_beside_other_work_it_is_near_the_best(capsys):
    if available_cores() < 2:
        pytest.skip("with one core there is one thread, which waits for nobody")
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    try:
        times = measure(
            ("ours", "passive", "10,000 spins", "one thread", "default"), steps=4, rounds=3
        )
    finally:
        for each in busy:
            each.kill()
            each.wait()
    show(capsys, "busy, seconds of 4 steps: " + str({k: round(v, 2) for k, v in times.items()}))
    assert 0.8 * times["ours"] <= min(times.values())
