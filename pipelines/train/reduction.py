"""One sum over all processes a step: gradients, losses and the wish to stop, in one flat buffer.

DistributedDataParallel is not used. It wants every parameter in every backward pass, or searches
the graph for those that are not there (`find_unused_parameters`), and a step holds the encoders
and heads of those groups alone that its windows belong to. The groups of a step are a function of
(seed, step) that every process knows (`WindowSampler`), and a process that has no window of one
of them gets an empty batch of it, whose gradients are zeros; so every process has the same
gradients, in the same order, and AdamW sees None for the groups of no process, as in a world of
one. What is left of DDP is the overlap of sums with the backward pass: the paper's model has
1.3 GB of gradients an update of 0.8 s or more on eight H100s, whose sum takes some 10 ms.

Losses are summed from slots that one process fills and the others leave 0: every process has the
exact losses of the global batch, and the log of a run does not depend on the number of processes
beyond the rounding of the gradients' sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipelines.signals import STOP_SIGNALS
from pipelines.train.world import World


@dataclass(frozen=True)
class Exchanged:
    """What all processes know after the exchange.

    Attributes:
        losses: Loss of each sequence of the global batch, in the order of the ranks.
        domains: Place of each sequence's domain in the list of domains, as float32.
        stops: How many processes got each of `STOP_SIGNALS`.
    """

    losses: Tensor
    domains: Tensor
    stops: Tensor


class Exchange:
    """Sums gradients over all processes.

    Args:
        parameters: The model's parameters, in an order that all processes share.
        world: The processes.
        sharded: The gradients are summed already (`pipelines.train.sharding`): exchange the rest.
    """

    def __init__(
        self, parameters: Sequence[nn.Parameter], world: World, *, sharded: bool = False
    ) -> None:
        self._parameters = list(parameters)
        self._world = world
        self._sharded = sharded
        self._buffer: Tensor | None = None

    def __call__(self, losses: Tensor, domains: Sequence[int], signal: int | None) -> Exchanged:
        """Sum the gradients in place and gather the rest.

        Args:
            losses: Losses of this process's sequences; as many in every process.
            domains: Place of each sequence's domain in the list of domains.
            signal: The signal this process got, if it got one.
        """
        world, count = self._world, len(domains)
        rest = losses.new_zeros(2 * count * world.size + len(STOP_SIGNALS), dtype=torch.float32)
        first = world.rank * count
        rest[first : first + count] = losses
        places = torch.tensor(domains, dtype=torch.float32)
        rest[count * world.size :][first : first + count] = places.to(rest.device)
        if signal is not None:
            rest[2 * count * world.size + [int(one) for one in STOP_SIGNALS].index(signal)] = 1.0
        rest = self._sum(rest)
        return Exchanged(*rest.split([count * world.size, count * world.size, len(STOP_SIGNALS)]))

    def _sum(self, rest: Tensor) -> Tensor:
        if self._sharded:
            self._world.sum(rest)
            return rest
        present = [one for one in self._parameters if one.grad is not None]
        sizes = [one.numel() for one in present]
        total = sum(sizes) + rest.numel()
        if self._buffer is None or self._buffer.numel() < total:
            everything = sum(one.numel() for one in self._parameters) + rest.numel()
            self._buffer = rest.new_empty(everything)
        flat = self._buffer[:total]
        parts = [one.grad.reshape(-1) for one in present if one.grad is not None]
        torch.cat([*parts, rest], out=flat)
        self._world.sum(flat)
        *gradients, summed = flat.split([*sizes, rest.numel()])
        for parameter, gradient in zip(present, gradients, strict=True):
            parameter.grad = gradient.view(parameter.shape)
        # The buffer is written again by the next step, which these may outlive.
        return summed.clone()


def agreed_signal(stops: Tensor) -> int | None:
    """Return the signal at which all processes stop, if any of them got one."""
    for number, count in zip(STOP_SIGNALS, stops.tolist(), strict=True):
        if count:
            return int(number)
    return None
