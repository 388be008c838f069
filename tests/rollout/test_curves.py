from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.drawing import save
from pipelines.errors import UsageError
from pipelines.reporter import NullReporter
from pipelines.rollout import curves as drawing
from pipelines.rollout.config import RolloutConfig
from pipelines.rollout.report import plot_artifact, rollout_report
from pipelines.rollout.scores import load_curves
from pipelines.rollout.stage import run

from .test_scores import curve
from .toy import EVEN, UNEVEN, WIDE, install, saved_task, write_checkpoint


@pytest.fixture
def artifact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    install(monkeypatch)
    tasks = [saved_task(EVEN), saved_task(UNEVEN), saved_task(WIDE, measured=False)]
    workspace = write_checkpoint(tmp_path, tasks)
    return run(RolloutConfig(seeds=2, shots=5), workspace, NullReporter()).artifact


def lines(axes: Any) -> dict[str, Any]:
    return {line.get_gid(): line for line in axes.lines}


def test_the_numbers_drawn_are_those_of_the_report(artifact: Any) -> None:
    report, loaded = rollout_report(artifact), load_curves(artifact)
    panels = drawing.draw_tasks(loaded).axes
    for axes, task, each in zip(panels, report["tasks"], loaded, strict=True):
        drawn = lines(axes)
        wanted = task["normalized_by_shot"] or task["returns_by_shot"]
        np.testing.assert_allclose(drawn["mean over seeds"].get_ydata(), wanted)
        np.testing.assert_array_equal(drawn["mean over seeds"].get_xdata(), [1, 2, 3, 4, 5])
        values = each.return_SE if each.normalized is None else each.normalized
        for stream in range(2):
            np.testing.assert_allclose(drawn[f"seed {stream}"].get_ydata(), values[stream])
        assert axes.get_title(loc="left").startswith(task["name"])
    (mean_axes,) = drawing.draw_mean(loaded).axes
    drawn = lines(mean_axes)
    np.testing.assert_allclose(
        drawn["mean over tasks"].get_ydata(), report["mean_normalized_by_shot"]
    )
    np.testing.assert_allclose(
        drawn["task toy-uneven"].get_ydata(), report["tasks"][1]["normalized_by_shot"]
    )
    assert "task toy-wide" not in drawn, "a task without scores has no place among normalised ones"


def test_demonstrator_random_axes_and_reference_are_named(artifact: Any) -> None:
    loaded = load_curves(artifact)
    (axes,) = drawing.draw_mean(loaded).axes
    drawn = lines(axes)
    assert list(drawn["demonstrator"].get_ydata()) == [1.0, 1.0]
    assert list(drawn["random play"].get_ydata()) == [0.0, 0.0]
    assert axes.get_ylabel() == "normalised return (measured scores)"
    assert "shot (episode)" in axes.get_xlabel()
    panels = drawing.draw_tasks(loaded).axes
    assert {"demonstrator", "random play"} <= set(lines(panels[0]))
    assert not {"demonstrator", "random play"} & set(lines(panels[2]))
    (paper,) = drawing.draw_mean(load_curves(artifact, "paper")).axes
    assert paper.get_ylabel() == "normalised return (paper scores)"


def test_every_shot_lies_within_the_axes_and_the_first_has_a_tick() -> None:
    for shots in (1, 2, 3, 8, 20, 100):
        (axes,) = drawing.draw_mean([curve(np.full((2, shots), 45.0))]).axes
        low, high = axes.get_xlim()
        assert low <= 1 and shots <= high
        assert axes.get_xticks()[0] == 1 and axes.get_xticks()[-1] <= shots
        bottom, top = axes.get_ylim()
        assert bottom < 0 and top > 1.75


def test_a_directory_gets_all_pictures_in_both_formats(artifact: Any, tmp_path: Path) -> None:
    paths = plot_artifact(artifact, tmp_path / "plots")
    assert sorted(path.name for path in paths) == [
        "mean.png", "mean.svg", "overview.png", "overview.svg", "tasks.png", "tasks.svg",
    ]  # fmt: skip
    for path in paths:
        head = path.read_bytes()[:200]
        assert head.startswith(b"\x89PNG") if path.suffix == ".png" else b"<?xml" in head
        assert path.stat().st_size > 5000


def test_a_file_gets_the_overview_1200_pixels_wide_and_the_same_bytes_again(
    artifact: Any, tmp_path: Path
) -> None:
    (first,) = plot_artifact(artifact, tmp_path / "a.png")
    (again,) = plot_artifact(artifact, tmp_path / "b.png")
    assert int.from_bytes(first.read_bytes()[16:20], "big") == 1200
    assert first.read_bytes() == again.read_bytes()
    one, two = (plot_artifact(artifact, tmp_path / name)[0] for name in ("a.svg", "b.svg"))
    assert one.read_bytes() == two.read_bytes()
    with pytest.raises(UsageError, match=r"a\.png"):
        plot_artifact(artifact, tmp_path / "a.pdf")


@pytest.mark.parametrize("count", [1, 7, 13])
def test_any_number_of_tasks_is_drawn(count: int, tmp_path: Path) -> None:
    many = [curve(name=f"task-{index}") for index in range(count)]
    figure = drawing.draw_overview(many)
    titles = {axes.get_title(loc="left") for axes in figure.axes if axes.get_visible()}
    assert {each.name for each in many} <= titles
    assert save(figure, tmp_path / "x.png").stat().st_size > 5000


def test_tasks_without_scores_leave_the_common_axis_of_the_others_alone() -> None:
    """Their returns may be thousands, beside which a normalised one could not be read."""
    drawn = drawing.draw_tasks([curve(), curve(np.full((2, 3), 1e5), score=None), curve()]).axes
    assert drawn[0].get_ylim() == drawn[2].get_ylim() and drawn[0].get_ylim()[1] < 10
    assert drawn[1].get_ylim()[1] > 1e5


def test_nothing_normalised_is_still_drawn(tmp_path: Path) -> None:
    figure = drawing.draw_overview([curve(score=None)])
    assert save(figure, tmp_path / "x.svg").stat().st_size > 5000
    (mean_axes, _) = figure.axes
    assert "no task has scores" in mean_axes.texts[0].get_text()
