"""Ring buffer of keys and values for step-by-step inference.

Slot `position % context` takes the newest token and overwrites the oldest one, so that a step
costs one write per layer: nothing is shifted and no mask is built. ALiBi makes this possible, for
it asks only how far back each slot is; that pattern is the same ring whatever the position, and a
view into one row of biases (below) gives it.

Cached keys and values keep the receptive field they were computed with. Outputs equal those of a
full forward pass for the first `context` tokens only, and after that a token still carries traces
of older ones: the paper's evaluation works like this (section 2.3.3).

Shapes: N layers, B streams, H heads, C context, K head dim, L tokens of a prompt.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from pipelines.errors import UsageError


class KVCache:
    """Keys and values of the last `context` tokens of B streams that advance together.

    Args:
        layers: Transformer blocks.
        batch_size: Streams, at least 1.
        slopes_H: ALiBi slope of each head.
        head_dim: Channels of a head.
        context: Tokens kept, at least 1.
        dtype: Floating type of the stored keys and values.
        device: Where they are stored.

    Attributes:
        position: Tokens each stream has seen since the last reset.
    """

    def __init__(
        self,
        *,
        layers: int,
        batch_size: int,
        slopes_H: Tensor,
        head_dim: int,
        context: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        for name, value in (("batch_size", batch_size), ("context", context)):
            if value < 1:
                raise UsageError(
                    f"a cache needs a {name} of at least 1",
                    where="make_cache",
                    expected="1 or more",
                    found=value,
                )
        shape = (layers, batch_size, len(slopes_H), context, head_dim)
        # Slots are read only after they were written, so they need no first value.
        self._keys = torch.empty(shape, dtype=dtype, device=device)
        self._values = torch.empty(shape, dtype=dtype, device=device)
        # Distances C-1 ... 0, C-1 ... 1: with the newest token in slot p, the view that starts at
        # C-1-p holds p ... 0 for the slots up to p and C-1 ... p+1 for the older ones behind it.
        distance = torch.cat(
            [
                torch.arange(context - 1, -1, -1, dtype=torch.float64, device="cpu"),
                torch.arange(context - 1, 0, -1, dtype=torch.float64, device="cpu"),
            ]
        )
        bias_H1S = -slopes_H.to("cpu", torch.float64)[:, None, None] * distance
        self._bias_H1S = bias_H1S.to(device=device, dtype=dtype)
        self._scale = 1.0 / math.sqrt(head_dim)
        self.position = 0

    @property
    def batch_size(self) -> int:
        """Streams that the cache holds."""
        return self._keys.shape[1]

    @property
    def context(self) -> int:
        """Tokens that the cache keeps of each stream."""
        return self._keys.shape[3]

    @property
    def length(self) -> int:
        """Tokens that the cache now holds of each stream, at most `context`."""
        return min(self.position, self.context)

    @property
    def nbytes(self) -> int:
        """Bytes of the stored keys and values."""
        return self._keys.nbytes + self._values.nbytes

    def reset(self) -> None:
        """Forget everything: every stream starts with an empty context."""
        self.position = 0

    def keep(self, streams: Sequence[int]) -> None:
        """Drop all but some streams; those keep their context and stand in the given order.

        Raises:
            UsageError: Nothing would be left.
        """
        if not len(streams):
            raise UsageError(
                "a cache cannot lose all its streams",
                where="keep",
                expected="at least 1 stream",
                found=0,
            )
        rows = torch.as_tensor(streams, dtype=torch.int64, device=self._keys.device)
        self._keys = self._keys.index_select(1, rows)
        self._values = self._values.index_select(1, rows)

    def attend(self, layer: int, q_BH1K: Tensor, k_BH1K: Tensor, v_BH1K: Tensor) -> Tensor:
        """Store one token of a layer and attend to all that is stored, the token included.

        Call it once per layer and then :meth:`advance`.

        Returns:
            The attention's output (B, H, 1, K) in the dtype of the queries.
        """
        context = self.context
        slot = self.position % context
        used = min(self.position + 1, context)
        keys_BHCK, values_BHCK = self._keys[layer], self._values[layer]
        keys_BHCK[:, :, slot] = k_BH1K[:, :, 0]
        values_BHCK[:, :, slot] = v_BH1K[:, :, 0]
        first = context - 1 - slot
        # For a single query two products and a softmax are faster on the CPU than SDPA, whose
        # kernels split the work over blocks of queries.
        query_BH1K = q_BH1K.to(keys_BHCK.dtype) * self._scale
        scores_BH1C = query_BH1K @ keys_BHCK[:, :, :used].transpose(-1, -2)
        weights_BH1C = (scores_BH1C + self._bias_H1S[:, :, first : first + used]).softmax(-1)
        return (weights_BH1C @ values_BHCK[:, :, :used]).to(q_BH1K.dtype)

    def store(self, layer: int, k_BHLK: Tensor, v_BHLK: Tensor) -> None:
        """Store the last `context` tokens of a prompt in an empty cache."""
        length, context = k_BHLK.shape[2], self.context
        kept = min(length, context)
        # Token j belongs in slot j % context: the kept tokens wrap around the ring at most once.
        start = (length - kept) % context
        tail = min(kept, context - start)
        for ring_BHCK, new_BHLK in (
            (self._keys[layer], k_BHLK[:, :, length - kept :]),
            (self._values[layer], v_BHLK[:, :, length - kept :]),
        ):
            ring_BHCK[:, :, start : start + tail] = new_BHLK[:, :, :tail]
            ring_BHCK[:, :, : kept - tail] = new_BHLK[:, :, tail:]

    def advance(self, tokens: int = 1) -> None:
        """Count the tokens that every layer has stored."""
        self.position += tokens
