from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from demonstrators.conftest import get
from pipelines.actions import Box
from pipelines.artifacts.workspace import Workspace
from pipelines.demonstrators import stage
from pipelines.demonstrators.config import DemonstratorsConfig
from pipelines.demonstrators.reader import demonstrator_tasks, load_demonstrator
from pipelines.domains.hidden_goal import HiddenGoal
from pipelines.errors import TasksFailedError, UsageError
from pipelines.policies.registry import build_policy
from pipelines.reporter import NullReporter

TASKS = ("tiny-a", "tiny-b", "tiny-c")


def run(workspace, reporter=None, **fields):
    config = DemonstratorsConfig(**{"workers": 1, **fields})
    return stage.run(config, workspace, reporter or NullReporter())


@pytest.fixture(scope="module")
def whole(tiny_domain, tmp_path_factory):
    """An undisturbed run in a workspace of its own."""
    return run(Workspace(tmp_path_factory.mktemp("whole")), tasks=TASKS)


def test_an_artifact_holds_policies_cards_and_fingerprints(whole):
    result, artifact = whole, whole.artifact
    assert demonstrator_tasks(artifact) == list(TASKS)
    found = load_demonstrator(artifact, "tiny-a")
    task, domain, options = get("tiny-a")
    assert found.spec.kind == "linear" and found.options == options
    assert found.source["kind"] == "builtin" and found.task["name"] == "tiny-a"
    returns = artifact.read("tiny-a/evaluation/expert_return")
    lengths = artifact.read("tiny-a/evaluation/random_length")
    assert found.card["expert"]["mean"] == pytest.approx(returns.mean())
    assert found.card["expert"]["episodes"] == len(returns) == 20
    assert found.card["random"]["length"] == pytest.approx(lengths.mean())
    assert found.card["expert"]["mean"] > found.card["random"]["mean"]
    assert 0 <= found.card["expert"]["success"] <= 1
    paper = found.card["paper"]
    assert paper["normalized_expert"] == pytest.approx((found.card["expert"]["mean"] + 20) / 15)
    assert artifact.manifest.fingerprints["tiny-a"]["env_id"] == task.env_id
    policy = build_policy(
        found.spec, Box.between(np.float32([-2]), np.float32([1])), domain.policies()
    )
    np.testing.assert_allclose(policy.act(np.float32([[1, 0.5, 0]])), [[-0.25]])
    json.dumps(result.report)
    assert [row["name"] for row in result.report["tasks"]] == list(TASKS)


@pytest.mark.process
def test_the_same_command_is_up_to_date_and_another_seed_is_not(workspace):
    first = run(workspace, tasks=TASKS)
    again = run(workspace, tasks=TASKS, workers=2)
    assert (first.up_to_date, again.up_to_date) == (False, True)
    assert again.artifact.reference == first.artifact.reference and again.report == first.report
    other = run(workspace, tasks=TASKS, seed=1)
    assert other.artifact.reference == first.artifact.reference.replace("@v1", "@v2")
    assert other.artifact.digest != first.artifact.digest


@pytest.mark.process
def test_workers_make_the_same_artifact(workspace, whole):
    parallel = run(workspace, tasks=TASKS, name="parallel", workers=2)
    assert parallel.artifact.digest == whole.artifact.digest


@pytest.mark.process
@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_failed_tasks_are_named_and_the_others_kept(workspace, whole, failing, workers):
    failing("tiny-b")
    reporter = NullReporter()
    with pytest.raises(TasksFailedError) as caught:
        run(workspace, reporter, tasks=TASKS, name="parts", workers=workers)
    assert caught.value.exit_code == 7
    assert "tiny-b" in caught.value.found and "tiny-a" not in caught.value.found
    assert any("tiny-b" in warning for warning in reporter.warnings)
    assert workspace.versions("demonstrators", "parts") == []
    failing("tiny-a", "tiny-c")  # done already: they are not run again
    resumed = run(workspace, tasks=TASKS, name="parts", workers=workers)
    assert resumed.artifact.digest == whole.artifact.digest


def test_an_interrupted_run_resumes_to_the_same_digest(workspace, whole):
    """Stopped in its second task; the first one is not made again."""

    class Stopping(NullReporter):
        @contextmanager
        def progress(self, label, total, *rest):
            class Count:
                def advance(self, amount=1, **fields):
                    if list(workspace.root.glob("demonstrators/parts/.staging-*/progress/*")):
                        raise KeyboardInterrupt

            yield Count()

    class Listening(NullReporter):
        def info(self, message):
            heard.append(message)

    heard = []
    with pytest.raises(KeyboardInterrupt):
        run(workspace, Stopping(), tasks=TASKS, name="parts")
    parts = run(workspace, Listening(), tasks=TASKS, name="parts")
    assert parts.artifact.digest == whole.artifact.digest
    assert "done already: 1 task" in heard


def test_progress_ends_where_it_says_or_before(workspace):
    """In episodes, though environments tell of steps."""
    counted = {"amount": 0.0}

    class Counting(NullReporter):
        @contextmanager
        def progress(self, label, total, *rest):
            class Count:
                def advance(self, amount=1, **fields):
                    counted["amount"] += amount

            counted["total"] = total
            yield Count()

    run(workspace, Counting(), tasks=TASKS, episodes=20)
    assert counted["total"] == 2 * 20 * len(TASKS)
    assert 0 < counted["amount"] <= counted["total"] * (1 + 1e-9)


_KILLED = """
import sys
from pathlib import Path
from pipelines.artifacts.workspace import Workspace
from pipelines.demonstrators.config import DemonstratorsConfig
from pipelines.demonstrators.stage import run
from pipelines.reporter import NullReporter
if __name__ == "__main__":
    run(DemonstratorsConfig(tasks=("tiny-a", "tiny-b", "tiny-c"), episodes=400, name="parts",
        workers=int(sys.argv[2])), Workspace(Path(sys.argv[1])), NullReporter())
"""


@pytest.mark.process
@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_run_that_is_killed_resumes_to_the_same_digest(workspace, tmp_path, workers):
    site = next(path for path in sys.path if (Path(path) / "vintix_tiny.py").is_file())
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{site}"}
    program = tmp_path / "program.py"
    program.write_text(_KILLED)
    started = subprocess.Popen(
        [sys.executable, str(program), str(workspace.root), str(workers)], env=environment
    )
    try:
        end = time.monotonic() + 60
        pattern = "demonstrators/parts/.staging-*/progress/*.json"
        while started.poll() is None and not list(workspace.root.glob(pattern)):
            assert time.monotonic() < end
            time.sleep(0.002)
    finally:
        started.send_signal(signal.SIGKILL)
        started.wait()
    parts = run(workspace, tasks=TASKS, name="parts", episodes=400)
    whole = run(workspace, tasks=TASKS, name="whole", episodes=400)
    assert parts.artifact.digest == whole.artifact.digest


def test_a_domain_gives_what_it_has_and_names_the_rest(workspace):
    reporter = NullReporter()
    result = run(workspace, reporter, domains=("tiny",))
    assert demonstrator_tasks(result.artifact) == list(TASKS)
    assert result.report["skipped"] == ["tiny-bare"]
    assert any("tiny-bare" in warning for warning in reporter.warnings)
    assert result.artifact.manifest.name == "tiny"


def test_a_task_without_a_builtin_says_how_to_get_one(workspace):
    with pytest.raises(UsageError) as caught:
        run(workspace, tasks=("tiny-a", "tiny-bare"))
    assert "tiny-bare" in caught.value.found and "tiny-a" not in caught.value.found
    assert caught.value.fix == "vintix demonstrators --source train --task tiny-bare"


def test_unknown_tasks_domains_and_options_are_usage_errors(workspace):
    for fields in (
        {"tasks": ("tiny-z",)},
        {"domains": ("huge",)},
        {"tasks": ("tiny-a",), "options": {"push": 1}},
        {"tasks": ("tiny-a",), "options": {"pull": "hard"}},
        {"tasks": ("tiny-a",), "domains": ("mujoco",)},
    ):
        with pytest.raises(UsageError):
            run(workspace, **fields)


def test_options_reach_the_environment_and_the_record(workspace):
    default = run(workspace, tasks=("tiny-a",))
    strong = run(workspace, tasks=("tiny-a",), options={"pull": 3})
    assert load_demonstrator(strong.artifact, "tiny-a").options == {"pull": 3.0}
    one, other = (
        load_demonstrator(each.artifact, "tiny-a").card["expert"]["mean"]
        for each in (default, strong)
    )
    assert one != other
    assert strong.artifact.manifest.fingerprints["tiny-a"]["options"] == {"pull": 3.0}


TRAINED = {
    "tasks": ("tiny-bare", "tiny-a"),
    "source": "train",
    "train": {
        "total_steps": 64,
        "segment_steps": 32,
        "evaluation_episodes": 2,
        "hyperparameters": {"n_steps": 32, "batch_size": 16, "net_arch": [8]},
    },
}


def test_training_goes_through_the_stage(workspace):
    serial = run(workspace, **TRAINED)
    found = load_demonstrator(serial.artifact, "tiny-bare")
    assert found.spec.kind == "mlp"
    assert found.source["kind"] == "train" and len(found.source["curve"]) == 2
    assert "stable-baselines3" in serial.artifact.manifest.packages
    assert serial.artifact.manifest.files["log/training-tiny-bare.jsonl"].log
    assert not list(serial.artifact.path.rglob("*.pt"))


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize(("goal", "shown"), [("demonstrator", "visible"), ("hidden", "hidden")])
def test_a_learner_sees_what_demonstrators_see(tmp_path, monkeypatch, goal, shown):
    """A goal that only demonstrators are shown is shown to whoever is to be one."""
    made = []
    make_env = HiddenGoal.make_env
    monkeypatch.setattr(
        HiddenGoal,
        "make_env",
        lambda self, task, options: made.append(options["goal"]) or make_env(self, task, options),
    )
    train = {"algorithm": "ppo", "total_steps": 40, "hyperparameters": {"n_steps": 20}}
    fields = {"source": "train", "options": {"goal": goal}, "train": train, "episodes": 1}
    run(Workspace(tmp_path), tasks=("point-dense",), workers=1, **fields)
    assert made and made[0] == shown


@pytest.mark.process
def test_training_in_workers_makes_the_same_artifact(workspace):
    serial, parallel = (run(workspace, name=f"by-{n}", workers=n, **TRAINED) for n in (1, 2))
    assert parallel.artifact.digest == serial.artifact.digest


def test_an_imported_policy_goes_through_the_stage(workspace, tmp_path):
    from demonstrators.test_importer import assert_same, make

    model, _ = make("TD3")
    model.save(tmp_path / "model.zip")
    result = run(
        workspace, tasks=("tiny-bare",), source="import", import_path=tmp_path / "model.zip"
    )
    found = load_demonstrator(result.artifact, "tiny-bare")
    assert_same(model, found.spec)
    assert found.source["file"] == "model.zip" and len(found.source["sha256"]) == 64
    assert str(tmp_path) not in (result.artifact.path / "manifest.json").read_text()
    with pytest.raises(UsageError, match="one task"):
        run(workspace, domains=("tiny",), source="import", import_path=tmp_path / "model.zip")


def test_policies_of_an_artifact_are_measured_again(workspace):
    first = run(workspace, domains=("tiny",), options={"pull": 2})
    again = run(workspace, evaluate="tiny", seed=5, episodes=30, name="again")
    assert demonstrator_tasks(again.artifact) == list(TASKS)
    before, after = (load_demonstrator(each.artifact, "tiny-b") for each in (first, again))
    assert after.spec.arrays["matrix"].tobytes() == before.spec.arrays["matrix"].tobytes()
    assert after.options == {"pull": 2.0} and after.card["expert"]["episodes"] == 30
    assert [parent.digest for parent in again.artifact.manifest.parents] == [first.artifact.digest]


def test_measuring_again_reads_the_manifest_once(workspace, monkeypatch):
    from pipelines.artifacts import artifact

    made = run(workspace, tasks=TASKS).artifact
    read = []
    parse = artifact.parse_manifest
    monkeypatch.setattr(
        artifact,
        "parse_manifest",
        lambda *given, **named: read.append(given) or parse(*given, **named),
    )
    counts = []
    for tasks in (TASKS[:1], TASKS):
        read.clear()
        run(workspace, evaluate=made.reference, tasks=tasks, seed=1, name=f"again-{len(tasks)}")
        counts.append(len(read))
    assert counts[0] == counts[1] > 0


def test_the_plan_is_what_the_run_would_do(workspace):
    plan = stage.plan(DemonstratorsConfig(domains=("tiny",)), workspace)
    assert [row["task"] for row in plan.rows] == list(TASKS)
    assert all(row["steps"] == 2 * 20 * 20 for row in plan.rows)
    assert plan.totals["steps"] == 2400 and "tiny-bare" in plan.notes[-1]
    assert not workspace.root.exists()
    trained = stage.plan(
        DemonstratorsConfig(tasks=("tiny-a",), source="train", train={"total_steps": 5000}),
        workspace,
    )
    assert trained.rows[0]["steps"] == 5800


def test_the_time_of_a_plan_counts_the_start_of_environments(workspace, monkeypatch):
    from pipelines.domains.base import Domain

    config = DemonstratorsConfig(tasks=TASKS, workers=1)
    before = stage.plan(config, workspace).totals["seconds"]
    monkeypatch.setattr(Domain, "startup_seconds", 10.0 + Domain.startup_seconds)
    assert stage.plan(config, workspace).totals["seconds"] >= before + 10.0 * len(TASKS)


def test_everything_with_a_builtin_is_the_default(workspace):
    """Without a choice: the 82 tasks whose simulators pip installs, and what plugins bring."""
    names = {row["task"] for row in stage.plan(DemonstratorsConfig(), workspace).rows}
    assert {"inverted-pendulum", "inverted-double-pendulum", "reacher", *TASKS} <= names
    assert "tiny-bare" not in names and len(names) >= 82


def test_a_missing_task_of_an_artifact_is_named(workspace):
    artifact = run(workspace, tasks=("tiny-a",)).artifact
    with pytest.raises(UsageError, match="tiny-b"):
        load_demonstrator(artifact, "tiny-b")


@pytest.mark.parametrize(
    "fields",
    [
        {"episodes": 19},
        {"source": "import"},
        {"import_path": "x.zip"},
        {"source": "train"},
        {"normalization_path": "x.npz"},
        {"unknown": 1},
        {"train": {"algorithm": "dqn"}},
    ],
)
def test_configurations_that_make_no_sense_are_refused(fields):
    with pytest.raises(ValidationError):
        DemonstratorsConfig(**fields)
