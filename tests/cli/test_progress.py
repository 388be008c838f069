"""What a command tells of its progress in a log, where no terminal draws a bar."""

from __future__ import annotations

import io
import json
import re
import sys
import time

import pytest

from pipelines.text import printable
from vintix_cli import render
from vintix_cli.render import ConsoleReporter, rate_text

HOSTILE = "a\x1b[31mb\nc"

# Everything the command line does, with a line every hundredth of a second.
OFTEN = """
import sys
from vintix_cli import render
render.LOG_EVERY_SECONDS = 0.01
if __name__ == "__main__":
    from vintix_cli.__main__ import main
    main()
"""


class _Terminal(io.StringIO):
    encoding = "utf-8"  # type: ignore[assignment]

    def isatty(self) -> bool:
        return True


@pytest.fixture
def told(capsys):
    def lines():
        return capsys.readouterr().err.splitlines()

    return lines


def test_a_line_says_how_far_how_fast_and_how_long(told):
    now = [0.0]
    reporter = ConsoleReporter(clock=lambda: now[0])
    with reporter.progress("distill", 2_433_500, "steps") as progress:
        now[0] = 30.0
        reporter.log_progress()
        assert told() == ["distill: 0 of 2,433,500 steps, 30.0 s so far"]
        progress.advance(120_000, loss=0.1234, tokens_per_second=4567.8)
        now[0] = 60.0
        reporter.log_progress()
        assert told() == [
            "distill: 120,000 of 2,433,500 steps, 2,000 a second, 19.3 min left, loss 0.123, "
            "tokens per second 4,567.8"
        ]
    reporter.end()
    assert told() == ["done in 60.0 s"]


def test_the_rate_is_that_of_the_last_lines_and_of_this_run(told):
    now = [0.0]
    reporter = ConsoleReporter(clock=lambda: now[0])
    with reporter.progress("train", 400, "steps", 200) as progress:
        for minute in range(1, 12):
            progress.advance(1 if minute == 1 else 10)
            now[0] = 60.0 * minute
            reporter.log_progress()
            if minute == 1:
                assert told() == ["train: 201 of 400 steps, 1 a minute, 3.3 h left"]
        assert told()[-1] == "train: 301 of 400 steps, 10 a minute, 9.9 min left"


@pytest.mark.parametrize(
    ("total", "unit", "done", "line"),
    [
        (4e9, "B", 1e9, "x: 1.0 GB of 4.0 GB, 33.3 MB a second, 90.0 s left"),
        (8.0, "", 2.0, "x: 25 %, 90.0 s left"),
        (60, "tasks", 0.25, "x: 0 of 60 tasks, 30 an hour, 119.5 min left"),
        (10, "tasks", 12, "x: 12 of 10 tasks, 24 a minute, 0.0 s left"),
        (0, "", 1, "x: 0 %, 0.0 s left"),
    ],
)
def test_units(told, total, unit, done, line):
    now = [0.0]
    reporter = ConsoleReporter(clock=lambda: now[0])
    with reporter.progress("x", total, unit) as progress:
        progress.advance(done)
        now[0] = 30.0
        reporter.log_progress()
    assert told() == [line]


def test_what_is_short_says_nothing_and_what_others_named_is_spelled_out(told):
    now = [0.0]
    reporter = ConsoleReporter(clock=lambda: now[0])
    with reporter.progress("short", 10, "steps") as progress:
        progress.advance(10)
    now[0] = 29.0
    reporter.end()
    assert told() == []
    with reporter.progress(HOSTILE, 10, HOSTILE) as progress:
        progress.advance(5, **{HOSTILE: HOSTILE})
        reporter.log_progress()
    (line,) = told()
    assert line.count(printable(HOSTILE)) == 4


def test_quiet_is_quiet(told):
    now = [0.0]
    reporter = ConsoleReporter(quiet=True, clock=lambda: now[0])
    reporter.info("dataset all@v1")
    with reporter.progress("train", 10, "steps") as progress:
        now[0] = 100.0
        progress.advance(5)
    reporter.end()
    assert told() == []
    reporter.warn("doubtful")
    assert told() == ["warning: doubtful"]


@pytest.mark.parametrize(("terminal", "lines"), [("xterm", False), ("dumb", True)])
def test_lines_come_by_themselves_where_no_bar_can_be_drawn(monkeypatch, terminal, lines):
    """Also while nothing moves, and for many short counts one after the other."""
    monkeypatch.setenv("TERM", terminal)
    monkeypatch.setattr(render, "LOG_EVERY_SECONDS", 0.0)
    stream = _Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    reporter = ConsoleReporter()
    for _ in range(100):
        with reporter.progress("verify", 10, "files"), reporter.progress("inner", 5):
            pass
        if "verify: 0 of 10 files" in stream.getvalue():
            break
    assert ("verify: 0 of 10 files" in stream.getvalue()) == lines


@pytest.mark.parametrize(
    ("rate", "unit", "text"),
    [
        (2000.4, "steps", "2,000 steps/s"),
        (0.3, "steps", "18 steps/min"),
        (0.25 / 60, "tasks", "15 tasks/h"),
        (1e-9, "tasks", "0 tasks/h"),
        (2.5e6, "B", "2.5 MB/s"),
    ],
)
def test_the_rate_beside_a_bar_is_no_zero_where_work_is_slow(rate, unit, text):
    assert rate_text(rate, unit, short=True) == text


def test_a_bar_tells_rates_of_what_has_a_unit(monkeypatch):
    """Once a second has shown what they are."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(render, "SHOW_PROGRESS_AFTER_SECONDS", 0.0)
    stream = _Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    reporter = ConsoleReporter()
    with (
        reporter.progress("train", 1000, "steps") as train,
        reporter.progress("other", 1000) as other,
    ):
        for _ in range(12):
            train.advance(1)
            other.advance(1)
            time.sleep(0.15)
    text = stream.getvalue()
    assert "steps/s" in text or "steps/min" in text
    assert " /s" not in text and " /min" not in text


@pytest.mark.parametrize("words", [(), ("--json",), ("--quiet",)])
def test_a_log_without_a_terminal(shell, words):
    command = ("train", "--config", "run.yaml", "--steps", "40", "--track", "tensorboard")
    done = shell.script(OFTEN, *command, "--name", "logged", *words)
    assert done.code == 0, done.stderr
    target = shell.workspace / "checkpoints" / "logged" / "v1"
    if words == ("--quiet",):
        assert done.stderr == ""
        return
    if words == ("--json",):
        assert json.loads(done.stdout)["artifact"]["path"] == str(target)
    assert "\x1b" not in done.stderr
    expected = [
        "dataset point-mass@v1",
        f"making {target}, until then .staging-",
        "tensorboard: run logged-",
        "log of the steps: ",
        "done in ",
    ]
    places = [done.stderr.find(each) for each in expected]
    assert -1 not in places and places == sorted(places), done.stderr
    assert re.search(r"^train: \d+ of 40 steps, ", done.stderr, re.MULTILINE), done.stderr
