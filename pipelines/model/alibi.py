"""ALiBi: attention biases that fall linearly with distance (Press et al., 2022).

The bias of query i and key j is -slope x (i - j): it depends on the distance alone. One table
therefore serves every block of queries and every sequence length, by slicing.

Shapes: H heads, R query rows of a block, W columns (keys) of a table.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor

_TABLES_KEPT = 4


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


def causal_bias(slopes_H: Tensor, rows: int, width: int) -> Tensor:
    """Return the bias (1, H, R, W) of the last R queries of W positions, float64.

    Entry (r, c) is -slope x distance for keys at or before the query, -inf for keys after it.
    """
    query_R1 = torch.arange(width - rows, width, dtype=torch.float64, device="cpu")[:, None]
    key_W = torch.arange(width, dtype=torch.float64, device="cpu")
    distance_RW = query_R1 - key_W
    bias_HRW = -slopes_H.to("cpu", torch.float64)[:, None, None] * distance_RW
    return bias_HRW.masked_fill_(distance_RW < 0, -torch.inf)[None]


class BiasTables:
    """A few bias tables kept between calls, least recently used first out.

    Owned by the module that uses them. A table is built once per (slopes, rows, device, dtype)
    and rebuilt only when a longer sequence comes.
    """

    def __init__(self) -> None:
        self._tables: OrderedDict[tuple[object, ...], Tensor] = OrderedDict()

    def get(
        self, slopes_H: Tensor, rows: int, length: int, device: torch.device, dtype: torch.dtype
    ) -> Tensor:
        """Return a table (1, H, R, W) with W >= `length` rounded up to a multiple of `rows`.

        The bias of queries [s, s + n) against keys [0, s + n), n <= rows, is the view
        ``table[..., :n, W - rows - s : W - rows + n]``.
        """
        key = (tuple(slopes_H.tolist()), rows, device, dtype)
        width = -(-length // rows) * rows
        table = self._tables.get(key)
        if table is None or table.shape[-1] < width:
            table = causal_bias(slopes_H, rows, width).to(device=device, dtype=dtype)
            self._tables[key] = table
        self._tables.move_to_end(key)
        while len(self._tables) > _TABLES_KEPT:
            self._tables.popitem(last=False)
        return table

    def __deepcopy__(self, memo: dict[int, object]) -> BiasTables:
        # Tables are derived data: a copy of a model builds its own on its own device.
        return BiasTables()
