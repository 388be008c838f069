"""Text of others is shown as text: no markup is read in it, and nothing of it steers a terminal."""

from __future__ import annotations

import io
import json
import sys

import pytest

from pipelines.errors import UsageError, VintixError
from pipelines.report.page import page_html
from pipelines.text import printable
from vintix_cli import render
from vintix_cli.render import (
    ConsoleReporter,
    duration_text,
    print_error,
    print_json,
    print_table,
    print_text,
    print_traceback,
)

MARKUP = "runs[/v2] [red]x[/red] [lr=3e-4] :smile: https://a.b 'c' 12"
# An escape sequence, one that names the window, its C1 form, a line break, a turn of the direction
# of writing, a byte that is no UTF-8, a line separator.
HOSTILE = "a\x1b[31mb\x1b]0;title\x07c\x9b2Jd\ne\rf\u202eg\udcffh\u2028i"
SHOWN = r"a\x1b[31mb\x1b]0;title\x07c\x9b2Jd\ne\rf\u202eg\udcffh\u2028i"


class _Terminal(io.StringIO):
    encoding = "utf-8"  # type: ignore[assignment]

    def isatty(self) -> bool:
        return True


def _ways(text: str) -> dict[str, object]:
    """Return every way in which text leaves, by name."""

    def progress() -> None:
        with ConsoleReporter().progress(text, 2, text) as bar:
            bar.advance(1, loss=text)
            bar.advance(1, loss=text)

    return {
        "cell": lambda: print_table([{"x": text}]),
        "column": lambda: print_table([{text: 1}]),
        "title": lambda: print_table([{"x": "x" * 99}], title=text),
        "note": lambda: print_table([{"x": 1}], notes=[text]),
        "total": lambda: print_table([{"x": 1}], totals={"x": text, "also": text}),
        "line": lambda: print_text(text),
        "error": lambda: print_error(UsageError(text, where=text, expected=text, fix=text)),
        "info": lambda: ConsoleReporter().info(text),
        "warning": lambda: ConsoleReporter().warn(text),
        "progress": progress,
    }


@pytest.mark.parametrize("way", _ways(""))
def test_text_of_others_is_shown_as_it_is_or_spelled_out(way, monkeypatch):
    # As wide as it must be, and of one colour: what is left of escape sequences would be foreign.
    for name, value in (("COLUMNS", "400"), ("NO_COLOR", "1"), ("TERM", "xterm")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(render, "SHOW_PROGRESS_AFTER_SECONDS", 0)
    for text, shown in ((MARKUP, MARKUP), (HOSTILE, SHOWN)):
        stream = _Terminal()
        monkeypatch.setattr(sys, "stdout", stream)
        monkeypatch.setattr(sys, "stderr", stream)
        _ways(text)[way]()
        told = stream.getvalue()
        assert shown in told, way
        for part in ("\x1b[31m", "\x1b]", "\x9b", "\ne", "\u202e", "\udcff", "\u2028"):
            assert part not in told, (way, told)


def test_json_has_the_data_and_escapes_of_its_own(capsys):
    document = {"name": HOSTILE, "é": MARKUP}
    print_json(document)
    told = capsys.readouterr().out
    assert json.loads(told) == document
    assert all(line.isprintable() for line in told.splitlines())
    print_json({"é": 1})
    assert "é" in capsys.readouterr().out


def test_a_page_holds_no_control_characters():
    page = page_html({"rollouts": [HOSTILE], HOSTILE: [HOSTILE, "</script>"]})
    assert SHOWN.replace("\\", "\\\\") in page
    for each in "\x1b\x07\x9b\u202e\u2028":
        assert each not in page
    page.encode()


def test_a_traceback_keeps_its_lines(capsys):
    print_traceback(ValueError(HOSTILE))
    first, second = capsys.readouterr().err.splitlines()
    assert f"{first}\\n{second}" == f"ValueError: {SHOWN}"


def test_what_is_readable_stays():
    for text in ("Grüße, 日本語 ▁▂▃ 😀", r"C:\new", ""):
        assert printable(text) == text
    assert printable("\t\x00\x7f") == r"\t\x00\x7f"


def test_an_error_has_its_parts_on_lines(capsys):
    print_error(VintixError("a\nb", where="c", fix="d"))
    assert capsys.readouterr().err == "error: a\\nb\n  where: c\n  fix: d\n"


def test_a_duration_is_never_told_in_years():
    assert duration_text(59) == "59.0 s"
    assert duration_text(89 * 86_400) == "89.0 days"
    assert duration_text(5070.1 * 365 * 86_400) == "more than 90 days"
