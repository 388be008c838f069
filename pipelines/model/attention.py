"""Causal attention with ALiBi: one meaning, several backends.

Every backend computes softmax(q k^T / sqrt(K) - slope x distance) v over the keys at or before
each query. They differ in speed and memory only, and the parity tests hold them together.

Shapes: B batch, H heads, L sequence, K head dim.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from pipelines.errors import ConfigError
from pipelines.model.alibi import BiasTables, alibi_slopes, causal_bias

__all__ = ["BACKENDS", "AttentionBackend", "alibi_slopes", "attend", "resolve_backend"]

#: Query rows per SDPA call of `blocked`: on the CPU the fastest, or within 5 % of it, of 64 to
#: 1024 at L = 256 to 4096, and at L = 512 a sixth faster than one call with the whole mask.
BLOCK_ROWS = 256


class AttentionBackend(Protocol):
    """What a backend is: a function of queries, keys, values and slopes."""

    def __call__(
        self,
        q_BHLK: Tensor,
        k_BHLK: Tensor,
        v_BHLK: Tensor,
        slopes_H: Tensor,
        *,
        dropout: float,
        tables: BiasTables,
    ) -> Tensor:
        """Return the attention's output (B, H, L, K) in the dtype of the queries."""
        ...


def _blocked(
    q_BHLK: Tensor,
    k_BHLK: Tensor,
    v_BHLK: Tensor,
    slopes_H: Tensor,
    *,
    dropout: float,
    tables: BiasTables,
) -> Tensor:
    """SDPA per block of query rows, each against the keys it may see.

    A block's bias is a view of one table, so nothing of size L x L exists, the upper half of the
    score matrix is never computed, and autograd keeps no mask.
    """
    length, rows = q_BHLK.shape[2], BLOCK_ROWS
    table = tables.get(slopes_H, rows, length, q_BHLK.device, q_BHLK.dtype)
    diagonal = table.shape[-1] - rows
    blocks = []
    for start in range(0, length, rows):
        stop = min(start + rows, length)
        bias = table[..., : stop - start, diagonal - start : diagonal + stop - start]
        blocks.append(
            functional.scaled_dot_product_attention(
                q_BHLK[:, :, start:stop],
                k_BHLK[:, :, :stop],
                v_BHLK[:, :, :stop],
                attn_mask=bias,
                dropout_p=dropout,
            )
        )
    if len(blocks) == 1:
        return blocks[0]
    # SDPA's result lies in memory as (B, L, H, K); joining it in that order spares the output
    # projection a copy.
    return torch.cat([block.transpose(1, 2) for block in blocks], dim=1).transpose(1, 2)


def _reference(
    q_BHLK: Tensor,
    k_BHLK: Tensor,
    v_BHLK: Tensor,
    slopes_H: Tensor,
    *,
    dropout: float,
    tables: BiasTables,
) -> Tensor:
    """The definition, written out: the [L, L] scores, their softmax, the weighted values."""
    length = q_BHLK.shape[2]
    bias = causal_bias(slopes_H, length, length).to(q_BHLK.device, q_BHLK.dtype)
    scores_BHLL = q_BHLK @ k_BHLK.transpose(-1, -2) / math.sqrt(q_BHLK.shape[-1]) + bias
    weights_BHLL = functional.dropout(scores_BHLL.softmax(-1), p=dropout)
    return weights_BHLL @ v_BHLK


#: Backends by name. A new backend is a function with this signature and an entry here.
BACKENDS: Mapping[str, AttentionBackend] = MappingProxyType(
    {"blocked": _blocked, "reference": _reference}
)


def resolve_backend(name: str) -> str:
    """Return the backend that a name stands for; `auto` is the fastest exact one there is.

    Raises:
        ConfigError: There is no backend of that name.
    """
    if name == "auto":
        return "blocked"
    if name not in BACKENDS:
        raise ConfigError(
            "there is no such attention backend",
            where="attention",
            expected=", ".join(["auto", *BACKENDS]),
            found=name,
            fix="choose one of the backends above",
        )
    return name


def attend(
    q_BHLK: Tensor,
    k_BHLK: Tensor,
    v_BHLK: Tensor,
    slopes_H: Tensor,
    *,
    backend: str = "auto",
    dropout: float = 0.0,
    tables: BiasTables | None = None,
) -> Tensor:
    """Causal self-attention with ALiBi biases.

    Args:
        q_BHLK: Queries; any strides with contiguous head channels.
        k_BHLK: Keys, same shape and dtype.
        v_BHLK: Values, same shape and dtype.
        slopes_H: Positive slope of each head, on the CPU, as :func:`alibi_slopes` returns them.
        backend: A key of :data:`BACKENDS`, or `auto`.
        dropout: Probability of dropping an attention weight; 0 outside training.
        tables: The caller's bias tables, kept between calls; built for this call if None.

    Returns:
        (B, H, L, K) in the dtype of the queries.

    Raises:
        ConfigError: There is no backend of that name.
    """
    function = BACKENDS[resolve_backend(backend)]
    return function(
        q_BHLK,
        k_BHLK,
        v_BHLK,
        slopes_H,
        dropout=dropout,
        tables=BiasTables() if tables is None else tables,
    )
