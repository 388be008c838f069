"""What a backbone is.

Shapes: B sequences or streams, L sequence, D model.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import ClassVar

import torch
from torch import Tensor, nn

from pipelines.model.cache import Context, TokenWindow
from pipelines.model.config import ModelConfig


class Backbone(nn.Module, ABC):
    """From tokens to outputs, each a function of the tokens up to its own.

    A backbone derives from this class and is named by an entry point of the group
    ``vintix.backbones``. `forward` is enough: without a state of its own it is run over a window
    of the last tokens again at each step of a rollout.

    Keyword-only parameters of its constructor other than `attention` are options
    (``--set train.model.backbone_options.NAME=VALUE``; see `pipelines.plugins.Kind.options`).

    Attributes:
        prefix: First part of its parameters' names in the model.
        sees_starts: Whether its tokens have one more channel, the last: 1 at the first step of an
            episode, else 0.
    """

    prefix: ClassVar[str] = "trunk"
    sees_starts: bool = False

    def __init__(self, config: ModelConfig, *, attention: str = "auto") -> None:
        """Make the backbone.

        Args:
            config: The architecture; `layers`, `heads`, `width`, `feed_forward` and what else of it
                means something here.
            attention: Attention backend, for what has attention.
        """
        super().__init__()
        self.width = config.width

    @abstractmethod
    def forward(self, tokens_BLD: Tensor) -> Tensor:
        """Return the outputs (B, L, D) of whole sequences."""

    @property
    def token_width(self) -> int:
        """Channels of its tokens."""
        return self.width + self.sees_starts

    @property
    def sections(self) -> Iterable[nn.Module]:
        """Its blocks: what is computed anew with checkpointing, and sharded one by one."""
        return ()

    def init_state(
        self,
        batch_size: int,
        context: int,
        dtype: torch.dtype,
        device: torch.device,
        sinks: int = 0,
    ) -> Context:
        """Return what B streams remember before their first token.

        Args:
            batch_size: B.
            context: Tokens kept, for what keeps tokens.
            dtype: Floating type.
            device: Where it is.
            sinks: First tokens of a stream that are kept for good.
        """
        return TokenWindow(
            batch_size=batch_size,
            width=self.token_width,
            context=context,
            dtype=dtype,
            device=device,
            sinks=sinks,
        )

    def step(self, tokens_B1D: Tensor, state: Context) -> Tensor:
        """Return the outputs (B, 1, D) of one more token per stream, and keep it in the state.

        Not called with a `TokenWindow`.
        """
        raise NotImplementedError

    def prefill(self, tokens_BLD: Tensor, state: Context) -> Tensor:
        """Return the outputs (B, L, D) of a prompt and keep it in an empty state."""
        return torch.cat([self.step(token, state) for token in tokens_BLD.split(1, dim=1)], dim=1)

    @classmethod
    def flops_per_token(cls, config: ModelConfig, parameters: int) -> float:
        """Return the operations of a training step per token, forward and backward.

        Args:
            config: The architecture.
            parameters: Parameters of the backbone.
        """
        return 6.0 * parameters

    @classmethod
    def activation_bytes_per_token(cls, config: ModelConfig, *, recomputed: bool = False) -> int:
        """Return what the backward pass needs of a token's forward pass, in float32.

        Each layer keeps about nine vectors of the width and four of the feed-forward layer: 52 kB
        for `tiny` and 147 kB for `small`, where 53 and 147 were measured of the transformer
        (`tests/benchmarks/test_train_released.py`).

        Args:
            config: The architecture.
            recomputed: Gradient checkpointing: each block keeps its input, and one of them the
                rest.
        """
        layer = 9 * config.width + 4 * config.feed_forward
        kept = config.layers * config.width + layer if recomputed else config.layers * layer
        return 4 * kept
