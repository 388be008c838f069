"""The stage as the command calls it: whole runs, workers, interruptions, failures."""

from __future__ import annotations

import signal
from contextlib import contextmanager

import numpy as np
import pytest

from distill.toy import refuse_commits
from pipelines.distill.config import DistillConfig
from pipelines.distill.history import describe_returns
from pipelines.distill.stage import run
from pipelines.errors import ConfigError, InterruptedRunError, StorageError, TasksFailedError
from pipelines.histories.quality import history_quality
from pipelines.histories.reader import HistoryReader
from pipelines.reporter import NullReporter

pytestmark = pytest.mark.stage

CONFIG = {"trajectories": 2, "steps": 90, "shard_rows": 60, "name": "h", "workers": 1}


def distill(workspace, reporter=None, **changes):
    return run(DistillConfig(**{**CONFIG, **changes}), workspace, reporter or NullReporter())


@pytest.fixture(scope="module")
def whole(shared):
    """An uninterrupted run in a workspace of its own."""
    return distill(shared)


@pytest.fixture
def reference(whole):
    """Its digest."""
    return whole.artifact.digest


def test_what_it_publishes(whole):
    result = whole
    artifact = result.artifact
    assert not result.up_to_date
    assert artifact.reference == "h@v1"
    assert [parent.kind for parent in artifact.manifest.parents] == ["demonstrators"]
    assert set(artifact.manifest.fingerprints) == {"toy-a", "toy-b", "toy-c"}
    reader = HistoryReader(artifact)
    assert reader.tasks() == ["toy-a", "toy-b", "toy-c"]
    for name in reader.tasks():
        attributes = reader.task(name)
        assert attributes["task"]["name"] == name
        assert attributes["schedule"] == {"p": 1.5, "f": 0.2}
        assert attributes["options"] == {"radius": 1.2}
        assert attributes["scores"]["measured"]["expert"] == -5.0
        assert (attributes["steps"], attributes["trajectories"]) == (90, 2)
        for trajectory in reader.trajectories(name):
            rows = next(reader.blocks(name, trajectory, rows=90))
            last = bool(rows["terminated"][-1] or rows["truncated"][-1])
            assert attributes["last_episode_complete"][trajectory] == last
            assert reader.episodes(name, trajectory)["complete"][-1] == last


def test_report(workspace):
    """Returns rise, and the numbers are those of the complete episodes that were recorded."""
    from scipy.stats import spearmanr

    result = distill(workspace, steps=400)
    report, reader = result.report, HistoryReader(result.artifact)
    assert report["steps"] == 400 * 2 * 3
    assert report["demonstrators"] == "toys@v1"
    for each in report["tasks"]:
        assert each["measured"]["random"] == -30.0
        assert each["last_tenth"] > each["first_tenth"]
        correlations = []
        for trajectory in range(2):
            episodes = reader.episodes(each["task"], trajectory)
            returns = episodes["episode_return"][episodes["complete"]]
            correlations.append(spearmanr(returns, np.arange(len(returns))).statistic)
        assert each["rank_correlation"] == pytest.approx(np.mean(correlations))


@pytest.mark.process
def test_again_is_up_to_date(workspace):
    first = distill(workspace)
    second = distill(workspace, workers=2)
    assert second.up_to_date
    assert second.artifact.path == first.artifact.path
    assert second.report == first.report


def test_another_configuration_makes_the_next_version(workspace):
    distill(workspace)
    assert distill(workspace, seed=1).artifact.reference == "h@v2"


@pytest.mark.process
def test_two_workers_write_what_one_writes(workspace, reference):
    assert distill(workspace, workers=2).artifact.digest == reference


def test_each_task_is_told_when_it_is_collected(workspace):
    """In a run of hours one sees which tasks are done."""

    class Listening(NullReporter):
        def __init__(self):
            super().__init__()
            self.told = []

        def info(self, message):
            self.told.append(message)

    reporter = Listening()
    distill(workspace, reporter)
    told = [message.split(": ") for message in reporter.told if "collected" in message]
    assert sorted(task for task, _ in told) == ["toy-a", "toy-b", "toy-c"]
    assert [rest for _, rest in told] == [f"collected ({n} of 3 tasks)" for n in (1, 2, 3)]


@pytest.mark.parametrize(
    "failing", [0, 3, 7, 17, *(pytest.param(n, marks=pytest.mark.slow) for n in (4, 11, 16, 18))]
)
def test_resumed_after_a_failure(workspace, reference, monkeypatch, failing):
    """18 units: 3 environments, 12 shards, 3 tasks; publishing comes after the last."""
    with monkeypatch.context() as patch:
        refuse_commits(patch, failing)
        if failing < 18:
            with pytest.raises(StorageError):
                distill(workspace)
        else:
            distill(workspace)
    result = distill(workspace)
    assert result.up_to_date == (failing == 18)
    assert result.artifact.digest == reference


class Interrupting(NullReporter):
    """Sends a signal as soon as anything is collected."""

    @contextmanager
    def progress(self, label, total, unit=""):
        class Count:
            def advance(self, amount=1, **fields):
                if label == "distill":
                    signal.raise_signal(signal.SIGTERM)

        yield Count()


@pytest.mark.process
@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_signal_stops_it_and_it_goes_on(workspace, reference, workers):
    with pytest.raises(InterruptedRunError) as found:
        distill(workspace, Interrupting(), workers=workers)
    assert found.value.exit_code == 143
    assert not workspace.names("histories")
    assert distill(workspace).artifact.digest == reference


def test_one_failing_task_does_not_lose_the_others(workspace, reference, monkeypatch):
    from vintix_toy import Toy

    original = Toy.make_batch
    made = []

    def make_batch(self, task, *rest):
        made.append(task.name)
        # The first one is that of the fingerprint.
        if task.name == "toy-b" and made.count("toy-b") > 1:
            raise RuntimeError("no display")
        return original(self, task, *rest)

    monkeypatch.setattr(Toy, "make_batch", make_batch)
    reporter = NullReporter()
    with pytest.raises(TasksFailedError) as found:
        distill(workspace, reporter)
    assert "toy-b" in str(found.value)
    assert "no display" in str(found.value)
    assert any("toy-b" in each for each in reporter.warnings)
    monkeypatch.undo()
    assert distill(workspace).artifact.digest == reference


def test_an_environment_unlike_the_demonstrators_is_told(workspace, monkeypatch):
    monkeypatch.setenv("VINTIX_TOY_DRIFT", "0.1")
    with pytest.raises(ConfigError, match="not the one that the demonstrator"):
        distill(workspace, strict=True)
    reporter = NullReporter()
    distill(workspace, reporter)
    assert len([each for each in reporter.warnings if "reference rollout" in each]) == 3


def test_an_overridden_option_is_no_difference(workspace):
    reporter = NullReporter()
    result = distill(workspace, reporter, options={"radius": 0.8}, strict=True)
    assert not [each for each in reporter.warnings if "reference rollout" in each]
    assert result.artifact.config["tasks"]["toy-a"]["options"] == {"radius": 0.8}


def test_staged_work_of_another_simulator_is_not_continued(workspace, monkeypatch):
    with monkeypatch.context() as patch:
        refuse_commits(patch, 4, 5)
        with pytest.raises(StorageError):
            distill(workspace)
    monkeypatch.setenv("VINTIX_TOY_DRIFT", "0.1")
    with pytest.raises(ConfigError, match="changed since the staged part"):
        distill(workspace)


def test_an_episode_that_does_not_repeat_is_collected_anew(workspace, monkeypatch):
    """Environments that differ a little from run to run lose their staged shards, not the run."""
    from vintix_toy import ToyEnv

    with monkeypatch.context() as patch:
        refuse_commits(patch, 3, 4)
        with pytest.raises(StorageError):
            distill(workspace, tasks=("toy-a",), trajectories=1, shard_rows=30)
    original = ToyEnv.step

    def step(self, action):
        self.x = self.x + 1e-6
        return original(self, action)

    monkeypatch.setattr(ToyEnv, "step", step)
    reporter = NullReporter()
    distill(workspace, reporter, tasks=("toy-a",), trajectories=1, shard_rows=30)
    assert any("does not repeat" in each for each in reporter.warnings)


def test_a_history_without_a_complete_episode_is_refused(workspace, monkeypatch):
    """Nothing of it is published; the parts of a plan are counted together."""
    from vintix_toy import HORIZON, ToyEnv

    from pipelines.distill.merge import merge

    original = ToyEnv.step

    def endless(self, action):
        observation, reward, _, _, info = original(self, action)
        return observation, reward, False, False, info

    monkeypatch.setattr(ToyEnv, "step", endless)
    short = {"tasks": ("toy-a",), "steps": HORIZON - 1, "name": "short"}
    for _ in range(2):
        with pytest.raises(ConfigError, match="without one complete episode") as found:
            distill(workspace, **short)
    assert found.value.exit_code == 3
    assert "toy-a" in found.value.where and f"--steps {HORIZON}" in found.value.fix
    parts = [distill(workspace, **short, shard=f"{n}/2").artifact.reference for n in (1, 2)]
    with pytest.raises(ConfigError, match="without one complete episode"):
        merge(parts, workspace, NullReporter())
    assert workspace.names("histories") == []
    assert distill(workspace, **{**short, "steps": HORIZON}).report["tasks"][0]["episodes"] == 2


def test_manifests_are_not_read_again_for_each_job(workspace, monkeypatch):
    """Jobs are many and may be short, and the manifest of many tasks takes a second to check."""
    from pipelines.artifacts import artifact

    read = []
    parse = artifact.parse_manifest
    monkeypatch.setattr(
        artifact,
        "parse_manifest",
        lambda *given, **named: read.append(given) or parse(*given, **named),
    )
    counts = []
    for name, tasks, trajectories in (("few", ("toy-a",), 1), ("many", ("toy-a", "toy-b"), 2)):
        read.clear()
        distill(
            workspace,
            name=name,
            tasks=tasks,
            trajectories=trajectories,
            steps=30,
            schedule="auto",
            pilot_episodes=2,
        )
        counts.append(len(read))
    assert counts[0] == counts[1] > 0


def test_describe_returns():
    found = describe_returns([np.arange(20.0), np.array([]), np.arange(20.0) + 2])
    assert found["episodes"] == 40
    assert found["first_tenth"] == pytest.approx(1.5)
    assert found["last_tenth"] == pytest.approx(19.5)
    assert found["rank_correlation"] == pytest.approx(1)
    assert describe_returns([np.array([])])["first_tenth"] is None


DECOYS = {"tasks": ("toy-a", "toy-b"), "decoys": "task", "name": "d"}


@pytest.fixture(scope="module")
def with_decoys(shared):
    return distill(shared, **DECOYS).artifact


def test_what_a_history_with_decoys_of_tasks_says(with_decoys, whole):
    """Who may have played and who did; the plain history is as it was, without a word of it."""
    reader = HistoryReader(with_decoys)
    for name, other in (("toy-a", "toy-b"), ("toy-b", "toy-a")):
        attributes = reader.task(name)
        assert attributes["decoys"] == {"tasks": [other], "count": 1}
        assert with_decoys.config["tasks"][name]["decoys"] == attributes["decoys"]
        assert attributes["schedule"] == {"per": "episode", "max": 0.5, "pure": 0.1}
        played = [reader.episodes(name, each)["episode_demonstrator"] for each in (0, 1)]
        assert set(np.concatenate(played).tolist()) == {0, 1}
        assert history_quality(reader, name).verdict == "unjudged"
    plain = HistoryReader(whole.artifact)
    assert "decoys" not in plain.task("toy-a")
    assert "episode_demonstrator" not in plain.episodes("toy-a", 0)
    assert not any("episode_demonstrator" in path for path in whole.artifact.manifest.files)


@pytest.mark.parametrize("failing", [2, 5])
def test_decoys_of_tasks_are_resumed_after_a_failure(workspace, with_decoys, monkeypatch, failing):
    with monkeypatch.context() as patch, pytest.raises(StorageError):
        refuse_commits(patch, failing)
        distill(workspace, **DECOYS)
    assert distill(workspace, **DECOYS).artifact.digest == with_decoys.digest


@pytest.mark.process
def test_decoys_of_tasks_after_a_signal_and_on_two_workers(workspace, with_decoys):
    with pytest.raises(InterruptedRunError):
        distill(workspace, Interrupting(), workers=2, **DECOYS)
    found = distill(workspace, workers=2, **DECOYS)
    assert found.artifact.digest == with_decoys.digest


def test_a_task_has_the_same_decoys_whatever_is_collected_beside_it(workspace, with_decoys):
    alone = distill(workspace, **{**DECOYS, "tasks": ("toy-a",)}).artifact
    for path, entry in alone.manifest.files.items():
        if path.startswith("data.zarr/toy-a/"):
            assert with_decoys.manifest.files[path].sha256 == entry.sha256
