"""Units: durable as a whole or made again, each the owner of its files."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pipelines.artifacts import work
from pipelines.artifacts.arrays import create_rows, write_array
from pipelines.artifacts.artifact import Artifact
from pipelines.artifacts.verify import verify
from pipelines.artifacts.work import LOG, PROGRESS, StagedWork, WorkItem, list_records
from pipelines.artifacts.workspace import Workspace
from pipelines.errors import ArtifactCorruptError

from .helpers import CONFIG, WORK_ITEMS, Crash, check_tiny, run_tiny, write_item


def _stage(root, **config):
    return Workspace(root).stage("histories", "tiny", config=config or CONFIG)


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove"])
def test_resume_verifies_staged_files(tmp_path, damage, undisturbed):
    """An item whose file changed under a killed run is made again; its record is not believed."""
    with _stage(tmp_path) as staging:
        for item in WORK_ITEMS:
            write_item(staging, item)
        victim = staging.directory / "data.zarr/toy/00000/reward/c/1"
    if damage == "remove":
        victim.unlink()
    else:
        data = bytearray(victim.read_bytes())
        data[0] ^= 1
        victim.write_bytes(data[:-1] if damage == "truncate" else data)
    made = []
    artifact = run_tiny(tmp_path, on_item=made.append)
    assert made == [WORK_ITEMS[1]]
    check_tiny(artifact)


def test_work_item_redone_keeps_the_chunks_of_others(tmp_path):
    """Creating an array anew does not delete the chunks that other durable items wrote in it."""
    with _stage(tmp_path) as staging:
        for item in WORK_ITEMS:
            write_item(staging, item)
        (staging.directory / "data.zarr/toy/00000/reward/zarr.json").write_bytes(b"{}")
    made = []
    artifact = run_tiny(tmp_path, on_item=made.append)
    assert made == [WORK_ITEMS[0]]
    check_tiny(artifact)
    assert verify(artifact, deep=True) == []


def test_leftovers_of_an_unfinished_attempt_are_not_published(tmp_path):
    """An item that failed half way and came out smaller leaves nothing behind."""
    with _stage(tmp_path) as staging:
        with pytest.raises(ValueError, match="half way"), staging.work_item("a") as item:
            write_array(item.group("a", {"first": True}), "old", np.ones(3))
            array = create_rows(item.group("a"), "rows", (8,), np.float32, chunk_rows=2)
            array[:] = 1
            raise ValueError("half way")
        assert not staging.done("a")
        with staging.work_item("a") as item:
            create_rows(item.group("a"), "rows", (4,), np.float32, chunk_rows=2)[:] = 2
        artifact = staging.publish(summary={})
    assert dict(artifact.root["a"].attrs) == {}
    assert sorted(artifact.root["a"].array_keys()) == ["rows"]
    assert verify(artifact, deep=True) == []


def test_array_created_twice_in_one_item(tmp_path):
    """What the second creation deletes is not recorded either."""
    with _stage(tmp_path) as staging:
        with staging.work_item("a") as item:
            for rows in (8, 4):
                create_rows(item.group("a"), "rows", (rows,), np.float32, chunk_rows=2)[:] = rows
        artifact = staging.publish(summary={})
    np.testing.assert_array_equal(artifact.read("a/rows"), np.full(4, 4))
    assert verify(artifact, deep=True) == []


def test_dropped_work_item_stays_dropped(tmp_path):
    with _stage(tmp_path) as staging:
        for name in ("a", "b"):
            with staging.work_item(name) as item:
                write_array(item.group(f"all/{name}"), "x", np.ones(2))
        staging.drop("a")
        assert (staging.done("a"), staging.work_items()) == (False, ["b"])
        with pytest.raises(KeyError):
            staging.drop("a")
        with pytest.raises(KeyError):
            staging.data("a")
    with _stage(tmp_path) as staging:
        assert staging.work_items() == ["b"]
        artifact = staging.publish(summary={})
    assert list(artifact.group("all").group_keys()) == ["b"]


def test_beginning_a_work_item_again_takes_it_back(tmp_path):
    """Also for a worker's own `WorkItem`: a killed second attempt leaves no record of the first."""
    with _stage(tmp_path) as staging:
        with staging.work_item("a") as item:
            item.data["n"] = 1
        with pytest.raises(Crash), WorkItem(staging.directory, "a"):
            raise Crash
        assert not staging.done("a")


def test_work_items_of_worker_processes_are_adopted(tmp_path):
    with _stage(tmp_path) as staging:
        with WorkItem(staging.directory, "a") as item:
            write_array(item.group("a"), "x", np.ones(2))
            item.data["n"] = 5
        assert staging.done("a")
        assert staging.data("a") == {"n": 5}


def test_names_of_work_items_do_not_collide(tmp_path):
    with _stage(tmp_path) as staging:
        with staging.work_item("a/b") as item:
            item.data["n"] = 1
        assert not staging.done("a--b")
        assert not staging.done("a%2Fb")
        assert staging.done("a/b")


def test_attributes_belong_to_the_work_item_that_gives_them(tmp_path):
    """Units that open a group without attributes neither own nor change its metadata."""
    with _stage(tmp_path) as staging:
        with staging.work_item("z-first") as item:
            write_array(item.group("task/a"), "x", np.ones(1))
        with staging.work_item("middle") as item:
            item.group("task", {"n": 1})
        with staging.work_item("z-last") as item:
            write_array(item.group("task/b"), "x", np.ones(1))
            item.group("task")
        with staging.work_item("later") as item:
            item.group("task/a").attrs["set"] = "through zarr"
        staging.drop("z-last")
    with _stage(tmp_path) as staging:
        assert staging.work_items() == ["later", "middle", "z-first"]
        artifact = staging.publish(summary={})
    assert dict(artifact.group("task").attrs) == {"n": 1}
    assert dict(artifact.group("task/a").attrs) == {"set": "through zarr"}
    assert verify(artifact, deep=True) == []


def test_log_belongs_to_its_item(tmp_path):
    """It is checked like any other file of the item, goes with it, and is no content."""
    with _stage(tmp_path) as staging:
        for name in ("a", "b", "c"):
            with staging.work_item(name) as item:
                item.write_log(f"{name}.jsonl", name.encode())
        staging.drop("a")
        (staging.directory / LOG / "b.jsonl").write_bytes(b"B")
    with _stage(tmp_path) as staging:
        assert staging.work_items() == ["c"]
        artifact = staging.publish(summary={})
    assert {path: entry.log for path, entry in artifact.manifest.files.items()} == {
        "data.zarr/zarr.json": False,
        f"{LOG}/c.jsonl": True,
    }
    assert verify(artifact) == []


def test_two_work_items_of_one_file_are_refused(tmp_path):
    with _stage(tmp_path) as staging:
        for name in ("a", "b"):
            with staging.work_item(name) as item:
                item.group("task", {"unit": name})
        with pytest.raises(ArtifactCorruptError, match="not whole"):
            staging.publish(summary={})


@pytest.mark.parametrize(
    "values", [np.zeros((0, 3)), np.zeros((5, 0)), np.float64(2.5), np.ones(1)]
)
def test_empty_and_scalar_arrays_are_whole(tmp_path, values):
    with _stage(tmp_path) as staging:
        with staging.work_item("a") as item:
            write_array(item.group("a"), "x", np.asarray(values))
        artifact = staging.publish(summary={})
    np.testing.assert_array_equal(artifact.read("a/x"), values)
    assert verify(artifact, deep=True) == []


@pytest.mark.parametrize("path", ["../up", "/etc", "a//b", "a/../b", "a/"])
def test_groups_and_logs_stay_inside(tmp_path, path):
    with _stage(tmp_path) as staging, staging.work_item("a") as item:
        with pytest.raises(ValueError, match="inside"):
            item.group(path)
        with pytest.raises(ValueError, match="inside"):
            item.write_log(path, b"")


def test_record_is_plain_json(tmp_path):
    """What is resumed from is readable by a person and holds no pickle."""
    with _stage(tmp_path) as staging:
        write_item(staging, WORK_ITEMS[0])
        (record,) = (staging.directory / PROGRESS).iterdir()
    fields = json.loads(record.read_bytes())
    assert fields["unit"] == WORK_ITEMS[0]
    assert fields["data"] == {"rows": 4}
    assert "data.zarr/toy/00000/reward/c/0" in fields["files"]


def test_workers_see_the_work_items_that_the_writer_sees(tmp_path):
    """`StagedWork` reads the directory alone; dropping keeps what other items own."""
    with _stage(tmp_path) as staging:
        for item in WORK_ITEMS:
            write_item(staging, item)
        seen = StagedWork(staging.directory)
        assert [seen.done(item) for item in (*WORK_ITEMS, "none")] == [True] * len(WORK_ITEMS) + [
            False
        ]
        assert [seen.data(item) for item in WORK_ITEMS] == [
            staging.data(item) for item in WORK_ITEMS
        ]
        owned = StagedWork(staging.directory).records()
        seen.drop(WORK_ITEMS[1])
        for refused in (seen.data, seen.drop):
            with pytest.raises(KeyError):
                refused(WORK_ITEMS[1])
        assert not seen.done(WORK_ITEMS[1])
        assert not staging.done(WORK_ITEMS[1])
        kept = {
            path for item in WORK_ITEMS if item != WORK_ITEMS[1] for path in owned[item]["files"]
        }
        for path in owned[WORK_ITEMS[1]]["files"]:
            assert (staging.directory / path).exists() == (path in kept)
    check_tiny(run_tiny(tmp_path))


def test_items_that_are_dropped_together_leave_no_file_of_theirs(tmp_path, monkeypatch):
    """The records of the others are read once, not once an item."""
    with _stage(tmp_path) as staging:
        for item in WORK_ITEMS:
            write_item(staging, item)
        first, *dropped = WORK_ITEMS
        owned, listed = staging.records(), []
        monkeypatch.setattr(
            work, "list_records", lambda place: listed.append(place) or list_records(place)
        )
        staging.drop(*dropped)
        assert len(listed) == 1
        assert staging.work_items() == [first]
        for path in {path for item in dropped for path in owned[item]["files"]}:
            assert (staging.directory / path).exists() == (path in owned[first]["files"])


def test_a_taken_file_is_checked_and_recorded(tmp_path):
    """An item copies files of another artifact with their bytes, or refuses and is not durable."""
    source = run_tiny(tmp_path / "source")
    keys = [path.removeprefix("data.zarr/") for path in source.manifest.files if "/toy/" in path]
    sizes = []
    with _stage(tmp_path / "target") as staging:
        with staging.work_item("taken") as item:
            item.take(source, keys, sizes.append)
        taken = StagedWork(staging.directory).records()["taken"]["files"]
        for key in keys:
            entry = source.manifest.files[f"data.zarr/{key}"]
            assert taken[f"data.zarr/{key}"] == {"size": entry.size, "sha256": entry.sha256}
        assert sum(sizes) == sum(each["size"] for each in taken.values())
        victim = next(key for key in keys if "/c/" in key)
        (source.path / "data.zarr" / victim).write_bytes(b"")
        with pytest.raises(ArtifactCorruptError), staging.work_item("refused") as item:
            item.take(Artifact(source.path), keys)
        assert not staging.done("refused")
