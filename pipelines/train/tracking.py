"""Trackers: the numbers of the log, sent to a tool that draws them.

A run that was killed makes the steps after its last checkpoint again. It goes on as the same run of
the tracker, which has each step once: TensorBoard is told to forget what comes again, and Weights &
Biases and Trackio, which forget nothing, are sent only what they lack.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipelines.dependencies import load_extra
from pipelines.train.metrics import MetricsLog, Tracker, read_metrics


def open_tracker(
    kind: str,
    log: MetricsLog,
    *,
    run: str,
    directory: Path,
    config: Mapping[str, Any],
    facts: Mapping[str, str],
) -> Tracker:
    """Open a tracker for a run, or for the rest of one that was interrupted.

    Args:
        kind: ``tensorboard``, ``wandb`` or ``trackio``.
        log: The run's log as it goes on.
        run: Name of the run to people and to the tracker: the same whenever the run goes on, and
            another for another run.
        directory: Where it may keep files.
        config: The run's configuration, JSON.
        facts: What the run's page says of where its numbers come from, by name.

    Raises:
        MissingDependencyError: The package is not installed.
    """
    module = load_extra(kind, "tracking", f"--track {kind}")
    if kind == "tensorboard":
        from torch.utils.tensorboard import SummaryWriter

        writer: Any = SummaryWriter(str(directory / run), purge_step=log.steps + 1)
        rows = [f"| {name} | `{value}` |" for name, value in facts.items()]
        writer.add_text("vintix", "\n".join(["| | |", "| --- | --- |", *rows]), log.steps)
        return _TensorBoard(writer)
    described = {**config, "vintix": dict(facts)}
    options = {"project": "vintix", "name": run, "resume": "allow", "config": described}
    if kind == "wandb":
        resumed = module.init(**options, id=run, dir=str(directory))
        return _Run(resumed, log, getattr(resumed, "step", None))
    # Trackio knows a run by its name, and has no public name for the step it expects.
    resumed = module.init(**options)
    return _Run(resumed, log, getattr(resumed, "_next_step", None))


def flatten(row: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Return the numbers of a line by their paths, ``domains/mujoco`` and the like."""
    found: dict[str, float] = {}
    for key, value in row.items():
        if isinstance(value, Mapping):
            found.update(flatten(value, f"{prefix}{key}/"))
        elif isinstance(value, int | float):
            found[f"{prefix}{key}"] = float(value)
    return found


def _values(row: Mapping[str, Any]) -> dict[str, float]:
    return {name: value for name, value in flatten(row).items() if name != "step"}


class _TensorBoard:
    def __init__(self, writer: Any) -> None:
        self._writer = writer

    def log(self, row: Mapping[str, Any]) -> None:
        for name, value in _values(row).items():
            self._writer.add_scalar(name, value, row["step"])

    def flush(self) -> None:
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class _Run:
    """Weights & Biases, and Trackio, which has its interface.

    Both send in threads of their own, in order. What a kill kept them from sending is in the log.

    Args:
        log: The run's log as it goes on.
        expected: The first step that the run does not have yet, None where it cannot tell: then
            it has what the log had.
    """

    def __init__(self, run: Any, log: MetricsLog, expected: int | None) -> None:
        self._run = run
        self._expected = expected if isinstance(expected, int) else log.interrupted + 1
        if self._expected <= log.steps:
            for row in read_metrics(log.path):
                self.log(row)

    def log(self, row: Mapping[str, Any]) -> None:
        if row["step"] >= self._expected:
            self._run.log(_values(row), step=row["step"])

    def flush(self) -> None:
        """Do nothing: what is not sent yet is sent from the log when the run goes on."""

    def close(self) -> None:
        self._run.finish()
