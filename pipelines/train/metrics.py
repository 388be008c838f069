"""The run's log: one JSON object a line and optimizer step.

`metrics.jsonl` grows while the run goes on, for whoever wants to follow it, and is published with
the artifact. It is the only place for timings: the content of an artifact has none. A line holds
`step` (from 1), `loss`, `domains` (loss by domain), `learning_rate`, `gradient_norm`, `tokens`
(since the first step), `tokens_per_second` and `seconds` (over all runs that made the steps).
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BufferedWriter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

from pipelines.artifacts.files import (
    FileRecord,
    hash_bytes,
    is_absence,
    open_file,
    read_if_there,
    reading_error,
    storage_error,
    write_file,
)
from pipelines.errors import VintixError
from pipelines.train.processes import agreed_signal

if TYPE_CHECKING:
    from torch import Tensor

    from pipelines.reporter import Progress
    from pipelines.train.config import TrainConfig
    from pipelines.train.loader import BatchLoader

NAME = "metrics.jsonl"
_LONGEST_LINE = 1 << 20


class MetricsLog:
    """The growing file.

    Args:
        path: Where; made if it is not there.
        steps: How many steps the checkpoint has behind it.
        kept: Size and hash of their lines. What an interrupted run wrote beyond them is dropped,
            since the steps are made again.

    Attributes:
        interrupted: The last step of the log as it was found; 0 for none.
        damaged: Whether the lines to keep are not those that were written; then none is kept.

    Raises:
        StorageError: The file system refused.
    """

    def __init__(self, path: Path, *, steps: int = 0, kept: FileRecord | None = None) -> None:
        self.path, self.steps = path, steps
        found = read_metrics(path)
        self.interrupted: int = found[-1]["step"] if found else 0
        lines = b"" if kept is None else (read_if_there(path, any_size=True) or b"")[: kept.size]
        self.damaged = kept is not None and hash_bytes(lines) != kept
        if self.damaged:
            lines = b""
        write_file(path, lines)
        self._digest, self._size = hashlib.sha256(lines), len(lines)
        self._file: BufferedWriter
        try:
            self._file = path.open("ab")
        except OSError as error:
            raise storage_error(error, path) from error

    @property
    def record(self) -> FileRecord:
        """Size and hash of all lines so far."""
        return FileRecord(self._size, self._digest.hexdigest())

    def add(self, row: dict[str, Any]) -> None:
        """Append one line.

        Raises:
            StorageError: The file system refused.
        """
        line = json.dumps(row, allow_nan=False).encode() + b"\n"
        try:
            self._file.write(line)
            self._file.flush()
        except OSError as error:
            raise storage_error(error, self.path) from error
        self._digest.update(line)
        self._size += len(line)

    def sync(self) -> None:
        """Make all lines durable.

        Raises:
            StorageError: The file system refused.
        """
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise storage_error(error, self.path) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        try:
            self._file.close()
        except OSError as problem:
            if error is None:
                raise storage_error(problem, self.path) from problem


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the complete lines of a metrics file; none if there is no file.

    A line that a crash cut short ends what is read.

    Raises:
        StorageError: It cannot be read.
    """
    rows: list[dict[str, Any]] = []
    try:
        with open_file(path, any_size=True) as file:
            while line := file.readline(_LONGEST_LINE):
                try:
                    row = json.loads(line)
                except ValueError:
                    break
                if not isinstance(row, dict) or not isinstance(row.get("step"), int):
                    break
                rows.append(row)
    except OSError as error:
        if not is_absence(error):
            raise reading_error(error, path) from error
    return rows


class Tracker(Protocol):
    """What the rows are sent to besides the log (`pipelines.train.tracking`)."""

    def log(self, row: Mapping[str, Any]) -> None:
        """Take a row of the log."""
        ...

    def flush(self) -> None:
        """Hand on what was taken so far: a checkpoint follows, and these steps never come again."""
        ...

    def close(self) -> None:
        """Send the remaining rows."""
        ...


#: Steps whose mean loss is the run's final loss: single steps differ by what they drew.
RECENT_STEPS = 50


@dataclass(frozen=True)
class StepOutcome:
    """What a step leaves on the device, to be read when it is no longer in the way.

    Attributes:
        losses: Loss of each sequence of the global batch.
        domains: Domain of each sequence: names, or their places in the loader's list.
        gradient_norm: Global norm before clipping, a scalar.
        stops: How many processes got each of the stop signals; None in a group of one.
    """

    losses: Tensor
    domains: list[str] | Tensor
    gradient_norm: Tensor
    stops: Tensor | None = None


@dataclass(frozen=True)
class Pending:
    """A step whose outcome has not been read.

    Attributes:
        seconds: Time since training began, over all runs.
        extra: Further entries of its line.
    """

    step: int
    outcome: StepOutcome
    seconds: float
    elapsed: float
    extra: dict[str, Any] = field(default_factory=dict)


class MetricsLogger:
    """Turns outcomes into lines of the log, one step late, so that nothing waits for the device.

    Args:
        log: Where the lines go; None in a process that does not write.
        progress: Advanced by each step.
        recent: Losses of the last steps of an earlier run.
        loader: Knows how many tokens a step has, and the names of the domains.

    Attributes:
        recent: Loss and loss by domain of the last steps, oldest first.
        agreed: The signal at which all processes stop, as of the last step that was read.
    """

    def __init__(
        self,
        log: MetricsLog | None,
        progress: Progress,
        config: TrainConfig,
        recent: list[dict[str, Any]],
        loader: BatchLoader,
        tracker: Tracker | None = None,
    ) -> None:
        self._log, self._progress, self._config = log, progress, config
        self._loader, self._tracker = loader, tracker
        self.recent: deque[dict[str, Any]] = deque(recent, maxlen=RECENT_STEPS)
        self.agreed: int | None = None
        self._pending: Pending | None = None

    def add(self, pending: Pending) -> None:
        """Take in a step and write the line of the one before."""
        self.flush()
        self._pending = pending

    def flush(self) -> None:
        """Write the pending line, if any.

        Raises:
            VintixError: Its loss is not finite.
        """
        pending, self._pending = self._pending, None
        if pending is None:
            return
        outcome = pending.outcome
        if outcome.stops is not None:
            self.agreed = self.agreed or agreed_signal(outcome.stops)
        losses = outcome.losses.tolist()
        norm = float(outcome.gradient_norm)
        loss = math.fsum(losses) / len(losses)
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise VintixError(
                "training diverged: the loss or its gradient is not a finite number",
                where=f"step {pending.step + 1}",
                expected="a finite loss and gradient norm",
                found=f"loss {loss}, gradient norm {norm}",
                fix=f"vintix train --learning-rate {self._config.learning_rate / 3:.1e}, "
                "or --set train.clip_norm=1",
            )
        domains = mean_by_domain(losses, self._names(outcome.domains))
        rate = len(losses) * self._config.context / max(pending.elapsed, 1e-9)
        row = {
            "step": pending.step + 1,
            "loss": loss,
            "domains": domains,
            "learning_rate": self._config.rules.learning_rate(pending.step, self._config.schedule),
            "gradient_norm": norm,
            "tokens": self._loader.tokens(pending.step),
            "tokens_per_second": round(rate, 1),
            "seconds": round(pending.seconds, 3),
            **pending.extra,
        }
        if self._log is not None:
            self._log.add(row)
        if self._tracker is not None:
            self._tracker.log(row)
        self.recent.append({"loss": loss, "domains": domains})
        self._progress.advance(1, loss=loss, tokens_per_second=rate)

    def sync(self) -> None:
        """Make the lines written so far durable.

        Raises:
            StorageError: The file system refused.
        """
        if self._log is not None:
            self._log.sync()
        if self._tracker is not None:
            self._tracker.flush()

    def _names(self, domains: list[str] | Tensor) -> list[str]:
        if isinstance(domains, list):
            return domains
        return [self._loader.domains[round(place)] for place in domains.tolist()]


def mean_by_domain(losses: list[float], domains: list[str]) -> dict[str, float]:
    """Return the mean loss of each domain, sorted by name."""
    by_domain: dict[str, list[float]] = {}
    for domain, value in zip(domains, losses, strict=True):
        by_domain.setdefault(domain, []).append(value)
    return {domain: math.fsum(each) / len(each) for domain, each in sorted(by_domain.items())}
