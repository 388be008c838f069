"""Attention in blocks of query rows: exact, and lean with memory on devices without flash kernels.

Shapes: B batch, H heads, L sequence, K head dim.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor
from torch.nn import functional

from pipelines.model.attention.alibi import AttentionCache, vanishing_distance

#: Query rows per SDPA call, and for heads that see no further than half of that, half as many.
#: Measurements in docs/attention.md.
BLOCK_ROWS = 256

#: Blocks of rows from which on leaving out far keys spares more than the further calls cost.
_BOUND_PAYS = 4


@dataclass(frozen=True)
class _Heads:
    """Adjacent heads that are computed together.

    Attributes:
        reach: Keys before its own position that a query of theirs is given.
    """

    count: int
    reach: int

    @property
    def rows(self) -> int:
        return BLOCK_ROWS if self.reach > BLOCK_ROWS // 2 else -(-BLOCK_ROWS // 2)


def attend_blocked(
    q_BHLK: Tensor,
    k_BHLK: Tensor,
    v_BHLK: Tensor,
    slopes_H: Tensor,
    *,
    window: int | None,
    dropout: float,
    score_bound: float | None,
    cache: AttentionCache,
) -> Tensor:
    """Call SDPA per block of query rows, each against the keys that some row of it may see.

    A block's bias is a view of one table, so nothing of size L x L exists, neither the scores
    above the diagonal nor those wholly outside the window are computed, and autograd keeps no
    mask. With a bound on the scores, each head is spared the keys that are so far away that ALiBi
    leaves them no weight: the result is the same but for rounding.
    """
    length = q_BHLK.shape[2]
    parts = _parts(slopes_H, length, window, score_bound, q_BHLK.dtype)
    counts = [part.count for part in parts]
    outputs = [
        _attend_part(q, k, v, slopes, part, window, dropout, cache)
        for q, k, v, slopes, part in zip(
            q_BHLK.split(counts, 1),
            k_BHLK.split(counts, 1),
            v_BHLK.split(counts, 1),
            slopes_H.split(counts),
            parts,
            strict=True,
        )
    ]
    out_BLHK = outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=2)
    return out_BLHK.transpose(1, 2)


def _parts(
    slopes_H: Tensor,
    length: int,
    window: int | None,
    score_bound: float | None,
    dtype: torch.dtype,
) -> list[_Heads]:
    furthest = length - 1 if window is None else min(window, length) - 1
    if score_bound is None or length < _BOUND_PAYS * BLOCK_ROWS:
        return [_Heads(len(slopes_H), furthest)]
    # Rounding errors of the kernels are those of float32, also for narrower types.
    tolerance = min(torch.finfo(dtype).eps, torch.finfo(torch.float32).eps) / 8
    reaches = [
        min(furthest, _round_up(vanishing_distance(slope, score_bound, tolerance)))
        for slope in slopes_H.tolist()
    ]
    return [_Heads(len(list(run)), reach) for reach, run in groupby(reaches)]


def _round_up(distance: float) -> int:
    # Few distinct values, so that neighbouring heads share calls, and whole blocks.
    if distance == math.inf:
        return 1 << 62
    return max(BLOCK_ROWS // 2, 1 << math.ceil(math.log2(max(distance, 1.0))))


def _attend_part(
    q_BHLK: Tensor,
    k_BHLK: Tensor,
    v_BHLK: Tensor,
    slopes_H: Tensor,
    part: _Heads,
    window: int | None,
    dropout: float,
    cache: AttentionCache,
) -> Tensor:
    """Return the output (B, L, H, K) of some heads, in the memory order of the projections."""
    length, rows = q_BHLK.shape[2], part.rows
    # The widest block's keys: its own rows and those before its first row.
    width = min(length, part.reach + rows)
    # A window that is wider than that hides nothing, and its table can serve all such windows.
    hides = window is not None and window < width
    table = cache.bias_table(
        slopes_H, rows, width, window if hides else None, q_BHLK.device, q_BHLK.dtype
    )
    diagonal = table.shape[-1] - rows
    blocks = []
    for start in range(0, length, rows):
        stop = min(start + rows, length)
        first = max(0, start - part.reach)
        bias = table[..., : stop - start, diagonal - (start - first) : diagonal + stop - start]
        out_BHRK = functional.scaled_dot_product_attention(
            q_BHLK[:, :, start:stop],
            k_BHLK[:, :, first:stop],
            v_BHLK[:, :, first:stop],
            attn_mask=bias,
            dropout_p=dropout,
        )
        # SDPA's result lies in memory as (B, L, H, K); joining it in that order spares the output
        # projection a copy.
        blocks.append(out_BHRK.transpose(1, 2))
    return blocks[0] if len(blocks) == 1 else torch.cat(blocks, dim=1)
