"""What a GPU has to show, part by part, in a few minutes: see gpu.sh.

    python runs/gpu.py                       # one CUDA device
    python runs/gpu.py --device cpu          # the same parts, small, where there is none
    python runs/gpu.py --part training       # one part

Each part runs in a process of its own, so that one that fails or hangs does not cost the others. A
row is printed and written to ``gpu.jsonl`` as soon as it is known.

Shapes: B sequences, H heads, L steps, K channels of a head, O observation, A action.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipelines.artifacts.arrays import create_rows, write_array
from pipelines.artifacts.workspace import Workspace
from pipelines.errors import VintixError
from pipelines.hardware import Hardware, resolve_hardware
from pipelines.model.attention import attend
from pipelines.model.attention.alibi import alibi_slopes
from pipelines.model.batch import GroupBatch
from pipelines.model.config import GroupDims
from pipelines.model.presets import preset
from pipelines.model.vintix import Vintix
from pipelines.train.config import TrainConfig
from pipelines.train.loader import MicroBatch
from pipelines.train.loop import Trainer
from pipelines.train.planning import flops_per_token
from pipelines.train.processes import ProcessGroup, shard

Row = dict[str, Any]
DIMS = GroupDims(observation_dim=39, action_dim=4)
#: Dense bfloat16 operations a second by the data sheets, by what a device's name holds.
PEAK_FLOPS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40": 181e12, "4090": 165e12}
#: Which part runs for how many seconds at most, in their order; the last has what is left.
PARTS = {
    "attention": 90,
    "training": 150,
    "compile": 60,
    "processes": 45,
    "rollouts": 45,
    "resume": 90,
    "data": 600,
}


class Bench:
    """The device, and sizes that fit it."""

    def __init__(self, device: str) -> None:
        self.hardware = resolve_hardware(device, None, "auto", 0)
        self.cuda = self.hardware.device == "cuda"
        self.device = self.hardware.torch_device
        self.name = torch.cuda.get_device_name() if self.cuda else "CPU"
        self.presets = ("small", "base", "paper") if self.cuda else ("tiny",)
        self.contexts = (1024, 8192) if self.cuda else (64, 128)
        self.tokens = 1 << 16 if self.cuda else 1 << 9
        self.peak = next((rate for name, rate in PEAK_FLOPS.items() if name in self.name), None)

    def wait(self) -> None:
        if self.cuda:
            torch.cuda.synchronize()

    def seconds(self, function: Callable[[], object], warm: int = 3, most: float = 4.0) -> float:
        """Return the median time of calls after some that do not count."""
        for _ in range(warm):
            function()
        self.wait()
        taken: list[float] = []
        while len(taken) < 3 or (sum(taken) < most and len(taken) < 50):
            begin = time.perf_counter()
            function()
            self.wait()
            taken.append(time.perf_counter() - begin)
        return statistics.median(taken)


def attention(bench: Bench) -> Iterator[Row]:
    """Each backend against `reference` in float64: output and gradients; and through the cache."""
    names = {"flash": torch.bfloat16, "flex": torch.float32, "blocked": torch.float32}
    length, channels, heads = 1024 if bench.cuda else 300, 64, 8
    for name, dtype in names.items():
        for window in (None, 200):
            qkv = [
                torch.randn(2, heads, length, channels, device=bench.device, dtype=dtype)
                for _ in range(3)
            ]
            try:
                found = _attended(name, qkv, window)
            except (VintixError, ImportError) as error:
                yield {
                    "what": f"{name}, window {window}",
                    "value": f"not run: {str(error).splitlines()[0]}",
                }
                continue
            exact = _attended("reference", [each.double() for each in qkv], window)
            off = [
                float((one.double() - other).abs().max() / other.abs().max().clamp_min(1))
                for one, other in zip(found, exact, strict=True)
            ]
            limit = 5e-2 if dtype == torch.bfloat16 else 2e-3
            yield {
                "what": f"{name}, {str(dtype).removeprefix('torch.')}, window {window}: largest "
                "error of output and gradients",
                "value": f"{off[0]:.1e}, {max(off[1:]):.1e}",
                "passed": max(off) < limit,
            }
    model, batch = _model(bench, "tiny", 128), _batch(bench, 2, 128)
    model.eval()
    with torch.no_grad():
        whole = model([batch])[0]
        cache = model.make_cache(2, 128)
        steps = [model.step([batch.step(at)], cache)[0] for at in range(128)]
    off = float((torch.stack(steps, 1) - whole).abs().max())
    yield {"what": "steps against the full pass", "value": f"{off:.1e}", "passed": off < 2e-3}


def training(bench: Bench) -> Iterator[Row]:
    """A whole step of each preset: tokens a second, share of the peak, memory."""
    for name in bench.presets:
        for context in bench.contexts:
            yield _step(bench, name, context)


def compile_(bench: Bench) -> Iterator[Row]:
    """The same with torch.compile."""
    name = bench.presets[min(1, len(bench.presets) - 1)]
    for compiled in (False, True):
        yield _step(bench, name, bench.contexts[0], compiled=compiled)


class OneProcess(ProcessGroup):
    """A group of one that exchanges as one of several does."""

    alone = False


def processes(bench: Bench) -> Iterator[Row]:
    """NCCL (gloo on CPUs) with one process, and FSDP2 over it."""
    import torch.distributed as dist

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{probe.getsockname()[1]}"
    kind = "nccl" if bench.cuda else "gloo"
    dist.init_process_group(kind, init_method=address, rank=0, world_size=1)
    group = OneProcess()
    values = torch.ones(1 << 20, device=bench.device)
    group.all_reduce(values)
    yield {"what": f"{kind}: sum over one process", "passed": bool((values == 1).all())}
    alone, sharded = (
        _step(bench, bench.presets[0], bench.contexts[0], group=each, sharded=each is not None)
        for each in (None, group)
    )
    yield {**sharded, "what": f"{sharded['what']}, FSDP2"}
    same = abs(alone["loss"] - sharded["loss"]) < 1e-2 * abs(alone["loss"])
    yield {"what": "its loss is that of one process without", "passed": same}
    dist.destroy_process_group()


def rollouts(bench: Bench) -> Iterator[Row]:
    """A step of many streams with a full cache."""
    context = bench.contexts[0]
    model = _model(bench, bench.presets[0], context).eval()
    for streams in (1, 64, 1024) if bench.cuda else (1, 4):
        cache = model.make_cache(streams, context)
        cache.assume_full()
        token = _batch(bench, streams, 1)
        with torch.no_grad():
            seconds = bench.seconds(lambda: model.step([token], cache), most=2.0)  # noqa: B023
        yield {
            "what": f"{bench.presets[0]}, context {context}, {streams} streams",
            "value": f"{1000 * seconds:.2f} ms a step, {streams / seconds:,.0f} actions a second",
        }


def resume(bench: Bench) -> Iterator[Row]:
    """A run that is killed and started again ends in the bytes of one that was not."""
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder))
        random_dataset(workspace)
        steps = 60
        command = [sys.executable, "-m", "vintix_cli", "train", "--workspace", folder]
        command += ["--device", bench.hardware.device, "--steps", str(steps), "--batch-size", "8"]
        command += ["--context", "64", "--set", "train.checkpoint_every=5", "-q", "--name"]
        subprocess.run([*command, "whole"], check=True)
        began = subprocess.Popen([*command, "killed"], start_new_session=True)
        staged, begin = workspace.root / "checkpoints" / "killed", time.monotonic()
        while (
            not list(staged.glob(".staging*/progress/checkpoint*"))
            and time.monotonic() - begin < 60
        ):
            time.sleep(0.02)
        killed = began.poll() is None
        os.killpg(began.pid, signal.SIGKILL)
        began.wait()
        subprocess.run([*command, "killed"], check=True)
        whole, resumed = (
            np.asarray(workspace.find("checkpoints", name).group("model")["weights"][:])
            for name in ("whole", "killed")
        )
        off = float(np.abs(whole - resumed).max())
        yield {
            "what": "killed and resumed against uninterrupted: largest difference of a weight",
            "value": f"{off:.1e}" + ("" if killed else " (it had ended before it was killed)"),
            "passed": killed and off == 0,
        }


def data(bench: Bench) -> Iterator[Row]:
    """Train on the dataset of $DATASET, a workspace's, for the time that is left."""
    if not os.environ.get("DATASET"):
        yield {"what": "no workspace with a dataset in $DATASET", "value": "not run"}
        return
    seconds = float(os.environ.get("SECONDS_LEFT", "60"))
    command = [sys.executable, "-m", "vintix_cli", "train", "--workspace", os.environ["DATASET"]]
    command += ["--device", bench.hardware.device, *os.environ.get("TRAIN", "").split()]
    running = subprocess.Popen(command)
    try:
        running.wait(seconds)
    except subprocess.TimeoutExpired:
        # It keeps its state, and the same command goes on from there.
        running.send_signal(signal.SIGINT)
        running.wait(60)
    yield {"what": "training on $DATASET", "value": f"exit code {running.returncode}"}


def random_dataset(workspace: Workspace, rows: int = 4096) -> None:
    """Publish a dataset of random numbers with the dimensions of a Meta-World task."""
    draw = np.random.default_rng(0)
    with workspace.stage("datasets", "random", config={}) as staging:
        with staging.work_item("random") as unit:
            attributes = {
                "task": {"domain": "bench", "observation_dim": 39, "action_dim": 4},
                "group": "bench",
                "split": "train",
                "reward_scale": 1.0,
                "episode_sparsity": 1,
                "rows": [rows],
            }
            group = unit.group("random", attributes)
            for kind, size in (("observation", 39), ("action", 4)):
                write_array(group, f"{kind}_mean", np.zeros(size))
                write_array(group, f"{kind}_std", np.ones(size))
            fields = {
                "observation": draw.normal(size=(rows, 39)).astype(np.float32),
                "action": draw.uniform(-1, 1, (rows, 4)).astype(np.float32),
                "reward": draw.normal(size=rows).astype(np.float32),
                "episode_step": (np.arange(rows) % 100).astype(np.int32),
                "noise": np.zeros(rows, np.float32),
            }
            trajectory = unit.group("random/00000")
            for name, values in fields.items():
                array = create_rows(
                    trajectory, name, values.shape, values.dtype, chunk_rows=rows, mapped=True
                )
                array[...] = values
        staging.publish(summary={})


def _attended(name: str, qkv: list[torch.Tensor], window: int | None) -> list[torch.Tensor]:
    """Return the output (B, H, L, K) and the gradients of a weighted sum of it."""
    qkv = [each.detach().requires_grad_() for each in qkv]
    slopes = alibi_slopes(qkv[0].shape[1]).to(qkv[0].device)
    out = attend(*qkv, slopes, backend=name, window=window)
    weight = torch.linspace(-1, 1, out.numel(), dtype=out.dtype, device=out.device).view_as(out)
    return [out.detach(), *torch.autograd.grad((out * weight).sum(), qkv)]


class Batch(GroupBatch):
    """A group's sequences, of which single steps can be taken."""

    def step(self, at: int) -> GroupBatch:
        return GroupBatch(
            self.group,
            *(
                each[:, at : at + 1]
                for each in (
                    self.observation_BLO,
                    self.previous_action_BLA,
                    self.previous_reward_BL,
                    self.episode_step_BL,
                )
            ),
        )


def _batch(bench: Bench, size: int, length: int) -> Batch:
    draw = torch.Generator().manual_seed(0)
    observation, previous, action = (
        torch.randn(size, length, channels, generator=draw).to(bench.device)
        for channels in (39, 4, 4)
    )
    reward = torch.randn(size, length, generator=draw).to(bench.device)
    step = torch.arange(length, device=bench.device).remainder(100).expand(size, -1).contiguous()
    return Batch("bench", observation, previous, reward, step, action)


def _model(bench: Bench, name: str, context: int) -> Vintix:
    return Vintix(preset(name, {"bench": DIMS}, context=context)).to(bench.device)


def _step(
    bench: Bench,
    name: str,
    context: int,
    *,
    compiled: bool = False,
    group: ProcessGroup | None = None,
    sharded: bool = False,
) -> Row:
    """Measure whole training steps of a preset."""
    size = max(1, bench.tokens // context)
    config = TrainConfig(
        preset=name, context=context, batch_size=size, device=bench.hardware.device
    )
    if bench.cuda:
        torch.cuda.reset_peak_memory_stats()
    model = _model(bench, name, context).train()
    if group is not None and sharded:
        shard(model, group, bench.hardware.device)
    if compiled:
        model.backbone.compile(dynamic=False)
    hardware: Hardware = bench.hardware
    trainer = (
        Trainer(model, config, hardware)
        if group is None
        else Trainer(model, config, hardware, group, ["bench"])
    )
    micro = MicroBatch([_batch(bench, size, context)], ["bench"] * size)
    first = float(trainer.step(0, [micro]).losses.mean())
    seconds = bench.seconds(lambda: trainer.step(1, [micro]), warm=2)
    rate = size * context / seconds
    share = ""
    if bench.peak:
        share = f", {rate * flops_per_token(model.config) / bench.peak:.0%} of the peak"
    memory = f", {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB" if bench.cuda else ""
    return {
        "what": f"{name}, context {context}, batch {size}" + (", compiled" if compiled else ""),
        "value": f"{rate:,.0f} tokens a second{share}{memory}",
        "loss": first,
    }


def run_part(name: str, device: str, output: Path) -> bool:
    """Run a part in this process and write its rows; return whether all passed."""
    bench, passed = Bench(device), True
    functions: dict[str, Callable[[Bench], Iterator[Row]]] = {
        "attention": attention,
        "training": training,
        "compile": compile_,
        "processes": processes,
        "rollouts": rollouts,
        "resume": resume,
        "data": data,
    }
    for row in functions[name](bench):
        passed &= row.get("passed", True)
        tell({"part": name, "device": bench.name, **row}, output)
    return passed


def tell(row: Row, output: Path) -> None:
    """Print a row and add it to the file."""
    verdict = {True: "ok    ", False: "FAILED", None: "      "}[row.get("passed")]
    print(f"{row['part']:<10} {verdict} {row['what']}: {row.get('value', '')}", flush=True)
    with output.open("a") as file:
        file.write(json.dumps(row) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--part", choices=tuple(PARTS), action="append")
    parser.add_argument("--seconds", type=float, default=480, help="for everything together")
    parser.add_argument("--output", type=Path, default=Path("gpu.jsonl"))
    parser.add_argument("--here", action="store_true", help="run the part in this process")
    given = parser.parse_args()
    if given.here:
        passed = [run_part(name, given.device, given.output) for name in given.part]
        sys.exit(not all(passed))
    begin, failed = time.monotonic(), []
    for name in given.part or PARTS:
        left = given.seconds - (time.monotonic() - begin)
        limit = min(PARTS[name] * (1 if given.device == "cuda" else 4), left)
        if limit < 10:
            tell({"part": name, "what": "no time left", "value": "not run"}, given.output)
            continue
        command = [sys.executable, __file__, "--here", "--part", name, "--device", given.device]
        process = subprocess.Popen(
            [*command, "--output", str(given.output)],
            env={**os.environ, "SECONDS_LEFT": str(max(1, left - 30))},
            start_new_session=True,
        )
        try:
            code: object = process.wait(limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            code = f"stopped after {limit:.0f} s"
        if code:
            failed.append(name)
            row = {"part": name, "what": "ended with", "value": code, "passed": False}
            tell(row, given.output)
    print(
        f"{time.monotonic() - begin:.0f} s" + (f"; failed: {', '.join(failed)}" if failed else "")
    )
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
