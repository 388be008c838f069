"""An export is whole or not there, and nothing that it did not write is ever lost."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from pipelines.artifacts import files
from pipelines.artifacts.workspace import Workspace
from pipelines.errors import StorageError, UsageError
from pipelines.interchange.checkpoints import import_checkpoint
from pipelines.interchange.config import ExportConfig, ImportCheckpointConfig
from pipelines.interchange.official_checkpoint import export_official
from pipelines.interchange.output import output_directory
from pipelines.interchange.safetensors_checkpoint import export_safetensors
from pipelines.reporter import NullReporter

from .support import task, write_official

OWN = r"a|sub/b|c"


def export(target: Path, text: str = "new", names: tuple[str, ...] = ("a", "sub/b"), **more: Any):
    """Write an export of small files; ``during`` is called when they are complete."""
    during: Callable[[], object] = more.pop("during", lambda: None)
    with output_directory(target, overwrite=more.pop("overwrite", False), own=OWN) as output:
        for name in names:
            files.write_file(output.directory / name, text.encode())
        during()
    return output


def tree(directory: Path) -> dict[str, str]:
    """Text of each file by its path, hidden ones too."""
    return {
        path.relative_to(directory).as_posix(): path.read_text()
        for path in directory.rglob("*")
        if path.is_file()
    }


def test_every_file_is_there_with_its_hash(tmp_path: Path) -> None:
    output = export(tmp_path / "deep" / "out")
    assert tree(tmp_path / "deep" / "out") == {"a": "new", "sub/b": "new"}
    assert [each["path"] for each in output.files] == ["a", "sub/b"]
    assert output.files[0]["sha256"] == files.hash_bytes(b"new").sha256


@pytest.mark.parametrize("name", ["a", "sub/b", "sub"])
def test_a_file_that_appears_meanwhile_is_kept(tmp_path: Path, name: str) -> None:
    out = tmp_path / "out"
    with pytest.raises((UsageError, StorageError), match=r"came into the output|File exists"):
        export(out, during=lambda: files.write_file(out / name, b"mine"))
    assert tree(tmp_path) == {f"out/{name}": "mine"}


def test_a_file_of_another_name_that_appears_is_kept_beside(tmp_path: Path) -> None:
    out = tmp_path / "out"
    output = export(out, during=lambda: files.write_file(out / "notes", b"mine"))
    assert tree(out) == {"a": "new", "sub/b": "new", "notes": "mine"}
    assert [each["path"] for each in output.files] == ["a", "sub/b"]


@pytest.mark.parametrize("change", ["written", "replaced", "gone"])
def test_an_earlier_export_that_others_change_is_not_replaced(tmp_path: Path, change: str) -> None:
    out = tmp_path / "out"
    export(out, "old", names=("a", "sub/b", "c"))

    def during() -> None:
        if change == "written":
            (out / "c").write_text("mine")
        elif change == "replaced":
            files.write_file(out / "c", b"old")
        else:
            (out / "c").unlink()

    with pytest.raises(UsageError, match="came into the output"):
        export(out, overwrite=True, during=during)
    after = {"a": "old", "sub/b": "old", "c": "mine" if change == "written" else "old"}
    if change == "gone":
        del after["c"]
    assert tree(tmp_path) == {f"out/{name}": text for name, text in after.items()}


def test_an_earlier_export_is_replaced_as_a_whole(tmp_path: Path) -> None:
    out = tmp_path / "out"
    export(out, "old", names=("a", "sub/b", "c"))
    with pytest.raises(UsageError, match="there already"):
        export(out)
    export(out, names=("c",), overwrite=True)
    assert tree(out) == {"c": "new"}
    assert [path.name for path in out.iterdir()] == ["c"]


def test_an_export_that_fails_leaves_everything_as_it_was(tmp_path: Path) -> None:
    def fail() -> None:
        raise StorageError("no space left")

    (tmp_path / "empty").mkdir()
    export(tmp_path / "old", "old")
    for target, overwrite in ((tmp_path / "x" / "y", False), (tmp_path / "empty", False)):
        with pytest.raises(StorageError):
            export(target, during=fail, overwrite=overwrite)
    with pytest.raises(StorageError):
        export(tmp_path / "old", during=fail, overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "old"]
    assert tree(tmp_path) == {"old/a": "old", "old/sub/b": "old"}


def test_links_and_the_current_directory_are_outputs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    inode = (tmp_path / "real").stat().st_ino
    export(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").stat().st_ino == inode
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    export(Path())
    assert sorted(path.name for path in Path().iterdir()) == ["a", "sub"]


def test_what_cannot_be_an_output_is_refused_before_the_work(tmp_path: Path) -> None:
    def never() -> None:
        raise AssertionError("the work began")

    (tmp_path / "file").write_text("mine")
    (tmp_path / "to-file").symlink_to("file")
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").symlink_to("../file")
    for name in ("file", "to-file", "loop", "pipe", "full", "file/below"):
        with pytest.raises((UsageError, StorageError)):
            export(tmp_path / name, during=never, overwrite=True)
    assert (tmp_path / "file").read_text() == "mine"
    (tmp_path / "killed" / ".vintix-export-0.partial").mkdir(parents=True)
    (tmp_path / "killed" / ".vintix-export-0.partial" / "a").write_text("half")
    with pytest.raises(UsageError, match=r"(?s)fix: delete .vintix-export-0.*killed"):
        export(tmp_path / "killed", during=never, overwrite=True)


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@pytest.mark.parametrize("form", [export_official, export_safetensors])
@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o027, 0o640)])
def test_modes_are_those_of_the_umask(
    workspace: Workspace, tmp_path: Path, form: Callable[..., Any], mask: int, mode: int
) -> None:
    """Also of files that a library makes private first, as safetensors does."""
    folder = write_official(tmp_path / "released", {"a": task(3, 2, "g")})
    import_checkpoint(ImportCheckpointConfig(path=folder), workspace, NullReporter())
    with umask(mask):
        form(ExportConfig(output=tmp_path / "out"), workspace, NullReporter())
    found = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "out").iterdir()}
    assert len(found) >= 2
    assert set(found.values()) == {mode}


@pytest.mark.slow
@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", ["a", "sub/b", "c", "notes"])
def test_a_file_that_appears_at_any_call_is_never_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overwrite: bool, name: str
) -> None:
    """The file of another program comes just before each call that names, moves or deletes."""
    calls, at, target = 0, 0, tmp_path

    def meddled(call: Callable[..., Any]) -> Callable[..., Any]:
        def meddle(*args: Any, **more: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == at:
                (target / name).parent.mkdir(exist_ok=True)
                (target / name).write_text("mine")
            return call(*args, **more)

        return meddle

    while calls >= at:
        calls, at = 0, at + 1
        target = tmp_path / str(at)
        if overwrite:
            export(target, "old", names=("a", "c"))
        with monkeypatch.context() as patched, suppress(UsageError, StorageError):
            for call in ("link", "rename", "replace", "unlink"):
                patched.setattr(os, call, meddled(getattr(os, call)))
            export(target, overwrite=overwrite)
        if calls >= at:
            assert tree(target).get(name) == "mine", at
    assert at > 4
