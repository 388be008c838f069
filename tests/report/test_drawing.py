"""The figures of a report as files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.report.document import figures_of
from pipelines.report.drawing import draw, write_figures


def named(document: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = [each for each in figures_of(document) if each["id"] == name]
    return found


def test_lines_are_those_of_the_page(document: dict[str, Any]) -> None:
    """One document, drawn twice: the pictures may not tell another story than the page."""
    for name in ("models", "tasks-mujoco", "training"):
        figure = named(document, name)
        drawn = [axes for axes in draw(figure).axes if axes.get_visible()]
        assert len(drawn) == len(figure["panels"])
        for axes, panel in zip(drawn, figure["panels"], strict=True):
            assert panel["title"].replace("-", "") == axes.get_title(loc="left").replace(
                "\n", ""
            ).replace("-", "")
            for each in panel["series"]:
                (line,) = [one for one in axes.lines if one.get_gid() == each["label"]]
                np.testing.assert_array_equal(line.get_xdata(), each["x"])
                np.testing.assert_array_equal(line.get_ydata(), each["y"])


def test_bars_are_those_of_the_page(document: dict[str, Any]) -> None:
    figure = named(document, "demonstrators")
    for axes, panel in zip(draw(figure).axes, figure["panels"], strict=True):
        assert [bar.get_width() for bar in axes.patches] == pytest.approx(
            [bar["value"] for bar in panel["bars"]]
        )
        written = [text.get_text() for text in axes.texts]
        assert written[::2] == [bar["inside"] for bar in panel["bars"]]


def test_each_figure_is_a_picture_and_a_drawing(document: dict[str, Any], tmp_path: Path) -> None:
    figures = [named(document, name) for name in ("domains", "comparison")]
    written = write_figures(figures, tmp_path / "new")
    assert [path.name for path in written] == [
        "domains.png",
        "domains.svg",
        "comparison.png",
        "comparison.svg",
    ]
    assert written[0].read_bytes().startswith(b"\x89PNG")
    text = written[1].read_text()
    assert "Return by shot, by domain (Figure 4)" in text
    assert "mean of 3 tasks" in text
