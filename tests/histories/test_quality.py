"""The quality report: what each number means, and when a history counts as poor."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from pipelines.artifacts.arrays import write_array
from pipelines.artifacts.workspace import Workspace
from pipelines.distill.config import DistillConfig
from pipelines.distill.stage import run
from pipelines.histories.quality import (
    LEAST_EPISODES,
    LEAST_EPISODES_A_TRAJECTORY,
    HistoryQuality,
    Trajectory,
    assess,
    binned_means,
    history_quality,
    rank_correlation,
    straightness,
)
from pipelines.histories.reader import HistoryReader
from pipelines.reporter import NullReporter

SEEDS = st.integers(0, 2**32 - 1)


def history(rise, *, episodes=200, count=4, spread=0.0, seed=0):
    """Trajectories whose return follows `rise` of progress, with noise around it."""
    rng = np.random.default_rng(seed)
    progress_E = (np.arange(episodes) + 0.5) / episodes
    return [
        Trajectory(progress_E, rise(progress_E) + spread * rng.standard_normal(episodes))
        for _ in range(count)
    ]


def test_a_straight_line_is_the_ideal():
    found = assess(history(lambda x: x))
    assert found.start == pytest.approx(0.05)
    assert found.end == pytest.approx(0.95)
    assert found.rank_correlation == pytest.approx(1)
    assert found.r_squared == pytest.approx(1)
    assert found.largest_jump == pytest.approx(0.1)
    assert found.shares == pytest.approx([0.1] * 10, abs=0.03)
    assert found.failures() == []


def test_a_cliff_is_one_jump():
    """Random play to one half, the demonstrator from there on."""
    found = assess(history(lambda x: (x > 0.5).astype(float)))
    assert (found.start, found.end) == (0, 1)
    assert found.largest_jump == pytest.approx(1)
    assert found.r_squared < 0.8
    assert found.shares[0] + found.shares[9] > 0.9
    assert found.failures() == ["jumps by 1.00, above 0.75"]


@pytest.mark.parametrize(
    ("cliff", "named"),
    [
        (0.12, "85% of the steps between 0.9 and 1, above 75%"),
        (0.88, "85% of the steps between 0 and 0.1, above 75%"),
    ],
)
def test_a_history_that_stands_still_is_named(cliff, named):
    """What the pendulums and Industrial-Benchmark do under linear decay, and its reverse."""
    found = assess(history(lambda x: np.clip((x - cliff) / 0.1 + 0.5, 0, 1), spread=0.05))
    (failure,) = [text for text in found.failures() if "steps" in text]
    assert failure.endswith(named.split("%", 1)[1])
    assert float(failure.split("%")[0]) == pytest.approx(float(named.split("%")[0]), abs=6)


@pytest.mark.parametrize(
    "rise",
    [
        lambda x: x,
        lambda x: x**2,
        lambda x: x**0.5,
        lambda x: np.minimum(x / 0.6, 1),
        lambda x: np.maximum(x - 0.5, 0) / 0.5,
        lambda x: 1 / (1 + np.exp((0.5 - x) / 0.06)),
    ],
)
def test_learning_of_many_shapes_passes(rise):
    """Early, late, saturating and S-shaped, as training curves are: no line is asked for."""
    assert assess(history(rise, spread=0.3)).failures() == []


def test_a_jump_by_chance_does_not_fail():
    """Ten noisy episodes a tenth step by much for no reason."""
    wild = assess(history(lambda x: x, episodes=50, count=2, spread=2.5, seed=2))
    assert wild.largest_jump > 0.75
    assert not any("jump" in failure for failure in wild.failures())


@pytest.mark.parametrize(
    ("rise", "named"),
    [
        (lambda x: 0.6 + 0.4 * x, ["starts at 0.62"]),
        (lambda x: 0.6 * x, ["ends at 0.57"]),
        (lambda x: 1 - x, ["starts at 0.95", "ends at 0.05", "rank correlation -1.00"]),
        (lambda x: 0 * x, ["ends at 0.00", "rank correlation 0.00", "100% of the steps"]),
    ],
)
def test_each_failure_is_named_with_its_number(rise, named):
    failures = assess(history(rise)).failures()
    assert len(failures) == len(named)
    for failure, start in zip(failures, named, strict=True):
        assert failure.startswith(start)


def test_few_episodes_are_never_judged():
    """A history of a handful of episodes must not be refused by chance."""
    falling = {"rise": lambda x: 1 - x, "count": 2}
    least = LEAST_EPISODES // 2
    assert assess(history(episodes=least, **falling)).failures()
    for episodes in (0, 1, 2, 9, least - 1):
        found = assess(history(episodes=episodes, **falling))
        assert found.short and found.failures() == []
        json.dumps(found.as_json(), allow_nan=False)
    many = LEAST_EPISODES
    each = LEAST_EPISODES_A_TRAJECTORY - 1
    found = assess(history(lambda x: 1 - x, episodes=each, count=many))
    assert found.episodes > LEAST_EPISODES and found.short and found.failures() == []


def test_a_noisy_demonstrator_does_not_fail_by_chance():
    """An end at 0.6 is told apart from 0.7 only where its episodes spread little enough."""
    calm = assess(history(lambda x: 0.6 / 0.95 * x, episodes=100, spread=0.05))
    wild = assess(history(lambda x: 0.6 / 0.95 * x, episodes=100, spread=1.0))
    assert calm.end == pytest.approx(0.6, abs=0.03)
    assert wild.end + 2 * wild.end_error > 0.7 > wild.end
    assert [failure.split(" at")[0] for failure in calm.failures()] == ["ends"]
    assert wild.failures() == []


@given(
    seed=SEEDS,
    count=st.integers(1, 6),
    episodes=st.integers(0, 150),
    spread=st.floats(0, 10),
    power=st.floats(0.1, 10),
)
def test_numbers_stay_in_their_ranges(seed, count, episodes, spread, power):
    found = assess(
        history(lambda x: x**power, episodes=episodes, count=count, spread=spread, seed=seed)
    )
    assert found.episodes == count * episodes
    json.dumps(found.as_json(), allow_nan=False)
    if found.r_squared is not None:
        assert 0 <= found.r_squared <= 1
        assert -1 - 1e-9 <= found.rank_correlation <= 1 + 1e-9
        assert sum(found.shares) == pytest.approx(1)
        assert min(found.shares) >= 0
        assert found.largest_jump >= 0
        assert len(found.progress_C) == len(found.smoothed_C) <= 20


@given(seed=SEEDS, scale=st.floats(0.1, 10), shift=st.floats(-10, 10))
def test_shape_does_not_depend_on_the_scale(seed, scale, shift):
    """Monotonicity and straightness are of the shape: units of the return do not matter."""
    trajectories = history(lambda x: x, spread=0.3, seed=seed)
    moved = [Trajectory(each.progress_E, scale * each.returns_E + shift) for each in trajectories]
    one, two = assess(trajectories), assess(moved)
    assert two.r_squared == pytest.approx(one.r_squared, abs=1e-9)
    assert two.rank_correlation == pytest.approx(one.rank_correlation)
    assert two.largest_jump == pytest.approx(scale * one.largest_jump)


@given(seed=SEEDS)
def test_the_order_of_trajectories_does_not_matter(seed):
    trajectories = history(lambda x: x, spread=0.3, seed=seed)
    one, two = assess(trajectories), assess(trajectories[::-1])
    np.testing.assert_allclose(one.smoothed_C, two.smoothed_C, atol=1e-12)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(-5, 5)), min_size=1), st.integers(2, 20))
def test_binned_means_stay_between_the_values(pairs, bins):
    """Also where bins are empty: what is put there is no value beyond those there are."""
    progress_E, values_E = (np.array(column) for column in zip(*pairs, strict=True))
    found = binned_means(progress_E, values_E, bins)
    assert found.shape == (bins,)
    assert values_E.min() - 1e-9 <= found.min() and found.max() <= values_E.max() + 1e-9


def test_an_empty_bin_is_bridged():
    found = binned_means(np.array([0.1, 0.9]), np.array([0.0, 1.0]), 5)
    np.testing.assert_allclose(found, [0, 0.25, 0.5, 0.75, 1])


def test_straightness():
    x = np.linspace(0, 1, 20)
    assert straightness(x, 3 * x - 7) == pytest.approx(1)
    assert straightness(x, -x) == 0
    assert straightness(x, np.full(20, 3.0)) == 0
    assert straightness(x, x**2) == pytest.approx(np.corrcoef(x, x**2)[0, 1] ** 2)


def test_rank_correlation_with_ties():
    """Against the textbook: ranks of 1, 2, 2, 3 are 1, 2.5, 2.5, 4."""
    ranks = np.array([1, 2.5, 2.5, 4])
    expected = np.corrcoef(ranks, np.arange(4))[0, 1]
    assert rank_correlation(np.array([1.0, 2, 2, 3])) == pytest.approx(expected)
    assert rank_correlation(np.array([5.0, 4, 3])) == pytest.approx(-1)
    assert rank_correlation(np.array([5.0, 5, 5])) == 0


@given(st.lists(st.integers(0, 20), min_size=2, max_size=100))
def test_rank_correlation_is_scipys_to_the_bit(values):
    """The number is stored: artifacts do not depend on which of the two wrote it."""
    assume(len(set(values)) > 1)
    values = np.array(values, np.float64)
    assert rank_correlation(values) == spearmanr(values, np.arange(len(values))).statistic


def test_a_history_is_read_with_its_own_scores(workspace):
    """Returns are normalised by the measured scores; a cut last episode does not count."""
    config = DistillConfig(tasks=("toy-a",), trajectories=3, steps=400, workers=1)
    artifact = run(config, workspace, NullReporter()).artifact
    reader = HistoryReader(artifact)
    found = history_quality(reader, "toy-a")
    measured = reader.task("toy-a")["scores"]["measured"]
    for number, each in enumerate(found.trajectories):
        episodes = reader.episodes("toy-a", number)
        whole = episodes["complete"]
        expected = (episodes["episode_return"][whole] - measured["random"]) / (
            measured["expert"] - measured["random"]
        )
        np.testing.assert_allclose(each.returns_E, expected)
        middles = episodes["episode_start"] + episodes["episode_length"] / 2
        np.testing.assert_allclose(each.progress_E, middles[whole] / 400)
    assert found.quality.episodes == sum(len(each.returns_E) for each in found.trajectories)
    assert found.verdict == "short"
    assert found.as_json()["failures"] == []


@pytest.mark.parametrize(
    ("knowledge", "schedule", "verdict"),
    [
        (None, {"p": 1, "f": 0.1}, "poor"),
        ("demonstrator", None, "poor"),
        ("decoy", {"p": 1, "f": 0.1}, "unjudged"),
        ("belief", {"p": 1, "f": 0.1}, "unjudged"),
        (None, {"per": "episode", "max": 0.5, "pure": 0.1}, "unjudged"),
    ],
)
def test_what_is_not_meant_to_rise_is_not_judged(knowledge, schedule, verdict):
    """A flat return is a fault of a noise-distilled history, and the aim of one with decoys."""
    flat = history(lambda progress: np.full_like(progress, 0.3))
    found = HistoryQuality("t", "d", assess(flat), tuple(flat), schedule, knowledge=knowledge)
    assert found.verdict == verdict
    assert bool(found.as_json()["failures"]) == (verdict == "poor")


@pytest.mark.parametrize("measured", [None, {"random": 1.0, "expert": 1.0}])
def test_without_scores_it_is_unmeasured(tmp_path, measured):
    """Imported histories have nothing to normalise by, and are not judged."""
    attributes = {
        "task": {"name": "foreign", "domain": "elsewhere"},
        "scores": {} if measured is None else {"measured": measured},
        "episode_fields": ["episode_start", "episode_return"],
        "steps": 400,
        "trajectories": 1,
        "last_episode_complete": [False],
    }
    with Workspace(tmp_path).stage("histories", "foreign", config={}) as staging:
        with staging.work_item("foreign/00000") as unit:
            group = unit.group("foreign/00000", {})
            write_array(group, "episode_start", np.arange(0, 400, 2))
            write_array(group, "episode_return", np.arange(200.0)[::-1].copy())
        with staging.work_item("foreign") as unit:
            unit.group("foreign", attributes)
        artifact = staging.publish(summary={})
    found = history_quality(HistoryReader(artifact), "foreign")
    assert found.verdict == "unmeasured"
    assert found.quality is None
    assert len(found.trajectories[0].returns_E) == 199
    assert found.as_json()["verdict"] == "unmeasured"
