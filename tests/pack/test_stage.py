"""Packing: contents, statistics, weights, card, resume, and what it refuses."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import textwrap
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from pipelines.artifacts.artifact import Artifact
from pipelines.artifacts.work import WorkItem
from pipelines.artifacts.workspace import Workspace
from pipelines.datasets.reader import DatasetReader
from pipelines.distill.config import DistillConfig
from pipelines.distill.stage import run as distill
from pipelines.errors import (
    ArtifactCorruptError,
    ConfigError,
    InterruptedRunError,
    StorageError,
    UsageError,
)
from pipelines.histories.reader import HistoryReader
from pipelines.pack.card import card
from pipelines.pack.config import PackConfig
from pipelines.pack.stage import paper_plan, plan, run
from pipelines.reporter import NullReporter

pytestmark = pytest.mark.stage


def collect(workspace, tasks, name, **changes):
    fields = {"trajectories": 2, "steps": 120, "shard_rows": 50, "workers": 1, **changes}
    config = DistillConfig(tasks=tasks, name=name, **fields)
    return distill(config, workspace, NullReporter()).artifact


def pack(workspace, **changes):
    return run(PackConfig(**{"chunk_rows": 32, **changes}), workspace, NullReporter())


@pytest.fixture(scope="module")
def collected(shared):
    """Histories of the three toy tasks; not to be changed."""
    return collect(shared, ("toy-a", "toy-b", "toy-c"), "h")


@pytest.fixture(scope="module")
def packed(shared, collected):
    """The dataset of them; not to be changed."""
    return pack(shared).artifact


@pytest.fixture
def histories(workspace, collected):
    """A copy of the histories, in the test's own workspace."""
    shutil.copytree(collected.path.parents[1], workspace.root / "histories")
    return workspace.find("histories")


def rows_of(histories, task, trajectory):
    reader = HistoryReader(histories)
    (rows,) = reader.blocks(task, trajectory, rows=reader.rows(task, trajectory))
    return rows


def test_rows_are_those_of_the_history(collected, packed):
    assert packed.reference == "h@v1"
    reader, data = HistoryReader(collected), DatasetReader(packed)
    for task in reader.tasks():
        for k in range(2):
            expected, found = rows_of(collected, task, k), data.window(task, k, 0, 120)
            for field in ("observation", "action", "reward", "noise", "demonstrator_action"):
                np.testing.assert_array_equal(found[field], expected[field])
            episodes = reader.episodes(task, k)
            steps = np.concatenate([np.arange(n) for n in episodes["episode_length"]])
            assert found["episode_step"].dtype == np.int32
            np.testing.assert_array_equal(found["episode_step"], steps)
            np.testing.assert_array_equal(data.episode_starts(task, k), episodes["episode_start"])
            np.testing.assert_array_equal(data.episode_returns(task, k), episodes["episode_return"])


def test_any_reader_opens_it(collected, packed):
    """Plain Zarr v3: without our code, the same numbers."""
    import zarr

    plain = zarr.open_group(packed.path / "data.zarr", mode="r")
    assert sorted(plain.group_keys()) == ["card", "toy-a", "toy-b", "toy-c"]
    start, length = (int(plain[f"toy-b/trajectory_{name}"][1]) for name in ("start", "length"))
    np.testing.assert_array_equal(
        plain["toy-b/observation"][start : start + length],
        rows_of(collected, "toy-b", 1)["observation"],
    )


def test_attributes_and_statistics(collected, packed):
    attributes = dict(packed.group("toy-c").attrs)
    source = HistoryReader(collected).task("toy-c")
    for field in ("options", "scores", "schedule"):
        assert attributes[field] == source[field]
    assert attributes["split"] == "validation"
    assert attributes["group"] == "toy"
    assert attributes["reward_scale"] == 0.5
    assert attributes["episode_sparsity"] == 2
    assert attributes["rows"] == [120, 120]
    for name in ("observation", "action"):
        rows = np.concatenate([rows_of(collected, "toy-c", k)[name] for k in range(2)])
        rows = rows.astype(np.float64)
        np.testing.assert_allclose(
            packed.read(f"toy-c/{name}_mean"), rows.mean(axis=0), rtol=1e-12, atol=1e-15
        )
        np.testing.assert_allclose(
            packed.read(f"toy-c/{name}_std"), rows.std(axis=0, ddof=1), rtol=1e-12
        )


def test_weights(workspace, histories, packed):
    """Validation tasks are not drawn unless told; then by kept steps, or evenly by task."""
    reader = DatasetReader(packed)
    weights = {name: task.attributes["weights"] for name, task in reader.tasks.items()}
    assert weights["toy-c"] == {"by_window": 0, "by_task": 0}
    assert weights["toy-a"] == weights["toy-b"] == {"by_window": 0.5, "by_task": 0.5}
    reader = DatasetReader(pack(workspace, allow_validation=True).artifact)
    weights = {name: task.attributes["weights"] for name, task in reader.tasks.items()}
    assert weights["toy-c"]["by_window"] == pytest.approx(0.2), "half of its episodes are kept"
    assert weights["toy-a"]["by_window"] == pytest.approx(0.4)
    assert weights["toy-a"]["by_task"] == pytest.approx(1 / 3)
    assert reader.tasks["toy-c"].split == "validation"


def test_card(collected, packed):
    found = dict(packed.group("card").attrs)
    reader = HistoryReader(collected)
    episodes = {
        task: sum(len(reader.episodes(task, k)["episode_start"]) for k in range(2))
        for task in reader.tasks()
    }
    assert found["train"] == [
        {
            "domain": domain,
            "tasks": 2,
            "episodes": episodes["toy-a"] + episodes["toy-b"],
            "timesteps": 480,
            "sample_weight": 1.0,
        }
        for domain in ("toy", "overall")
    ]
    assert [row["episodes"] for row in found["validation"]] == [episodes["toy-c"]] * 2
    assert packed.manifest.summary["card"] == found


def test_card_shares():
    steps = (("mujoco", 300), ("zoo", 50), ("metaworld", 100), ("metaworld", 50))
    rows = card(
        {"domain": domain, "split": "train", "episodes": 1, "steps": count}
        for domain, count in steps
    )
    assert [row["domain"] for row in rows["train"]] == ["metaworld", "mujoco", "zoo", "overall"]
    assert [row["sample_weight"] for row in rows["train"]] == [0.3, 0.6, 0.1, 1.0]
    assert rows["validation"] == []


def test_two_histories_make_one_dataset(workspace):
    one = collect(workspace, ("toy-a",), "one")
    two = collect(workspace, ("toy-c",), "two", steps=60)
    artifact = pack(workspace, histories=("one", "two")).artifact
    reader = DatasetReader(artifact)
    assert {name: task.rows for name, task in reader.tasks.items()} == {
        "toy-a": (120, 120),
        "toy-c": (60, 60),
    }
    assert {parent.digest for parent in artifact.manifest.parents} == {one.digest, two.digest}
    assert set(artifact.manifest.fingerprints) == {"toy-a", "toy-c"}


def test_two_histories_of_a_task_are_joined(workspace):
    one = collect(workspace, ("toy-a", "toy-b"), "one")
    two = collect(workspace, ("toy-a",), "two", steps=60)
    artifact = pack(workspace, histories=("one", "two")).artifact
    reader = DatasetReader(artifact)
    assert reader.tasks["toy-a"].rows == (120, 120, 60, 60)
    for history, first in ((one, 0), (two, 2)):
        for trajectory in range(2):
            rows = HistoryReader(history).window("toy-a", trajectory, 0, 60)
            found = reader.window("toy-a", first + trajectory, 0, 60)
            for name in ("observation", "action", "reward"):
                np.testing.assert_array_equal(found[name], rows[name])
    origins = artifact.group("toy-a").attrs["joined"]
    assert [(each["reference"], each["trajectories"]) for each in origins] == [
        ("one@v1", 2),
        ("two@v1", 2),
    ]
    assert "joined" not in artifact.group("toy-b").attrs
    # The other order is another dataset, whose tasks share the weights all the same.
    again = pack(workspace, histories=("two", "one"), name=artifact.manifest.name)
    assert not again.up_to_date
    assert DatasetReader(again.artifact).tasks["toy-a"].rows == (60, 60, 120, 120)


def test_histories_that_are_given_twice_are_refused(workspace):
    collect(workspace, ("toy-a",), "one")
    with pytest.raises(UsageError, match="given twice") as found:
        pack(workspace, histories=("one", "one@v1"))
    assert found.value.found == "one@v1"


def test_histories_of_one_name_from_two_workspaces_are_joined(workspace, tmp_path):
    collect(workspace, ("toy-a",), "one")
    other = collect(Workspace(tmp_path / "other"), ("toy-a",), "one", steps=60)
    artifact = pack(workspace, histories=("one", str(other.path))).artifact
    assert DatasetReader(artifact).tasks["toy-a"].rows == (120, 120, 60, 60)


def test_histories_of_another_task_by_the_same_name_are_refused(workspace):
    from pipelines.histories.joined import JoinedHistories

    reader = HistoryReader(collect(workspace, ("toy-a",), "one"))

    class Scaled(HistoryReader):
        def task(self, name):
            found = super().task(name)
            return {**found, "task": {**found["task"], "reward_scale": 7.0}}

    with pytest.raises(ConfigError, match="different tasks") as error:
        JoinedHistories("toy-a", [reader, Scaled(reader.artifact)])
    assert "reward_scale 7.0" in error.value.found


def test_selection(workspace, histories):
    assert list(DatasetReader(pack(workspace, tasks=("toy+a",)).artifact).tasks) == ["toy-a"]
    by_domain = pack(workspace, domains=("toy_blocks",)).artifact
    assert by_domain.reference == "toy-blocks@v1"
    for wrong in ({"tasks": ("hopper",)}, {"domains": ("mujoco",)}):
        with pytest.raises(UsageError, match="the histories hold no"):
            pack(workspace, **wrong)
    with pytest.raises(UsageError, match="empty"):
        pack(workspace, tasks=("toy-a",), domains=("toy-blocks",))


def test_again_is_up_to_date(workspace, histories):
    first = pack(workspace)
    second = pack(workspace)
    assert second.up_to_date
    assert second.report == first.report


@pytest.mark.parametrize(
    "failing",
    [pytest.param(n, marks=() if n in (0, 4, 7, 9) else pytest.mark.slow) for n in range(10)],
)
def test_resumed_after_a_failure_at_any_unit(workspace, histories, packed, monkeypatch, failing):
    """Ten units: six trajectories, three tasks, the card."""
    commits = 0
    original = WorkItem._commit

    def commit(unit):
        nonlocal commits
        commits += 1
        if commits == failing + 1:
            raise StorageError("no room")
        original(unit)

    with monkeypatch.context() as patch:
        patch.setattr(WorkItem, "_commit", commit)
        with pytest.raises(StorageError):
            pack(workspace)
    assert pack(workspace).artifact.digest == packed.digest


@pytest.mark.parametrize(
    "changed", [{"histories": ("two", "one")}, {"chunk_rows": 256}, {"chunk_rows": 1000}]
)
def test_what_was_staged_for_another_layout_is_not_gone_on_with(workspace, monkeypatch, changed):
    """Trajectories of another order, or files of another length, would be taken for these."""
    for name, seed in (("one", 0), ("two", 1)):
        collect(workspace, ("toy-a",), name, seed=seed)
    given = {"histories": ("one", "two"), "chunk_rows": 128, "name": "d"}
    expected = pack(workspace, **{**given, **changed, "name": "whole"}).artifact
    original = WorkItem._commit

    def commit(unit):
        original(unit)
        raise StorageError("no room")

    with monkeypatch.context() as patch:
        patch.setattr(WorkItem, "_commit", commit)
        with pytest.raises(StorageError):
            pack(workspace, **given)
    assert pack(workspace, **{**given, **changed}).artifact.digest == expected.digest


def test_a_signal_stops_it_and_it_goes_on(workspace, histories, packed):
    class Interrupting(NullReporter):
        @contextmanager
        def progress(self, label, total, unit=""):
            class Count:
                seen = 0

                def advance(self, amount=1, **fields):
                    self.seen += amount
                    if self.seen == 2 * 120:
                        signal.raise_signal(signal.SIGTERM)

            yield Count()

    with pytest.raises(InterruptedRunError) as found:
        run(PackConfig(chunk_rows=32), workspace, Interrupting())
    assert found.value.exit_code == 143
    assert pack(workspace).artifact.digest == packed.digest


def test_a_corrupt_history_is_refused(workspace, histories):
    path = histories.path / "data.zarr/toy-a/action/c/0/0"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ArtifactCorruptError):
        pack(workspace)
    assert Artifact(histories.path).digest == histories.digest


def test_dry_run(workspace, histories):
    found = plan(PackConfig(), workspace)
    assert [row["task"] for row in found.rows] == ["toy-a", "toy-b", "toy-c"]
    assert found.totals["steps"] == 720
    assert found.totals["bytes"] == 720 * 4 * (3 + 2 * 2 + 3)
    assert found.totals["weight_by_window"] == 1
    assert workspace.names("datasets") == []


def test_the_papers_table_1():
    """Tasks, timesteps and weights of the paper's Table 1, without any data."""
    found = paper_plan()
    table = {
        row["domain"]: (row["tasks"], row["timesteps"], round(100 * row["sample_weight"], 1))
        for row in [*found.rows, found.totals]
    }
    assert table["bidexhands"] == (15, 31_700_000, 14.2)
    assert table["industrial-benchmark"] == (16, 24_000_000, 10.8)
    # The paper prints 30.1 and 44.9: shares of its rounded totals.
    assert table["metaworld"] == (45, 67_500_000, 30.2)
    assert table["mujoco"] == (11, 100_000_000, 44.8)
    assert table["overall"][0] == 87


@pytest.mark.slow
def test_memory_does_not_grow_with_the_data(tmp_path):
    """Packing 3 GB of the widest rows stays under 1 GiB."""
    script = textwrap.dedent("""
        import resource, sys
        from pathlib import Path
        sys.path.insert(0, sys.argv[2])
        from datasets.synthetic import make_histories
        from pipelines.artifacts.workspace import Workspace
        from pipelines.pack.config import PackConfig
        from pipelines.pack.stage import run
        from pipelines.reporter import NullReporter

        workspace = Workspace(Path(sys.argv[1]))
        if sys.argv[3] == "make":
            make_histories(workspace, observation_dim=428, action_dim=52, steps=800_000, count=2)
        else:
            run(PackConfig(), workspace, NullReporter())
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    """)
    for what in ("make", "pack"):
        done = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path), str(Path(__file__).parents[1]), what],
            capture_output=True,
            text=True,
            check=True,
        )
    assert int(done.stdout) * 1024 < 1 << 30
