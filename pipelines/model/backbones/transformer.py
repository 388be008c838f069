"""The paper's causal transformer (section 2.3.1): pre-norm blocks, ALiBi, no positions.

A block does not know how attention is done. It hands queries, keys and values to a mixer, which is
the attention backend in training and the cache at inference.

Shapes: B batch, L sequence, D model, H heads, K head dim.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipelines.model.attention import attend
from pipelines.model.attention.alibi import AttentionCache, alibi_slopes
from pipelines.model.attention.selection import check_backend
from pipelines.model.backbones.base import Backbone
from pipelines.model.cache import Context, KVCache
from pipelines.model.config import ModelConfig
from pipelines.model.initialization import NORM_EPS, Linear, make_norm

#: Gives a number that no |q k^T / sqrt(K)| of the layer exceeds, or None. A function, for reading
#: it from the parameters costs time that not every mixer needs to spend.
ScoreBound = Callable[[], float | None]

#: From queries, keys and values (B, H, L, K) to the attention's output (B, H, L, K).
Mixer = Callable[[Tensor, Tensor, Tensor, ScoreBound], Tensor]

#: Queries and keys that are rounded to bfloat16 may come out longer by this factor.
_HALF_PRECISION_SLACK = 1.01


def first_stds(config: ModelConfig) -> tuple[float, float]:
    """Return the standard deviations of GPT-NeoX's first weights (Black et al., 2022).

    The second is that of the layers whose output is added to the residual stream.
    """
    return math.sqrt(0.4 / config.width), 1.0 / (math.sqrt(config.width) * config.layers)


class SelfAttention(nn.Module):
    """Projections around the mixer, with optional LayerNorm on each head's queries and keys."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads = config.heads
        inner, outer = first_stds(config)
        self.in_proj = Linear(config.width, 3 * config.width, bias=config.bias, std=inner)
        self.out_proj = Linear(config.width, config.width, bias=config.bias, std=outer)
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
        inner, outer = first_stds(config)
        self.fc = Linear(config.width, config.feed_forward, bias=config.bias, std=inner)
        self.proj = Linear(config.feed_forward, config.width, bias=config.bias, std=outer)

    def forward(self, x_BLD: Tensor) -> Tensor:
        """Map (B, L, D) to (B, L, D)."""
        return self.proj(functional.gelu(self.fc(x_BLD)))


class LlamaMLP(nn.Module):
    """SiLU-gated Linear, Linear."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        inner, outer = first_stds(config)
        self.fc_1 = Linear(config.width, config.feed_forward, bias=config.bias, std=inner)
        self.fc_2 = Linear(config.width, config.feed_forward, bias=config.bias, std=inner)
        self.proj = Linear(config.feed_forward, config.width, bias=config.bias, std=outer)

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


class Transformer(Backbone):
    """Causal transformer over tokens that carry no position but ALiBi's distances.

    Args:
        attention: Attention backend, see :func:`pipelines.model.attention.select_backend`; `auto`
            is settled at each call, by the device and type of what is to be attended to.

    Raises:
        ConfigError: There is no backend of that name.
    """

    prefix = "transformer"

    def __init__(self, config: ModelConfig, *, attention: str = "auto") -> None:
        super().__init__(config, attention=attention)
        self.attention = check_backend(attention)
        self.attention_dropout = config.attention_dropout
        self.head_dim = config.head_dim
        # Constants of the architecture, not state: kept in float64 and out of state_dict.
        self.slopes_H = alibi_slopes(config.heads)
        self._attention_cache = AttentionCache()
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.ln_f = make_norm(config.norm, config.width)

    def forward(self, tokens_BLD: Tensor) -> Tensor:
        """Return the outputs (B, L, D) of whole sequences."""
        for block in self.blocks:
            tokens_BLD = block(tokens_BLD, self._attend)
        return self.ln_f(tokens_BLD)

    @property
    def sections(self) -> Iterable[nn.Module]:
        """The blocks."""
        return self.blocks

    def init_state(
        self,
        batch_size: int,
        context: int,
        dtype: torch.dtype,
        device: torch.device,
        sinks: int = 0,
    ) -> KVCache:
        """Return an empty cache."""
        return KVCache(
            layers=len(self.blocks),
            batch_size=batch_size,
            slopes_H=self.slopes_H,
            head_dim=self.head_dim,
            context=context,
            dtype=dtype,
            device=device,
            sinks=sinks,
        )

    def step(self, tokens_B1D: Tensor, state: Context) -> Tensor:
        """Return the outputs (B, 1, D) of one more token per stream, and keep it in the cache."""
        for layer, block in enumerate(self.blocks):
            tokens_B1D = block(tokens_B1D, partial(self._attend_cached, state, layer))
        state.advance()
        return self.ln_f(tokens_B1D)

    def prefill(self, tokens_BLD: Tensor, state: Context) -> Tensor:
        """Return the outputs (B, L, D) of a prompt and keep its last tokens in an empty cache.

        Raises:
            UsageError: A prompt is longer than a cache with sinks.
        """
        for layer, block in enumerate(self.blocks):
            tokens_BLD = block(tokens_BLD, partial(self._attend_and_store, state, layer))
        state.advance(tokens_BLD.shape[1])
        return self.ln_f(tokens_BLD)

    @classmethod
    def flops_per_token(cls, config: ModelConfig, parameters: int) -> float:
        """Return six for each parameter, and 6 x layers x context x width for causal attention."""
        return 6.0 * parameters + 6.0 * config.layers * config.context * config.width

    def _attend(
        self,
        q_BHLK: Tensor,
        k_BHLK: Tensor,
        v_BHLK: Tensor,
        score_bound: ScoreBound,
        window: int | None = None,
    ) -> Tensor:
        return attend(
            q_BHLK,
            k_BHLK,
            v_BHLK,
            self.slopes_H,
            backend=self.attention,
            window=window,
            dropout=self.attention_dropout if self.training else 0.0,
            score_bound=score_bound(),
            cache=self._attention_cache,
        )

    def _attend_and_store(
        self,
        cache: Context,
        layer: int,
        q_BHLK: Tensor,
        k_BHLK: Tensor,
        v_BHLK: Tensor,
        score_bound: ScoreBound,
    ) -> Tensor:
        assert isinstance(cache, KVCache)
        cache.store(layer, k_BHLK, v_BHLK)
        # What a token would have seen had the prompt come one token at a time.
        window = cache.context if k_BHLK.shape[2] > cache.context else None
        return self._attend(q_BHLK, k_BHLK, v_BHLK, score_bound, window)

    def _attend_cached(
        self,
        cache: Context,
        layer: int,
        q_BH1K: Tensor,
        k_BH1K: Tensor,
        v_BH1K: Tensor,
        score_bound: ScoreBound,
    ) -> Tensor:
        assert isinstance(cache, KVCache)
        return cache.attend(layer, q_BH1K, k_BH1K, v_BH1K)
