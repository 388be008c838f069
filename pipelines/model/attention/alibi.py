"""ALiBi: attention biases that fall linearly with distance (Press et al., 2022).

The bias of query i and key j is -slope x (i - j): it depends on the distance alone. One table
therefore serves every block of queries and every sequence length, by slicing
(:class:`AttentionCache`).

Shapes: H heads, R query rows of a block, W columns (keys) of a table.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import TypeVar

import torch
from torch import Tensor

#: A long sequence has one table for each power of two that some head reaches back to.
_KEPT = 16

Derived = TypeVar("Derived")


def alibi_slopes(heads: int) -> Tensor:
    """Return the slope of each head (H,), float64, positive, on the CPU.

    For a power of two the slopes are the geometric series 2^(-8/H), 2^(-16/H), ... For other
    counts they are those of the power of two below, followed by every other slope of the power of
    two above (section 3 of Press et al. and their reference code).
    """
    lower = 1 << (heads.bit_length() - 1)
    slopes = _geometric(lower)
    if lower != heads:
        slopes += _geometric(2 * lower)[0::2][: heads - lower]
    # The device is named because models are also built under torch.device("meta").
    return torch.tensor(slopes, dtype=torch.float64, device="cpu")


def _geometric(heads: int) -> list[float]:
    return [2.0 ** (-8.0 * (head + 1) / heads) for head in range(heads)]


def vanishing_distance(slope: float, score_bound: float, tolerance: float) -> float:
    """Return a distance beyond which all keys together have less than `tolerance` of the weight.

    With |score| <= M, the key at distance d weighs at most exp(2 M - slope x d) times what the
    query's own key weighs, and the keys beyond distance D sum to the geometric series
    exp(2 M - slope x (D + 1)) / (1 - exp(-slope)). It is below the tolerance from the returned D
    on; gradients through these keys are as small. Infinite if M is not finite.

    Args:
        slope: The head's slope, positive.
        score_bound: M, the largest |q k^T / sqrt(K)|.
        tolerance: Part of the attention weight, in (0, 1).
    """
    if not math.isfinite(score_bound):
        return math.inf
    series = -math.log(-math.expm1(-slope))
    return (2 * score_bound + series - math.log(tolerance)) / slope


def causal_bias(slopes_H: Tensor, rows: int, width: int, window: int | None = None) -> Tensor:
    """Return the bias (1, H, R, W) of the last R queries of W positions, float64.

    Entry (r, c) is -slope x distance for keys at or before the query, -inf for keys after it and
    for keys that lie `window` positions or more before it.
    """
    query_R1 = torch.arange(width - rows, width, dtype=torch.float64, device="cpu")[:, None]
    key_W = torch.arange(width, dtype=torch.float64, device="cpu")
    distance_RW = query_R1 - key_W
    hidden_RW = distance_RW < 0
    if window is not None:
        hidden_RW |= distance_RW >= window
    bias_HRW = -slopes_H.to("cpu", torch.float64)[:, None, None] * distance_RW
    return bias_HRW.masked_fill_(hidden_RW, -torch.inf)[None]


class AttentionCache:
    """A few derived objects, least recently used first out.

    Owned by the module that calls attention, so that nothing is global. It holds no state of the
    model: a copy of its owner starts with an empty one.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[Hashable, object] = OrderedDict()

    def keep(
        self,
        key: Hashable,
        build: Callable[[], Derived],
        *,
        fits: Callable[[Derived], bool] = lambda _: True,
    ) -> Derived:
        """Return what is kept under a key, built anew if there is none or it does not fit."""
        found: Derived | None = self._kept.get(key)  # type: ignore[assignment]
        if found is None or not fits(found):
            found = build()
            self._kept[key] = found
        self._kept.move_to_end(key)
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return found

    def bias_table(
        self,
        slopes_H: Tensor,
        rows: int,
        width: int,
        window: int | None,
        device: torch.device,
        dtype: torch.dtype,
    ) -> Tensor:
        """Return a table of biases (1, H, R, W) with W >= `width` rounded up to whole `rows`.

        Row r stands for the query that is the last but R - 1 - r of W positions. The bias of
        queries [s, s + n) against keys [a, s + n), n <= R and s - a + R <= W, is the view
        ``table[..., :n, W - R - (s - a) : W - R + n]``: one table serves every block of queries
        and every shorter sequence.
        """
        columns = -(-width // rows) * rows
        return self.keep(
            ("bias", tuple(slopes_H.tolist()), rows, window, device, dtype),
            lambda: causal_bias(slopes_H, rows, columns, window).to(device=device, dtype=dtype),
            fits=lambda table: table.shape[-1] >= columns,
        )

    def __deepcopy__(self, memo: dict[int, object]) -> AttentionCache:
        # A copied model may move to another device and builds its own.
        return AttentionCache()
