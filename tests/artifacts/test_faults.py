"""Every single change of the file system refused, or made the last one, in turn."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.artifacts.verify import verify
from pipelines.artifacts.workspace import Workspace
from pipelines.errors import ArtifactMissingError, StorageError

from .helpers import CONFIG, Crash, FileSystem, check_tiny, quick_directory, run_tiny

SMALL = {**CONFIG, "shards": 1}
EVERY = [False, pytest.param(True, marks=pytest.mark.slow)]


def _disk_full() -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _input_output_error() -> OSError:
    return OSError(errno.EIO, os.strerror(errno.EIO))


def _changes_of_a_run(root: Path) -> tuple[list[str], str]:
    """Return the name of each change, and the digest."""
    counted = FileSystem(root)
    with counted.installed():
        digest = run_tiny(root, config=SMALL).digest
    names = [name for name, _ in counted.log]
    assert set(names) == {
        *("open", "write", "fsync", "replace", "rename", "mkdir", "unlink", "rmdir", "link")
    }
    return names, digest


def _visible_is_whole(root: Path) -> None:
    for version in root.glob("histories/tiny/v*"):
        assert verify(version, deep=True) == []
    try:
        check_tiny(Workspace(root).find("histories"))
    except ArtifactMissingError:
        assert not list(root.glob("histories/tiny/v*"))


def _each(every: bool, body: Callable[[Path, int, str], None]) -> None:
    """Go through every change, or through the first and the last one of each kind."""
    with quick_directory() as directory:
        names, digest = _changes_of_a_run(directory / "undisturbed")
        assert len(names) > 100
        last = {name: number for number, name in enumerate(names, 1)}
        ends = {names.index(name) + 1 for name in last} | set(last.values())
        for number in range(1, len(names) + 1) if every else sorted(ends):
            root = directory / str(number)
            body(root, number, digest)
            shutil.rmtree(root, ignore_errors=True)


@pytest.mark.parametrize("every", EVERY)
def test_death_at_a_change(every):
    """Killed before its Nth change: nothing partial is visible, resume is exact."""

    def dies(root: Path, number: int, digest: str) -> None:
        system = FileSystem(root, refuses=lambda n, name, path: n >= number)
        with system.installed(), pytest.raises(Crash):
            run_tiny(root, config=SMALL)
        _visible_is_whole(root)
        again = run_tiny(root, config=SMALL)
        assert again.digest == digest
        assert verify(again) == []

    _each(every, dies)


@pytest.mark.parametrize("every", EVERY)
@pytest.mark.parametrize("error", [_disk_full, _input_output_error])
def test_refusal_of_a_change(error, every):
    """ENOSPC that stays and EIO that passes, at the Nth: an error that helps, and no damage."""
    stays = error is _disk_full

    def refused(root: Path, number: int, digest: str) -> None:
        def refuses(n: int, name: str, path: str) -> bool:
            # A full disk refuses what takes room, and lets files be deleted.
            takes_room = name not in ("unlink", "rmdir")
            return n >= number and takes_room if stays else n == number

        system = FileSystem(root, error=error, refuses=refuses)
        with system.installed():
            try:
                artifact = run_tiny(root, config=SMALL)
            except StorageError as caught:
                assert caught.exit_code == 1
                assert str(root) in (caught.where or "") or caught.where in map(str, root.parents)
                assert ("gc" if stays else "disk") in (caught.fix or "")
                assert "run the same command again" in (caught.fix or "")
                assert error().strerror in caught.message
            else:
                # Tidying up was refused, or making a directory that is there.
                assert system.log[number - 1][0] in ("unlink", "mkdir")
                assert artifact.digest == digest
        _visible_is_whole(root)
        again = run_tiny(root, config=SMALL)
        assert again.digest == digest
        assert verify(again) == []

    _each(every, refused)


def test_error_names_the_room_that_is_needed(tmp_path):
    """The message of a full disk: what could not be written, its size, and what is free."""
    system = FileSystem(tmp_path, _disk_full, lambda n, name, path: "reward/c/1" in path)
    with system.installed(), pytest.raises(StorageError) as caught:
        run_tiny(tmp_path)
    error = caught.value
    assert error.where is not None and error.where.endswith("reward/c/1")
    assert error.expected == "room for 16 bytes"
    assert "bytes free" in (error.found or "")


def test_short_writes_are_completed(tmp_path):
    """The kernel may take part of a write: the rest follows."""
    real = os.write
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:7]))
        artifact = run_tiny(tmp_path)
    assert verify(artifact, deep=True) == []
    check_tiny(artifact)


def test_failed_write_leaves_no_partial_file(tmp_path):
    system = FileSystem(tmp_path, _input_output_error, lambda n, name, path: "reward/c/1" in path)
    with system.installed(), pytest.raises(StorageError):
        run_tiny(tmp_path)
    assert list(tmp_path.rglob("*.partial")) == []
