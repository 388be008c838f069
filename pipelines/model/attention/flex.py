"""PyTorch's FlexAttention: ALiBi as a score modification, causality and window as a block mask.

On CUDA it is compiled to one fused kernel per shape and skips the blocks that nothing may see. On
the CPU PyTorch has no backward pass for it, so there it only serves to check the two functions
below, uncompiled and without gradients.

Shapes: B batch, H heads, L sequence, K head dim.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from pipelines.model.attention.alibi import AttentionCache

#: PyTorch's own words on running FlexAttention uncompiled, which is what the CPU check wants.
_UNCOMPILED_WARNING = "flex_attention called without torch.compile"


def attend_flex(
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
    """Call FlexAttention with the score modification and mask of this module.

    `dropout` is 0: `select_backend` refuses others, which FlexAttention cannot do.
    """
    length, device = q_BHLK.shape[2], q_BHLK.device
    function = cache.keep(
        ("flex", tuple(slopes_H.tolist()), window, length, device),
        lambda: _for_shape(slopes_H, window, length, device),
    )
    return function(q_BHLK, k_BHLK, v_BHLK)


def make_score_mod(
    slopes_H: Tensor, device: torch.device
) -> Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]:
    """Return the function that subtracts slope x distance from a score."""
    # CUDA kernels hold scores in float32; float64 slopes would make them slow and no better.
    slopes = slopes_H.to(device, torch.float64 if device.type == "cpu" else torch.float32)

    def alibi(score: Tensor, batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return score - (slopes[head] * (query - key)).to(score.dtype)

    return alibi


def make_mask_mod(window: int | None) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
    """Return the function that says whether a query may see a key."""

    def causal(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return query >= key

    def sliding(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (query >= key) & (query - key < limit)

    limit = 0 if window is None else window
    return causal if window is None else sliding


def _for_shape(
    slopes_H: Tensor, window: int | None, length: int, device: torch.device
) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    # Static shapes: the kernels of dynamic ones are slower.
    function = torch.compile(flex_attention, dynamic=False) if device.type == "cuda" else _eager
    mask = create_block_mask(make_mask_mod(window), None, None, length, length, device=device)
    return partial(function, score_mod=make_score_mod(slopes_H, device), block_mask=mask)


def _eager(q_BHLK: Tensor, k_BHLK: Tensor, v_BHLK: Tensor, **mods: Any) -> Tensor:
    from torch.nn.attention.flex_attention import flex_attention

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=_UNCOMPILED_WARNING)
        # `select_backend` has refused calls that need gradients; PyTorch refuses any tensor
        # that could have some.
        return flex_attention(q_BHLK.detach(), k_BHLK.detach(), v_BHLK.detach(), **mods)
