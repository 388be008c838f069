"""Output: results on stdout as a table or JSON, everything else on stderr."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

SHOW_PROGRESS_AFTER_SECONDS = 2.0
_UNBOUNDED = 10_000


def print_json(document: Mapping[str, Any]) -> None:
    """Print one JSON document on stdout."""
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    sys.stdout.flush()


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
    from rich.table import Table

    console = _stdout()
    table = Table(title=title, title_justify="left", box=_box(), header_style="bold")
    columns = list(rows[0]) if rows else []
    for column in columns:
        values = [row.get(column) for row in rows]
        number = all(isinstance(value, int | float) or value is None for value in values)
        table.add_column(
            column.replace("_", " "), justify="right" if number else "left", no_wrap=not number
        )
    for row in rows:
        table.add_row(*(_cell(row.get(column), column) for column in columns))
    if totals:
        table.add_section()
        table.add_row(*(_cell(totals.get(column), column) for column in columns), style="bold")
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
        console.print(f"in all: {told}", highlight=False, soft_wrap=True)
    for note in notes:
        console.print(note, highlight=False, soft_wrap=True)


def print_text(text: str) -> None:
    """Print a plain line on stdout."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def print_error(text: str) -> None:
    """Print an error on stderr."""
    sys.stderr.write(text.rstrip() + "\n")
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


def _box() -> Any:
    from rich import box

    return box.SIMPLE_HEAD


def _stdout() -> Console:
    from rich.console import Console

    class Output(Console):
        def on_broken_pipe(self) -> None:
            # Rich would end the process with code 1; a reader that has seen enough is no failure.
            raise BrokenPipeError

    return Output(file=sys.stdout)


class ConsoleReporter:
    """Shows a stage's messages and progress on stderr; progress only on a terminal.

    Args:
        quiet: Show warnings only.
    """

    def __init__(self, quiet: bool = False) -> None:
        from rich.console import Console

        self._console = Console(stderr=True, highlight=False)
        self._quiet = quiet or not self._console.is_terminal
        self._progress: Progress | None = None
        self._open = 0

    def info(self, message: str) -> None:
        """Print a message, on a terminal."""
        if not self._quiet:
            self._console.print(message, soft_wrap=True, markup=False)

    def warn(self, message: str) -> None:
        """Print a warning."""
        self._console.print(f"warning: {message}", style="yellow", soft_wrap=True, markup=False)

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
            from rich.text import Text

            class Rate(ProgressColumn):
                def render(self, task: Any) -> Text:
                    speed = task.finished_speed or task.speed
                    return Text("" if speed is None else f"{speed:,.0f} {task.fields['unit']}/s")

            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=30),
                TextColumn("{task.percentage:>3.0f}%"),
                Rate(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[extra]}"),
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
            self._console.print(message, soft_wrap=True, markup=False)


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
            task = progress.add_task(self._label, total=self._total, unit=self._unit, extra="")
            self._task = (progress, task)
        progress, task = self._task
        extra = "  ".join(f"{key} {_cell(value)}" for key, value in fields.items())
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
