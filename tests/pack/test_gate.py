"""The gate of packing: poor histories are named, and packed only where allowed."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from pipelines.actions import Box
from pipelines.artifacts.arrays import write_array
from pipelines.artifacts.workspace import Workspace
from pipelines.errors import ConfigError, UsageError
from pipelines.histories.layout import trajectory_path
from pipelines.pack.config import PackConfig
from pipelines.pack.stage import plan, run
from pipelines.reporter import NullReporter
from pipelines.rows import row_layout

EPISODES, LENGTH = 60, 2


def publish(workspace, rises, measured=(-10.0, 30.0), episodes=EPISODES, complete=True):
    """Publish histories whose normalised return follows a function of progress, by task."""
    steps = episodes * LENGTH
    x = (np.arange(episodes) + 0.5) / episodes
    with workspace.stage("histories", "h", config={"tasks": sorted(rises)}) as staging:
        for name, rise in rises.items():
            for k in range(2):
                path = trajectory_path(name, k)
                with staging.work_item(path) as unit:
                    group = unit.group(path, {})
                    for field, (shape, dtype) in row_layout("histories", 3, Box(1)).items():
                        write_array(group, field, np.zeros((steps, *shape), dtype))
                    write_array(group, "episode_start", np.arange(0, steps, LENGTH))
                    write_array(group, "episode_length", np.full(episodes, LENGTH, np.int32))
                    returns = -10.0 + 40.0 * rise(x)
                    write_array(group, "episode_return", returns)
                    write_array(
                        group, "episode_final_observation", np.zeros((episodes, 3), np.float32)
                    )
            with staging.work_item(name) as unit:
                unit.group(name, attributes(name, steps, measured, complete))
        return staging.publish(summary={})


def attributes(name, steps, measured, complete):
    scores = (
        {}
        if measured is None
        else {"measured": dict(zip(("random", "expert"), measured, strict=True))}
    )
    return {
        "task": {
            "name": name,
            "aliases": [f"{name}-alias"],
            "domain": "made-up",
            "group": "made-up",
            "split": "train",
            "observation_dim": 3,
            "action_dim": 1,
            "reward_scale": 1.0,
            "episode_sparsity": 1,
        },
        "schedule": {"p": 1.0, "f": 0.1},
        "options": {},
        "scores": scores,
        "steps": steps,
        "trajectories": 2,
        "last_episode_complete": [complete, complete],
    }


RISES = {
    "good": lambda x: x,
    "late": lambda x: 0.4 * x,
    "early": lambda x: 0.6 + 0.4 * x,
    "falling": lambda x: 1 - x,
}


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """Histories of each kind; not to be changed."""
    root = tmp_path_factory.mktemp("gate")
    publish(Workspace(root), RISES)
    return root


@pytest.fixture
def workspace(template, tmp_path):
    """A copy of them."""
    shutil.copytree(template, tmp_path, dirs_exist_ok=True)
    return Workspace(tmp_path)


def pack(workspace, **changes):
    return run(PackConfig(**changes), workspace, NullReporter())


def test_poor_histories_are_named_with_numbers_and_fix(workspace):
    with pytest.raises(ConfigError, match="3 tasks") as found:
        pack(workspace)
    error = found.value
    assert error.exit_code == 3
    assert error.where == "h@v1"
    assert "late: ends at 0.38, below 0.7" in error.found
    assert "early: starts at 0.62, above 0.5" in error.found
    assert "falling: starts at 0.95" in error.found and "rank correlation -1.00" in error.found
    assert "good" not in error.found
    assert error.fix.endswith("--allow early --allow falling --allow late")
    assert workspace.names("datasets") == []
    with pytest.raises(ConfigError):
        plan(PackConfig(), workspace)


def test_what_is_not_selected_is_not_judged(workspace):
    assert pack(workspace, tasks=("good",)).report["tasks"][0]["task"] == "good"


def test_allowing_is_recorded_only_where_it_was_needed(workspace):
    """A dataset of good histories is up to date whether or not all is allowed."""
    first = pack(workspace, tasks=("good",))
    assert "allowed" not in first.artifact.manifest.config
    assert pack(workspace, tasks=("good",), allow=("all",)).up_to_date
    mixed = pack(workspace, tasks=("good", "late"), allow=("late_ALIAS",))
    assert mixed.artifact.manifest.config["allowed"] == ["late"]
    with pytest.raises(ConfigError, match="history of early does"):
        pack(workspace, tasks=("early", "late"), allow=("late",))
    everything = pack(workspace, allow=("all",))
    assert everything.artifact.manifest.config["allowed"] == ["early", "falling", "late"]
    rows = {row["task"]: row["history"] for row in plan(PackConfig(allow=("all",)), workspace).rows}
    assert rows == {"good": "good", "early": "poor", "falling": "poor", "late": "poor"}


def test_allowing_an_unknown_task_is_wrong_usage(workspace):
    with pytest.raises(UsageError, match="hopper"):
        pack(workspace, allow=("hopper",))


@pytest.mark.parametrize(
    ("changes", "verdict"), [({"measured": None}, "unmeasured"), ({"episodes": 49}, "short")]
)
def test_what_cannot_be_judged_is_let_in(tmp_path, changes, verdict):
    workspace = Workspace(tmp_path)
    publish(workspace, {"falling": RISES["falling"]}, **changes)
    assert plan(PackConfig(), workspace).rows[0]["history"] == verdict
    assert "allowed" not in pack(workspace).artifact.manifest.config


def test_short_histories_are_told_in_one_warning_in_the_plan_and_in_the_report(tmp_path):
    """Small data is not passed in silence, however many tasks it has."""
    workspace = Workspace(tmp_path)
    names = [f"task-{number:02d}" for number in range(12)]
    publish(workspace, dict.fromkeys(names, RISES["good"]), episodes=9)
    reporter = NullReporter()
    result = run(PackConfig(), workspace, reporter)
    (warning,) = reporter.warnings
    assert warning.startswith("packed, but too short to be judged: 12 of 12 histories, ")
    assert "task-00, task-01" in warning and "task-07 and 4 more" in warning
    assert "--scale" in warning
    assert plan(PackConfig(), workspace).notes[-1] == warning
    assert {row["history"] for row in result.report["tasks"]} == {"short"}
    assert run(PackConfig(), workspace, NullReporter()).report == result.report


def test_a_history_without_a_complete_episode_is_never_let_in(tmp_path):
    workspace = Workspace(tmp_path)
    publish(workspace, {"cut": RISES["good"]}, episodes=1, complete=False)
    for allow in ((), ("all",)):
        with pytest.raises(ConfigError, match="without one complete episode") as found:
            pack(workspace, allow=allow)
        assert found.value.exit_code == 3
        assert found.value.where == "h@v1" and "cut" in found.value.found
    with pytest.raises(ConfigError):
        plan(PackConfig(), workspace)


def test_a_warning_tells_what_was_allowed(workspace):
    reporter = NullReporter()
    run(PackConfig(tasks=("late",), allow=("late",)), workspace, reporter)
    assert reporter.warnings == ["late: a poor history, packed as allowed: ends at 0.38, below 0.7"]
