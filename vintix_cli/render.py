"""Output: results on stdout as a table or JSON, everything else on stderr.

All text leaves through here, as text: Rich reads no markup in it, and what could not be seen, or
would steer a terminal, is spelled out.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

from pipelines.errors import Reported
from pipelines.stage import LONGEST_ESTIMATE
from pipelines.text import printable
from vintix_cli.streams import results

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID
    from rich.table import Table
    from rich.text import Text

    from vintix_cli.layout import Column

SHOW_PROGRESS_AFTER_SECONDS = 2.0
LOG_EVERY_SECONDS = 30.0
"""Time between two lines of a log; for what takes less, the total is not printed."""
_RATE_LINES = 10


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

    On a terminal, and where COLUMNS says a width, it is arranged to fit (`vintix_cli.layout`). Else
    it is as wide as it needs to be, so that nothing is cut in a log.
    """
    from vintix_cli.layout import GAP, Column, arrange

    stream = results()
    console = _console(stream)
    shown = [*rows, totals] if totals else rows
    columns = [
        Column(
            header=printable(name.replace("_", " ")),
            cells=[printable(_cell(row.get(name), name)) for row in shown],
            number=all(isinstance(row.get(name), int | float | None) for row in rows),
        )
        for name in (rows[0] if rows else ())
    ]
    width = _width(console)
    if title is not None:
        console.line()
        _print_line(console, title, style="italic")
    for part in arrange(columns, width) if columns else ():
        if width is None:
            console.width = max(console.width, sum(each for _, each in part) + GAP * len(part))
        console.print(_table(part, totals=bool(totals)))
        console.line()
    others = {key: value for key, value in (totals or {}).items() if rows and key not in rows[0]}
    if others:
        extra = ", ".join(
            f"{key.replace('seconds', 'time').removesuffix('_bytes').replace('_', ' ')} "
            f"{_cell(value, key)}"
            for key, value in others.items()
        )
        notes = [f"in all: {extra}", *notes]
    for note in notes:
        _print_line(console, note)


def picked(row: Mapping[str, Any], *names: str, **renamed: str) -> dict[str, Any]:
    """Return entries of a row by their own names, then others by the names of their columns."""
    return {name: row[name] for name in names} | {new: row[old] for new, old in renamed.items()}


def print_text(text: str) -> None:
    """Print a line on stdout, whole: a terminal wraps it, and a path in it can be copied."""
    stream = results()
    stream.write(printable(text) + "\n")
    stream.flush()


def print_wrapped(text: str, lead: str = "") -> None:
    """Print a lead and a text on stdout; in a width the text is wrapped at words beside it."""
    stream = results()
    lead, text = printable(lead), printable(text)
    lines = [text]
    console = _console(stream)
    width = _width(console)
    if width is not None:
        wrapped = _text(text).wrap(console, max(1, width - len(lead)))
        lines = [line.plain.rstrip() for line in wrapped] or [""]
    for line in lines:
        stream.write(lead + line + "\n")
        lead = " " * len(lead)
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


def _table(part: Sequence[tuple[Column, int]], totals: bool) -> Table:
    """Return columns as Rich's table, in the widths that `arrange` gave them."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from vintix_cli.layout import GAP

    gap = (0, GAP - 1, 0, 0)
    table = Table(
        box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=gap, header_style="bold"
    )
    cells = []
    for column, width in part:
        header, texts = column.fitted(width)
        justify: Any = "right" if column.number else "left"
        table.add_column(_text(header), justify=justify, width=width, overflow="fold")
        cells.append(texts)
    *rows, last = zip(*cells, strict=True)
    for row in rows:
        table.add_row(*map(_text, row))
    if totals:
        table.add_section()
    table.add_row(*map(_text, last), style="bold" if totals else None)
    return table


def _print_line(console: Console, text: str, style: str | None = None) -> None:
    """Print a line beside a table: wrapped at words in a width, else whole."""
    console.print(_text(text), style=style, soft_wrap=_width(console) is None)


def _width(console: Console) -> int | None:
    """Return how wide results may be: as the terminal, as COLUMNS says, or None for any width."""
    asked = os.environ.get("COLUMNS", "")
    said = asked.isdecimal() and int(asked) > 0
    return console.width if said or console.file.isatty() else None


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
    """Prints on stderr what a command does.

    On a terminal progress is a bar. Without one, in a log, it is a plain line now and then.
    """

    def __init__(self, quiet: bool = False, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = _console(sys.stderr)
        self._quiet = quiet
        self._draws = sys.stderr.isatty() and not self._console.is_dumb_terminal
        self._clock = clock
        self._started = clock()
        self._next_line = self._started + LOG_EVERY_SECONDS
        self._progress: Progress | None = None
        self._open: list[_Bar] = []

    def info(self, message: str) -> None:
        """Print a message."""
        if not self._quiet:
            self._print(message)

    def warn(self, message: str) -> None:
        """Print a warning."""
        self._print(f"warning: {message}", style="yellow")

    def log_progress(self) -> None:
        """Print a line about each count that is going on."""
        self._next_line = self._clock() + LOG_EVERY_SECONDS
        for bar in tuple(self._open):
            self._print(bar.line())

    def end(self) -> None:
        """Print how long the command took, if that was a while."""
        seconds = self._clock() - self._started
        if seconds >= LOG_EVERY_SECONDS:
            self.info(f"done in {duration_text(seconds)}")

    @contextmanager
    def progress(self, label: str, total: float, unit: str = "", done: float = 0) -> Iterator[_Bar]:
        """Show how far the work is, with rate and time left."""
        bar = _Bar(self, self._clock, label, total, unit, done)
        self._open.append(bar)
        try:
            # The thread of the first count logs all of them.
            logs = not self._quiet and not self._draws and len(self._open) == 1
            with self._logging() if logs else nullcontext():
                yield bar
        finally:
            bar.close()
            self._open.remove(bar)
            if not self._open and self._progress is not None:
                self._progress.stop()
                self._progress = None

    @contextmanager
    def _logging(self) -> Iterator[None]:
        """Print the progress from time to time, also while nothing moves."""
        closing = threading.Event()

        def log() -> None:
            while not closing.wait(max(0.0, self._next_line - self._clock())):
                self.log_progress()

        thread = threading.Thread(target=log, name="progress", daemon=True)
        thread.start()
        try:
            yield
        finally:
            closing.set()
            thread.join()

    def _print(self, message: str, style: str | None = None) -> None:
        self._console.print(_text(message), style=style, soft_wrap=True)

    def _bars(self) -> Progress | None:
        if self._quiet or not self._draws:
            return None
        if self._progress is None:
            from rich import progress as rich

            class Rate(rich.ProgressColumn):
                def render(self, task: Any) -> Text:
                    speed, unit = task.finished_speed or task.speed, task.fields["unit"]
                    # What has no unit is no number of anything; and two reports in the first
                    # instant are no rate.
                    if not speed or not unit or (task.elapsed or 0) < 1:
                        return _text("")
                    return _text(rate_text(speed, unit, short=True))

            self._progress = rich.Progress(
                rich.TextColumn("{task.description}", markup=False),
                rich.BarColumn(bar_width=30),
                rich.TextColumn("{task.percentage:>3.0f}%"),
                Rate(),
                rich.TimeRemainingColumn(),
                rich.TextColumn("{task.fields[extra]}", markup=False),
                console=self._console,
                transient=True,
            )
            self._progress.start()
        return self._progress


@dataclass(eq=False)
class _Bar:
    """One count: a bar once the work has taken two seconds, or lines in a log."""

    reporter: ConsoleReporter
    clock: Callable[[], float]
    label: str
    total: float
    unit: str
    done: float

    def __post_init__(self) -> None:
        self._started = self.clock()
        self._fields: Mapping[str, object] = {}
        self._task: tuple[Progress, TaskID] | None = None
        # Rates are those of the last lines: the beginning may have been slow.
        self._lines = deque([(self._started, self.done)], maxlen=_RATE_LINES)

    def advance(self, amount: float = 1, **fields: object) -> None:
        before, self.done = self.done, self.done + amount
        self._fields = fields or self._fields
        if self._task is None:
            if self.clock() - self._started < SHOW_PROGRESS_AFTER_SECONDS:
                return
            progress = self.reporter._bars()
            if progress is None:
                return
            label = printable(self.label)
            task = progress.add_task(
                label, total=self.total, completed=int(before), unit=self.unit, extra=""
            )
            self._task = (progress, task)
        progress, task = self._task
        progress.update(task, completed=self.done, extra=printable("  ".join(self._extra())))

    def line(self) -> str:
        """Return how far the work is, for a log."""
        now = self.clock()
        (then, before), done = self._lines[0], self.done
        self._lines.append((now, done))
        if self.unit:
            amount = f"{_amount(done, self.unit)} of {_amount(self.total, self.unit)}"
            amount += "" if self.unit == "B" else f" {self.unit}"
        else:
            amount = f"{100 * done / self.total if self.total else 0:.0f} %"
        rate = (done - before) / max(now - then, 1e-9)
        parts = [f"{duration_text(now - self._started)} so far"]
        if rate > 0:
            parts = [f"{duration_text(max(0.0, self.total - done) / rate)} left"]
            parts = [rate_text(rate, self.unit), *parts] if self.unit else parts
        return ", ".join([f"{self.label}: {amount}", *parts, *self._extra()])

    def close(self) -> None:
        if self._task is not None:
            progress, task = self._task
            progress.remove_task(task)

    def _extra(self) -> list[str]:
        return [f"{key.replace('_', ' ')} {_cell(value)}" for key, value in self._fields.items()]


def rate_text(rate: float, unit: str, *, short: bool = False) -> str:
    """Return a rate in the shortest time that has one or more of what is counted.

    Args:
        rate: How many a second.
        short: For a bar, ``2,000 steps/s``; else for a log, ``2,000 a second``.
    """
    times = ((1, "s", "a second"), (60, "min", "a minute"), (3600, "h", "an hour"))
    seconds, letter, name = next((each for each in times if rate * each[0] >= 1), times[-1])
    amount = _amount(rate * seconds, unit)
    if not short:
        return f"{amount} {name}"
    return f"{amount}/{letter}" if unit == "B" else f"{amount} {unit}/{letter}"


def _amount(amount: float, unit: str) -> str:
    return size_text(int(amount)) if unit == "B" else f"{amount:,.0f}"


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
    if seconds > LONGEST_ESTIMATE:
        return f"more than {LONGEST_ESTIMATE / 86_400:.0f} days"
    for unit, length in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.1f} {unit}"
    return f"{seconds:,.1f} s"


def interval_text(bounds: Sequence[float] | None) -> str | None:
    """Return an interval as a cell of a table, None where there is none."""
    return None if bounds is None else f"{bounds[0]:.3f} to {bounds[1]:.3f}"
