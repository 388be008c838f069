"""What streams remember in step-by-step inference: a ring buffer of keys and values, or a window.

Slot `position % context` takes the newest token and overwrites the oldest one, so that a step
costs one write per layer: nothing is shifted and no mask is built. ALiBi makes this possible, for
it asks only how far back each slot is; that pattern is the same ring whatever the position, and a
view into one row of biases (below) gives it.

Cached keys and values keep the receptive field they were computed with. Outputs equal those of a
full forward pass for the first `context` tokens only, and after that a token still carries traces
of older ones: the paper's evaluation works like this (section 2.3.3).

**Attention sinks** (Xiao et al., 2024, "Efficient streaming language models with attention sinks").
With `sinks` > 0 the first tokens of a stream keep their slots for good and the ring is what is left
of the context. Their distance is capped at their place in the cache: sink i of a full cache is
`context - 1 - i` steps away, however long ago it came, so that no distance is larger than in
training. With true distances ALiBi would soon silence the sinks, and they would only cost slots.

Shapes: B streams, H heads, N = B x H, C context, K head dim, L tokens of a prompt, D width.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import ClassVar, Self

import torch
from torch import Tensor

from pipelines.errors import UsageError


class Context:
    """What B streams that advance together remember: tensors with one axis for the streams.

    A backbone's own kind derives from this class, names its tensors in `stored` and makes them; a
    step writes into them in place, for `part` shares their memory.

    Args:
        context: Tokens kept of each stream, at least 1.
        sinks: First tokens of a stream that are never overwritten, in [0, context).

    Attributes:
        position: Tokens each stream has seen since the last reset.
    """

    stored: ClassVar[tuple[str, ...]]
    axis: ClassVar[int] = 0

    def __init__(self, context: int, sinks: int = 0) -> None:
        self.context, self.sinks, self.position = context, sinks, 0

    @property
    def batch_size(self) -> int:
        """Streams that it is of."""
        return self._tensors()[0].shape[self.axis]

    @property
    def length(self) -> int:
        """Tokens that it now holds of each stream, at most `context`."""
        return min(self.position, self.context)

    @property
    def nbytes(self) -> int:
        """Bytes of its tensors."""
        return sum(tensor.nbytes for tensor in self._tensors())

    def reset(self) -> None:
        """Forget everything: every stream starts with an empty context."""
        self.assume_full()
        self.position = 0

    def assume_full(self) -> None:
        """Take as many zeros as fit for what was seen: for timing a step of a full context."""
        for tensor in self._tensors():
            tensor.zero_()
        self.position = self.context

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
        rows = torch.as_tensor(streams, dtype=torch.int64, device=self._tensors()[0].device)
        self._change(lambda tensor: tensor.index_select(self.axis, rows))

    def part(self, start: int, stop: int) -> Self:
        """Return streams [start, stop) as a context that shares its memory with this one.

        A long prompt of many streams is stored a few streams at a time this way; then call
        :meth:`advance` here.
        """
        shared = copy.copy(self)
        shared._change(lambda tensor: tensor.narrow(self.axis, start, stop - start))
        return shared

    def advance(self, tokens: int = 1) -> None:
        """Count the tokens that have been stored."""
        self.position += tokens

    def _tensors(self) -> list[Tensor]:
        return [getattr(self, name) for name in self.stored]

    def _change(self, change: Callable[[Tensor], Tensor]) -> None:
        for name in self.stored:
            setattr(self, name, change(getattr(self, name)))


class KVCache(Context):
    """Keys and values of the last `context` tokens.

    Args:
        batch_size: Streams, at least 1.
        slopes_H: ALiBi slope of each head.
        context: Tokens kept, at least 1.
        dtype: Floating type of the stored keys and values.
        sinks: First tokens of a stream that are never overwritten, in [0, context).
    """

    stored = ("_keys", "_values")
    axis = 1

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
        sinks: int = 0,
    ) -> None:
        check_size(batch_size, context, sinks)
        super().__init__(context, sinks)
        shape = (layers, batch_size, len(slopes_H), context, head_dim)
        # Slots are read only after they were written, so they need no first value.
        self._keys = torch.empty(shape, dtype=dtype, device=device)
        self._values = torch.empty(shape, dtype=dtype, device=device)
        # Distances R-1 ... 0, R-1 ... 1 of a ring of R slots: with the newest token in slot p, the
        # view that starts at R-1-p holds p ... 0 for the slots up to p and R-1 ... p+1 for the
        # older ones behind it.
        slopes_H11 = slopes_H.to("cpu", torch.float64)[:, None, None]
        falling = torch.arange(context - 1, -1, -1, dtype=torch.float64, device="cpu")
        bias_H1S = -slopes_H11 * torch.cat([falling[sinks:], falling[sinks:-1]])
        self._bias_H1S = bias_H1S.to(device=device, dtype=dtype)
        # Until the cache is full its slots are in order; then the sinks keep the first of these.
        self._filling_H1C = (-slopes_H11 * falling).to(device=device, dtype=dtype)
        self._scale = 1.0 / math.sqrt(head_dim)
        self._flatten()

    def attend(self, layer: int, q_BH1K: Tensor, k_BH1K: Tensor, v_BH1K: Tensor) -> Tensor:
        """Store one token of a layer and attend to all that is stored, the token included.

        Call it once per layer and then :meth:`advance`.

        Returns:
            The attention's output (B, H, 1, K) in the dtype of the queries.
        """
        slot = self._slot(self.position)
        used = min(self.position + 1, self.context)
        keys_NCK, values_NCK = self._flat[layer]
        batch, heads, _, head_dim = q_BH1K.shape
        rows = (batch * heads, head_dim)
        keys_NCK[:, slot] = k_BH1K.reshape(rows)
        values_NCK[:, slot] = v_BH1K.reshape(rows)
        if used < self.context:
            keys_NCK, values_NCK = keys_NCK[:, :used], values_NCK[:, :used]
        # For a single query two products and a softmax are faster on the CPU than SDPA, whose
        # kernels split the work over blocks of queries. For a single stream the number of calls
        # matters: hence flat views, and sums in place.
        query_N1K = (q_BH1K.to(keys_NCK.dtype) * self._scale).view(-1, 1, head_dim)
        scores_N1C = torch.bmm(query_N1K, keys_NCK.transpose(1, 2))
        self._add_bias(scores_N1C.view(batch, heads, 1, used), slot)
        out_N1K = torch.bmm(scores_N1C.softmax(-1), values_NCK)
        return out_N1K.view(batch, heads, 1, head_dim).to(q_BH1K.dtype)

    def store(self, layer: int, k_BHLK: Tensor, v_BHLK: Tensor) -> None:
        """Store the last `context` tokens of a prompt in an empty cache.

        Raises:
            UsageError: There are sinks and the prompt is longer than the context.
        """
        length, context = k_BHLK.shape[2], self.context
        if self.sinks and length > context:
            raise UsageError(
                "a prompt beyond the context has to come step by step where there are sinks",
                where="prefill",
                expected=f"at most {context} tokens",
                found=length,
                fix="feed the first tokens as the prompt and the others one by one",
            )
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

    def _slot(self, position: int) -> int:
        if position < self.context:
            return position
        return self.sinks + (position - self.sinks) % (self.context - self.sinks)

    def _add_bias(self, scores_BH1C: Tensor, slot: int) -> None:
        used, sinks = scores_BH1C.shape[-1], self.sinks
        if self.position < self.context:
            scores_BH1C += self._filling_H1C[:, :, -used:]
            return
        first = self.context - 1 - slot
        if not sinks:
            scores_BH1C += self._bias_H1S[:, :, first : first + used]
            return
        scores_BH1C[..., :sinks] += self._filling_H1C[:, :, :sinks]
        scores_BH1C[..., sinks:] += self._bias_H1S[:, :, first : first + used - sinks]

    def _change(self, change: Callable[[Tensor], Tensor]) -> None:
        super()._change(change)
        self._flatten()

    def _flatten(self) -> None:
        """Flatten streams and heads of each layer into one axis."""
        self._flat = [
            (keys.flatten(0, 1), values.flatten(0, 1))
            for keys, values in zip(self._keys, self._values, strict=True)
        ]


class TokenWindow(Context):
    """The last tokens of B streams, to be run through the whole backbone again at each step.

    The exact alternative to a cache: nothing keeps a receptive field from beyond the window, and a
    step costs a forward pass over it. A token does not depend on those before it until the
    backbone, so that what the encoders made of it is kept.

    With sinks the window is the first tokens followed by the newest ones, and a distance is that
    within the window.

    Args:
        batch_size: Streams, at least 1.
        context: Tokens of the window, at least 1.
        dtype: Floating type of the tokens.
        sinks: First tokens of a stream that never leave the window, in [0, context).
    """

    stored = ("_tokens_BCD",)

    def __init__(
        self,
        *,
        batch_size: int,
        width: int,
        context: int,
        dtype: torch.dtype,
        device: torch.device,
        sinks: int = 0,
    ) -> None:
        check_size(batch_size, context, sinks)
        super().__init__(context, sinks)
        self._tokens_BCD = torch.empty(batch_size, context, width, dtype=dtype, device=device)

    @property
    def tokens(self) -> Tensor:
        """The tokens it holds (B, length, D), oldest first."""
        return self._tokens_BCD[:, : self.length]

    def append(self, tokens_B1D: Tensor) -> Tensor:
        """Add one token a stream and return the window (B, L, D), oldest first."""
        if self.position >= self.context:
            ring_BRD = self._tokens_BCD[:, self.sinks :]
            ring_BRD[:, :-1] = ring_BRD[:, 1:].clone()
        self._tokens_BCD[:, min(self.position, self.context - 1)] = tokens_B1D[:, 0]
        self.position += 1
        return self.tokens

    def store(self, tokens_BLD: Tensor) -> None:
        """Keep of a prompt what the window holds; the window is empty before."""
        length, context, sinks = tokens_BLD.shape[1], self.context, self.sinks
        if length <= context:
            self._tokens_BCD[:, :length] = tokens_BLD
            return
        self._tokens_BCD[:, :sinks] = tokens_BLD[:, :sinks]
        self._tokens_BCD[:, sinks:] = tokens_BLD[:, length - context + sinks :]


def check_size(batch_size: int, context: int, sinks: int) -> None:
    """Check the numbers that a cache is made with.

    Raises:
        UsageError: A size below 1, or sinks that leave no slot for the newest token.
    """
    for name, value in (("batch_size", batch_size), ("context", context)):
        if value < 1:
            raise UsageError(
                f"a cache needs a {name} of at least 1",
                where="make_cache",
                expected="1 or more",
                found=value,
            )
    if not 0 <= sinks < context:
        raise UsageError(
            "attention sinks have to leave room for the newest token",
            where="--sinks",
            expected=f"0 to {context - 1}, for a context of {context}",
            found=sinks,
            fix="fewer --sinks, or a longer --context",
        )
