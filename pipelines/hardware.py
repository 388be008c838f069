"""What a machine has for a run: cores, threads and GPUs."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pipelines.errors import MissingDependencyError, UsageError
from pipelines.text import counted

if TYPE_CHECKING:
    import torch

_CPU_COMMAND = "vintix train --device cpu"
_SPIN_COUNT = "1000"
_MOST_THREADS = 1024


@dataclass(frozen=True, slots=True)
class Hardware:
    """What of a machine decides how training runs.

    Attributes:
        device: ``cpu`` or ``cuda``.
        precision: ``float32`` or ``bfloat16``.
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
            expected=counted(wanted, "CUDA GPU"),
            found=_describe(names),
            fix=_CPU_COMMAND + (" (or --gpus " + str(len(names)) + ")" if names else ""),
        )
    return "cuda"


def resolve_hardware(
    device: str,
    gpus: int | None,
    precision: str,
    threads: int,
    *,
    processes: int = 1,
    planned: bool = False,
) -> Hardware:
    """Settle device, precision and number of threads of a process of a run.

    Args:
        device: As `resolve_device`.
        gpus: As `resolve_device`.
        precision: ``auto``, ``float32`` or ``bfloat16``.
        threads: CPU threads; 0 for all that this process may use, shared with the others.
        processes: Processes of this run on this machine.
        planned: For a plan: GPUs that are not there are taken for there.

    Raises:
        UsageError: As `resolve_device`.
        MissingDependencyError: As `resolve_device`.
    """
    try:
        chosen = resolve_device(device, gpus=gpus)
    except MissingDependencyError:
        if not planned:
            raise
        chosen = "cuda"
    use_bfloat16 = precision == "bfloat16" or (precision == "auto" and chosen == "cuda")
    return Hardware(
        device=chosen,
        precision="bfloat16" if use_bfloat16 else "float32",
        threads=threads or max(1, available_threads() // processes),
    )


def emulates_bfloat16(device: str) -> bool:
    """Tell whether PyTorch only emulates bfloat16 on a device, far slower than float32.

    Processors with AVX-512 or AMX compute it. The answer is no for GPUs, and where PyTorch cannot
    tell.

    Args:
        device: ``cpu`` or ``cuda``.
    """
    if device != "cpu":
        return False
    import torch

    # What PyTorch's compiler asks, too.
    supported = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return supported is not None and not supported()


def available_cores() -> int:
    """Return how many cores this process may use: its affinity, and the quota of its container."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    quota = _quota()
    return cores if quota is None else max(1, min(cores, math.floor(quota)))


def available_threads() -> int:
    """Return how many threads to compute with: ``OMP_NUM_THREADS`` where it is set, else cores."""
    told = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if told.isdecimal() and int(told) >= 1:
        return min(int(told), _MOST_THREADS)
    return available_cores()


def yield_while_waiting() -> None:
    """Let OpenMP's threads sleep at their barriers, unless the environment says otherwise.

    To be called before torch is imported, and inherited by worker processes. By default GNU
    OpenMP's threads spin for milliseconds at the end of each parallel region; with anything else
    running on the cores, each region then waits for a thread that is not running, and training is
    5 to 20 times slower. tests/benchmarks/test_threads.py compares the settings.
    """
    if not any(name in os.environ for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")):
        os.environ["GOMP_SPINCOUNT"] = _SPIN_COUNT


def _quota() -> float | None:
    """Return the cores that control groups allow, None without a limit."""
    try:
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            number, controllers, group = line.split(":", 2)
            if number == "0" and not controllers:
                # A group is limited by those above it, too.
                below = Path("/sys/fs/cgroup") / group.lstrip("/")
                limits = [_limit(each) for each in (below, *below.parents)]
                return min((each for each in limits if each is not None), default=None)
    except (OSError, ValueError):
        return None
    return None


def _limit(group: Path) -> float | None:
    try:
        quota, period = (group / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        return None


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
        return f"no CUDA GPU, {available_cores()} CPU cores"
    return f"{counted(len(names), 'CUDA GPU')} ({', '.join(names)})"
