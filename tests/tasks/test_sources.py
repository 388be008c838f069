"""Every number of the catalogue against the paper's tables."""

from __future__ import annotations

import csv
from pathlib import Path

from pipelines.tasks.registry import catalogue


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_dataset_table(paper_tables):
    """Tables 3 to 6: lengths, dims and reward scales of all 102, under the paper's own names."""
    seen = set()
    for row in _rows(paper_tables / "dataset.csv"):
        spec = catalogue().get(row["task"])
        seen.add(spec.name)
        assert spec.domain == row["domain"]
        assert spec.trajectory_length == int(row["trajectory_length"])
        assert spec.trajectories == int(row["trajectories"])
        assert spec.mean_episode_length == float(row["mean_episode_length"])
        assert spec.observation_dim == int(row["observation_dim"])
        assert spec.action_dim == int(row["action_dim"])
        assert spec.reward_scale == float(row["reward_scale"])
    assert seen == {spec.name for spec in catalogue().tasks}


def test_score_tables(paper_tables):
    """Tables 7 to 10, under the names of the authors' release."""
    seen = set()
    for row in _rows(paper_tables / "scores.csv"):
        spec = catalogue().get(row["task"])
        seen.add(spec.name)
        score = spec.scores["paper"]
        assert spec.domain == row["domain"]
        assert score.random == float(row["random_mean"])
        assert score.random_std == float(row["random_std"])
        assert score.expert == float(row["expert_mean"])
        assert score.expert_std == float(row["expert_std"])
    assert seen == {spec.name for spec in catalogue().tasks}


def test_comparison_table_names_resolve(paper_tables):
    """Tables 11 and 12 name the tasks a third way; a report joins them by `get`."""
    for row in _rows(paper_tables / "compare.csv"):
        assert catalogue().get(row["task"]).domain == row["domain"]


def test_splits_of_appendix_a_2():
    held_out = {spec.name for spec in catalogue().tasks if spec.split == "validation"}
    assert held_out == {
        *("bin-picking", "box-close", "door-lock", "door-unlock", "hand-insert"),
        *("hand-door-close-outward", "hand-door-open-inward", "hand-door-open-outward"),
        *("hand-kettle", "hand-over"),
        *(f"industrial-benchmark-{setpoint}" for setpoint in (80, 85, 90, 95, 100)),
    }


def test_horizons():
    """MuJoCo's registered limits, JAT's 100 steps, 250 setpoint steps, hands one step short."""
    horizon = {spec.name: spec.horizon for spec in catalogue().tasks}
    assert horizon["pusher"] == 100 and horizon["reacher"] == 50
    assert {
        horizon[spec.name]
        for spec in catalogue().select(domains=["mujoco"])
        if spec.name not in ("pusher", "reacher")
    } == {1000}
    assert {horizon[s.name] for s in catalogue().select(domains=["metaworld"])} == {100}
    assert {horizon[s.name] for s in catalogue().select(domains=["industrial-benchmark"])} == {250}
    hands = {s.name: s.horizon for s in catalogue().select(domains=["bidexhands"])}
    doors = ("close-inward", "close-outward", "open-inward", "open-outward")
    assert hands == {
        **{f"hand-door-{door}": 249 for door in doors},
        **{f"hand-{name}": 74 for name in ("over", "catch-underarm", "two-catch-underarm")},
        **{f"hand-{name}": 124 for name in ("push-block", "bottle-cap", "pen", "switch", "kettle")},
        **{"hand-catch-over-2-underarm": 74, "hand-catch-abreast": 149, "hand-scissors": 149},
        **{"hand-reorientation": 599, "hand-block-stack": 249, "hand-swing-cup": 299},
        **{"hand-lift-underarm": 499, "hand-grasp-and-place": 499},
    }


def test_release_scores_are_whole_or_absent():
    """A reference needs both ends: 20 hand tasks and three MuJoCo tasks have them."""
    release = {
        spec.name: (spec.scores["release"].random, spec.scores["release"].expert)
        for spec in catalogue().tasks
        if "release" in spec.scores
    }
    hands = {spec.name for spec in catalogue().select(domains=["bidexhands"])}
    assert set(release) == hands | {"hopper", "humanoid-standup", "inverted-double-pendulum"}
    assert release["hopper"] == (21.7, 2350)
    assert release["hand-push-block"] == (230, 450)
    assert release["hand-kettle"] == (-200, 53)
    assert release["hand-pen"] == (0, 190)


def test_no_reference_is_a_measurement_of_ours():
    """Measured scores belong to demonstrators artifacts; references are never mixed."""
    assert {name for spec in catalogue().tasks for name in spec.scores} == {"paper", "release"}


def test_episode_sparsity_of_the_release():
    by_domain: dict[str, set[int]] = {}
    for spec in catalogue().tasks:
        by_domain.setdefault(spec.domain, set()).add(spec.episode_sparsity)
    assert by_domain == {
        "mujoco": {2},
        "metaworld": {1},
        "industrial-benchmark": {1},
        "bidexhands": {1, 2, 3, 4, 6},
    }
    assert catalogue().get("hand-reorientation").episode_sparsity == 6
