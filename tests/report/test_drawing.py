"""The figures of a report as files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.drawing import draw, write_figures
from pipelines.report.document import figures_of


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
    figures = [named(document, name) for name in ("domains", "demonstrators")]
    written = write_figures(figures, tmp_path / "new")
    assert [path.name for path in written] == [
        "domains.png",
        "domains.svg",
        "demonstrators.png",
        "demonstrators.svg",
    ]
    assert written[0].read_bytes().startswith(b"\x89PNG")
    text = written[1].read_text()
    assert "Return by shot, by domain (Figure 4)" in text
    assert "metaworld, 3 tasks" in text and "mean over tasks" in text


def test_axes_are_those_of_the_page(document: dict[str, Any]) -> None:
    """A reader who saw the page knows the picture: limits, ticks and scale are the same."""
    for name in ("domains", "tasks-mujoco", "training", "histories", "demonstrators"):
        figure = named(document, name)
        drawn = [axes for axes in draw(figure).axes if axes.get_visible()]
        for axes, panel in zip(drawn, figure["panels"], strict=True):
            assert [label.get_text() for label in axes.get_xticklabels()] == [
                text for _, text in panel["x_ticks"]
            ]
            if figure["kind"] == "bars":
                assert axes.get_xlim() == pytest.approx(panel["x_limits"])
                continue
            assert axes.get_yscale() == ("log" if panel["log"] else "linear")
            assert axes.get_ylim() == pytest.approx(panel["y_limits"])
            assert [label.get_text() for label in axes.get_yticklabels()] == [
                text for _, text in panel["y_ticks"]
            ]


def test_a_picture_has_one_legend_and_nothing_on_another(document: dict[str, Any]) -> None:
    """Four panels told the same legend four times, and their lines at 0 and 1 had no name."""
    for name in ("models", "variations", "tasks-mujoco", "histories"):
        figure = named(document, name)
        drawn = draw(figure)
        drawn.canvas.draw()
        assert [axes.get_legend() for axes in drawn.axes] == [None] * len(drawn.axes)
        (legend,) = drawn.legends
        told = [text.get_text() for text in legend.get_texts()]
        assert told == [key["label"] for key in figure["legend"]]
        assert told[-2:] == ["demonstrator (1)", "random play (0)"]
        box = legend.get_window_extent()
        for axes in drawn.axes:
            if axes.get_visible():
                assert not box.overlaps(axes.get_tightbbox()), name
