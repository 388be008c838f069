from __future__ import annotations

import numpy as np
import pytest

from pipelines.rollout.config import default_shots
from pipelines.rollout.scores import TaskCurve, mean_curve, summary, task_report
from pipelines.rollout.statistics import standard_error
from pipelines.tasks.spec import ScoreReference

SCORE = ScoreReference(random=10.0, expert=30.0)
RETURNS = np.array([[10.0, 20.0, 30.0, 28.0, 26.0], [14.0, 20.0, 34.0, 28.0, 30.0]])


def curve(
    returns: np.ndarray = RETURNS, score: ScoreReference | None = SCORE, name: str = "task"
) -> TaskCurve:
    return TaskCurve(
        name=name,
        domain="toy",
        group="toy",
        variation_of=None,
        return_SE=returns,
        length_SE=np.full(returns.shape, 7, np.int32),
        success_SE=returns > 27,
        reference="measured",
        score=score,
    )


def test_task_report_by_hand() -> None:
    report = task_report(curve())
    assert report["returns_by_shot"] == [12.0, 20.0, 32.0, 28.0, 28.0]
    np.testing.assert_allclose(report["normalized_by_shot"], [0.1, 0.5, 1.1, 0.9, 0.9])
    assert report["normalized_first"] == pytest.approx(0.1)
    assert report["normalized_last3"] == pytest.approx((1.1 + 0.9 + 0.9) / 3)
    assert report["normalized_best"] == pytest.approx(1.1)
    assert report["best_shot"] == 3
    assert report["return_last3"] == pytest.approx(88 / 3)
    # Standard error of two values: half their difference.
    assert report["returns_stderr_by_shot"] == pytest.approx([2.0, 0.0, 2.0, 0.0, 2.0])
    assert report["normalized_stderr_by_shot"] == pytest.approx([0.1, 0.0, 0.1, 0.0, 0.1])
    assert report["success_by_shot"] == [0.0, 0.0, 1.0, 1.0, 0.5]
    assert report["episode_length_by_shot"] == [7.0] * 5
    assert (report["reference"], report["random"], report["expert"]) == ("measured", 10.0, 30.0)


def test_a_task_without_the_reference_has_nulls_and_stays_out_of_the_means() -> None:
    unscored = curve(score=None, name="unscored")
    report = task_report(unscored)
    assert set(report) == set(task_report(curve()))
    assert all(value is None for key, value in report.items() if key.startswith("normalized"))
    assert report["returns_by_shot"] == [12.0, 20.0, 32.0, 28.0, 28.0]
    both, alone = summary([curve(), unscored]), summary([curve()])
    assert both == alone
    assert both["tasks_in_mean"] == 1
    nothing = summary([unscored])
    assert nothing["mean_normalized_by_shot"] == []
    assert nothing["mean_normalized_first"] is None


def test_the_mean_counts_tasks_not_seeds_and_ends_with_the_shortest_curve() -> None:
    short = curve(np.full((9, 2), 30.0), name="short")
    np.testing.assert_allclose(mean_curve([curve(), short]), [(0.1 + 1) / 2, (0.5 + 1) / 2])
    means = summary([curve(), short])
    assert means["mean_normalized_last3"] == pytest.approx((2.9 / 3 + 1) / 2)
    assert means["mean_normalized_first"] == pytest.approx(0.55)
    assert means["mean_normalized_first_stderr"] == pytest.approx(0.45)


def test_one_seed_has_no_standard_error() -> None:
    assert standard_error(RETURNS[:1]) is None
    assert task_report(curve(RETURNS[:1]))["returns_stderr_by_shot"] is None
    assert summary([curve()])["mean_normalized_last3_stderr"] is None


def test_default_shots_by_horizon() -> None:
    assert [default_shots(h) for h in (50, 100, 150, 250, 1000)] == [20, 20, 13, 8, 8]
