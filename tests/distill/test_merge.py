"""Parts of a plan, joined: the bytes of one machine's history, or a refusal that says why."""

from __future__ import annotations

import json
import shutil

import pytest

from distill.toy import make_demonstrators, refuse_commits
from pipelines.artifacts.artifact import Artifact
from pipelines.artifacts.schema import DATA, MANIFEST, dump_manifest, seal
from pipelines.artifacts.verify import verify
from pipelines.artifacts.workspace import Workspace
from pipelines.distill.config import DistillConfig
from pipelines.distill.merge import merge
from pipelines.distill.stage import run
from pipelines.errors import (
    ArtifactCorruptError,
    ArtifactMissingError,
    ConfigError,
    StorageError,
    UsageError,
)
from pipelines.histories.reader import HistoryReader
from pipelines.reporter import NullReporter

pytestmark = pytest.mark.stage

CONFIG = {"trajectories": 2, "steps": 90, "shard_rows": 60, "name": "h", "workers": 1}


def distill(workspace, reporter=None, **changes):
    return run(DistillConfig(**{**CONFIG, **changes}), workspace, reporter or NullReporter())


def collect(workspace, count, **changes):
    """Collect all shards of a plan."""
    return [
        distill(workspace, shard=f"{index}/{count}", **changes).artifact
        for index in range(1, count + 1)
    ]


def join(workspace, *references, name=None):
    return merge(references or ("h",), workspace, NullReporter(), name)


def rewrite(part: Artifact, **fields) -> Artifact:
    """Publish a part again with other fields in its manifest, as another machine would have."""
    manifest = part.manifest.model_dump(exclude={"digest", "checksum"})
    (part.path / MANIFEST).write_bytes(dump_manifest(seal({**manifest, **fields})))
    return Artifact(part.path)


def rewrite_attributes(part: Artifact, task: str, change) -> Artifact:
    """The same with other attributes of a task."""
    from pipelines.artifacts import files

    path = part.path / DATA / task / "zarr.json"
    document = json.loads(path.read_bytes())
    change(document["attributes"])
    record = files.write_json(path, document)
    listed = part.manifest.model_dump()["files"]
    listed[f"{DATA}/{task}/zarr.json"].update(size=record.size, sha256=record.sha256)
    return rewrite(part, files=listed)


@pytest.fixture
def reference(shared):
    """A history that one machine collected, in a workspace of its own."""
    return lambda **changes: distill(shared, **changes)


@pytest.fixture(scope="module")
def collected(shared):
    """Both parts of the history."""
    return collect(shared, 2)


@pytest.fixture
def first(workspace, collected):
    """A copy of the first part, in the test's own workspace."""
    return _copy(collected[0], workspace)


@pytest.fixture
def parts(workspace, first, collected):
    """Copies of both."""
    return [first, _copy(collected[1], workspace)]


def _copy(part, workspace):
    base = part.path.parent
    shutil.copytree(base, workspace.root / "parts" / base.name)
    return workspace.find("parts", base.name)


@pytest.mark.parametrize(
    ("count", "schedule"),
    [
        (7, None),
        (2, "auto"),
        pytest.param(1, None, marks=pytest.mark.slow),
        pytest.param(3, None, marks=pytest.mark.slow),
        pytest.param(3, "fitted", marks=pytest.mark.slow),
    ],
)
def test_merged_parts_are_what_one_machine_collects(workspace, reference, count, schedule):
    """Every file and the digest; seven shards for five jobs, so that two are empty."""
    changes = {"schedule": schedule, "pilot_episodes": 2}
    expected = reference(**changes)
    parts = collect(workspace, count, **changes)
    assert [part.kind for part in parts] == ["parts"] * count
    assert workspace.names("histories") == []
    found = join(workspace)
    assert found.artifact.manifest.files == expected.artifact.manifest.files
    assert found.artifact.digest == expected.artifact.digest
    assert found.report["tasks"] == expected.report["tasks"]
    assert found.report["parts"] == [f"parts/{part.reference}" for part in parts]
    assert verify(found.artifact, deep=True) == []
    assert not list(found.artifact.path.parent.glob(".staging-*"))


def test_merged_parts_with_decoys_of_tasks_are_what_one_machine_collects(workspace, reference):
    """With who played in each episode, of long trajectories and of such as are staged together."""
    for steps in (90, 40):
        changes = {"tasks": ("toy-a", "toy-b"), "decoys": "task", "steps": steps}
        expected = reference(**changes).artifact
        collect(workspace, 3, **changes)
        found = join(workspace).artifact
        assert found.manifest.files == expected.manifest.files
        assert found.digest == expected.digest
        other = {**changes, "decoys": None, "schedule": {"per": "episode", "max": 0.5, "pure": 0.1}}
        assert reference(**other).artifact.digest != expected.digest


def test_merged_and_collected_are_up_to_date(workspace, parts):
    """The same command without a shard finds the merged history; so does a second merge."""
    first = join(workspace)
    assert not first.up_to_date
    again = join(workspace)
    assert again.up_to_date
    assert again.report == first.report
    assert distill(workspace).up_to_date
    assert distill(workspace, shard="2/2").up_to_date
    assert [part.path for part in parts] == [part.path for part in workspace.artifacts("parts")]


def test_a_part_stands_by_itself(workspace, reference, tmp_path):
    """It is joined where there are no demonstrators, from workspaces apart, by path."""
    others = []
    for index in (1, 2):
        other = Workspace(tmp_path / f"machine-{index}")
        shutil.copytree(workspace.root, other.root)
        others.append(distill(other, shard=f"{index}/2").artifact.path)
    empty = Workspace(tmp_path / "empty")
    found = join(empty, str(others[1]), str(others[0]), name="joined")
    assert found.artifact.reference == "joined@v1"
    assert found.artifact.digest == reference().artifact.digest
    assert [parent.name for parent in found.artifact.manifest.parents] == ["toys"]
    # A copy: what happens to a part does not happen to the history.
    for path in others:
        shutil.rmtree(path)
    assert verify(found.artifact, deep=True) == []


def test_what_a_part_holds(parts, reference):
    """Its own trajectories, with the attributes of the whole history."""
    whole = {name: HistoryReader(reference().artifact).task(name) for name in ("toy-a",)}
    for part in parts:
        for report in part.manifest.summary["tasks"]:
            attributes = dict(part.group(report["task"]).attrs)
            held = attributes.pop("part")["trajectories"]
            assert len(held) == report["trajectories"] == len(attributes["last_episode_complete"])
            assert sorted(part.group(report["task"]).group_keys()) == [f"{n:05d}" for n in held]
            if report["task"] in whole:
                expected = whole[report["task"]]
                assert attributes["last_episode_complete"] == [
                    expected["last_episode_complete"][n] for n in held
                ]
                for name in ("task", "schedule", "options", "scores", "steps", "trajectories"):
                    assert attributes[name] == expected[name]


def test_a_part_is_no_history(workspace, parts):
    with pytest.raises(ArtifactMissingError):
        workspace.find("histories", "h-1-of-2")
    with pytest.raises(UsageError, match="wrong kind"):
        workspace.find("histories", "parts/h-1-of-2")
    history = join(workspace).artifact
    with pytest.raises(UsageError, match="wrong kind"):
        join(workspace, str(history.path))


def test_an_empty_share_is_told_and_published(workspace):
    """An array job with more tasks than work must not fail."""
    reporter = NullReporter()
    result = distill(workspace, reporter, shard="7/7")
    assert any("nothing to do" in warning for warning in reporter.warnings)
    assert result.report["tasks"] == []
    assert result.report["steps"] == 0
    assert verify(result.artifact, deep=True) == []
    assert distill(workspace, shard="7/7").up_to_date


@pytest.mark.parametrize(
    "failing", [0, 6, *(pytest.param(n, marks=pytest.mark.slow) for n in (5, 8))]
)
def test_resumed_after_a_failure(workspace, parts, reference, monkeypatch, failing):
    """9 units: 6 trajectories and 3 tasks; those done are not copied again."""
    with monkeypatch.context() as patch:
        attempts = refuse_commits(patch, failing)
        with pytest.raises(StorageError):
            join(workspace)
        assert workspace.names("histories") == []
    done = set(attempts[:failing])
    names = refuse_commits(monkeypatch, after=100)
    assert join(workspace).artifact.digest == reference().artifact.digest
    assert done.isdisjoint(name for name in names if name.startswith("merge/"))


def test_a_collection_that_was_begun_gives_way_to_the_merge(
    workspace, parts, reference, monkeypatch
):
    """Both stage under one configuration; the units of neither are taken for the other's."""
    for first, second in ((distill, join), (join, distill)):
        with monkeypatch.context() as patch:
            refuse_commits(patch, 5, 6)
            with pytest.raises(StorageError):
                first(workspace)
        result = second(workspace)
        assert result.artifact.digest == reference().artifact.digest
        shutil.rmtree(result.artifact.path)


def test_a_merge_of_other_parts_begins_again(workspace, parts, tmp_path, monkeypatch):
    """What was staged of a part that has been collected anew since is not mixed in."""
    with monkeypatch.context() as patch:
        refuse_commits(patch, 8, 9)
        with pytest.raises(StorageError):
            join(workspace)
    other = Workspace(tmp_path / "other")
    shutil.copytree(workspace.root / "demonstrators", other.root / "demonstrators")
    monkeypatch.setenv("VINTIX_TOY_DRIFT", "0.00001")
    collect(other, 2)
    paths = [str(part.path) for part in other.artifacts("parts")]
    merged = join(workspace, *paths).artifact
    assert merged.digest == join(other).artifact.digest
    assert verify(merged, deep=True) == []


def test_a_damaged_part_is_refused_and_named(workspace, parts):
    part = parts[0]
    path = next(path for path in sorted(part.path.rglob("c/*")) if path.is_file())
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ArtifactCorruptError) as found:
        join(workspace)
    assert str(path) in str(found.value)
    assert found.value.exit_code == 4
    assert workspace.names("histories") == []


def test_a_missing_part_is_named(workspace):
    distill(workspace, shard="1/3")
    with pytest.raises(ArtifactMissingError) as found:
        join(workspace)
    assert found.value.found == "without 2/3, 3/3"
    assert "vintix distill ... --name h --shard 2/3" in found.value.fix
    with pytest.raises(ArtifactMissingError, match="no parts artifact 'nothing'"):
        join(workspace, "nothing")


def test_a_part_given_twice_is_wrong_usage(workspace, parts):
    with pytest.raises(UsageError, match="part 1/2 is given twice"):
        join(workspace, "h-1-of-2", "parts/h-1-of-2@v1", "h-2-of-2")


def test_two_splits_of_one_history(workspace, parts, reference):
    """The whole one is taken; of two whole ones the user says which."""
    distill(workspace, shard="1/3")
    assert join(workspace).artifact.digest == reference().artifact.digest
    distill(workspace, shard="2/3")
    distill(workspace, shard="3/3")
    with pytest.raises(UsageError, match="split in several ways") as found:
        join(workspace)
    assert found.value.found == "2 of 2 parts, 3 of 3 parts"
    assert found.value.fix.endswith("parts/h-1-of-3 parts/h-2-of-3 parts/h-3-of-3")
    with pytest.raises(ConfigError, match="not of one plan"):
        join(workspace, "h-1-of-2", "h-2-of-3")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"seed": 1}, "seed: 1"),
        ({"steps": 80, "shard_rows": 60}, "tasks.toy-a.shard_rows: 40"),
        ({"options": {"radius": 0.8}}, "tasks.toy-a.options.radius: 0.8"),
        ({"tasks": ("toy-a", "toy-b")}, "tasks.toy-c: nothing"),
        ({"schedule": "p=1,f=0.2"}, "tasks.toy-a.schedule.p: 1.0"),
    ],
)
def test_parts_of_other_settings_are_refused(workspace, first, changes, told):
    distill(workspace, shard="2/2", **changes)
    with pytest.raises(ConfigError, match="not of one plan") as found:
        join(workspace)
    assert found.value.found == told
    assert found.value.where.endswith("parts/h-2-of-2/v1")
    assert "--shard 2/2" in found.value.fix
    assert found.value.exit_code == 3


def test_parts_of_other_demonstrators_or_another_history_are_refused(workspace, first):
    distill(workspace, shard="2/2", name="other")
    with pytest.raises(ConfigError) as found:
        join(workspace, "h-1-of-2", "other-2-of-2")
    assert found.value.found == "of history other"
    # The demonstrators measured otherwise, though nothing of the plan follows from it.
    make_demonstrators(workspace, name="others", fingerprints={"toy-a": {}})
    distill(workspace, shard="2/2")
    with pytest.raises(ConfigError) as found:
        join(workspace)
    assert found.value.found.startswith("made from demonstrators/others@v1")


def test_parts_of_another_environment_are_refused(workspace, first, monkeypatch):
    monkeypatch.setenv("VINTIX_TOY_DRIFT", "0.1")
    distill(workspace, shard="2/2")
    with pytest.raises(ConfigError, match="same environment") as found:
        join(workspace)
    assert "toy-" in found.value.where
    assert "reference rollout" in found.value.found


def test_parts_whose_pilots_differ_are_refused(workspace):
    """As on two kinds of processors; with the task and the number."""
    parts = collect(workspace, 2, schedule="auto", pilot_episodes=2)
    shared = set.intersection(
        *({row["task"] for row in p.manifest.summary["tasks"]} for p in parts)
    )
    task = sorted(shared)[0]

    def change(attributes):
        attributes["pilot"]["response"]["return"][0] += 1e-12

    rewrite_attributes(parts[1], task, change)
    with pytest.raises(ConfigError, match="processors of different kinds") as found:
        join(workspace)
    assert f"task {task}" in found.value.where
    assert found.value.found.startswith("pilot.response.return: [")


def test_parts_that_do_not_agree_on_a_task_are_refused(workspace, parts):
    shared = set.intersection(
        *({row["task"] for row in p.manifest.summary["tasks"]} for p in parts)
    )
    task = sorted(shared)[0]
    rewrite_attributes(parts[1], task, lambda attributes: attributes["task"].update(horizon=24))
    with pytest.raises(ConfigError, match="do not agree on a task") as found:
        join(workspace)
    assert found.value.found == "task.horizon: 24"


@pytest.mark.parametrize("held", [[], [0], [1], [0, 1]])
def test_parts_that_were_split_differently_are_refused(workspace, parts, held):
    """A trajectory that no part has, or two have; the split of toy-a is one trajectory each."""
    own = dict(parts[1].group("toy-a").attrs)["part"]["trajectories"]
    rewrite_attributes(
        parts[1], "toy-a", lambda attributes: attributes["part"].update(trajectories=held)
    )
    if held == own:
        assert join(workspace).artifact.reference == "h@v1"
        return
    with pytest.raises(ConfigError, match="split differently"):
        join(workspace)


def test_versions_of_packages_are_those_of_the_parts(workspace, parts):
    """Not of the machine that joins them; where they differ, all of them."""
    packages = parts[1].manifest.packages
    rewrite(parts[1], packages={**packages, "python": "3.99.0", "other": "1.0"})
    found = join(workspace).artifact.manifest.packages
    assert found == {**packages, "python": f"{packages['python']}, 3.99.0", "other": "1.0"}
