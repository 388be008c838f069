"""Attention backends agree with each other and with the definition of ALiBi."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.errors import ConfigError
from pipelines.model import attention
from pipelines.model.alibi import BiasTables, causal_bias
from pipelines.model.attention import BACKENDS, alibi_slopes, attend, resolve_backend


def random_qkv(
    batch: int, heads: int, length: int, channels: int, dtype: torch.dtype
) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(length)
    return [
        torch.randn(batch, heads, length, channels, generator=generator, dtype=dtype)
        .mul_(1.5)
        .requires_grad_()
        for _ in range(3)
    ]


def run(backend: str, qkv: list[torch.Tensor], slopes: torch.Tensor) -> list[torch.Tensor]:
    """Output and the three gradients of a weighted sum of it."""
    q, k, v = qkv
    out = attend(q, k, v, slopes, backend=backend)
    weight = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)
    return [out.detach(), *torch.autograd.grad((out * weight).sum(), qkv)]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("length", [1, 17, 255, 256, 257, 512, 700])
@pytest.mark.parametrize("heads", [4, 6])
def test_blocked_equals_reference_forward_and_backward(
    dtype: torch.dtype, length: int, heads: int
) -> None:
    """Lengths below, at, above and between multiples of the 256 rows of a block."""
    qkv = random_qkv(2, heads, length, 8, dtype)
    tolerance = 1e-10 if dtype == torch.float64 else 2e-5
    slopes = alibi_slopes(heads)
    for blocked, reference in zip(
        run("blocked", qkv, slopes), run("reference", qkv, slopes), strict=True
    ):
        torch.testing.assert_close(blocked, reference, atol=tolerance, rtol=tolerance)


@settings(max_examples=40, deadline=None)
@given(
    length=st.integers(1, 70),
    rows=st.integers(1, 24),
    heads=st.integers(1, 9),
    batch=st.integers(1, 3),
)
def test_blocked_is_exact_for_any_block_size(
    length: int, rows: int, heads: int, batch: int
) -> None:
    qkv = random_qkv(batch, heads, length, 4, torch.float64)
    slopes = alibi_slopes(heads)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention, "BLOCK_ROWS", rows)
        blocked = run("blocked", qkv, slopes)
    for ours, expected in zip(blocked, run("reference", qkv, slopes), strict=True):
        torch.testing.assert_close(ours, expected, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("backend", sorted(BACKENDS))
def test_backend_computes_the_definition(backend: str) -> None:
    """Scores q.k / sqrt(K) - slope x distance over past keys, written as Python loops."""
    q, k, v = (tensor.detach() for tensor in random_qkv(1, 3, 6, 4, torch.float64))
    slopes = alibi_slopes(3)
    out = attend(q, k, v, slopes, backend=backend)
    for head in range(3):
        for i in range(6):
            scores = [
                float(q[0, head, i] @ k[0, head, j]) / 2.0 - float(slopes[head]) * (i - j)
                for j in range(i + 1)
            ]
            weights = torch.tensor(scores, dtype=torch.float64).softmax(0)
            expected = sum(weights[j] * v[0, head, j] for j in range(i + 1))
            torch.testing.assert_close(out[0, head, i], expected, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("backend", sorted(BACKENDS))
def test_no_backend_looks_ahead(backend: str) -> None:
    """Changing the keys and values after a query leaves its output bit for bit."""
    q, k, v = (tensor.detach() for tensor in random_qkv(1, 2, 300, 4, torch.float32))
    before = attend(q, k, v, alibi_slopes(2), backend=backend)
    k2, v2 = k.clone(), v.clone()
    k2[:, :, 270:] += 100.0
    v2[:, :, 270:] -= 100.0
    after = attend(q, k2, v2, alibi_slopes(2), backend=backend)
    assert torch.equal(before[:, :, :270], after[:, :, :270])
    assert not torch.equal(before[:, :, 270:], after[:, :, 270:])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_blocked_in_half_precision_stays_near_float64(dtype: torch.dtype) -> None:
    """Half-precision tables of far keys do no harm: where they are coarse the weight is gone."""
    q, k, v = (tensor.detach().to(dtype) for tensor in random_qkv(1, 4, 600, 8, torch.float32))
    out = attend(q, k, v, alibi_slopes(4), backend="blocked")
    exact = attend(q.double(), k.double(), v.double(), alibi_slopes(4), backend="reference")
    assert out.dtype == dtype
    tolerance = 3e-2 if dtype == torch.bfloat16 else 4e-3
    torch.testing.assert_close(out.double(), exact, atol=tolerance, rtol=0)


@pytest.mark.parametrize("backend", sorted(BACKENDS))
def test_dropout_drops_weights_and_keeps_their_mean(backend: str) -> None:
    torch.manual_seed(0)
    q, k = torch.zeros(2, 200, 2, 8, 4).unbind(0)
    v = torch.ones(200, 2, 8, 4)
    out = attend(q, k, v, alibi_slopes(2), backend=backend, dropout=0.5)
    assert out.std() > 0.1
    assert out.mean().item() == pytest.approx(1.0, abs=0.05)
    assert torch.allclose(attend(q, k, v, alibi_slopes(2), backend=backend), v)


def test_slopes_of_a_power_of_two_are_the_geometric_series() -> None:
    """2^(-8/H), 2^(-16/H), ...: section 3 of Press et al."""
    assert alibi_slopes(8).tolist() == [2.0**-power for power in range(1, 9)]
    assert alibi_slopes(16)[0].item() == pytest.approx(2**-0.5)
    assert alibi_slopes(1).tolist() == [2.0**-8]


def test_slopes_of_other_counts_interleave_the_next_power_of_two() -> None:
    """The values the paper's reference code gives for 6 and 12 heads."""
    assert alibi_slopes(6).tolist() == [2**-2, 2**-4, 2**-6, 2**-8, 2**-1, 2**-3]
    expected = [2.0**-power for power in range(1, 9)] + [2**-0.5, 2**-1.5, 2**-2.5, 2**-3.5]
    assert alibi_slopes(12).tolist() == pytest.approx(expected)


@given(heads=st.integers(1, 128))
def test_slopes_are_distinct_and_within_zero_and_one(heads: int) -> None:
    slopes = alibi_slopes(heads)
    assert slopes.shape == (heads,)
    assert len(set(slopes.tolist())) == heads
    assert ((slopes > 0) & (slopes < 1)).all()


def test_a_table_is_built_once_and_serves_shorter_sequences() -> None:
    """Training and validation lengths alternate without rebuilding anything."""
    tables, slopes, cpu = BiasTables(), alibi_slopes(4), torch.device("cpu")
    long = tables.get(slopes, 16, 60, cpu, torch.float32)
    assert long.shape == (1, 4, 16, 64)
    assert tables.get(slopes, 16, 20, cpu, torch.float32) is long
    assert tables.get(slopes, 16, 64, cpu, torch.float32) is long
    assert tables.get(slopes, 16, 65, cpu, torch.float32) is not long
    assert tables.get(alibi_slopes(2), 16, 20, cpu, torch.float32).shape[1] == 2


def test_tables_are_bounded_and_not_copied_with_their_owner() -> None:
    tables, slopes, cpu = BiasTables(), alibi_slopes(2), torch.device("cpu")
    kept = tables.get(slopes, 1, 4, cpu, torch.float32)
    for rows in range(2, 5):
        tables.get(slopes, rows, 4, cpu, torch.float32)
    assert tables.get(slopes, 1, 4, cpu, torch.float32) is kept
    tables.get(slopes, 5, 5, cpu, torch.float32)
    assert tables.get(slopes, 1, 4, cpu, torch.float32) is kept
    for rows in range(6, 10):
        tables.get(slopes, rows, 4, cpu, torch.float32)
    assert tables.get(slopes, 1, 4, cpu, torch.float32) is not kept
    assert copy.deepcopy(tables).get(slopes, 9, 4, cpu, torch.float32) is not tables.get(
        slopes, 9, 4, cpu, torch.float32
    )


def test_bias_is_zero_at_the_query_and_falls_with_distance() -> None:
    bias = causal_bias(torch.tensor([0.5]), rows=2, width=4)[0, 0]
    inf = torch.inf
    assert bias.tolist() == [[-1.0, -0.5, -0.0, -inf], [-1.5, -1.0, -0.5, -0.0]]


def test_an_unknown_backend_is_named_with_the_known_ones() -> None:
    assert resolve_backend("auto") in BACKENDS
    with pytest.raises(ConfigError, match=r"(?s)auto, blocked, reference.*found: flush"):
        resolve_backend("flush")
