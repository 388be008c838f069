"""What attention derives from slopes and shapes, kept between calls.

Shapes: H heads, R query rows of a block, W columns (keys) of a table.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import TypeVar

import torch
from torch import Tensor

from pipelines.model.alibi import causal_bias

#: A long sequence has one table for each power of two that some head reaches back to.
_KEPT = 16

Derived = TypeVar("Derived")


class AttentionMemo:
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

    def __deepcopy__(self, memo: dict[int, object]) -> AttentionMemo:
        # A copied model may move to another device and builds its own.
        return AttentionMemo()
