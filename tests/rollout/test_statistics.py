"""Aggregates against rliable and by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from pipelines.rollout.scores import TaskCurve, summarize_curves, task_scores
from pipelines.rollout.statistics import (
    bootstrap_band,
    bootstrap_interval,
    interquartile_mean,
    summarize,
    with_equal_weight,
)
from pipelines.tasks.spec import ScoreReference

#: Written by rliable 1.2.0: get_interval_estimates of aggregate_mean and
#: aggregate_iqm on the scores (runs, tasks) beside them, 50000 percentile resamples.
RLIABLE: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent / "data" / "rliable.json").read_text()
)["cases"]

PLAIN = ScoreReference(random=0.0, expert=1.0)


def curve(returns: Any, further: Any = None, score: ScoreReference | None = PLAIN) -> TaskCurve:
    return_SE = np.asarray(returns, float)
    return TaskCurve(
        name="task",
        domain="toy",
        group="toy",
        variation_of=None,
        return_SE=return_SE,
        length_SE=np.ones(return_SE.shape, np.int32),
        success_SE=None,
        reference="measured",
        score=score,
        further_SE=None if further is None else np.asarray(further, float),
    )


@pytest.mark.parametrize("case", RLIABLE, ids=lambda case: f"{len(case['scores'])}-runs")
def test_point_estimates_and_intervals_are_those_of_rliable(case: dict[str, Any]) -> None:
    scores = np.array(case["scores"])
    found = summarize(list(scores.T), resamples=20_000)
    assert found["mean"] == pytest.approx(case["mean"], abs=1e-12)
    assert found["iqm"] == pytest.approx(case["iqm"], abs=1e-12)
    for name in ("mean_interval", "iqm_interval"):
        # Two draws of a percentile differ by the noise of their resamples, some 1 % of the width.
        width = case[name][1] - case[name][0]
        assert found[name] == pytest.approx(case[name], abs=0.03 * width)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 8, 100])
def test_interquartile_mean_is_the_trimmed_mean(size: int) -> None:
    values = np.random.default_rng(size).normal(size=size)
    assert interquartile_mean(values) == pytest.approx(stats.trim_mean(values, 0.25))
    rows = np.stack([values, values[::-1] * 3])
    np.testing.assert_allclose(interquartile_mean(rows, axis=-1), stats.trim_mean(rows, 0.25, 1))
    np.testing.assert_allclose(interquartile_mean(rows.T, axis=0), stats.trim_mean(rows, 0.25, 1))
    # Without an axis the tasks are pooled, as rliable pools them.
    assert interquartile_mean(rows) == pytest.approx(stats.trim_mean(rows, 0.25, None))


def test_seeds_are_drawn_within_their_task() -> None:
    # Tasks far apart, seeds alike: a bootstrap that mixed the tasks would be wide.
    samples = [np.full(4, 0.0), np.full(4, 1.0)]
    assert bootstrap_interval(samples, np.mean) == (0.5, 0.5)
    # And one task of two seeds has three equally likely pairs of extremes: 0, 0.5, 1.
    assert bootstrap_interval([np.array([0.0, 1.0])], np.mean) == (0.0, 1.0)


def test_the_interval_is_the_same_each_time() -> None:
    samples = [np.random.default_rng(1).normal(size=6) for _ in range(3)]
    first = bootstrap_interval(samples, interquartile_mean, resamples=200)
    assert bootstrap_interval(samples, interquartile_mean, resamples=200) == first


def test_a_band_is_the_interval_of_each_shot() -> None:
    samples_SE = [np.random.default_rng(seed).normal(size=(4, 3)) for seed in range(2)]
    low_E, high_E = bootstrap_band(samples_SE, interquartile_mean, resamples=300)
    for shot in range(3):
        column = [sample[:, shot] for sample in samples_SE]
        assert bootstrap_interval(column, interquartile_mean, resamples=300) == (
            low_E[shot],
            high_E[shot],
        )


def test_scores_of_a_task_by_hand() -> None:
    one = curve([[0.0, 0.6, 0.4, 0.5], [0.2, 1.0, 0.6, 0.7]], [[0.8, 0.6], [1.0, 0.2]])
    np.testing.assert_allclose(task_scores(one, "first"), [0.0, 0.2])
    np.testing.assert_allclose(task_scores(one, "last"), [0.5, 2.3 / 3])
    # Shot 2 is best in the mean over seeds.
    np.testing.assert_allclose(task_scores(one, "best"), [0.6, 1.0])
    # Converged: the two episodes after shot 2, which are shots 3 and 4.
    np.testing.assert_allclose(task_scores(one, "converged"), [0.45, 0.65])
    # Where the last shot is best, all episodes of the window are further ones.
    late = curve([[0.0, 0.1]], [[0.8, 0.6]])
    np.testing.assert_allclose(task_scores(late, "converged"), [0.7])


def test_scores_are_normalised_and_need_a_reference() -> None:
    one = curve([[10.0, 30.0]], [[20.0]], ScoreReference(random=10.0, expert=30.0))
    assert task_scores(one, "best") == [1.0]
    assert task_scores(one, "converged") == [0.5]
    with pytest.raises(ValueError, match="no score reference"):
        task_scores(curve([[1.0]], score=None), "first")
    with pytest.raises(ValueError, match="no episodes after convergence"):
        task_scores(curve([[1.0]]), "converged")


def test_a_single_seed_has_no_interval() -> None:
    found = summarize([np.array([1.0]), np.array([0.0, 1.0])])
    assert found["mean_interval"] is None and found["iqm_interval"] is None
    assert found["mean"] == pytest.approx(0.75)
    nothing = summarize([])
    assert nothing["tasks"] == 0 and nothing["mean"] is None and nothing["iqm_interval"] is None


def test_a_task_of_more_seeds_counts_once_in_the_mean_and_its_interval() -> None:
    """A task of 12 seeds at 1 beside one of 2 seeds at 0; pooled, the mean would be 0.86."""
    found = summarize([np.ones(12), np.zeros(2)])
    assert found["mean"] == pytest.approx(0.5)
    assert found["mean_interval"] == pytest.approx([0.5, 0.5])
    assert found["iqm"] == 1.0
    equal = [np.random.default_rng(seed).normal(size=4) for seed in range(2)]
    for before, after in zip(equal, with_equal_weight(equal), strict=True):
        np.testing.assert_array_equal(before, after)


def test_curves_are_summarised_by_kind() -> None:
    both = [curve([[0.0, 1.0], [0.0, 1.0]], [[1.0], [1.0]]), curve([[0.5, 0.5], [0.5, 0.5]])]
    found = summarize_curves([*both, curve([[9.0]], score=None)])
    assert set(found) == {"first", "best", "last"}, "converged only where all tasks have it"
    assert found["first"]["mean"] == pytest.approx(0.25)
    assert found["best"]["mean_interval"] == [0.75, 0.75]
    assert summarize_curves(both[:1])["converged"]["mean"] == pytest.approx(1.0)


def test_a_task_and_its_variation_are_drawn_together() -> None:
    """They play the same episodes: twice the same numbers are no further evidence."""
    from dataclasses import replace

    values = np.random.default_rng(3).normal(size=(6, 1))
    one = curve(values)
    twin = replace(one, name="task-heavy", variation_of="task")
    alone = summarize_curves([one])["first"]["mean_interval"]
    assert summarize_curves([one, twin])["first"]["mean_interval"] == pytest.approx(alone)
    other = summarize_curves([one, replace(one, name="other")])["first"]["mean_interval"]
    assert other[1] - other[0] < 0.85 * (alone[1] - alone[0])
