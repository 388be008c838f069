"""Finding and deleting what is no longer needed: abandoned work and old versions.

Nothing is followed or deleted through a symbolic link, which may lead out of the workspace.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pipelines.artifacts import files
from pipelines.artifacts.artifact import Artifact
from pipelines.artifacts.listing import (
    last_modified,
    name_directories,
    staging_directories,
    tree_bytes,
)
from pipelines.artifacts.locks import NameLock, without_readers
from pipelines.artifacts.schema import Manifest
from pipelines.artifacts.staging import STAGING_PREFIX, read_parents
from pipelines.artifacts.workspace import Workspace
from pipelines.errors import ArtifactError, ArtifactMissingError, LockedError, UsageError

REMOVED_PREFIX = ".removed-"
_LINK = "a symbolic link leads there, and may lead out of the workspace"
_STAGED = "staged work that no process holds"
_UNFINISHED = "a file that was never finished"
# After every time that a manifest has.
_FIRST = "~"


@dataclass(frozen=True, slots=True)
class Entry:
    """A directory or a file that is deleted, or kept, with its size and the reason."""

    path: Path
    bytes: int
    why: str

    @classmethod
    def of(cls, path: Path, why: str) -> Entry:
        """Return an entry with the size that the path has now."""
        return cls(path, tree_bytes(path), why)

    def as_dict(self) -> dict[str, Any]:
        """Return the entry as a JSON object."""
        return {"path": str(self.path), "bytes": self.bytes, "why": self.why}


@dataclass(frozen=True, slots=True)
class Plan:
    """What can be deleted, and what is kept.

    Attributes:
        leftovers: What killed processes left and no command would go on from.
        staged: Staged work that no process holds: its command, run again, would go on from there.
        versions: Published versions that nothing needs.
        kept: What stays, with the reason.
    """

    leftovers: list[Entry] = field(default_factory=list)
    staged: list[Entry] = field(default_factory=list)
    versions: list[Entry] = field(default_factory=list)
    kept: list[Entry] = field(default_factory=list)


def plan_gc(
    workspace: Workspace,
    keep: int | None = None,
    staging: bool = True,
    older_than: timedelta | None = None,
) -> Plan:
    """Find what can be deleted, touching nothing.

    Args:
        keep: Versions to keep of each name, the newest; None keeps all. A version that a process
            reads, that staged work will read, or that a kept artifact was made from, directly or
            not, is kept as well. Versions with a damaged manifest are neither counted nor deleted.
        staging: Whether staged work that no process holds counts; without it, only what
            killed processes left does. Deleted or not, what it reads is kept this time.
        older_than: Leave alone what was written more recently.

    Raises:
        UsageError: `keep` is below 1.
        StorageError: A manifest or staged work cannot be read.
    """
    if keep is not None and keep < 1:
        raise UsageError("cannot keep fewer than one version", where="--keep", found=keep)
    now = datetime.now(UTC)
    plan = Plan()
    for base in name_directories(workspace):
        link = files.find_link(workspace.root, base)
        if link is not None:
            if all(entry.path != link for entry in plan.kept):
                plan.kept.append(Entry(link, 0, _LINK))
            continue
        holder = NameLock(base).holder()
        for entry in _leftovers(base, staging):
            if holder is not None:
                plan.kept.append(replace(entry, why=f"{holder} is writing there"))
            elif older_than is None or now - last_modified(entry.path) >= older_than:
                found = plan.staged if entry.why == _STAGED else plan.leftovers
                found.append(entry)
    if keep is not None:
        _plan_versions(workspace, keep, None if older_than is None else now - older_than, plan)
    return plan


def collect(workspace: Workspace, entries: Iterable[Entry]) -> tuple[list[Entry], list[Entry]]:
    """Delete entries of a plan, but for what has come into use since.

    Returns:
        What was deleted; and what was kept, with the reason.

    Raises:
        StorageError: The file system refused; running again goes on.
    """
    entries = list(entries)
    to_delete = {entry.path for entry in entries}
    known = _published(workspace)[0]
    # What was made from others goes before them: if it has to stay, so have they.
    entries.sort(
        key=lambda each: known[each.path].created_at if each.path in known else _FIRST,
        reverse=True,
    )
    removed: list[Entry] = []
    kept: list[Entry] = []
    for entry in entries:
        base = workspace.root.joinpath(*entry.path.relative_to(workspace.root).parts[:2])
        if files.find_link(workspace.root, base) is not None:
            why: str | None = _LINK
        else:
            try:
                with NameLock(base):
                    why = _remove(workspace, entry.path, known, to_delete)
            except LockedError as error:
                why = f"{error.found} is writing there"
        if why is None:
            removed.append(entry)
        else:
            kept.append(replace(entry, why=why))
            to_delete.discard(entry.path)
    return removed, kept


def _leftovers(base: Path, staging: bool) -> Iterator[Entry]:
    for path in files.list_directory(base):
        if path.name.startswith(STAGING_PREFIX) and staging:
            yield Entry.of(path, _STAGED)
        elif path.name.startswith(STAGING_PREFIX) and not path.is_symlink():
            for unfinished in files.list_files(path):
                if unfinished.endswith(files.TEMPORARY_SUFFIX):
                    yield Entry.of(path / unfinished, _UNFINISHED)
        elif path.name.startswith(REMOVED_PREFIX):
            yield Entry.of(path, "a deletion that was interrupted")
        elif path.name.endswith(files.TEMPORARY_SUFFIX):
            yield Entry.of(path, _UNFINISHED)


def _plan_versions(
    workspace: Workspace, keep: int, written_before: datetime | None, plan: Plan
) -> None:
    """Divide the versions that are not among the newest into those that go and those that stay."""
    # Staged work first: what is published meanwhile is then seen in one place or the other.
    untold, needed = _staged_reads(workspace)
    published, stays = _published(workspace)
    by_base: dict[Path, list[Path]] = defaultdict(list)
    for path in published:
        by_base[path.parent].append(path)
    old = {path: published[path] for paths in by_base.values() for path in paths[:-keep]}
    of_digest: dict[str, list[Path]] = defaultdict(list)
    for path, manifest in published.items():
        if path in old:
            of_digest[manifest.digest].append(path)
            why = untold or _stays_for_itself(workspace, path, manifest, written_before)
            if why is None:
                continue
            stays[path] = why
        needed += _parents(manifest)
    while needed:
        digest, why = needed.pop()
        for path in of_digest.pop(digest, []):
            stays.setdefault(path, why)
            needed += _parents(old[path])
    for path, manifest in sorted(old.items()):
        if path not in stays:
            why = f"not among the newest {keep} of {manifest.kind}/{manifest.name}"
            plan.versions.append(Entry.of(path, why))
    plan.kept.extend(Entry.of(path, why) for path, why in sorted(stays.items()))


def _stays_for_itself(
    workspace: Workspace, path: Path, manifest: Manifest, written_before: datetime | None
) -> str | None:
    if files.find_link(workspace.root, path) is not None:
        return _LINK
    if written_before is not None and datetime.fromisoformat(manifest.created_at) > written_before:
        return "it is younger than asked for"
    with without_readers(path) as why:
        return why


def _parents(manifest: Manifest) -> list[tuple[str, str]]:
    """Return the digests that an artifact which stays was made from, with the reason."""
    why = f"{manifest.kind}/{manifest.name}@v{manifest.version} was made from it"
    return [(parent.digest, why) for parent in manifest.parents]


def _published(
    workspace: Workspace, known: Mapping[Path, Manifest] | None = None
) -> tuple[dict[Path, Manifest], dict[Path, str]]:
    """Return the manifests of all versions, by name and number; and what is wrong with others.

    Versions never change, so that a known manifest is not read again.
    """
    manifests: dict[Path, Manifest] = {}
    damaged: dict[Path, str] = {}
    for base in name_directories(workspace):
        for version in workspace.versions(base.parent.name, base.name):
            path = workspace.path(base.parent.name, base.name, version)
            try:
                manifests[path] = (known or {}).get(path) or Artifact(path).manifest
            except ArtifactMissingError:
                continue
            except ArtifactError:
                damaged[path] = "its manifest is damaged"
    return manifests, damaged


def _staged_reads(workspace: Workspace) -> tuple[str | None, list[tuple[str, str]]]:
    """Return what staged work will read.

    Returns:
        Why nothing may be deleted, where some staged work does not tell; and digests with the
        reason to keep them.
    """
    untold, reads = None, []
    for base in name_directories(workspace):
        for directory in staging_directories(base):
            if directory.is_symlink():
                # Staging refuses it, so nothing is read for it.
                continue
            parents = read_parents(directory)
            named = directory.relative_to(workspace.root)
            if parents is None and directory.is_dir():
                untold = f"the staged work {named} does not tell what it reads"
            why = f"the staged work {named} reads it"
            reads += [(parent.digest, why) for parent in parents or []]
    return untold, reads


def _remove(
    workspace: Workspace, path: Path, known: Mapping[Path, Manifest], to_delete: Collection[Path]
) -> str | None:
    """Delete a leftover or a version; returns why it stays instead."""
    if path.is_symlink() or not path.is_dir():
        # Of a link, only the link itself.
        files.remove_file(path)
        return None
    if path.name.startswith("."):
        files.remove_tree(path)
        return None
    with without_readers(path) as why:
        # Looked at after the lock was taken: nobody reads it now, and who did has staged its work.
        why = why or _needed_now(workspace, known, known[path].digest, to_delete)
        if why is not None:
            return why
        # A reader sees a version whole or not at all; a killed deletion leaves it hidden.
        hidden = path.with_name(f"{REMOVED_PREFIX}{path.name}")
        files.remove_tree(hidden)
        files.rename_directory(path, hidden)
    files.remove_tree(hidden)
    return None


def _needed_now(
    workspace: Workspace, known: Mapping[Path, Manifest], digest: str, to_delete: Collection[Path]
) -> str | None:
    untold, reads = _staged_reads(workspace)
    for path, manifest in _published(workspace, known)[0].items():
        if path not in to_delete:
            reads += _parents(manifest)
    return untold or dict(reads).get(digest)
