"""Staged work: units, resume, publishing, and what a crash leaves at each point."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

from pipelines.artifacts.arrays import create_rows, open_rows, write_array
from pipelines.artifacts.schema import MANIFEST
from pipelines.artifacts.staging import LOG, PROGRESS, SCRATCH, Unit
from pipelines.artifacts.verify import verify
from pipelines.artifacts.workspace import Workspace
from pipelines.errors import ArtifactCorruptError, ArtifactMissingError, StorageError

from .helpers import CONFIG, UNITS, Crash, FileSystem, check_tiny, run_tiny, write_unit


def test_published_work_reads_back_and_is_clean(undisturbed):
    check_tiny(undisturbed)
    assert verify(undisturbed, deep=True) == []
    assert not (undisturbed.path / SCRATCH).exists()
    assert not (undisturbed.path / PROGRESS).exists()


def test_running_again_is_up_to_date_and_takes_no_lock(tmp_path):
    """A published configuration can be asked for while another process writes the name."""
    first = run_tiny(tmp_path)
    made = []
    with Workspace(tmp_path).stage("histories", "tiny", config={"other": 1}):
        again = run_tiny(tmp_path, on_unit=made.append)
    assert again.path == first.path
    assert made == []


def test_another_configuration_is_the_next_version(tmp_path):
    assert run_tiny(tmp_path).reference == "tiny@v1"
    assert run_tiny(tmp_path, config={**CONFIG, "seed": 4}).reference == "tiny@v2"
    assert run_tiny(tmp_path).reference == "tiny@v1"


def test_another_parent_is_other_work(tmp_path, undisturbed):
    first = run_tiny(tmp_path, parents=[undisturbed])
    other = run_tiny(tmp_path, config={**CONFIG, "seed": 4})
    assert run_tiny(tmp_path, parents=[other]).manifest.version == 3
    assert first.manifest.parents[0].digest == undisturbed.digest


# The table of staging.py: the first change of the file system that a killed run does not make,
# and the units that the next run makes again.
WINDOWS = {
    "while writing a file": (("replace", "/reward/c/1"), UNITS[1:]),
    "between files of a unit": (("mkdir", "/toy/00002"), UNITS[2:]),
    "before a unit's record": (("replace", "%2F00001.json"), UNITS[1:]),
    "after a unit's record": (("mkdir", "/observation/c/2"), UNITS[2:]),
    "before the manifest": (("replace", "/data.zarr/zarr.json"), []),
    "while writing the manifest": (("replace", f"/{MANIFEST}"), []),
    "before clearing": (("unlink", "/sum/c/0"), []),
    "while clearing": (("rmdir", f"/{PROGRESS}"), []),
    "before the rename": (("rename", "/v1"), []),
    "after the rename": (("fsync", "/tiny"), []),
}


@pytest.mark.parametrize("window", WINDOWS)
def test_crash_window(window, tmp_path, undisturbed):
    """Killed there, the next run makes exactly the units of the table and equal content."""
    (wanted, part), redone = WINDOWS[window]
    hits = []

    def refuses(number, name, path):
        # What is at the end of the run also happens at its start, when the directories are made.
        late = window != "after the rename" or (tmp_path / "histories/tiny/v1").exists()
        if hits or (late and name == wanted and part in path):
            hits.append(path)
        return bool(hits)

    with FileSystem(tmp_path, refuses=refuses).installed(), pytest.raises(Crash):
        run_tiny(tmp_path)
    if window != "after the rename":
        with pytest.raises(ArtifactMissingError):
            Workspace(tmp_path).find("histories")
    made = []
    artifact = run_tiny(tmp_path, on_unit=made.append)
    assert made == redone
    assert artifact.digest == undisturbed.digest
    assert verify(artifact, deep=True) == []
    check_tiny(artifact)


def test_version_taken_meanwhile_is_not_reused(tmp_path):
    """A publishing that died before its rename is finished under the next free number."""
    refuses = lambda number, name, path: name == "rename"  # noqa: E731
    with FileSystem(tmp_path, refuses=refuses).installed(), pytest.raises(Crash):
        run_tiny(tmp_path)
    assert run_tiny(tmp_path, config={**CONFIG, "seed": 4}).reference == "tiny@v1"
    finished = run_tiny(tmp_path, on_unit=pytest.fail)
    assert finished.reference == "tiny@v2"
    assert finished.path.name == "v2"


def test_damaged_staged_manifest_falls_back_to_units(tmp_path, undisturbed):
    refuses = lambda number, name, path: name == "unlink" and "/sum/c/" in path  # noqa: E731
    with FileSystem(tmp_path, refuses=refuses).installed(), pytest.raises(Crash):
        run_tiny(tmp_path)
    (manifest,) = tmp_path.glob(f"histories/tiny/.staging-*/{MANIFEST}")
    manifest.write_bytes(manifest.read_bytes()[:-9])
    made = []
    assert run_tiny(tmp_path, on_unit=made.append).digest == undisturbed.digest
    # Its scratch had been cleared in part before the run was killed.
    assert made == [UNITS[2]]


def _stage(root, **config):
    return Workspace(root).stage("histories", "tiny", config=config or CONFIG)


def test_staged_work_is_hidden_from_readers(tmp_path):
    """Not by name, not as the newest, not by its path, even with its manifest in place."""
    workspace = Workspace(tmp_path)
    refuses = lambda number, name, path: name == "rename"  # noqa: E731
    with FileSystem(tmp_path, refuses=refuses).installed(), pytest.raises(Crash):
        run_tiny(tmp_path)
    (staged,) = tmp_path.glob("histories/tiny/.staging-*")
    assert (staged / MANIFEST).is_file()
    for reference in (None, "tiny", "tiny@v1", str(staged)):
        with pytest.raises(ArtifactMissingError):
            workspace.find("histories", reference)
    assert workspace.names("histories") == []


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove"])
def test_resume_verifies_staged_files(tmp_path, damage, undisturbed):
    """A unit whose file changed under a killed run is made again; its record is not believed."""
    with _stage(tmp_path) as staging:
        for unit in UNITS:
            write_unit(staging, unit)
        victim = staging.directory / "data.zarr/toy/00000/reward/c/1"
    if damage == "remove":
        victim.unlink()
    else:
        data = bytearray(victim.read_bytes())
        data[0] ^= 1
        victim.write_bytes(data[:-1] if damage == "truncate" else data)
    made = []
    artifact = run_tiny(tmp_path, on_unit=made.append)
    assert made == [UNITS[1]]
    check_tiny(artifact)


def test_unit_redone_keeps_the_chunks_of_others(tmp_path):
    """Creating an array anew does not delete the chunks that other durable units wrote in it."""
    with _stage(tmp_path) as staging:
        for unit in UNITS:
            write_unit(staging, unit)
        (staging.directory / "data.zarr/toy/00000/reward/zarr.json").write_bytes(b"{}")
    made = []
    artifact = run_tiny(tmp_path, on_unit=made.append)
    assert made == [UNITS[0]]
    check_tiny(artifact)
    assert verify(artifact, deep=True) == []


def test_leftovers_of_an_unfinished_attempt_are_not_published(tmp_path):
    """A unit that failed half way and came out smaller leaves nothing behind."""
    with _stage(tmp_path) as staging:
        with pytest.raises(ValueError, match="half way"), staging.unit("a") as unit:
            write_array(unit.group("a", {"first": True}), "old", np.ones(3))
            array = create_rows(unit.group("a"), "rows", (8,), np.float32, chunk_rows=2)
            array[:] = 1
            raise ValueError("half way")
        assert not staging.done("a")
        with staging.unit("a") as unit:
            create_rows(unit.group("a"), "rows", (4,), np.float32, chunk_rows=2)[:] = 2
        artifact = staging.publish(summary={})
    assert dict(artifact.root["a"].attrs) == {}
    assert sorted(artifact.root["a"].array_keys()) == ["rows"]
    assert verify(artifact, deep=True) == []


def test_array_created_twice_in_one_unit(tmp_path):
    """What the second creation deletes is not recorded either."""
    with _stage(tmp_path) as staging:
        with staging.unit("a") as unit:
            for rows in (8, 4):
                create_rows(unit.group("a"), "rows", (rows,), np.float32, chunk_rows=2)[:] = rows
        artifact = staging.publish(summary={})
    np.testing.assert_array_equal(artifact.read("a/rows"), np.full(4, 4))
    assert verify(artifact, deep=True) == []


def test_dropped_unit_stays_dropped(tmp_path):
    with _stage(tmp_path) as staging:
        for name in ("a", "b"):
            with staging.unit(name) as unit:
                write_array(unit.group(f"all/{name}"), "x", np.ones(2))
        staging.drop("a")
        assert (staging.done("a"), staging.units()) == (False, ["b"])
        with pytest.raises(KeyError):
            staging.drop("a")
        with pytest.raises(KeyError):
            staging.data("a")
    with _stage(tmp_path) as staging:
        assert staging.units() == ["b"]
        artifact = staging.publish(summary={})
    assert list(artifact.group("all").group_keys()) == ["b"]


def test_beginning_a_unit_again_takes_it_back(tmp_path):
    """Also for a worker's own `Unit`: a killed second attempt leaves no record of the first."""
    with _stage(tmp_path) as staging:
        with staging.unit("a") as unit:
            unit.data["n"] = 1
        with pytest.raises(Crash), Unit(staging.directory, "a"):
            raise Crash
        assert not staging.done("a")


def test_units_of_worker_processes_are_adopted(tmp_path):
    with _stage(tmp_path) as staging:
        with Unit(staging.directory, "a") as unit:
            write_array(unit.group("a"), "x", np.ones(2))
            unit.data["n"] = 5
        assert staging.done("a")
        assert staging.data("a") == {"n": 5}


def test_names_of_units_do_not_collide(tmp_path):
    with _stage(tmp_path) as staging:
        with staging.unit("a/b") as unit:
            unit.data["n"] = 1
        assert not staging.done("a--b")
        assert not staging.done("a%2Fb")
        assert staging.done("a/b")


def test_attributes_belong_to_the_unit_that_gives_them(tmp_path):
    """Units that open a group without attributes neither own nor change its metadata."""
    with _stage(tmp_path) as staging:
        with staging.unit("z-first") as unit:
            write_array(unit.group("task/a"), "x", np.ones(1))
        with staging.unit("middle") as unit:
            unit.group("task", {"n": 1})
        with staging.unit("z-last") as unit:
            write_array(unit.group("task/b"), "x", np.ones(1))
            unit.group("task")
        with staging.unit("later") as unit:
            unit.group("task/a").attrs["set"] = "through zarr"
        staging.drop("z-last")
    with _stage(tmp_path) as staging:
        assert staging.units() == ["later", "middle", "z-first"]
        artifact = staging.publish(summary={})
    assert dict(artifact.group("task").attrs) == {"n": 1}
    assert dict(artifact.group("task/a").attrs) == {"set": "through zarr"}
    assert verify(artifact, deep=True) == []


def test_log_may_be_written_by_several_units(tmp_path):
    """The last writing is published; dropping the first unit does not take it along."""
    with _stage(tmp_path) as staging:
        for name in ("a", "b"):
            with staging.unit(name) as unit:
                unit.write_log("metrics.jsonl", name.encode())
        staging.drop("a")
    with _stage(tmp_path) as staging:
        assert staging.units() == ["b"]
        artifact = staging.publish(summary={})
    assert artifact.read_file(f"{LOG}/metrics.jsonl") == b"b"
    assert verify(artifact) == []


def test_incomplete_array_is_not_published(tmp_path):
    """A shard that no unit wrote would be read as zeros."""
    with _stage(tmp_path) as staging:
        with staging.unit("a") as unit:
            create_rows(unit.group("a"), "rows", (8,), np.float32, chunk_rows=2)[:6] = 1
        with pytest.raises(ArtifactCorruptError) as caught:
            staging.publish(summary={})
        with staging.unit("b") as unit:
            open_rows(unit.group("a"), "rows")[6:] = 1
        np.testing.assert_array_equal(staging.publish(summary={}).read("a/rows"), np.ones(8))
    assert (caught.value.expected, caught.value.found) == ("4 chunks", "3 chunks")


def test_file_lost_before_publishing_is_noticed(tmp_path):
    with _stage(tmp_path) as staging:
        for unit in UNITS:
            write_unit(staging, unit)
        victim = staging.directory / "data.zarr/toy/00000/reward/c/1"
        victim.unlink()
        with pytest.raises(ArtifactCorruptError) as caught:
            staging.publish(summary={})
    assert caught.value.where == str(victim)
    assert Workspace(tmp_path).names("histories") == []
    made = []
    run_tiny(tmp_path, on_unit=made.append)
    assert made == [UNITS[1]]


def test_two_units_of_one_file_are_refused(tmp_path):
    with _stage(tmp_path) as staging:
        for name in ("a", "b"):
            with staging.unit(name) as unit:
                unit.group("task", {"unit": name})
        with pytest.raises(ArtifactCorruptError, match="not whole"):
            staging.publish(summary={})


@pytest.mark.parametrize("values", [np.zeros((0, 3)), np.zeros((5, 0)), np.float64(2.5), np.ones(1)])
def test_empty_and_scalar_arrays_are_whole(tmp_path, values):
    with _stage(tmp_path) as staging:
        with staging.unit("a") as unit:
            write_array(unit.group("a"), "x", np.asarray(values))
        artifact = staging.publish(summary={})
    np.testing.assert_array_equal(artifact.read("a/x"), values)
    assert verify(artifact, deep=True) == []


@pytest.mark.parametrize("path", ["../up", "/etc", "a//b", "a/../b", "a/"])
def test_groups_and_logs_stay_inside(tmp_path, path):
    with _stage(tmp_path) as staging, staging.unit("a") as unit:
        with pytest.raises(ValueError, match="inside"):
            unit.group(path)
        with pytest.raises(ValueError, match="inside"):
            unit.write_log(path, b"")


def test_existing_directory_is_never_replaced(tmp_path):
    """A version that lost its manifest keeps its number and its files; nothing is moved onto it."""
    lost = run_tiny(tmp_path).path
    (lost / MANIFEST).unlink()
    (tmp_path / "histories/tiny/v2").mkdir()
    assert run_tiny(tmp_path).manifest.version == 3
    assert (lost / "data.zarr/zarr.json").is_file()
    assert list((tmp_path / "histories/tiny/v2").iterdir()) == []


@pytest.mark.parametrize("damage", ["manifest", "missing", "truncated"])
def test_damaged_version_is_not_up_to_date(tmp_path, damage):
    """The stage's command makes it again under the next number."""
    first = run_tiny(tmp_path)
    chunk = first.path / "data.zarr/toy/00000/reward/c/1"
    if damage == "manifest":
        (first.path / MANIFEST).write_bytes(b"{}")
    elif damage == "missing":
        chunk.unlink()
    else:
        chunk.write_bytes(chunk.read_bytes()[:-1])
    again = run_tiny(tmp_path)
    assert again.manifest.version == 2
    assert again.digest == first.digest


def test_symlinked_workspace(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    artifact = run_tiny(tmp_path / "link")
    check_tiny(artifact)
    assert Workspace(tmp_path / "real").find("histories").digest == artifact.digest


def test_same_bytes_on_another_file_system(tmp_path, undisturbed):
    """On a disk and, where there is one, in memory."""
    assert run_tiny(tmp_path).digest == undisturbed.digest


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_workspace_without_permission_says_so(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(StorageError) as caught:
        run_tiny(tmp_path)
    assert "--workspace" in (caught.value.fix or "")


def test_workspace_below_a_file_is_a_storage_error(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError) as caught:
        run_tiny(tmp_path / "file" / "workspace")
    assert caught.value.where is not None


def test_configuration_must_be_json(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        _stage(tmp_path, rate=float("nan"))


def test_record_is_plain_json(tmp_path):
    """What is resumed from is readable by a person and holds no pickle."""
    with _stage(tmp_path) as staging:
        write_unit(staging, UNITS[0])
        (record,) = (staging.directory / PROGRESS).iterdir()
    fields = json.loads(record.read_bytes())
    assert fields["unit"] == UNITS[0]
    assert fields["data"] == {"rows": 4}
    assert "data.zarr/toy/00000/reward/c/0" in fields["files"]
