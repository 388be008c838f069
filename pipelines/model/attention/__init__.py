"""Causal attention with ALiBi and an optional sliding window: one meaning, several backends.

Every backend computes softmax(q k^T / sqrt(K) - slope x distance) v over the keys at or before
each query and, with a window, over the last `window` of them. They differ in speed, memory, device
and precision only, and the parity tests hold them together.

``attend`` is the function; ``select_backend`` says which backend serves a device.

Shapes: B batch, H heads, L sequence, K head dim.
"""

from __future__ import annotations

import math
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn import functional

from pipelines.errors import UsageError
from pipelines.model.attention.alibi import AttentionCache, causal_bias
from pipelines.model.attention.blocked import attend_blocked
from pipelines.model.attention.flash import attend_flash
from pipelines.model.attention.flex import attend_flex
from pipelines.model.attention.selection import select_backend


def attend_reference(
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
    """The definition, written out, for any device and floating type: the parity tests' anchor.

    It computes the [L, L] scores, their softmax and the weighted values.

    Scores cost B x H x L x L numbers of memory, several times over in the backward pass.
    """
    length = q_BHLK.shape[2]
    bias = causal_bias(slopes_H, length, length, window).to(q_BHLK.device, q_BHLK.dtype)
    scores_BHLL = q_BHLK @ k_BHLK.transpose(-1, -2) / math.sqrt(q_BHLK.shape[-1]) + bias
    weights_BHLL = functional.dropout(scores_BHLL.softmax(-1), p=dropout)
    return weights_BHLL @ v_BHLK


#: Backends by name. A new backend is a function with their signature, an entry here and its
#: conditions in `selection`.
BACKENDS = MappingProxyType(
    {
        "flash": attend_flash,
        "flex": attend_flex,
        "blocked": attend_blocked,
        "reference": attend_reference,
    }
)


def attend(
    q_BHLK: Tensor,
    k_BHLK: Tensor,
    v_BHLK: Tensor,
    slopes_H: Tensor,
    *,
    backend: str = "auto",
    window: int | None = None,
    dropout: float = 0.0,
    score_bound: float | None = None,
    cache: AttentionCache | None = None,
) -> Tensor:
    """Causal self-attention with ALiBi biases and an optional sliding window.

    Args:
        q_BHLK: Queries; any strides with contiguous head channels.
        k_BHLK: Keys, same shape and dtype.
        v_BHLK: Values, same shape and dtype.
        slopes_H: Positive slope of each head, on the CPU, as
            :func:`~pipelines.model.attention.alibi_slopes` returns them.
        backend: A key of :data:`BACKENDS`, or `auto`.
        window: Keys that a query sees at most, itself included, as a cache of that context
            (:class:`~pipelines.model.cache.KVCache`) does; None for all.
        dropout: Probability of dropping an attention weight; 0 outside training.
        score_bound: A number that no |q k^T / sqrt(K)| exceeds, if the caller knows one. A backend
            may then leave out keys whose weight is lost in rounding.
        cache: What the caller keeps between calls; made for this call if None.

    Returns:
        (B, H, L, K) in the dtype of the queries.

    Raises:
        UsageError: The window is smaller than 1.
        ConfigError: There is no backend of that name, or it cannot serve these tensors.
        MissingDependencyError: The backend's package is not there.
    """
    if window is not None and window < 1:
        raise UsageError(
            "an attention window holds at least the query itself",
            where="attend",
            expected="window of 1 or more, or None",
            found=window,
        )
    needs_gradient = torch.is_grad_enabled() and any(
        tensor.requires_grad for tensor in (q_BHLK, k_BHLK, v_BHLK)
    )
    name = select_backend(
        q_BHLK.device,
        q_BHLK.dtype,
        backend,
        training=needs_gradient,
        dropout=dropout,
        head_dim=q_BHLK.shape[-1],
    )
    return BACKENDS[name](
        q_BHLK,
        k_BHLK,
        v_BHLK,
        slopes_H,
        window=window,
        dropout=dropout,
        score_bound=score_bound,
        cache=AttentionCache() if cache is None else cache,
    )
