"""Which device a run uses, and what to say when it is not there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pipelines.errors import MissingDependencyError, UsageError

if TYPE_CHECKING:
    import torch

_CPU_COMMAND = "vintix train --device cpu"


@dataclass(frozen=True, slots=True)
class Hardware:
    """What of a machine decides how training runs.

    Attributes:
        device: ``cpu`` or ``cuda``.
        precision: ``float32`` or ``bfloat16``.
        threads: CPU threads.
    """

    device: Literal["cpu", "cuda"]
    precision: Literal["float32", "bfloat16"]
    threads: int

    @property
    def torch_device(self) -> torch.device:
        """The device in PyTorch's terms."""
        import torch

        return torch.device(self.device)


def resolve_device(choice: str = "auto", *, gpus: int | None = None) -> Literal["cpu", "cuda"]:
    """Return the device to train on.

    Args:
        choice: ``auto`` (CUDA where there is a GPU), ``cpu`` or ``cuda``.
        gpus: Number of GPUs asked for; None for one.

    Raises:
        UsageError: The choice is none of the three, or fewer than one GPU.
        MissingDependencyError: There are not as many GPUs.
    """
    if choice not in ("auto", "cpu", "cuda"):
        raise UsageError(
            "there is no such device", where="--device", expected="auto, cpu or cuda", found=choice
        )
    if gpus is not None and gpus < 1:
        raise UsageError(
            "too few GPUs", where="--gpus", expected="1 or more", found=gpus, fix=_CPU_COMMAND
        )
    if choice == "cpu":
        return "cpu"
    names = _gpu_names()
    if gpus is None and choice == "auto":
        return "cuda" if names else "cpu"
    wanted = gpus or 1
    if wanted > len(names):
        raise MissingDependencyError(
            "this machine does not have the GPUs that were asked for",
            where="--device cuda" if gpus is None else f"--gpus {gpus}",
            expected=f"{wanted} CUDA GPU" + ("s" if wanted > 1 else ""),
            found=_describe(names),
            fix=_CPU_COMMAND + (" (or --gpus " + str(len(names)) + ")" if names else ""),
        )
    return "cuda"


def resolve_hardware(
    device: str, gpus: int | None, precision: str, threads: int, *, processes: int = 1
) -> Hardware:
    """Settle device, precision and number of threads of a process of a run.

    Args:
        device: As `resolve_device`.
        gpus: As `resolve_device`.
        precision: ``auto``, ``float32`` or ``bfloat16``.
        threads: CPU threads; 0 for all that this process may use, shared with the others.
        processes: Processes of this run on this machine.

    Raises:
        UsageError: As `resolve_device`.
        MissingDependencyError: As `resolve_device`.
    """
    chosen = resolve_device(device, gpus=gpus)
    use_bfloat16 = precision == "bfloat16" or (precision == "auto" and chosen == "cuda")
    return Hardware(
        device=chosen,
        precision="bfloat16" if use_bfloat16 else "float32",
        threads=threads or max(1, usable_cpus() // processes),
    )


def planned_hardware(
    device: str, gpus: int | None, precision: str, threads: int, *, processes: int = 1
) -> Hardware:
    """Return what `resolve_hardware` would on a machine that has the devices.

    Raises:
        UsageError: As `resolve_device`.
    """
    try:
        return resolve_hardware(device, gpus, precision, threads, processes=processes)
    except MissingDependencyError:
        return Hardware(
            device="cuda",
            precision="float32" if precision == "float32" else "bfloat16",
            threads=threads or max(1, usable_cpus() // processes),
        )


def usable_cpus() -> int:
    """Return how many CPUs this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Set PyTorch's number of threads for a while."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _gpu_names() -> list[str]:
    import torch

    if not torch.cuda.is_available():
        return []
    return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]


def _describe(names: list[str]) -> str:
    if not names:
        return f"no CUDA GPU, {usable_cpus()} CPU cores"
    return f"{len(names)} CUDA GPU{'s' if len(names) > 1 else ''} ({', '.join(names)})"
