"""The ring cache: equal to the full pass while nothing is forgotten, exact in what it keeps."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import UsageError
from pipelines.model.attention.alibi import alibi_slopes
from pipelines.model.batch import GroupBatch
from pipelines.model.cache import KVCache
from pipelines.model.config import ModelConfig
from pipelines.model.vintix import Vintix

MakeConfig = Callable[..., ModelConfig]
MakeBatch = Callable[..., GroupBatch]
Cut = Callable[[GroupBatch, int, int], GroupBatch]


def make_cache(
    heads: int, context: int, batch: int = 1, dtype: torch.dtype = torch.float64
) -> KVCache:
    return KVCache(
        layers=1,
        batch_size=batch,
        slopes_H=alibi_slopes(heads),
        head_dim=4,
        context=context,
        dtype=dtype,
        device=torch.device("cpu"),
    )


def last_window(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, heads: int, step: int, context: int
) -> torch.Tensor:
    """Attention of one query over the last `context` keys, from the definition."""
    first = max(0, step - context + 1)
    distance = torch.arange(step - first, -1, -1, dtype=torch.float64)
    bias = -alibi_slopes(heads)[:, None, None] * distance
    scores = q[:, :, step : step + 1] @ k[:, :, first : step + 1].transpose(-1, -2) / 2.0 + bias
    return scores.softmax(-1) @ v[:, :, first : step + 1]


@given(
    heads=st.integers(1, 5),
    context=st.integers(1, 9),
    steps=st.integers(1, 30),
    prompt=st.integers(0, 25),
    batch=st.integers(1, 3),
)
def test_a_step_sees_exactly_the_last_context_tokens(
    heads: int, context: int, steps: int, prompt: int, batch: int
) -> None:
    """Through any number of wraps, and after prompts shorter and longer than the ring."""
    generator = torch.Generator().manual_seed(steps)
    q, k, v = torch.randn(
        3, batch, heads, prompt + steps, 4, generator=generator, dtype=torch.float64
    )
    cache = make_cache(heads, context, batch)
    if prompt:
        cache.store(0, k[:, :, :prompt], v[:, :, :prompt])
        cache.advance(prompt)
    for step in range(prompt, prompt + steps):
        now = slice(step, step + 1)
        out = cache.attend(0, q[:, :, now], k[:, :, now], v[:, :, now])
        cache.advance()
        expected = last_window(q, k, v, heads, step, context)
        torch.testing.assert_close(out, expected, atol=1e-12, rtol=1e-12)
        assert cache.length == min(step + 1, context)


@pytest.mark.parametrize("heads", [4, 2])
@pytest.mark.parametrize("normalize_actions", [False, True])
def test_steps_equal_the_full_pass_within_the_context(
    config: MakeConfig,
    batch: MakeBatch,
    slice_steps: Cut,
    heads: int,
    normalize_actions: bool,
) -> None:
    model = Vintix(config(heads=heads, normalize_actions=normalize_actions)).eval()
    batches = [batch("reach", 2, 16), batch("turn", 1, 16)]
    with torch.no_grad():
        full = model(batches)
    cache = model.make_cache(3)
    for step in range(16):
        now = model.step([slice_steps(whole, step, step + 1) for whole in batches], cache)
        for action, expected in zip(now, full, strict=True):
            torch.testing.assert_close(action, expected[:, step], atol=1e-6, rtol=1e-5)


def test_many_streams_equal_one_at_a_time(
    config: MakeConfig, batch: MakeBatch, slice_steps: Cut, slice_rows: Cut
) -> None:
    """Across two wraps of the ring."""
    model = Vintix(config()).eval()
    whole = batch("walk", 5, 40)
    together, alone = model.make_cache(5), [model.make_cache(1) for _ in range(5)]
    for step in range(40):
        now = slice_steps(whole, step, step + 1)
        actions = model.step([now], together)[0]
        for row, cache in enumerate(alone):
            single = model.step([slice_rows(now, row, row + 1)], cache)[0]
            torch.testing.assert_close(actions[row], single[0], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("prompt", [1, 15, 16, 17, 25])
def test_a_prompt_equals_the_same_tokens_one_by_one(
    config: MakeConfig, batch: MakeBatch, slice_steps: Cut, prompt: int
) -> None:
    """Also prompts that fill the ring or wrap it, where the released code writes out of bounds."""
    model = Vintix(config()).eval()
    whole = batch("reach", 2, 30)
    filled, stepped = model.make_cache(2), model.make_cache(2)
    first = model.prefill([slice_steps(whole, 0, prompt)], filled)[0]
    for step in range(prompt):
        last = model.step([slice_steps(whole, step, step + 1)], stepped)[0]
    torch.testing.assert_close(first, last, atol=1e-6, rtol=1e-5)
    for step in range(prompt, 30):
        now = [slice_steps(whole, step, step + 1)]
        torch.testing.assert_close(
            model.step(now, filled)[0], model.step(now, stepped)[0], atol=1e-6, rtol=1e-5
        )


def test_reset_forgets_everything(config: MakeConfig, batch: MakeBatch, slice_steps: Cut) -> None:
    model = Vintix(config()).eval()
    whole = batch("reach", 2, 20)
    cache = model.make_cache(2)
    first = [model.step([slice_steps(whole, step, step + 1)], cache)[0] for step in range(20)]
    cache.reset()
    again = [model.step([slice_steps(whole, step, step + 1)], cache)[0] for step in range(20)]
    assert torch.equal(torch.stack(first), torch.stack(again))


def test_cache_takes_its_size_from_the_configuration(config: MakeConfig) -> None:
    model = Vintix(config())
    cache = model.make_cache(3)
    assert (cache.batch_size, cache.context, cache.length) == (3, 16, 0)
    assert cache.nbytes == 2 * 2 * 3 * 16 * 32 * 4
    assert model.bfloat16().make_cache(3, context=5).nbytes == 2 * 2 * 3 * 5 * 32 * 2


def test_misuse_of_the_cache_is_refused(
    config: MakeConfig, batch: MakeBatch, slice_steps: Cut
) -> None:
    model = Vintix(config()).eval()
    one_step = slice_steps(batch("reach", 2, 4), 0, 1)
    with pytest.raises(UsageError, match="batch_size of at least 1"):
        model.make_cache(0)
    with pytest.raises(UsageError, match=r"(?s)expected: 3 streams.*found: 2 streams"):
        model.step([one_step], model.make_cache(3))
    with pytest.raises(UsageError, match="found: 2 streams, 4 steps"):
        model.step([batch("reach", 2, 4)], model.make_cache(2))
    cache = model.make_cache(2)
    model.step([one_step], cache)
    with pytest.raises(UsageError, match="empty cache"):
        model.prefill([batch("reach", 2, 4)], cache)
    model.train()
    with pytest.raises(UsageError, match="training mode"):
        model.step([one_step], cache)


def test_streams_that_are_kept_go_on_as_if_the_others_had_not_been(
    config: MakeConfig, batch: MakeBatch, slice_steps: Cut, slice_rows: Cut
) -> None:
    """Streams that end early leave the batch; the rest keep their context, reordered or not."""
    model = Vintix(config()).eval()
    whole = batch("walk", 3, 24)
    cache, alone = model.make_cache(3), model.make_cache(1)
    third = slice_rows(whole, 2, 3)
    for step in range(20):
        model.step([slice_steps(whole, step, step + 1)], cache)
        model.step([slice_steps(third, step, step + 1)], alone)
    cache.keep([2])
    assert (cache.batch_size, cache.length) == (1, 16)
    for step in range(20, 24):
        now = [slice_steps(third, step, step + 1)]
        torch.testing.assert_close(
            model.step(now, cache)[0], model.step(now, alone)[0], atol=1e-6, rtol=1e-5
        )
    with pytest.raises(UsageError, match="lose all its streams"):
        cache.keep([])
