"""What a step sees: the cached, the recomputed and the unbounded history against each other.

Full recomputation is the reference throughout, for steps below, at and far above the context.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import UsageError
from pipelines.model import vintix
from pipelines.model.attention.alibi import alibi_slopes
from pipelines.model.batch import GroupBatch
from pipelines.model.cache import Context, KVCache
from pipelines.model.config import ModelConfig
from pipelines.model.vintix import Vintix

MakeConfig = Callable[..., ModelConfig]
MakeBatch = Callable[..., GroupBatch]
Cut = Callable[[GroupBatch, int, int], GroupBatch]

CONTEXT = 16
#: Below, at, just above and, after three wraps of the ring, far above the context.
CHECKED = (0, 5, CONTEXT - 1, CONTEXT, CONTEXT + 1, 3 * CONTEXT + 5)
STEPS = CHECKED[-1] + 1
#: Backends that compute a forward pass on a CPU; a cached step needs none of them.
CPU_BACKENDS = ("blocked", "reference", "flex")


def hidden_keys(length: int, context: int, sinks: int) -> torch.Tensor:
    """Return which keys (columns) a query (rows) does not see."""
    place = torch.arange(length)
    distance = place[:, None] - place[None]
    return (distance < 0) | ((distance >= context - sinks) & (place[None] >= sinks))


def distances(length: int, context: int, sinks: int) -> torch.Tensor:
    """Return distances, those of sinks capped at their place in a full cache."""
    place = torch.arange(length, dtype=torch.float64)
    distance = place[:, None] - place[None]
    capped = torch.minimum(distance, context - 1 - place[None])
    return torch.where(place[None] < sinks, capped, distance)


def attend_by_definition(slopes_H, context, sinks, q, k, v, *_):
    """Attention over a whole history with the mask and the distances of a cache."""
    length = q.shape[2]
    bias = -slopes_H[:, None, None] * distances(length, context, sinks)
    bias = bias.masked_fill(hidden_keys(length, context, sinks), -torch.inf).to(q.dtype)
    return ((q @ k.transpose(-1, -2)) / q.shape[-1] ** 0.5 + bias).softmax(-1) @ v


def step_all(
    model: Vintix, whole: GroupBatch, cache: Context, slice_steps: Cut, first: int = 0
) -> torch.Tensor:
    """Return the actions (B, L, A) of tokens that come one by one."""
    return torch.stack(
        [
            model.step([slice_steps(whole, step, step + 1)], cache)[0]
            for step in range(first, whole.length)
        ],
        dim=1,
    )


@given(
    heads=st.integers(1, 5),
    context=st.integers(1, 9),
    sinks=st.integers(0, 8),
    steps=st.integers(1, 30),
    prompt=st.integers(0, 9),
)
def test_a_ring_with_sinks_sees_the_first_and_the_newest_tokens(
    heads: int, context: int, sinks: int, steps: int, prompt: int
) -> None:
    """Through any number of wraps, after prompts up to the context, for every number of sinks."""
    sinks, prompt = sinks % context, min(prompt, context)
    generator = torch.Generator().manual_seed(steps)
    q, k, v = torch.randn(3, 2, heads, prompt + steps, 4, generator=generator, dtype=torch.float64)
    slopes = alibi_slopes(heads)
    expected = attend_by_definition(slopes, context, sinks, q, k, v)
    cache = KVCache(
        layers=1, batch_size=2, slopes_H=slopes, head_dim=4, context=context,
        dtype=torch.float64, device=torch.device("cpu"), sinks=sinks,
    )  # fmt: skip
    if prompt:
        cache.store(0, k[:, :, :prompt], v[:, :, :prompt])
        cache.advance(prompt)
    for step in range(prompt, prompt + steps):
        now = slice(step, step + 1)
        out = cache.attend(0, q[:, :, now], k[:, :, now], v[:, :, now])
        cache.advance()
        torch.testing.assert_close(out, expected[:, :, now], atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_a_window_is_a_full_pass_over_the_last_tokens(
    config: MakeConfig, batch: MakeBatch, slice_steps: Cut, backend: str
) -> None:
    """`--cache none`, through the backend, against the model called on that window alone."""
    model = Vintix(config(), attention=backend).eval()
    plain = Vintix(config(), attention="reference").eval()
    whole = batch("walk", 2, STEPS)
    actions = step_all(model, whole, model.make_window(2), slice_steps)
    for step in CHECKED:
        window = slice_steps(whole, max(0, step + 1 - CONTEXT), step + 1)
        with torch.no_grad():
            expected = plain([window])[0][:, -1]
        torch.testing.assert_close(actions[:, step], expected, atol=2e-6, rtol=2e-5)


@pytest.mark.parametrize("backend", CPU_BACKENDS)
@pytest.mark.parametrize("sinks", [0, 3])
def test_cached_steps_are_a_full_pass_over_the_whole_history_with_the_caches_mask(
    config: MakeConfig,
    batch: MakeBatch,
    slice_steps: Cut,
    monkeypatch: pytest.MonkeyPatch,
    backend: str,
    sinks: int,
) -> None:
    """Every layer of the reference sees what the cache sees, so that receptive fields agree."""
    model = Vintix(config(), attention=backend).eval()
    whole = batch("walk", 2, STEPS)
    cached = step_all(model, whole, model.make_cache(2, sinks=sinks), slice_steps)
    trunk = model.transformer
    window = partial(trunk._attend, window=CONTEXT)
    by_definition = partial(attend_by_definition, trunk.slopes_H, CONTEXT, sinks)
    # No backend knows sinks; without them the reference is the backend itself.
    monkeypatch.setattr(trunk, "_attend", by_definition if sinks else window)
    with torch.no_grad():
        full = model([whole])[0]
    for step in CHECKED:
        torch.testing.assert_close(cached[:, step], full[:, step], atol=2e-6, rtol=2e-5)


@pytest.mark.parametrize("sinks", [0, 3])
def test_cache_and_window_agree_wherever_no_receptive_field_differs(
    config: MakeConfig, batch: MakeBatch, slice_steps: Cut, sinks: int
) -> None:
    """In one layer always; in several until the context is full, and not beyond."""
    whole = batch("reach", 2, STEPS)
    for layers in (1, 3):
        model = Vintix(config(layers=layers)).eval()
        cached = step_all(model, whole, model.make_cache(2, sinks=sinks), slice_steps)
        recomputed = step_all(model, whole, model.make_window(2, sinks=sinks), slice_steps)
        until = STEPS if layers == 1 else CONTEXT
        torch.testing.assert_close(cached[:, :until], recomputed[:, :until], atol=2e-6, rtol=2e-5)
        if layers > 1:
            assert (cached - recomputed)[:, CONTEXT:].abs().max() > 1e-4


def test_sinks_change_nothing_before_the_context_is_full_and_something_after(
    config: MakeConfig, batch: MakeBatch, slice_steps: Cut
) -> None:
    model = Vintix(config()).eval()
    whole = batch("reach", 1, STEPS)
    with_sinks = step_all(model, whole, model.make_cache(1, sinks=4), slice_steps)
    without = step_all(model, whole, model.make_cache(1), slice_steps)
    assert torch.equal(with_sinks[:, :CONTEXT], without[:, :CONTEXT])
    assert (with_sinks - without)[:, CONTEXT:].abs().max() > 1e-4


@pytest.mark.parametrize("prompt", [1, CONTEXT - 1, CONTEXT, CONTEXT + 5])
@pytest.mark.parametrize("sinks", [0, 3])
def test_a_prompt_fills_a_window_as_its_tokens_one_by_one(
    config: MakeConfig, batch: MakeBatch, slice_steps: Cut, prompt: int, sinks: int
) -> None:
    model = Vintix(config()).eval()
    whole = batch("reach", 2, STEPS)
    filled, stepped = model.make_window(2, sinks=sinks), model.make_window(2, sinks=sinks)
    first = model.prefill([slice_steps(whole, 0, prompt)], filled)[0]
    actions = step_all(model, whole, stepped, slice_steps)
    torch.testing.assert_close(first, actions[:, prompt - 1], atol=2e-6, rtol=2e-5)
    after = step_all(model, whole, filled, slice_steps, prompt)
    torch.testing.assert_close(after, actions[:, prompt:], atol=2e-6, rtol=2e-5)


@pytest.mark.parametrize("kind", ["make_cache", "make_window"])
def test_a_prompt_may_come_a_few_streams_at_a_time(
    config: MakeConfig, batch: MakeBatch, slice_steps: Cut, slice_rows: Cut, kind: str
) -> None:
    model = Vintix(config()).eval()
    whole = batch("walk", 5, 24)
    prompt = slice_steps(whole, 0, 12)
    at_once, in_parts = getattr(model, kind)(5), getattr(model, kind)(5)
    model.prefill([prompt], at_once)
    for start, stop in ((0, 2), (2, 5)):
        model.prefill([slice_rows(prompt, start, stop)], in_parts.part(start, stop))
    in_parts.advance(12)
    torch.testing.assert_close(
        step_all(model, whole, in_parts, slice_steps, 12),
        step_all(model, whole, at_once, slice_steps, 12),
        atol=2e-6,
        rtol=2e-5,
    )


def test_windows_run_in_parts_and_streams_that_leave_change_nothing(
    config: MakeConfig,
    batch: MakeBatch,
    slice_steps: Cut,
    slice_rows: Cut,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = Vintix(config()).eval()
    whole = batch("walk", 3, 24)
    expected = step_all(model, whole, model.make_window(3), slice_steps)
    monkeypatch.setattr(vintix, "RECOMPUTED_TOKENS", CONTEXT)
    window = model.make_window(3)
    first = step_all(model, slice_steps(whole, 0, 20), window, slice_steps)
    torch.testing.assert_close(first, expected[:, :20], atol=2e-6, rtol=2e-5)
    window.keep([2, 0])
    assert (window.batch_size, window.length, window.context) == (2, CONTEXT, CONTEXT)
    left = slice_rows(whole, 2, 3), slice_rows(whole, 0, 1)
    for step in range(20, 24):
        rows = [slice_steps(one, step, step + 1) for one in left]
        for actions, row in zip(model.step(rows, window), (2, 0), strict=True):
            torch.testing.assert_close(actions[0], expected[row, step], atol=2e-6, rtol=2e-5)
    window.reset()
    assert window.length == 0
    with pytest.raises(UsageError, match="lose all its streams"):
        window.keep([])


def test_sinks_that_leave_no_room_and_prompts_that_pass_them_are_refused(
    config: MakeConfig, batch: MakeBatch
) -> None:
    model = Vintix(config()).eval()
    for make in (model.make_cache, model.make_window):
        with pytest.raises(UsageError, match=r"(?s)leave room.*0 to 15"):
            make(1, sinks=CONTEXT)
    with pytest.raises(UsageError, match=r"(?s)step by step.*at most 16.*found: 17"):
        model.prefill([batch("reach", 1, CONTEXT + 1)], model.make_cache(1, sinks=1))
