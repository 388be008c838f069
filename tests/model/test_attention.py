"""Attention backends agree with each other and with the definition of ALiBi."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import UsageError
from pipelines.model.attention import BACKENDS, attend, blocked
from pipelines.model.attention.alibi import (
    AttentionCache,
    alibi_slopes,
    causal_bias,
    vanishing_distance,
)

#: What runs on any machine, with gradients.
HERE = ("blocked", "reference")
#: Half precision is what flash has; the tolerances are those of one rounding of the inputs.
CUDA = {"flash": torch.bfloat16, "flex": torch.float32, "blocked": torch.float32}


def random_qkv(
    batch: int,
    heads: int,
    length: int,
    channels: int,
    dtype: torch.dtype,
    device: str = "cpu",
) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(length)
    return [
        torch.randn(batch, heads, length, channels, generator=generator, dtype=torch.float64)
        .mul_(1.5)
        .to(device, dtype)
        .requires_grad_()
        for _ in range(3)
    ]


def run(
    backend: str,
    qkv: list[torch.Tensor],
    slopes: torch.Tensor,
    window: int | None = None,
    bound: float | None = None,
) -> list[torch.Tensor]:
    """Output and the three gradients of a weighted sum of it."""
    q, k, v = qkv
    out = attend(q, k, v, slopes, backend=backend, window=window, score_bound=bound)
    weight = torch.linspace(-1, 1, out.numel(), dtype=out.dtype, device=out.device).view_as(out)
    return [out.detach(), *torch.autograd.grad((out * weight).sum(), qkv)]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("length", [1, 17, 255, 256, 257, 512, 700])
@pytest.mark.parametrize("heads", [4, 6])
def test_blocked_equals_reference_forward_and_backward(
    dtype: torch.dtype, length: int, heads: int
) -> None:
    """Lengths below, at, above and between multiples of a block's rows."""
    qkv = random_qkv(2, heads, length, 8, dtype)
    tolerance = 1e-10 if dtype == torch.float64 else 2e-5
    slopes = alibi_slopes(heads)
    for ours, expected in zip(
        run("blocked", qkv, slopes), run("reference", qkv, slopes), strict=True
    ):
        torch.testing.assert_close(ours, expected, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("window", [1, 2, 100, 255, 256, 257, 300, 599, 600, 601, 5000])
def test_blocked_equals_reference_with_a_window(dtype: torch.dtype, window: int) -> None:
    """Windows within one block, across two and three, and over the whole sequence."""
    qkv = random_qkv(2, 3, 600, 8, dtype)
    tolerance = 1e-10 if dtype == torch.float64 else 2e-5
    slopes = alibi_slopes(3)
    for ours, expected in zip(
        run("blocked", qkv, slopes, window), run("reference", qkv, slopes, window), strict=True
    ):
        torch.testing.assert_close(ours, expected, atol=tolerance, rtol=tolerance)


@given(
    length=st.integers(1, 70),
    rows=st.integers(1, 24),
    heads=st.integers(1, 9),
    batch=st.integers(1, 3),
    window=st.none() | st.integers(1, 80),
)
def test_blocked_is_exact_for_any_block_size_and_window(
    length: int, rows: int, heads: int, batch: int, window: int | None
) -> None:
    qkv = random_qkv(batch, heads, length, 4, torch.float64)
    slopes = alibi_slopes(heads)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocked, "BLOCK_ROWS", rows)
        found = run("blocked", qkv, slopes, window)
    for ours, expected in zip(found, run("reference", qkv, slopes, window), strict=True):
        torch.testing.assert_close(ours, expected, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("window", [None, 1, 3, 6, 9])
@pytest.mark.parametrize("backend", HERE)
def test_backend_computes_the_definition(backend: str, window: int | None) -> None:
    """Scores q.k / sqrt(K) - slope x distance over the last keys, written as Python loops."""
    q, k, v = (tensor.detach() for tensor in random_qkv(1, 3, 6, 4, torch.float64))
    slopes = alibi_slopes(3)
    out = attend(q, k, v, slopes, backend=backend, window=window)
    for head in range(3):
        for i in range(6):
            seen = range(0 if window is None else max(0, i - window + 1), i + 1)
            scores = [
                float(q[0, head, i] @ k[0, head, j]) / 2.0 - float(slopes[head]) * (i - j)
                for j in seen
            ]
            weights = torch.tensor(scores, dtype=torch.float64).softmax(0)
            expected = sum(weight * v[0, head, j] for weight, j in zip(weights, seen, strict=True))
            torch.testing.assert_close(out[0, head, i], expected, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("backend", HERE)
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


@pytest.mark.parametrize("backend", HERE)
def test_no_backend_looks_behind_its_window(backend: str) -> None:
    """Changing a key moves the outputs of the `window` queries from it on, and no other."""
    q, k, v = (tensor.detach() for tensor in random_qkv(1, 2, 600, 4, torch.float32))
    before = attend(q, k, v, alibi_slopes(2), backend=backend, window=40)
    v2 = v.clone()
    v2[:, :, 250] += 1e4
    after = attend(q, k, v2, alibi_slopes(2), backend=backend, window=40)
    moved = (before != after).any(dim=-1).all(dim=1)[0].nonzero().flatten().tolist()
    assert moved == list(range(250, 290))


@pytest.mark.parametrize("window", [None, 200])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_blocked_in_half_precision_stays_near_float64(
    dtype: torch.dtype, window: int | None
) -> None:
    """Half-precision tables of far keys do no harm: where they are coarse the weight is gone."""
    q, k, v = (tensor.detach() for tensor in random_qkv(1, 4, 600, 8, dtype))
    out = attend(q, k, v, alibi_slopes(4), backend="blocked", window=window)
    exact = attend(
        q.double(), k.double(), v.double(), alibi_slopes(4), backend="reference", window=window
    )
    assert out.dtype == dtype
    tolerance = 3e-2 if dtype == torch.bfloat16 else 4e-3
    torch.testing.assert_close(out.double(), exact, atol=tolerance, rtol=0)


@pytest.mark.parametrize("backend", HERE)
def test_dropout_drops_weights_and_keeps_their_mean(backend: str) -> None:
    torch.manual_seed(0)
    q, k = torch.zeros(2, 200, 2, 8, 4).unbind(0)
    v = torch.ones(200, 2, 8, 4)
    out = attend(q, k, v, alibi_slopes(2), backend=backend, dropout=0.5)
    assert out.std() > 0.1
    assert out.mean().item() == pytest.approx(1.0, abs=0.05)
    assert torch.allclose(attend(q, k, v, alibi_slopes(2), backend=backend), v)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(
    ("heads", "length", "window"), [(4, 1, None), (3, 300, None), (6, 257, 50), (2, 200, 300)]
)
def test_flex_equals_reference_forward(
    heads: int, length: int, window: int | None, dtype: torch.dtype
) -> None:
    """The score modification and the block mask, run uncompiled: PyTorch's CPU has no backward."""
    q, k, v = (tensor.detach() for tensor in random_qkv(2, heads, length, 8, dtype))
    slopes, cache = alibi_slopes(heads), AttentionCache()
    expected = attend(q, k, v, slopes, backend="reference", window=window)
    tolerance = 1e-10 if dtype == torch.float64 else 2e-5
    for _ in range(2):
        out = attend(q, k, v, slopes, backend="flex", window=window, cache=cache)
        torch.testing.assert_close(out, expected, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("window", [None, 100, 1000])
@pytest.mark.parametrize("length", [64, 300, 1024])
@pytest.mark.parametrize("backend", sorted(CUDA))
def test_cuda_backends_equal_reference_forward_and_backward(
    backend: str, length: int, window: int | None
) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    if backend == "flash":
        pytest.importorskip("flash_attn", reason="needs the package flash-attn")
    dtype = CUDA[backend]
    qkv = random_qkv(2, 6, length, 64, dtype, device="cuda")
    exact = [tensor.detach().double().requires_grad_() for tensor in qkv]
    slopes = alibi_slopes(6)
    tolerance = 5e-2 if dtype == torch.bfloat16 else 2e-3
    for ours, expected in zip(
        run(backend, qkv, slopes, window), run("reference", exact, slopes, window), strict=True
    ):
        assert ours.dtype == dtype
        scale = expected.abs().max().clamp_min(1.0).item()
        torch.testing.assert_close(ours.double(), expected, atol=tolerance * scale, rtol=tolerance)


@given(
    length=st.integers(1, 400),
    heads=st.integers(1, 9),
    window=st.none() | st.integers(1, 450),
    weight=st.floats(0.0, 1.5),
)
def test_keys_left_out_by_a_score_bound_had_no_weight(
    length: int, heads: int, window: int | None, weight: float
) -> None:
    """Output and gradients, in float64, where rounding is nine digits finer than in float32."""
    qkv = [tensor.detach() for tensor in random_qkv(1, heads, length, 4, torch.float64)]
    qkv[:2] = [torch.nn.functional.layer_norm(tensor, (4,)) * weight for tensor in qkv[:2]]
    qkv = [tensor.requires_grad_() for tensor in qkv]
    slopes, bound = alibi_slopes(heads), 2.0 * weight**2
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocked, "BLOCK_ROWS", 16)
        found = run("blocked", qkv, slopes, window, bound)
    for ours, expected in zip(found, run("reference", qkv, slopes, window), strict=True):
        torch.testing.assert_close(ours, expected, atol=1e-13, rtol=1e-11)


def test_a_score_bound_spares_steep_heads_their_far_keys() -> None:
    """What is left out is really left out: an infinite value far away does no harm."""
    q, k, v = (tensor.detach() for tensor in random_qkv(1, 8, 1024, 4, torch.float32))
    q, k = (torch.nn.functional.layer_norm(tensor, (4,)) for tensor in (q, k))
    v[:, :, 0] = torch.inf
    out = attend(q, k, v, alibi_slopes(8), backend="blocked", score_bound=2.0)
    last = out[0, :, -1].isfinite().all(dim=-1).tolist()
    assert last == [True] * 4 + [False] * 4


def test_the_far_keys_of_a_head_weigh_what_the_series_says() -> None:
    """The worst case: every far score at +M, the query's own at -M."""
    slope, bound, tolerance = 0.25, 3.0, 1e-6
    distance = vanishing_distance(slope, bound, tolerance)
    far = torch.arange(int(distance) + 1, 10_000, dtype=torch.float64)
    weight = torch.exp(2 * bound - slope * far).sum().item()
    assert tolerance / 2 < weight <= tolerance
    assert vanishing_distance(slope, float("nan"), tolerance) == float("inf")
    assert vanishing_distance(slope, float("inf"), tolerance) == float("inf")


def test_a_window_holds_at_least_the_query() -> None:
    q, k, v = random_qkv(1, 1, 3, 4, torch.float32)
    with pytest.raises(UsageError, match=r"(?s)window of 1 or more.*found: 0"):
        attend(q, k, v, alibi_slopes(1), window=0)


def test_every_backend_is_a_function_of_the_facade() -> None:
    assert set(BACKENDS) == {"flash", "flex", "blocked", "reference"}


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


def table(
    cache: AttentionCache, heads: int, rows: int, width: int, window: int | None = None
) -> torch.Tensor:
    return cache.bias_table(
        alibi_slopes(heads), rows, width, window, torch.device("cpu"), torch.float32
    )


def test_a_table_is_built_once_and_serves_shorter_sequences() -> None:
    """Training and validation lengths alternate without rebuilding anything."""
    cache = AttentionCache()
    long = table(cache, 4, 16, 60)
    assert long.shape == (1, 4, 16, 64)
    assert table(cache, 4, 16, 20) is long
    assert table(cache, 4, 16, 64) is long
    assert table(cache, 4, 16, 65) is not long
    assert table(cache, 2, 16, 20).shape[1] == 2
    assert table(cache, 4, 16, 20, window=5) is not table(cache, 4, 16, 20)


def test_tables_are_bounded_and_not_copied_with_their_owner() -> None:
    cache = AttentionCache()
    kept = table(cache, 2, 1, 4)
    for rows in range(2, 17):
        table(cache, 2, rows, 4)
    assert table(cache, 2, 1, 4) is kept
    table(cache, 2, 17, 4)
    assert table(cache, 2, 1, 4) is kept
    for rows in range(18, 34):
        table(cache, 2, rows, 4)
    assert table(cache, 2, 1, 4) is not kept
    assert table(copy.deepcopy(cache), 2, 33, 4) is not table(cache, 2, 33, 4)


def test_a_windowed_table_is_no_wider_than_the_window_needs() -> None:
    """At 8192 tokens and a window of 512 the table has 768 columns, not 8192."""
    q, k, v = (tensor.detach() for tensor in random_qkv(1, 1, 2000, 4, torch.float32))
    cache = AttentionCache()
    attend(q, k, v, alibi_slopes(1), backend="blocked", window=512, cache=cache)
    rows = blocked.BLOCK_ROWS
    width = -(-(511 + rows) // rows) * rows
    assert table(cache, 1, rows, rows, window=512).shape[-1] == width


def test_bias_is_zero_at_the_query_and_falls_with_distance() -> None:
    inf = torch.inf
    bias = causal_bias(torch.tensor([0.5]), rows=2, width=4)[0, 0]
    assert bias.tolist() == [[-1.0, -0.5, -0.0, -inf], [-1.5, -1.0, -0.5, -0.0]]
    bias = causal_bias(torch.tensor([0.5]), rows=2, width=4, window=2)[0, 0]
    assert bias.tolist() == [[-inf, -0.5, -0.0, -inf], [-inf, -inf, -0.5, -0.0]]
