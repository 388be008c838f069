"""Trackers: the numbers of the log, sent to a tool that draws them."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from pipelines.errors import MissingDependencyError

#: What has to be importable for each tracker.
_MODULES = {
    "tensorboard": "torch.utils.tensorboard",
    "wandb": "wandb",
    "trackio": "trackio",
}


class Tracker(Protocol):
    """What a tracker is."""

    def log(self, row: Mapping[str, Any]) -> None:
        """Take a line of the log (`pipelines.train.metrics`)."""
        ...

    def close(self) -> None:
        """Send what is left."""
        ...


def open_tracker(kind: str, *, name: str, directory: Path, config: Mapping[str, Any]) -> Tracker:
    """Open a tracker for a run.

    Args:
        kind: ``tensorboard``, ``wandb`` or ``trackio``.
        name: Name of the run.
        directory: Where it may keep files.
        config: The run's configuration, JSON.

    Raises:
        MissingDependencyError: The package is not installed.
    """
    check_tracker(kind)
    module = import_module(_MODULES[kind])
    if kind == "tensorboard":
        return _TensorBoard(module.SummaryWriter(str(directory / name)))
    if kind == "wandb":
        run = module.init(
            project="vintix", name=name, id=name, resume="allow", dir=str(directory), config=config
        )
        return _Run(run)
    module.init(project="vintix", name=name, resume="allow", config=dict(config))
    return _Run(module)


def check_tracker(kind: str) -> None:
    """Refuse a tracker that cannot be imported, before anything is computed.

    Raises:
        MissingDependencyError: The package is not installed.
    """
    try:
        import_module(_MODULES[kind])
    except ImportError as error:
        raise MissingDependencyError(
            f"the tracker {kind} is not installed",
            where=f"--track {kind}",
            expected=f"the package {kind}",
            found=str(error),
            fix="pip install 'vintix[tracking]'",
        ) from error


def flatten(row: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Return the numbers of a line by their paths, ``domains/mujoco`` and the like."""
    found: dict[str, float] = {}
    for key, value in row.items():
        if isinstance(value, Mapping):
            found.update(flatten(value, f"{prefix}{key}/"))
        elif isinstance(value, int | float):
            found[f"{prefix}{key}"] = float(value)
    return found


class _TensorBoard:
    def __init__(self, writer: Any) -> None:
        self._writer = writer

    def log(self, row: Mapping[str, Any]) -> None:
        for name, value in flatten(row).items():
            if name != "step":
                self._writer.add_scalar(name, value, row["step"])

    def close(self) -> None:
        self._writer.close()


class _Run:
    """Weights & Biases, and Trackio, which has its interface."""

    def __init__(self, run: ModuleType | Any) -> None:
        self._run = run

    def log(self, row: Mapping[str, Any]) -> None:
        self._run.log(flatten(row), step=row["step"])

    def close(self) -> None:
        self._run.finish()
