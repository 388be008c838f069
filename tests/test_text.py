"""Numbers of things, and a curve in one line of text."""

from __future__ import annotations

from pipelines.text import counted, sparkline


def test_sparkline_heights_gaps_and_shared_scale() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == "▁▂▃▄▅▆▇█"
    assert sparkline([0.0, None, float("nan"), 1.0]) == "▁··█"
    assert sparkline([-5.0, 0.5, 9.0], low=0.0, high=1.0) == "▁▅█"
    assert sparkline([3.0, 3.0]) == "▅▅"
    assert sparkline([]) == ""
    assert sparkline([None, None]) == "··"


def test_one_thing_is_not_told_in_the_plural() -> None:
    assert [counted(number, "task") for number in (0, 1, 1200)] == [
        "0 tasks",
        "1 task",
        "1,200 tasks",
    ]
    assert counted(2, "history", "histories") == "2 histories"
