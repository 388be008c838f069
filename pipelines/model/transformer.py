"""The trunk: blocks, a final norm, and the three ways to run them.

Shapes: B batch, L sequence, D model.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from pipelines.errors import UsageError
from pipelines.model.alibi import alibi_slopes
from pipelines.model.attention import AttentionMemo, attend, check_backend
from pipelines.model.blocks import Block, ScoreBound
from pipelines.model.cache import Context, KVCache, TokenWindow
from pipelines.model.config import ModelConfig
from pipelines.model.layers import make_norm

#: Tokens that are run at once where a window is run again; bounds the memory of activations.
RECOMPUTED_TOKENS = 32_768


class Transformer(nn.Module):
    """Causal transformer over tokens that carry no position but ALiBi's distances.

    Args:
        config: The model's configuration.
        attention: Attention backend, see :func:`pipelines.model.attention.select_backend`; `auto`
            is settled at each call, by the device and type of what is to be attended to.

    Raises:
        ConfigError: There is no backend of that name.
    """

    def __init__(self, config: ModelConfig, *, attention: str = "auto") -> None:
        super().__init__()
        self.attention = check_backend(attention)
        self.attention_dropout = config.attention_dropout
        self.head_dim = config.head_dim
        # Constants of the architecture, not state: kept in float64 and out of state_dict.
        self.slopes_H = alibi_slopes(config.heads)
        self._memo = AttentionMemo()
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.ln_f = make_norm(config.norm, config.width)

    def forward(self, tokens_BLD: Tensor) -> Tensor:
        """Return the outputs (B, L, D) of whole sequences."""
        for block in self.blocks:
            tokens_BLD = block(tokens_BLD, self._attend)
        return self.ln_f(tokens_BLD)

    def step(self, tokens_B1D: Tensor, cache: Context) -> Tensor:
        """Return the outputs (B, 1, D) of one more token per stream, and keep it in the cache."""
        if isinstance(cache, TokenWindow):
            return self._last_of(cache.append(tokens_B1D))
        for layer, block in enumerate(self.blocks):
            tokens_B1D = block(tokens_B1D, partial(self._attend_cached, cache, layer))
        cache.advance()
        return self.ln_f(tokens_B1D)

    def prefill(self, tokens_BLD: Tensor, cache: Context) -> Tensor:
        """Return the outputs (B, L, D) of a prompt and keep its last tokens in an empty cache.

        For a :class:`TokenWindow` there is the last token's output alone, (B, 1, D).

        Raises:
            UsageError: The cache is not empty, or a prompt is longer than one with sinks.
        """
        if cache.position:
            raise UsageError(
                "a prompt can only be put into an empty cache",
                where="prefill",
                expected="0 tokens in the cache",
                found=cache.position,
                fix="call cache.reset() first",
            )
        if isinstance(cache, TokenWindow):
            cache.store(tokens_BLD)
            cache.advance(tokens_BLD.shape[1])
            return self._last_of(cache.tokens)
        for layer, block in enumerate(self.blocks):
            tokens_BLD = block(tokens_BLD, partial(self._attend_and_store, cache, layer))
        cache.advance(tokens_BLD.shape[1])
        return self.ln_f(tokens_BLD)

    def make_cache(
        self,
        batch_size: int,
        context: int,
        dtype: torch.dtype,
        device: torch.device,
        sinks: int = 0,
    ) -> KVCache:
        """Return an empty cache for this trunk."""
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

    def _last_of(self, window_BLD: Tensor) -> Tensor:
        """Return the outputs (B, 1, D) of the windows' last tokens, a few streams at a time."""
        rows = max(1, RECOMPUTED_TOKENS // window_BLD.shape[1])
        return torch.cat([self(part)[:, -1:] for part in window_BLD.split(rows)])

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
            memo=self._memo,
        )

    def _attend_and_store(
        self,
        cache: KVCache,
        layer: int,
        q_BHLK: Tensor,
        k_BHLK: Tensor,
        v_BHLK: Tensor,
        score_bound: ScoreBound,
    ) -> Tensor:
        cache.store(layer, k_BHLK, v_BHLK)
        # What a token would have seen had the prompt come one token at a time.
        window = cache.context if k_BHLK.shape[2] > cache.context else None
        return self._attend(q_BHLK, k_BHLK, v_BHLK, score_bound, window)

    def _attend_cached(
        self,
        cache: KVCache,
        layer: int,
        q_BH1K: Tensor,
        k_BH1K: Tensor,
        v_BH1K: Tensor,
        score_bound: ScoreBound,
    ) -> Tensor:
        return cache.attend(layer, q_BH1K, k_BH1K, v_BH1K)
