"""The definition of attention, written out. Any device and floating type; the parity tests' anchor.

Shapes: B batch, H heads, L sequence, K head dim.
"""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn import functional

from pipelines.model.alibi import causal_bias
from pipelines.model.attention.memo import AttentionMemo


def attend_reference(
    q_BHLK: Tensor,
    k_BHLK: Tensor,
    v_BHLK: Tensor,
    slopes_H: Tensor,
    *,
    window: int | None,
    dropout: float,
    score_bound: float | None,
    memo: AttentionMemo,
) -> Tensor:
    """Compute the [L, L] scores, their softmax and the weighted values.

    Scores cost B x H x L x L numbers of memory, several times over in the backward pass.
    """
    length = q_BHLK.shape[2]
    bias = causal_bias(slopes_H, length, length, window).to(q_BHLK.device, q_BHLK.dtype)
    scores_BHLL = q_BHLK @ k_BHLK.transpose(-1, -2) / math.sqrt(q_BHLK.shape[-1]) + bias
    weights_BHLL = functional.dropout(scores_BHLL.softmax(-1), p=dropout)
    return weights_BHLL @ v_BHLK
