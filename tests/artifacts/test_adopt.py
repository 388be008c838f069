"""A copy of an artifact is published whole, with its bytes, or not at all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from pipelines.artifacts import files
from pipelines.artifacts.adopt import adopt
from pipelines.artifacts.schema import CHECKSUM, content_digest
from pipelines.artifacts.verify import verify
from pipelines.artifacts.workspace import Workspace
from pipelines.errors import ArtifactCorruptError, StorageError
from pipelines.reporter import NullReporter

GOLDEN = Path(__file__).with_name("golden") / "histories" / "v2"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A copy as a cache of downloads has it: each file a link."""
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshot"
    shutil.copytree(GOLDEN, blobs)
    for path in files.list_files(blobs):
        link = snapshot / path
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(blobs / path)
    return snapshot


def taken(source: Path, workspace: Workspace, name: str | None = None):
    return adopt(source, workspace, name, NullReporter())


def test_the_copy_is_files_with_the_same_bytes(source, tmp_path):
    artifact, up_to_date = taken(source, Workspace(tmp_path / "work"))
    assert not up_to_date and artifact.reference == "golden@v1"
    assert files.list_files(artifact.path) == files.list_files(GOLDEN)
    for path in files.list_files(GOLDEN):
        assert not (artifact.path / path).is_symlink()
        assert (artifact.path / path).read_bytes() == (GOLDEN / path).read_bytes()
    assert taken(source, Workspace(tmp_path / "work"))[1]


def test_what_a_killed_copy_leaves_is_gone_over(source, tmp_path, monkeypatch):
    """Nothing is seen of it, and the next copy does not trust it."""
    workspace = Workspace(tmp_path / "work")
    link_file, linked = files.link_file, []

    def stop(*arguments):
        linked.append(arguments)
        if len(linked) == 5:
            raise StorageError("the power is gone")
        link_file(*arguments)

    monkeypatch.setattr(files, "link_file", stop)
    with pytest.raises(StorageError):
        taken(source, workspace)
    monkeypatch.undo()
    assert workspace.versions("histories", "golden") == []
    (staging,) = (workspace.root / "histories" / "golden").glob(".staging-*")
    (staging / "data.zarr" / "strange").write_text("!")
    left = next(path for path in files.list_files(staging) if path.endswith("zarr.json"))
    (staging / left).unlink()
    (staging / left).write_text("!")
    artifact, _ = taken(source, workspace)
    assert verify(artifact, deep=True) == []
    assert not staging.exists()


def test_a_damaged_version_is_not_taken_for_the_content(source, tmp_path):
    workspace = Workspace(tmp_path / "work")
    first, _ = taken(source, workspace)
    path = first.path / sorted(first.manifest.files)[0]
    path.unlink()
    second, up_to_date = taken(source, workspace)
    assert (second.reference, up_to_date) == ("golden@v2", False)
    assert second.digest == first.digest
    assert verify(second, deep=True) == []


@pytest.mark.parametrize("harm", ["missing", "longer", "other"])
def test_a_copy_that_is_not_whole_is_refused(source, tmp_path, harm):
    path = sorted(json.loads((source / "manifest.json").read_bytes())["files"])[0]
    data = (source / path).read_bytes()
    (source / path).unlink()
    if harm != "missing":
        changed = data + b"!" if harm == "longer" else bytes([data[0] ^ 1]) + data[1:]
        (source / path).write_bytes(changed)
    workspace = Workspace(tmp_path / "work")
    with pytest.raises(ArtifactCorruptError) as caught:
        taken(source, workspace)
    assert caught.value.where == str(source / path)
    assert workspace.versions("histories", "golden") == []


def test_nothing_is_written_outside_of_the_workspace(source, tmp_path):
    """A manifest's paths stay inside, and a link of the workspace is not followed."""
    manifest = json.loads((source / "manifest.json").read_bytes())
    manifest.pop(CHECKSUM)
    manifest["files"] = {"../../outside": next(iter(manifest["files"].values()))}
    manifest["digest"] = content_digest(manifest)
    hostile = tmp_path / "hostile"
    files.write_sealed(hostile / "manifest.json", manifest)
    workspace = Workspace(tmp_path / "work")
    with pytest.raises(ArtifactCorruptError, match="manifest"):
        taken(hostile, workspace)
    (tmp_path / "elsewhere").mkdir()
    workspace.root.mkdir(parents=True)
    (workspace.root / "histories").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ArtifactCorruptError, match="lead out"):
        taken(source, workspace)
    assert not list((tmp_path / "elsewhere").iterdir())
