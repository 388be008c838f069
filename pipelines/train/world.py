"""The processes that train together, and the few things they tell each other.

A run of one process is a `World` of one: every operation is there and does nothing. In a larger
world every process works on its slice of the same global batch (`pipelines.train.sampler`), sums
of gradients are exchanged once a step (`pipelines.train.reduction`), and rank 0 alone writes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from pipelines import errors
from pipelines.errors import ConfigError, InterruptedRunError, Reported, VintixError

if TYPE_CHECKING:
    from torch import Tensor

    from pipelines.hardware import Hardware

Value = TypeVar("Value")

#: How long a process waits for the others: rank 0 may be hashing a large artifact meanwhile.
_PATIENCE = timedelta(hours=1)
_ENVIRONMENT = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class World:
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

    def sum(self, values: Tensor) -> None:
        """Replace a tensor by its sum over all processes."""
        if not self.alone:
            import torch.distributed as dist

            dist.all_reduce(values)

    def spread(self, values: Tensor) -> None:
        """Replace a tensor by rank 0's."""
        if not self.alone:
            import torch.distributed as dist

            dist.broadcast(values, src=0)

    def share(self, value: Any) -> Any:
        """Return the JSON value that rank 0 gave; what others give is ignored."""
        if self.alone:
            return value
        import torch

        text = json.dumps(value).encode() if self.writes else b""
        size = torch.tensor([len(text)], dtype=torch.int64, device=_device())
        self.spread(size)
        data = torch.zeros(int(size), dtype=torch.uint8, device=_device())
        if self.writes:
            data.copy_(torch.frombuffer(bytearray(text), dtype=torch.uint8))
        self.spread(data)
        return json.loads(bytes(data.cpu().numpy()))

    def first(self, function: Callable[[], Value]) -> Value:
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
        outcome = self.share(outcome)
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
def joined_world(hardware: Hardware) -> Iterator[World]:
    """Join the processes of this run for a while; a world of one without a launcher.

    Args:
        hardware: Says how they talk: NCCL between GPUs, gloo between CPUs.

    Raises:
        ConfigError: The launcher's environment is not complete.
    """
    if not launched():
        yield World()
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
    world = World(
        rank=int(os.environ["RANK"]),
        size=int(os.environ["WORLD_SIZE"]),
        local_rank=int(os.environ["LOCAL_RANK"]),
    )
    if hardware.device == "cuda":
        torch.cuda.set_device(world.local_rank)
    dist.init_process_group(
        "nccl" if hardware.device == "cuda" else "gloo",
        init_method="env://",
        rank=world.rank,
        world_size=world.size,
        timeout=_PATIENCE,
    )
    try:
        yield world
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


def _device() -> str:
    import torch.distributed as dist

    return "cuda" if dist.get_backend() == "nccl" else "cpu"
