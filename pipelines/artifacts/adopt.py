"""Taking a copy of an artifact that was published elsewhere into a workspace.

Its manifest stays as it is, byte for byte, unless its name is another one here or its version is
taken by other content: then these two are written anew, and the digest, which is of the content
alone, stays.
"""

from __future__ import annotations

import os
from pathlib import Path

from pipelines.artifacts import files
from pipelines.artifacts.artifact import Artifact
from pipelines.artifacts.locks import NameLock
from pipelines.artifacts.schema import CHECKSUM, MANIFEST, Manifest, parse_manifest
from pipelines.artifacts.staging import PARENTS, STAGING_PREFIX, check_place
from pipelines.artifacts.workspace import Workspace
from pipelines.errors import ArtifactCorruptError
from pipelines.reporter import Reporter


def read_manifest(source: Path) -> Manifest:
    """Read the manifest of a copy, which may be a link as in caches of downloads.

    Raises:
        ArtifactCorruptError: It is damaged.
        ArtifactSchemaError: A newer release wrote it, or it is of no artifact.
    """
    path = source / MANIFEST
    return parse_manifest(files.read_file(path.resolve()), where=path)


def adopt(
    source: Path, workspace: Workspace, name: str | None, reporter: Reporter
) -> tuple[Artifact, bool]:
    """Publish a copy of an artifact in a workspace, each byte compared with its manifest.

    Args:
        source: A directory with `manifest.json` and the files that it lists; each may be a link.
        workspace: Where it goes: under its own version where that is free, else the next one.
        name: Its name here; None for its own.

    Returns:
        The artifact, and whether the workspace had its content under this name already.

    Raises:
        ArtifactCorruptError: A file is missing or has other bytes; nothing is published.
        StorageError, LockedError: The workspace cannot be written.
    """
    manifest = read_manifest(source)
    name = name or manifest.name
    lock = NameLock(workspace.root / manifest.kind / name)

    def same(held: Manifest) -> bool:
        return held.digest == manifest.digest

    found = workspace.find_whole(manifest.kind, name, same)
    if found is not None:
        return found, True
    directory = workspace.root / manifest.kind / name / f"{STAGING_PREFIX}{manifest.digest[:16]}"
    check_place(workspace.root, directory)
    lock.acquire()
    try:
        # Another process may have published it meanwhile.
        found = workspace.find_whole(manifest.kind, name, same)
        if found is not None:
            return found, True
        return _publish(source, directory, manifest, workspace, name, reporter), False
    finally:
        lock.release()


def _publish(
    source: Path,
    directory: Path,
    manifest: Manifest,
    workspace: Workspace,
    name: str,
    reporter: Reporter,
) -> Artifact:
    files.make_directory(directory)
    # It is made of nothing in this workspace.
    files.write_sealed(directory / PARENTS, {"parents": []})
    total = sum(entry.size for entry in manifest.files.values())
    with reporter.progress(f"check {manifest.kind}/{name}", total, "B") as progress:
        for relative, entry in manifest.files.items():
            target, wanted = directory / relative, (entry.size, entry.sha256)
            _take(source / relative, target, entry.size)
            record = files.hash_file(target, entry.size)
            if (record.size, record.sha256) != wanted:
                files.remove_file(target)
                raise _damaged(
                    source / relative,
                    f"{entry.size:,} bytes with SHA-256 {entry.sha256[:16]}...",
                    f"{record.size:,} bytes with SHA-256 {record.sha256[:16]}...",
                )
            progress.advance(entry.size)
    taken = workspace.taken_versions(manifest.kind, name)
    version = manifest.version
    if version in taken:
        version = workspace.next_version(manifest.kind, name)
    data = files.read_file((source / MANIFEST).resolve())
    if (name, version) != (manifest.name, manifest.version):
        fields, _ = files.unseal(data)
        fields |= {"name": name, "version": version}
        data = files.canonical_json({**fields, CHECKSUM: files.checksum(fields)})
    files.write_file(directory / MANIFEST, data)
    target = workspace.path(manifest.kind, name, version)
    files.move_whole(directory, target, [MANIFEST, *manifest.files])
    return Artifact(target)


def _take(source: Path, target: Path, size: int) -> None:
    path = source.resolve()
    wrong = files.what_is_wrong(path, size)
    if wrong is not None:
        raise _damaged(source, f"{size:,} bytes", wrong)
    files.link_file(path, target, size)
    # A cache of downloads may not have waited for the disk.
    with target.open("rb") as opened:
        os.fsync(opened.fileno())


def _damaged(path: Path, expected: str, found: str) -> ArtifactCorruptError:
    return ArtifactCorruptError(
        "the copy is not the artifact of its manifest, and was not published",
        where=path,
        expected=expected,
        found=found,
        fix="get it again, or ask whoever published it",
    )
