"""The rows that `vintix artifacts ls` and `show` print."""

from __future__ import annotations

import json
from datetime import datetime

import pytest

from pipelines.artifacts.listing import list_artifacts, list_staged, show_artifact
from pipelines.artifacts.schema import MANIFEST
from pipelines.artifacts.workspace import Workspace
from pipelines.errors import ArtifactCorruptError, UsageError

from .helpers import CONFIG, Crash, FileSystem, run_tiny, write_item

# Scripts rely on these; fields are added, never renamed or removed.
FIELDS = {"kind", "name", "version", "path", "digest", "created"}


def test_rows_of_published_versions(tmp_path):
    first = run_tiny(tmp_path)
    second = run_tiny(tmp_path, "with-parent", parents=[first])
    rows = list_artifacts(Workspace(tmp_path))
    assert rows == json.loads(json.dumps(rows))
    assert all(row.keys() >= FIELDS for row in rows)
    assert rows[1] == {
        "kind": "histories",
        "name": "with-parent",
        "version": 1,
        "path": str(second.path),
        "digest": second.digest,
        "created": second.manifest.created_at,
        "size_bytes": sum(f.stat().st_size for f in second.path.rglob("*") if f.is_file()),
        "parents": ["histories/tiny@v1"],
        "damaged": None,
    }
    assert datetime.fromisoformat(rows[0]["created"]).utcoffset().total_seconds() == 0


def test_rows_can_be_filtered(tmp_path):
    run_tiny(tmp_path, "one")
    run_tiny(tmp_path, "two")
    workspace = Workspace(tmp_path)
    assert [row["name"] for row in list_artifacts(workspace)] == ["one", "two"]
    assert [row["name"] for row in list_artifacts(workspace, "histories", "two")] == ["two"]
    assert list_artifacts(workspace, "datasets") == []
    assert list_artifacts(Workspace(tmp_path / "nowhere")) == []
    with pytest.raises(UsageError):
        list_artifacts(workspace, "poems")
    with pytest.raises(UsageError):
        list_artifacts(workspace, "histories", "../x")


@pytest.mark.parametrize("damage", [b"{}", None])
def test_damaged_version_is_listed_as_such(tmp_path, damage):
    """One bad manifest does not hide the others."""
    bad = run_tiny(tmp_path, "bad")
    run_tiny(tmp_path, "good")
    if damage is None:
        (bad.path / MANIFEST).unlink()
    else:
        (bad.path / MANIFEST).write_bytes(damage)
    rows = list_artifacts(Workspace(tmp_path))
    assert [(row["name"], row["damaged"] is None) for row in rows] == [
        ("bad", False),
        ("good", True),
    ]
    assert (rows[0]["digest"], rows[0]["created"], rows[0]["parents"]) == (None, None, [])
    assert rows[0]["size_bytes"] > 0
    assert rows[0].keys() == rows[1].keys()


def test_rows_of_staged_work(tmp_path):
    workspace = Workspace(tmp_path)
    with workspace.stage("histories", "tiny", config=CONFIG) as staging:
        write_item(staging, "toy/00000/00000")
        write_item(staging, "toy/00000/00001")
        (row,) = list_staged(workspace)
        assert row["held_by"].startswith("process ")
    (row,) = list_staged(workspace)
    assert row == json.loads(json.dumps(row))
    assert (row["kind"], row["name"], row["path"]) == (
        "histories",
        "tiny",
        str(staging.directory),
    )
    assert (row["units_done"], row["complete"], row["held_by"]) == (2, False, None)
    assert row["size_bytes"] > 0
    assert datetime.fromisoformat(row["modified"]).utcoffset().total_seconds() == 0
    assert list_artifacts(workspace) == []
    run_tiny(tmp_path)
    assert list_staged(workspace) == []


def test_work_whose_rename_is_missing_is_marked(tmp_path):
    refuses = lambda number, name, path: name == "rename"  # noqa: E731
    with FileSystem(tmp_path, refuses=refuses).installed(), pytest.raises(Crash):
        run_tiny(tmp_path)
    (row,) = list_staged(Workspace(tmp_path))
    assert row["complete"] is True


def test_show_gives_the_whole_manifest(tmp_path):
    parent = run_tiny(tmp_path)
    artifact = run_tiny(tmp_path, "child", parents=[parent])
    shown = show_artifact(artifact.path)
    assert shown == json.loads(json.dumps(shown))
    assert shown["reference"] == "histories/child@v1"
    assert shown["path"] == str(artifact.path)
    assert shown["parents"] == ["histories/tiny@v1"]
    assert shown["manifest"] == json.loads((artifact.path / MANIFEST).read_bytes())
    (artifact.path / MANIFEST).write_bytes(b"{}")
    with pytest.raises(ArtifactCorruptError):
        show_artifact(artifact.path)
