"""Blocked attention on the CPU against the same mathematics in one call with the whole mask.

Ratios within one run: both sides take turns, in processor time, so that what else the machine does
meets both alike. Peak memory is that of a process of its own for each side.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from pipelines.model.attention import attend
from pipelines.model.attention.alibi import AttentionCache, alibi_slopes, causal_bias

from . import support

BATCH, HEADS, LENGTH, CHANNELS = 1, 8, 2048, 32
#: What queries and keys after a LayerNorm with first weights can reach.
BOUND = CHANNELS**0.5
ROUNDS = 7


def inputs() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shape = (BATCH, LENGTH, HEADS, CHANNELS)
    q, k, v = (torch.randn(shape, generator=generator) for _ in range(3))
    q, k = (functional.layer_norm(tensor, (CHANNELS,)) for tensor in (q, k))
    return [tensor.transpose(1, 2).requires_grad_() for tensor in (q, k, v)]


def sides() -> dict[str, Callable[..., torch.Tensor]]:
    slopes, cache = alibi_slopes(HEADS), AttentionCache()
    mask = causal_bias(slopes, LENGTH, LENGTH).float()
    return {
        "full mask": lambda q, k, v: functional.scaled_dot_product_attention(
            q, k, v, attn_mask=mask
        ),
        "blocked": lambda q, k, v: attend(q, k, v, slopes, backend="blocked", cache=cache),
        "blocked, bound": lambda q, k, v: attend(
            q, k, v, slopes, backend="blocked", score_bound=BOUND, cache=cache
        ),
    }


def forward_backward(
    function: Callable[..., torch.Tensor], qkv: list[torch.Tensor]
) -> list[torch.Tensor]:
    out = function(*qkv)
    return [out.detach(), *torch.autograd.grad(out.square().sum(), qkv)]


def added_in_new_process(side: str) -> float:
    """Return what a side adds to the peak memory of a fresh process, its tables included."""
    code = (
        "from tests.benchmarks import test_attention as bench\n"
        f"print(bench.added_megabytes({side!r}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
        cwd=Path(__file__).parents[2],
    )
    return float(done.stdout)


def added_megabytes(side: str) -> float:
    """Return how much one forward and backward of a side raises this process's peak memory."""
    torch.set_num_threads(1)
    qkv = inputs()
    # What PyTorch sets up at its first call is nobody's: a short sequence pays for it.
    slopes = alibi_slopes(HEADS)
    short = [tensor.detach()[:, :, :64].clone().requires_grad_() for tensor in qkv]
    forward_backward(lambda q, k, v: attend(q, k, v, slopes, backend="blocked"), short)
    before = support.peak_megabytes()
    if side == "full mask":
        mask = torch.empty(1, HEADS, LENGTH, LENGTH)
        # Head by head: making it all at once in float64 would count against it.
        for head in range(HEADS):
            mask[:, head] = causal_bias(slopes[head : head + 1], LENGTH, LENGTH)[:, 0]
        forward_backward(
            lambda q, k, v: functional.scaled_dot_product_attention(q, k, v, attn_mask=mask), qkv
        )
    else:
        bound = BOUND if side == "blocked, bound" else None
        forward_backward(
            lambda q, k, v: attend(q, k, v, slopes, backend="blocked", score_bound=bound), qkv
        )
    return support.peak_megabytes() - before


@pytest.mark.benchmark
def test_blocked_is_faster_and_leaner_than_one_call_with_the_whole_mask(
    capsys: pytest.CaptureFixture[str],
) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        functions, qkv = sides(), inputs()
        results = {name: forward_backward(function, qkv) for name, function in functions.items()}
        seconds: dict[str, list[float]] = {name: [] for name in functions}
        for turn in range(ROUNDS):
            for name in list(functions) if turn % 2 else reversed(list(functions)):
                begin = time.process_time()
                forward_backward(functions[name], qkv)
                seconds[name].append(time.process_time() - begin)
    finally:
        torch.set_num_threads(threads)
    for name in ("blocked", "blocked, bound"):
        for ours, expected in zip(results[name], results["full mask"], strict=True):
            torch.testing.assert_close(ours, expected, atol=2e-5, rtol=2e-5)
    middle = {name: statistics.median(values) for name, values in seconds.items()}
    memory = {name: added_in_new_process(name) for name in functions}
    lines = [
        f"  {name:15} {1e3 * middle[name]:7.0f} ms  "
        f"{middle['full mask'] / middle[name]:5.2f} x  {memory[name]:6.0f} MB"
        for name in functions
    ]
    title = f"attention, L {LENGTH}, {HEADS} heads x {CHANNELS}, one thread"
    support.show(capsys, "\n".join([title, *lines]))
    for name in ("blocked", "blocked, bound"):
        assert middle[name] < middle["full mask"]
        assert memory[name] < memory["full mask"]
