"""A curve in one line of text."""

from __future__ import annotations

from pipelines.text import sparkline


def test_sparkline_heights_gaps_and_shared_scale() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == "▁▂▃▄▅▆▇█"
    assert sparkline([0.0, None, float("nan"), 1.0]) == "▁··█"
    assert sparkline([-5.0, 0.5, 9.0], low=0.0, high=1.0) == "▁▅█"
    assert sparkline([3.0, 3.0]) == "▅▅"
    assert sparkline([]) == ""
    assert sparkline([None, None]) == "··"
