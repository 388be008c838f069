"""Staged work: items, resume, publishing, and what a crash leaves at each point."""

from __future__ import annotations

import os

import numpy as np
import pytest

from pipelines.artifacts.arrays import create_rows
from pipelines.artifacts.schema import MANIFEST
from pipelines.artifacts.verify import verify
from pipelines.artifacts.work import PROGRESS, SCRATCH
from pipelines.artifacts.workspace import Workspace
from pipelines.errors import (
    ArtifactCorruptError,
    ArtifactMissingError,
    InterruptedRunError,
    StorageError,
)

from .helpers import (
    CONFIG,
    WORK_ITEMS,
    Crash,
    FileSystem,
    check_tiny,
    open_rows,
    run_tiny,
    write_item,
)


@pytest.mark.parametrize("finished", [False, True])
def test_a_stopped_run_says_whether_anything_is_kept(tmp_path, finished):
    message = "stopped by SIGTERM; finished work is kept"
    with (
        pytest.raises(InterruptedRunError) as found,
        Workspace(tmp_path).stage("histories", "tiny", config=CONFIG) as staging,
    ):
        with staging.work_item("environment/tiny") as item:
            item.data["fingerprint"] = {}
        if finished:
            write_item(staging, WORK_ITEMS[0])
        raise InterruptedRunError(message, signal_number=15)
    anew = "stopped by SIGTERM; no part was finished yet, so none is kept"
    assert found.value.message == (message if finished else anew)
    assert found.value.exit_code == 143


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
        again = run_tiny(tmp_path, on_item=made.append)
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
# and the items that the next run makes again.
WINDOWS = {
    "while writing a file": (("replace", "/reward/c/1"), WORK_ITEMS[1:]),
    "between files of a unit": (("mkdir", "/toy/00002"), WORK_ITEMS[2:]),
    "before a unit's record": (("replace", "%2F00001.json"), WORK_ITEMS[1:]),
    "after a unit's record": (("mkdir", "/observation/c/2"), WORK_ITEMS[2:]),
    "before the manifest": (("replace", "/data.zarr/zarr.json"), []),
    "while writing the manifest": (("replace", f"/{MANIFEST}"), []),
    "before clearing": (("unlink", "/sum/c/0"), []),
    "while clearing": (("rmdir", f"/{PROGRESS}"), []),
    "before the rename": (("rename", "/v1"), []),
    "after the rename": (("fsync", "/tiny"), []),
}


@pytest.mark.parametrize("window", WINDOWS)
def test_crash_window(window, tmp_path, undisturbed):
    """Killed there, the next run makes exactly the items of the table and equal content."""
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
    artifact = run_tiny(tmp_path, on_item=made.append)
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
    finished = run_tiny(tmp_path, on_item=pytest.fail)
    assert finished.reference == "tiny@v2"
    assert finished.path.name == "v2"


def test_damaged_staged_manifest_falls_back_to_items(tmp_path, undisturbed):
    refuses = lambda number, name, path: name == "unlink" and "/sum/c/" in path  # noqa: E731
    with FileSystem(tmp_path, refuses=refuses).installed(), pytest.raises(Crash):
        run_tiny(tmp_path)
    (manifest,) = tmp_path.glob(f"histories/tiny/.staging-*/{MANIFEST}")
    manifest.write_bytes(manifest.read_bytes()[:-9])
    made = []
    assert run_tiny(tmp_path, on_item=made.append).digest == undisturbed.digest
    # Its scratch had been cleared in part before the run was killed.
    assert made == [WORK_ITEMS[2]]


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


def test_incomplete_array_is_not_published(tmp_path):
    """A shard that no item wrote would be read as zeros."""
    with _stage(tmp_path) as staging:
        with staging.work_item("a") as item:
            create_rows(item.group("a"), "rows", (8,), np.float32, chunk_rows=2)[:6] = 1
        with pytest.raises(ArtifactCorruptError) as caught:
            staging.publish(summary={})
        with staging.work_item("b") as item:
            open_rows(item.group("a"), "rows")[6:] = 1
        np.testing.assert_array_equal(staging.publish(summary={}).read("a/rows"), np.ones(8))
    assert (caught.value.expected, caught.value.found) == ("4 chunks", "3 chunks")


def test_file_lost_before_publishing_is_noticed(tmp_path):
    with _stage(tmp_path) as staging:
        for item in WORK_ITEMS:
            write_item(staging, item)
        victim = staging.directory / "data.zarr/toy/00000/reward/c/1"
        victim.unlink()
        with pytest.raises(ArtifactCorruptError) as caught:
            staging.publish(summary={})
    assert caught.value.where == str(victim)
    assert Workspace(tmp_path).names("histories") == []
    made = []
    run_tiny(tmp_path, on_item=made.append)
    assert made == [WORK_ITEMS[1]]


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
