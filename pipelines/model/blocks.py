"""Transformer block: attention and MLP with their norms and residual sums.

A block does not know how attention is done. It hands queries, keys and values to a mixer, which is
the attention backend in training and the cache at inference.

Shapes: B batch, L sequence, D model, H heads, K head dim.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipelines.model.config import ModelConfig
from pipelines.model.layers import NORM_EPS, Linear, make_norm

#: Gives a number that no |q k^T / sqrt(K)| of the layer exceeds, or None. A function, for reading
#: it from the parameters costs time that not every mixer needs to spend.
ScoreBound = Callable[[], float | None]

#: From queries, keys and values (B, H, L, K) to the attention's output (B, H, L, K).
Mixer = Callable[[Tensor, Tensor, Tensor, ScoreBound], Tensor]

#: Queries and keys that are rounded to bfloat16 may come out longer by this factor.
_HALF_PRECISION_SLACK = 1.01


class SelfAttention(nn.Module):
    """Projections around the mixer, with optional LayerNorm on each head's queries and keys."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.in_proj = Linear(config.width, 3 * config.width, bias=config.bias)
        self.out_proj = Linear(config.width, config.width, bias=config.bias)
        # LayerNorm with bias whatever the norm of the residual stream is, as released.
        self.q_norm = nn.LayerNorm(config.head_dim, eps=NORM_EPS) if config.qk_norm else None
        self.k_norm = nn.LayerNorm(config.head_dim, eps=NORM_EPS) if config.qk_norm else None

    def forward(self, x_BLD: Tensor, mixer: Mixer) -> Tensor:
        """Return the attention's contribution (B, L, D) to the residual stream."""
        batch, length, width = x_BLD.shape
        qkv = self.in_proj(x_BLD).view(batch, length, 3, self.heads, width // self.heads)
        q_BLHK, k_BLHK, v_BLHK = qkv.unbind(2)
        if self.q_norm is not None and self.k_norm is not None:
            # Under autocast the norms return float32 and the projections do not.
            q_BLHK = self.q_norm(q_BLHK).to(v_BLHK.dtype)
            k_BLHK = self.k_norm(k_BLHK).to(v_BLHK.dtype)
        q_BHLK, k_BHLK, v_BHLK = (part.transpose(1, 2) for part in (q_BLHK, k_BLHK, v_BLHK))
        out_BHLK = mixer(q_BHLK, k_BHLK, v_BHLK, self.score_bound)
        return self.out_proj(out_BHLK.transpose(1, 2).reshape(batch, length, width))

    def score_bound(self) -> float | None:
        """Return a number that no |q k^T / sqrt(K)| exceeds, or None if there is none to be had.

        A normalised vector is no longer than sqrt(K), so a LayerNorm's output is no longer than
        max|weight| sqrt(K) + |bias|. It is asked of parameters on the CPU alone: reading it from
        another device would make that device wait.
        """
        if self.q_norm is None or self.k_norm is None or torch.compiler.is_compiling():
            return None
        if self.q_norm.weight.device.type != "cpu":
            return None
        root = math.sqrt(self.q_norm.weight.numel())
        with torch.no_grad():
            lengths = [
                float(norm.weight.abs().max()) * root + float(norm.bias.norm())
                for norm in (self.q_norm, self.k_norm)
            ]
        return _HALF_PRECISION_SLACK * lengths[0] * lengths[1] / root


class GptNeoxMLP(nn.Module):
    """Linear, exact (erf) GELU, Linear."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.fc = Linear(config.width, config.feed_forward, bias=config.bias)
        self.proj = Linear(config.feed_forward, config.width, bias=config.bias)

    def forward(self, x_BLD: Tensor) -> Tensor:
        """Map (B, L, D) to (B, L, D)."""
        return self.proj(functional.gelu(self.fc(x_BLD)))


class LlamaMLP(nn.Module):
    """SiLU-gated Linear, Linear."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.fc_1 = Linear(config.width, config.feed_forward, bias=config.bias)
        self.fc_2 = Linear(config.width, config.feed_forward, bias=config.bias)
        self.proj = Linear(config.feed_forward, config.width, bias=config.bias)

    def forward(self, x_BLD: Tensor) -> Tensor:
        """Map (B, L, D) to (B, L, D)."""
        return self.proj(functional.silu(self.fc_1(x_BLD)) * self.fc_2(x_BLD))


class Block(nn.Module):
    """Pre-norm block, sequential or parallel; dropout on the attention's output alone."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.parallel_residual = config.parallel_residual
        self.norm1 = make_norm(config.norm, config.width)
        self.norm2 = None if config.shared_attention_norm else make_norm(config.norm, config.width)
        self.attention = SelfAttention(config)
        self.mlp = LlamaMLP(config) if config.mlp == "llama" else GptNeoxMLP(config)
        self.drop = nn.Dropout(config.residual_dropout)

    def forward(self, x_BLD: Tensor, mixer: Mixer) -> Tensor:
        """Return the residual stream (B, L, D) after the block."""
        normed_BLD = self.norm1(x_BLD)
        attended_BLD = self.attention(normed_BLD, mixer)
        if self.training:
            attended_BLD = self.drop(attended_BLD)
        if self.parallel_residual:
            mlp_input = normed_BLD if self.norm2 is None else self.norm2(x_BLD)
            return x_BLD + attended_BLD + self.mlp(mlp_input)
        x_BLD = x_BLD + attended_BLD
        # The configuration allows a shared norm with parallel residuals only.
        return x_BLD + self.mlp(x_BLD if self.norm2 is None else self.norm2(x_BLD))
