"""What cannot be read is neither absent nor damaged; what was damaged is never published."""

from __future__ import annotations

import ast
import errno
import json
import os
import shutil
from pathlib import Path

import pytest

import pipelines
from pipelines.artifacts.artifact import Artifact
from pipelines.artifacts.files import canonical_json, failure_of, write_sealed
from pipelines.artifacts.verify import verify
from pipelines.artifacts.work import PROGRESS, record_path
from pipelines.artifacts.workspace import Workspace
from pipelines.errors import ArtifactCorruptError, StorageError
from pipelines.parallel import attempt

from .helpers import (
    CONFIG,
    WORK_ITEMS,
    FileSystem,
    publish_tiny,
    quick_directory,
    run_tiny,
    write_item,
)

SMALL = {**CONFIG, "shards": 1}
ERRORS = (errno.EIO, errno.EMFILE, errno.EACCES, errno.ENOSPC)
STEP = 23


def _stage(root):
    return Workspace(root).stage("histories", "tiny", config=CONFIG, seeds={"seed": 3})


def _error(number):
    return lambda: OSError(number, os.strerror(number))


def _begin(root):
    """Leave a run behind that has one durable item."""
    with Workspace(root).stage("histories", "tiny", config=SMALL, seeds={"seed": 3}) as staging:
        write_item(staging, WORK_ITEMS[0])


def _refused_reads(step):
    """Resume a run with every `step`-th of its reads refused, each with an error of the four."""
    with quick_directory() as directory:
        root = directory / "undisturbed"
        _begin(root)
        counted = FileSystem(root, reads=True)
        with counted.installed():
            digest = run_tiny(root, config=SMALL).digest
        assert len(counted.log) > 100
        for number in range(1, len(counted.log) + 1, step):
            root = directory / str(number)
            _begin(root)
            error = _error(ERRORS[number // step % len(ERRORS)])
            system = FileSystem(root, error, lambda n, name, path, at=number: n == at, reads=True)
            try:
                with system.installed():
                    assert run_tiny(root, config=SMALL).digest == digest, system.log[number - 1]
            except StorageError as caught:
                assert os.strerror(error().errno) in caught.message
                assert caught.where is not None
                assert caught.exit_code == 1
                assert "run the same command again" in (caught.fix or "")
            except OSError as caught:
                assert failure_of(caught) is not None
            for version in root.glob("histories/tiny/v*"):
                assert verify(version, deep=True) == []
            assert run_tiny(root, config=SMALL).digest == digest, system.log[number - 1]
            shutil.rmtree(root)


def test_refused_reads():
    """An error that names what cannot be read, or the right digest: never less than was made."""
    _refused_reads(STEP)


@pytest.mark.slow
@pytest.mark.parametrize("kind", range(len(ERRORS)))
def test_every_refused_read(monkeypatch, kind):
    monkeypatch.setattr(f"{__name__}.ERRORS", ERRORS[kind:] + ERRORS[:kind])
    _refused_reads(1)


@pytest.mark.parametrize("number", ERRORS)
def test_an_unreadable_record_is_not_left_out(tmp_path, number):
    with _stage(tmp_path) as staging:
        for item in WORK_ITEMS:
            write_item(staging, item)
        path = str(record_path(staging.directory, WORK_ITEMS[1]))
        system = FileSystem(tmp_path, _error(number), lambda n, name, at: at == path, reads=True)
        with system.installed(), pytest.raises(StorageError) as caught:
            publish_tiny(staging)
    assert caught.value.where == path
    assert errno.errorcode[number] in caught.value.message
    assert not list(tmp_path.glob("histories/tiny/v*"))
    made = []
    run_tiny(tmp_path, on_item=made.append)
    assert made == []


def test_every_flipped_byte_of_a_record_is_seen(tmp_path):
    """The item is made again, and the result is that of an undisturbed run."""
    digest = run_tiny(tmp_path / "undisturbed").digest
    root = tmp_path / "staged"
    with _stage(root) as staging:
        for item in WORK_ITEMS:
            write_item(staging, item)
        staged, record = staging.directory, record_path(staging.directory, WORK_ITEMS[1])
    data = record.read_bytes()
    for position in range(0, len(data), max(1, len(data) // 12)):
        damaged = bytearray(data)
        damaged[position] ^= 1 << position % 8
        copy = tmp_path / "copy"
        shutil.copytree(root, copy)
        (copy / record.relative_to(root)).write_bytes(damaged)
        made = []
        assert run_tiny(copy, on_item=made.append).digest == digest
        assert made == [WORK_ITEMS[1]]
        shutil.rmtree(copy)
    assert staged.is_dir()


@pytest.mark.parametrize("change", ["no checksum", "another unit's", "cut short"])
def test_a_record_that_cannot_be_trusted_is_made_again(tmp_path, change):
    """Staged work of a release whose records had no checksum begins anew, without an error."""
    with _stage(tmp_path) as staging:
        for item in WORK_ITEMS[:2]:
            write_item(staging, item)
        path = record_path(staging.directory, WORK_ITEMS[1])
        record = json.loads(path.read_bytes())
        if change == "no checksum":
            del record["checksum"]
            path.write_bytes(canonical_json(record))
        elif change == "another unit's":
            path.write_bytes(record_path(staging.directory, WORK_ITEMS[0]).read_bytes())
        else:
            path.write_bytes(path.read_bytes()[:-9])
    made = []
    run_tiny(tmp_path, on_item=made.append)
    assert made == WORK_ITEMS[1:]


@pytest.mark.parametrize("found", ["none", "other bytes"])
@pytest.mark.parametrize("told", [True, False])
def test_work_items_that_are_missing_are_not_published(tmp_path, found, told):
    """Told its items, publishing misses each; not told, it still sees a record that is damaged."""
    if found == "none" and not told:
        return
    with _stage(tmp_path) as staging:
        for item in WORK_ITEMS:
            write_item(staging, item)
        path = record_path(staging.directory, WORK_ITEMS[2])
        if found == "none":
            path.unlink()
        else:
            path.write_bytes(path.read_bytes()[:-1])
        with pytest.raises(ArtifactCorruptError, match="not whole") as caught:
            staging.publish(summary={}, work_items=WORK_ITEMS if told else None)
        assert caught.value.where == str(path)
        assert (caught.value.found or "").startswith(found)
    assert not list(tmp_path.glob("histories/tiny/v*"))


def test_every_stage_says_which_work_items_it_publishes():
    """Without them a work item whose record is lost would be left out, and nobody would know."""
    calls = [
        (path.name, {keyword.arg for keyword in node.keywords})
        for path in Path(pipelines.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "publish"
    ]
    assert len(calls) >= 7
    assert [name for name, given in calls if "work_items" not in given] == []


@pytest.mark.parametrize("number", ERRORS)
@pytest.mark.parametrize("relative", ["manifest.json", "data.zarr/toy/00000/reward/c/1"])
def test_a_parent_that_cannot_be_read_is_not_corrupt(tmp_path, relative, number):
    """Every reader of a published artifact says so, and `verify` does not call it damaged."""
    artifact = run_tiny(tmp_path)
    path = str(artifact.path / relative)
    system = FileSystem(tmp_path, _error(number), lambda n, name, at: at == path, reads=True)

    def read():
        Artifact(artifact.path).read("toy/00000/reward")

    def check():
        Artifact(artifact.path).file("data.zarr/toy/00000/reward/c/1")

    for access in (read, check, lambda: verify(artifact.path, deep=True)):
        with system.installed(), pytest.raises(StorageError) as caught:
            access()
        assert caught.value.where == path
        assert "cannot read" in caught.value.message
    assert verify(artifact, deep=True) == []


def test_an_error_of_a_library_is_told_as_the_file_systems(monkeypatch):
    """In a worker process, and while a domain loads: it is not unexpected, and not the domain's."""

    def broken(*args):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), "/some/file")

    outcome = attempt(broken, None, lambda amount=1: None)
    assert isinstance(outcome.error, StorageError)
    assert outcome.error.where == "/some/file"
    assert "ulimit" in (outcome.error.fix or "")
    assert failure_of(OSError(errno.EPIPE, "Broken pipe")) is None
    assert failure_of(ValueError("no number")) is None


def test_sealed_records_hold_what_was_written(tmp_path):
    from pipelines.artifacts.files import read_sealed

    path = tmp_path / PROGRESS / "a.json"
    write_sealed(path, {"b": [1.5, None], "a": "\u00e4"})
    assert read_sealed(path) == {"b": [1.5, None], "a": "\u00e4"}
    assert read_sealed(tmp_path / "none.json") is None
