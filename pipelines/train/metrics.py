"""The run's log: one JSON object a line and optimizer step.

`metrics.jsonl` grows while the run goes on, for whoever wants to follow it, and is published with
the artifact. It is the only place for timings: the content of an artifact has none. A line holds
`step` (from 1), `loss`, `domains` (loss by domain), `learning_rate`, `gradient_norm`, `tokens`
(since the first step), `tokens_per_second` and `seconds` (over all runs that made the steps).
"""

from __future__ import annotations

import hashlib
import json
import os
from io import BufferedWriter
from pathlib import Path
from types import TracebackType
from typing import Any, Self

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
        steps: As given.
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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
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
        with open_file(path, path.lstat().st_size) as file:
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
