"""The processes that train together: who they are, and what they exchange.

A run of one process is a group of one: every operation is there and does nothing. In a larger one
every process works on its slice of the same global batch (`pipelines.methods.windows`), sums are
exchanged once a step, and rank 0 alone writes.

Gradients, losses and requests to stop are summed in one flat buffer. DistributedDataParallel is not
used. It wants every parameter in every backward pass, or searches the graph for those that are not
there (`find_unused_parameters`), and a step holds the encoders and heads of those groups alone that
its windows belong to. The groups of a step are a function of (seed, step) that every process knows,
and a process that has no window of one of them gets an empty batch of it, whose gradients are
zeros; so every process has the same gradients, in the same order, and AdamW sees None for the
groups of no process, as in a group of one. What is left of DDP is the overlap of sums with the
backward pass: the paper's model has 1.3 GB of gradients an update of 0.8 s or more on eight H100s,
whose sum takes some 10 ms.

Losses are summed from slots that one process fills and the others leave 0: every process has the
exact losses of the global batch, and the log of a run does not depend on the number of processes
beyond the rounding of the gradients' sum.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from pipelines import errors
from pipelines.errors import ConfigError, InterruptedRunError, Reported, VintixError
from pipelines.signals import STOP_SIGNALS

if TYPE_CHECKING:
    from torch import Tensor, nn

    from pipelines.hardware import Hardware
    from pipelines.model.vintix import Vintix

Value = TypeVar("Value")

#: How long a process waits for the others: rank 0 may be hashing a large artifact meanwhile.
_TIMEOUT = timedelta(hours=1)
_ENVIRONMENT = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class ProcessGroup:
    """Who this process is among how many.

    Attributes:
        rank: Number of this process over all machines, from 0.
        size: Number of processes over all machines.
        local_rank: Number of this process on its machine: which GPU it has.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def alone(self) -> bool:
        """Whether there is no other process."""
        return self.size == 1

    @property
    def writes(self) -> bool:
        """Whether this process writes the artifact and reports: rank 0, by its global rank."""
        return self.rank == 0

    def all_reduce(self, values: Tensor) -> None:
        """Replace a tensor by its sum over all processes."""
        if not self.alone:
            import torch.distributed as dist

            dist.all_reduce(values)

    def broadcast(self, values: Tensor) -> None:
        """Replace a tensor by rank 0's."""
        if not self.alone:
            import torch.distributed as dist

            dist.broadcast(values, src=0)

    def broadcast_json(self, value: Any) -> Any:
        """Return the JSON value that rank 0 gave; what others give is ignored."""
        if self.alone:
            return value
        import torch
        import torch.distributed as dist

        device = "cuda" if dist.get_backend() == "nccl" else "cpu"
        text = json.dumps(value).encode() if self.writes else b""
        size = torch.tensor([len(text)], dtype=torch.int64, device=device)
        self.broadcast(size)
        data = torch.zeros(int(size), dtype=torch.uint8, device=device)
        if self.writes:
            data.copy_(torch.frombuffer(bytearray(text), dtype=torch.uint8))
        self.broadcast(data)
        return json.loads(bytes(data.cpu().numpy()))

    def on_rank_0(self, function: Callable[[], Value]) -> Value:
        """Call a function in rank 0 alone and return its result, JSON, in every process.

        Raises:
            VintixError: The function raised it; every process raises the like, so that all end
                with its exit code.
        """
        if self.alone:
            return function()
        failure: Reported | None = None
        outcome: Any = None
        if self.writes:
            try:
                outcome = {"value": function()}
            except Reported as error:
                failure, outcome = error, {"error": error.as_dict()}
        outcome = self.broadcast_json(outcome)
        if failure is not None:
            raise failure
        if "error" in outcome:
            raise error_from(outcome["error"])
        value: Value = outcome["value"]
        return value


def launched() -> bool:
    """Tell whether a launcher (torchrun or `pipelines.train.launch`) started this process."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def world_size() -> int:
    """Return how many processes the launcher started on all machines."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def local_world_size() -> int:
    """Return how many processes the launcher started on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if launched() else 1


@contextmanager
def joined_group(hardware: Hardware) -> Iterator[ProcessGroup]:
    """Join the processes of this run for a while; a group of one without a launcher.

    Args:
        hardware: Says how they talk: NCCL between GPUs, gloo between CPUs.

    Raises:
        ConfigError: The launcher's environment is not complete.
    """
    if not launched():
        yield ProcessGroup()
        return
    import torch
    import torch.distributed as dist

    missing = [name for name in _ENVIRONMENT if name not in os.environ]
    if missing:
        raise ConfigError(
            "a launcher's environment is not complete",
            where="environment variables",
            expected=", ".join(_ENVIRONMENT),
            found="no " + ", ".join(missing),
            fix="start with torchrun, or unset RANK and WORLD_SIZE and use vintix train --gpus N",
        )
    rank, size, local_rank = (
        int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    )
    if hardware.device == "cuda":
        torch.cuda.set_device(local_rank)
    dist.init_process_group(
        "nccl" if hardware.device == "cuda" else "gloo",
        init_method="env://",
        rank=rank,
        world_size=size,
        timeout=_TIMEOUT,
    )
    try:
        yield ProcessGroup(rank, size, local_rank)
    finally:
        dist.destroy_process_group()


def error_from(document: Mapping[str, Any]) -> Reported:
    """Return the error that `Reported.as_dict` described, with its exit code."""
    details = {name: document[name] for name in ("where", "expected", "found", "fix")}
    message, code = str(document["message"]), int(document["exit_code"])
    if document["error"] == InterruptedRunError.__name__:
        return InterruptedRunError(message, signal_number=code - 128, **details)
    known = getattr(errors, str(document["error"]), VintixError)
    error: VintixError = known(message, **details)
    error.exit_code = code
    return error


class StepReducer:
    """Sums gradients over all processes and gathers the rest.

    Args:
        parameters: The model's parameters, in an order that all processes share.
        sharded: The gradients are summed already (`shard`): gather the rest alone.
    """

    def __init__(
        self, parameters: Sequence[nn.Parameter], group: ProcessGroup, *, sharded: bool = False
    ) -> None:
        self._parameters = list(parameters)
        self._group = group
        self._sharded = sharded
        self._buffer: Tensor | None = None

    def __call__(
        self, losses: Tensor, domains: Sequence[int], signal: int | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Sum the gradients in place and gather the rest.

        Args:
            losses: Losses of this process's sequences; as many in every process.
            domains: Place of each sequence's domain in the list of domains.
            signal: The signal this process got, if it got one.

        Returns:
            Loss of each sequence of the global batch, in the order of the ranks; place of its
            domain, as float32; and how many processes got each of `STOP_SIGNALS`.
        """
        import torch

        group, count = self._group, len(domains)
        total = count * group.size
        rest = losses.new_zeros(2 * total + len(STOP_SIGNALS), dtype=torch.float32)
        first = group.rank * count
        rest[first : first + count] = losses
        places = torch.tensor(domains, dtype=torch.float32)
        rest[total:][first : first + count] = places.to(rest.device)
        if signal is not None:
            rest[2 * total + [int(one) for one in STOP_SIGNALS].index(signal)] = 1.0
        everyones, places, stops = self._sum(rest).split([total, total, len(STOP_SIGNALS)])
        return everyones, places, stops

    def _sum(self, rest: Tensor) -> Tensor:
        if self._sharded:
            self._group.all_reduce(rest)
            return rest
        import torch

        present = [one for one in self._parameters if one.grad is not None]
        sizes = [one.numel() for one in present]
        total = sum(sizes) + rest.numel()
        if self._buffer is None or self._buffer.numel() < total:
            everything = sum(one.numel() for one in self._parameters) + rest.numel()
            self._buffer = rest.new_empty(everything)
        flat = self._buffer[:total]
        parts = [one.grad.reshape(-1) for one in present if one.grad is not None]
        torch.cat([*parts, rest], out=flat)
        self._group.all_reduce(flat)
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


def check_shards(processes: int) -> None:
    """Refuse to split parameters over one process.

    Raises:
        ConfigError: There is only one.
    """
    if processes == 1:
        raise ConfigError(
            "there is nothing to split the parameters over",
            where="train.shard",
            expected="two processes or more",
            found="one",
            fix="train with --gpus N, or without --shard",
        )


def shard(model: Vintix, group: ProcessGroup, device: str) -> None:
    """Split parameters, gradients and moments over the processes (FSDP2), in place.

    Each section of the backbone is gathered for its part of the forward and of the backward pass
    and given back; everything else is the root. Gradients come out of the backward pass as sums
    over the processes.

    Args:
        model: With its first weights, on its device, equal in all processes.
        device: ``cpu`` or ``cuda``.

    Raises:
        ConfigError: There is only one process.
    """
    check_shards(group.size)
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    # It warns of writing in place to what the model returns, which nothing here does.
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module")
    mesh = init_device_mesh(device, (group.size,))
    sections = [*model.backbone.sections, model]
    for section in sections:
        fully_shard(section, mesh=mesh)  # type: ignore[arg-type]
    register_fsdp_forward_method(model, "loss")
    for section in sections:
        # A step's loss is weighted as part of the global mean already: sums, no averages. Plain
        # sums, since gloo knows no others.
        section.set_force_sum_reduction_for_comms(True)  # type: ignore[union-attr, operator]
        section.set_gradient_divide_factor(1.0)  # type: ignore[union-attr, operator]
