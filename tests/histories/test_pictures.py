"""Pictures of histories: one a domain, one panel a task, with the numbers of the report."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipelines.errors import UsageError
from pipelines.histories.pictures import by_number, draw_domain, plot_histories
from pipelines.histories.quality import HistoryQuality, Trajectory, assess
from pipelines.histories.report import summarize


def entry(task="a", domain="d", rise=lambda x: x, episodes=100, measured=True):
    x = (np.arange(episodes) + 0.5) / max(episodes, 1)
    trajectories = tuple(Trajectory(x, rise(x)) for _ in range(2))
    quality = assess(trajectories) if measured else None
    return HistoryQuality(task, domain, quality, trajectories, None)


@pytest.mark.parametrize("count", [1, 2, 6, 7, 23])
def test_every_task_has_its_panel(count):
    figure = draw_domain([entry(f"task-{k}") for k in range(count)])
    titles = [axes.get_title(loc="left") for axes in figure.axes if axes.get_visible()]
    assert titles == [f"task-{k}" for k in range(count)]


def test_a_panel_shows_the_numbers_of_the_report():
    """The mean line is the smoothed return, and a poor history is marked."""
    good, poor = entry("good"), entry("poor", rise=lambda x: 0.3 * x)
    axes = draw_domain([good, poor]).axes
    for each, panel in zip((good, poor), axes, strict=True):
        (mean,) = (line for line in panel.lines if line.get_gid() == "mean")
        np.testing.assert_array_equal(mean.get_ydata(), each.quality.smoothed_C)
        assert sum(str(line.get_gid()).startswith("trajectory") for line in panel.lines) == 2
        assert f"R² {each.quality.r_squared:.2f}" in [text.get_text() for text in panel.texts]
    assert [panel.get_title(loc="left") for panel in axes] == ["good", "poor ✗"]


def test_histories_of_one_task_are_told_apart():
    entries = [replace(entry(), history="noise@v1"), replace(entry(), history="learner@v2")]
    titles = [axes.get_title(loc="left") for axes in draw_domain(entries).axes]
    assert titles == ["a\nnoise@v1", "a\nlearner@v2"]


def test_a_picture_a_domain(tmp_path):
    """Named after the domain where there are several; the unmeasured are left out."""
    entries = [entry(domain="one"), entry(domain="two"), entry(domain="three", measured=False)]
    found = plot_histories(entries, tmp_path / "all.png")
    assert [path.name for path in found] == ["all-one.png", "all-two.png"]
    assert [path.name for path in plot_histories(entries[:1], tmp_path / "all.svg")] == ["all.svg"]
    assert all(path.stat().st_size > 5000 for path in found)
    assert plot_histories(entries[2:], tmp_path / "none.png") == []


def test_an_empty_history_is_drawn(tmp_path):
    assert plot_histories([entry(episodes=0)], tmp_path / "empty.png")[0].is_file()


def test_other_formats_are_refused(tmp_path):
    with pytest.raises(UsageError, match="not drawn") as found:
        plot_histories([entry()], tmp_path / "picture.bmp")
    assert "picture.png" in found.value.fix


def test_the_summary_of_a_domain():
    rows = summarize([entry("a"), entry("b", rise=lambda x: 0.3 * x), entry(measured=False)])
    (row,) = rows
    assert (row["histories"], row["poor"]) == (3, 1)
    assert row["r_squared"] == pytest.approx(1)
    assert row["end"] == pytest.approx((0.95 + 0.3 * 0.95) / 2)
    assert summarize([entry(measured=False)])[0]["end"] is None


def test_panels_stand_in_the_order_of_their_numbers():
    names = ["ib-10", "reach", "ib-5", "hand-catch-over-2-underarm", "ib-100", "2d"]
    assert sorted(names, key=by_number) == [
        "2d",
        "hand-catch-over-2-underarm",
        "ib-5",
        "ib-10",
        "ib-100",
        "reach",
    ]
