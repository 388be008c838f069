"""What is in a workspace, as plain rows: published versions, damaged ones, and staged work."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipelines.artifacts import files
from pipelines.artifacts.artifact import Artifact
from pipelines.artifacts.locks import NameLock
from pipelines.artifacts.references import check_kind, check_name
from pipelines.artifacts.schema import MANIFEST, SCHEMA_VERSIONS, config_digest
from pipelines.artifacts.staging import STAGING_PREFIX
from pipelines.artifacts.work import PROGRESS
from pipelines.artifacts.workspace import Workspace
from pipelines.errors import ArtifactError, StorageError


def list_artifacts(
    workspace: Workspace, kind: str | None = None, name: str | None = None
) -> list[dict[str, Any]]:
    """List the published versions, by kind, name and version.

    Returns:
        JSON objects with ``kind``, ``name``, ``version``, ``path``, ``digest``, ``created`` (ISO
        8601, UTC), ``size_bytes``, ``parents`` (references, ``kind/name@vN``) and ``damaged``:
        null, or what is wrong with the manifest; then digest and created are null, and parents
        empty.
    """
    return [
        _published_row(workspace.path(base.parent.name, base.name, version))
        for base in name_directories(workspace, kind, name)
        for version in workspace.taken_versions(base.parent.name, base.name)
    ]


def list_staged(
    workspace: Workspace, kind: str | None = None, name: str | None = None
) -> list[dict[str, Any]]:
    """List the staged, unpublished work.

    Returns:
        JSON objects with ``kind``, ``name``, ``path``, ``units_done`` (durable work items),
        ``complete`` (only the publishing rename is missing), ``size_bytes``, ``modified`` (ISO
        8601, UTC) and ``held_by``: null, or the process that works under the name.
    """
    rows = []
    for base in name_directories(workspace, kind, name):
        staged = staging_directories(base)
        holder = NameLock(base).holder() if staged else None
        rows += [
            {
                "kind": base.parent.name,
                "name": base.name,
                "path": str(directory),
                "units_done": len(list((directory / PROGRESS).glob("*.json"))),
                "complete": (directory / MANIFEST).is_file(),
                "size_bytes": tree_bytes(directory),
                "modified": last_modified(directory).isoformat(timespec="seconds"),
                "held_by": holder,
            }
            for directory in staged
        ]
    return rows


def show_artifact(path: Path) -> dict[str, Any]:
    """Return everything about one artifact: its path, reference, size, and its manifest.

    ``configuration`` is the digest of configuration and parents, by which trackers name its run.

    Raises:
        ArtifactError: It cannot be read.
    """
    artifact = Artifact(path)
    manifest = artifact.manifest
    return {
        "reference": f"{artifact.kind}/{artifact.reference}",
        "path": str(artifact.path),
        "size_bytes": _size(artifact),
        "parents": [parent.reference for parent in manifest.parents],
        "configuration": config_digest(artifact.kind, manifest.config, manifest.parents),
        "manifest": manifest.model_dump(mode="json"),
    }


def name_directories(
    workspace: Workspace, kind: str | None = None, name: str | None = None
) -> Iterator[Path]:
    """Yield the directories ``<root>/<kind>/<name>`` of all names, or of one kind, or one name."""
    for each_kind in [check_kind(kind)] if kind else list(SCHEMA_VERSIONS):
        for each_name in [check_name(name)] if name else workspace.all_names(each_kind):
            yield workspace.root / each_kind / each_name


def staging_directories(base: Path) -> list[Path]:
    """Return the staging directories of a name, sorted."""
    return [
        path
        for path in files.list_directory(base)
        if path.name.startswith(STAGING_PREFIX) and path.is_dir()
    ]


def tree_bytes(path: Path) -> int:
    """Return the bytes of all files of a tree, or of one file; what vanishes meanwhile is 0."""
    total = 0
    for each in _tree(path):
        with contextlib.suppress(OSError):
            if each.is_symlink() or not each.is_dir():
                total += each.lstat().st_size
    return total


def last_modified(path: Path) -> datetime:
    """Return when anything in a tree, or a file, was last written."""
    newest = 0.0
    for each in _tree(path):
        with contextlib.suppress(OSError):
            newest = max(newest, each.lstat().st_mtime)
    return datetime.fromtimestamp(newest, UTC)


def _tree(path: Path) -> Iterator[Path]:
    """Yield a path and, unless it is a link, all below it."""
    yield path
    if not path.is_symlink():
        yield from path.rglob("*")


def _published_row(path: Path) -> dict[str, Any]:
    row: dict[str, Any] = {
        "kind": path.parent.parent.name,
        "name": path.parent.name,
        "version": int(path.name[1:]),
        "path": str(path),
    }
    try:
        artifact = Artifact(path)
    except (ArtifactError, StorageError) as error:
        damage = error.message if error.found is None else f"{error.message}: {error.found}"
        row |= {"digest": None, "created": None, "size_bytes": tree_bytes(path), "parents": []}
        return {**row, "damaged": damage}
    return {
        **row,
        "digest": artifact.digest,
        "created": artifact.manifest.created_at,
        "size_bytes": _size(artifact),
        "parents": [parent.reference for parent in artifact.manifest.parents],
        "damaged": None,
    }


def _size(artifact: Artifact) -> int:
    manifest_bytes = (artifact.path / MANIFEST).stat().st_size
    return manifest_bytes + sum(entry.size for entry in artifact.manifest.files.values())
