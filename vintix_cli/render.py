"""Output: results on stdout as a table or JSON, everything else on stderr.

All text leaves through here, as text: Rich reads no markup in it, and what could not be seen, or
would steer a terminal, is spelled out.
"""

from __future__ import annotations

import json
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from pipelines.errors import Reported
from pipelines.text import printable
from vintix_cli.streams import results

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID
    from rich.text import Text

SHOW_PROGRESS_AFTER_SECONDS = 2.0
_UNBOUNDED = 10_000


def print_json(document: Mapping[str, Any]) -> None:
    """Print one JSON document on stdout; in ASCII where it holds what the stream has not."""
    stream = results()
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
    try:
        text.encode(stream.encoding or "utf-8")
        seen = all(line.isprintable() for line in text.split("\n"))
    except UnicodeEncodeError:
        seen = False
    if not seen:
        text = json.dumps(document, indent=2, allow_nan=False)
    stream.write(text + "\n")
    stream.flush()


def print_table(
    rows: Sequence[Mapping[str, Any]],
    *,
    title: str | None = None,
    totals: Mapping[str, Any] | None = None,
    notes: Sequence[str] = (),
) -> None:
    """Print a table on stdout; column names are the keys of the first row.

    Without a terminal the table is as wide as it needs to be, so that nothing is cut in a log.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    console = _console(results())
    table = Table(
        title=None if title is None else _text(title),
        title_justify="left",
        box=SIMPLE_HEAD,
        header_style="bold",
    )
    columns = list(rows[0]) if rows else []
    for column in columns:
        values = [row.get(column) for row in rows]
        number = all(isinstance(value, int | float) or value is None for value in values)
        table.add_column(
            _text(column.replace("_", " ")),
            justify="right" if number else "left",
            no_wrap=not number,
        )
    for row in rows:
        table.add_row(*(_text(_cell(row.get(column), column)) for column in columns))
    if totals:
        table.add_section()
        table.add_row(
            *(_text(_cell(totals.get(column), column)) for column in columns), style="bold"
        )
    if not console.is_terminal:
        unbounded = console.options.update(max_width=_UNBOUNDED)
        console.width = max(80, console.measure(table, options=unbounded).maximum)
    console.print(table)
    others = {key: value for key, value in (totals or {}).items() if key not in columns}
    if others:
        told = ", ".join(
            f"{key.replace('seconds', 'time').removesuffix('_bytes').replace('_', ' ')} "
            f"{_cell(value, key)}"
            for key, value in others.items()
        )
        notes = [f"in all: {told}", *notes]
    for note in notes:
        console.print(_text(note), soft_wrap=True)


def print_text(text: str) -> None:
    """Print a line on stdout."""
    stream = results()
    stream.write(printable(text) + "\n")
    stream.flush()


def print_error(error: Reported, kind: str = "error") -> None:
    """Print an error on stderr, each of its parts on a line."""
    message, *parts = [printable(part) for part in error.parts()]
    sys.stderr.write("\n  ".join([f"{kind}: {message}", *parts]) + "\n")
    sys.stderr.flush()


def print_traceback(error: BaseException) -> None:
    """Print where an error came from on stderr."""
    for part in traceback.format_exception(error):
        for line in part.rstrip().split("\n"):
            sys.stderr.write(printable(line) + "\n")
    sys.stderr.flush()


def _cell(value: Any, column: str = "") -> str:
    if value is None:
        return ""
    if column.endswith("seconds") and isinstance(value, int | float):
        return duration_text(value)
    if column.endswith("bytes") and isinstance(value, int | float):
        return size_text(int(value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.3f}" if abs(value) < 10 else f"{value:,.1f}"
    return str(value)


def _text(text: str) -> Text:
    from rich.text import Text

    return Text(printable(text))


def _console(stream: TextIO) -> Console:
    from rich.console import Console

    return Console(file=stream, markup=False, highlight=False, emoji=False)


class ConsoleReporter:
    """Shows a stage's messages and progress on stderr; progress only on a terminal.

    Args:
        quiet: Show warnings only.
    """

    def __init__(self, quiet: bool = False) -> None:
        self._console = _console(sys.stderr)
        self._quiet = quiet or not self._console.is_terminal
        self._progress: Progress | None = None
        self._open = 0

    def info(self, message: str) -> None:
        """Print a message, on a terminal."""
        if not self._quiet:
            self._console.print(_text(message), soft_wrap=True)

    def warn(self, message: str) -> None:
        """Print a warning."""
        self._console.print(_text(f"warning: {message}"), style="yellow", soft_wrap=True)

    @contextmanager
    def progress(self, label: str, total: float, unit: str = "") -> Iterator[_Bar]:
        """Show a bar with rate and time left once the work has taken two seconds."""
        bar = _Bar(self, label, total, unit)
        self._open += 1
        try:
            yield bar
        finally:
            bar.close()
            self._open -= 1
            if self._open == 0 and self._progress is not None:
                self._progress.stop()
                self._progress = None

    def _bars(self) -> Progress | None:
        if self._quiet:
            return None
        if self._progress is None:
            from rich.progress import (
                BarColumn,
                Progress,
                ProgressColumn,
                TextColumn,
                TimeRemainingColumn,
            )

            class Rate(ProgressColumn):
                def render(self, task: Any) -> Text:
                    speed = task.finished_speed or task.speed
                    return _text("" if speed is None else f"{speed:,.0f} {task.fields['unit']}/s")

            self._progress = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=30),
                TextColumn("{task.percentage:>3.0f}%"),
                Rate(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[extra]}", markup=False),
                console=self._console,
                transient=True,
            )
            self._progress.start()
        return self._progress


class StageReporter(ConsoleReporter):
    """Says what each stage does also without a terminal; for runs of many minutes."""

    def __init__(self, quiet: bool = False) -> None:
        super().__init__(quiet)
        self._say = not quiet

    def info(self, message: str) -> None:
        """Print a message."""
        if self._say:
            self._console.print(_text(message), soft_wrap=True)


class _Bar:
    def __init__(self, reporter: ConsoleReporter, label: str, total: float, unit: str) -> None:
        self._reporter, self._label, self._total, self._unit = reporter, label, total, unit
        self._started = time.monotonic()
        self._done = 0.0
        self._extra = ""
        self._task: tuple[Progress, TaskID] | None = None

    def advance(self, amount: float = 1, **fields: object) -> None:
        self._done += amount
        if self._task is None:
            if time.monotonic() - self._started < SHOW_PROGRESS_AFTER_SECONDS:
                return
            progress = self._reporter._bars()
            if progress is None:
                return
            label = printable(self._label)
            task = progress.add_task(label, total=self._total, unit=self._unit, extra="")
            self._task = (progress, task)
        progress, task = self._task
        extra = printable("  ".join(f"{key} {_cell(value)}" for key, value in fields.items()))
        if extra:
            self._extra = extra
        progress.update(task, completed=self._done, extra=self._extra)

    def close(self) -> None:
        if self._task is not None:
            progress, task = self._task
            progress.remove_task(task)


def size_text(size: int) -> str:
    """Return a number of bytes for people."""
    value = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def duration_text(seconds: float) -> str:
    """Return a duration for people, in the unit that keeps the number short."""
    for unit, length in (("years", 31_557_600), ("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.1f} {unit}"
    return f"{seconds:,.1f} s"


def interval_text(bounds: Sequence[float] | None) -> str | None:
    """Return an interval as a cell of a table, None where there is none."""
    return None if bounds is None else f"{bounds[0]:.3f} to {bounds[1]:.3f}"
