"""Finding and deleting what is no longer needed: abandoned work and old versions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pipelines.artifacts import files
from pipelines.artifacts.artifact import Artifact
from pipelines.artifacts.listing import last_modified, staging_directories, tree_bytes
from pipelines.artifacts.lock import NameLock
from pipelines.artifacts.schema import SCHEMA_VERSIONS
from pipelines.artifacts.workspace import Workspace
from pipelines.errors import ArtifactError, LockedError, UsageError
from pipelines.reporter import NullReporter, Reporter

REMOVED_PREFIX = ".removed-"


@dataclass(frozen=True, slots=True)
class Candidate:
    """Something to delete.

    Attributes:
        path: A directory or a file.
        bytes: What deleting it frees.
        why: The reason, for a person.
    """

    path: Path
    bytes: int
    why: str

    def as_dict(self) -> dict[str, Any]:
        """Return the candidate as a JSON object."""
        return {"path": str(self.path), "bytes": self.bytes, "why": self.why}


def plan_gc(
    workspace: Workspace,
    keep: int | None = None,
    staging: bool = True,
    older_than: timedelta | None = None,
) -> list[Candidate]:
    """Find what can be deleted, touching nothing.

    Args:
        workspace: Where.
        keep: Versions to keep of each name, the newest; None keeps all. A version that a kept
            artifact was made from, directly or not, is kept as well. Versions with a damaged
            manifest are neither counted nor deleted.
        staging: Whether staged work that no process holds counts; without it, only the debris of
            killed processes does.
        older_than: Leave alone what was written more recently.

    Raises:
        UsageError: `keep` is below 1.
    """
    if keep is not None and keep < 1:
        raise UsageError("cannot keep fewer than one version", where="--keep", found=keep)
    found = [
        candidate
        for base in _bases(workspace)
        if NameLock(base).holder() is None
        for candidate in _debris(base, staging)
    ]
    now = datetime.now(UTC)
    if older_than is not None:
        found = [each for each in found if now - last_modified(each.path) >= older_than]
    if keep is not None:
        for artifact in _superseded(workspace, keep):
            age = now - datetime.fromisoformat(artifact.manifest.created_at)
            if older_than is None or age >= older_than:
                why = f"not among the newest {keep} of {artifact.kind}/{artifact.manifest.name}"
                found.append(Candidate(artifact.path, tree_bytes(artifact.path), why))
    return found


def collect(
    workspace: Workspace, candidates: Iterable[Candidate], reporter: Reporter | None = None
) -> list[Candidate]:
    """Delete candidates, holding the lock of each name; what is in use by now is left alone.

    Args:
        workspace: Where the candidates were found.
        candidates: From `plan_gc`.
        reporter: Is warned of what was left alone.

    Returns:
        What was deleted.

    Raises:
        StorageError: The file system refused; running again goes on.
    """
    reporter = reporter or NullReporter()
    by_base: dict[Path, list[Candidate]] = defaultdict(list)
    for candidate in candidates:
        by_base[_base_of(workspace, candidate.path)].append(candidate)
    removed = []
    for base, group in by_base.items():
        lock = NameLock(base)
        try:
            lock.acquire()
        except LockedError as error:
            reporter.warn(f"left {base} alone: {error.found} is writing there")
            continue
        try:
            for candidate in group:
                _remove(candidate.path)
                removed.append(candidate)
        finally:
            lock.release()
    return removed


def _bases(workspace: Workspace) -> Iterator[Path]:
    for kind in SCHEMA_VERSIONS:
        for name in workspace.all_names(kind):
            yield workspace.root / kind / name


def _debris(base: Path, staging: bool) -> Iterator[Candidate]:
    staged = staging_directories(base)
    if staging:
        for directory in staged:
            yield Candidate(directory, tree_bytes(directory), "staged work that no process holds")
    for directory in sorted(base.glob(f"{REMOVED_PREFIX}*")):
        yield Candidate(directory, tree_bytes(directory), "a deletion that was interrupted")
    searched = [] if staging else [path for each in staged for path in each.rglob("*")]
    for path in (*base.glob("*"), *searched):
        if path.name.endswith(files.TEMPORARY_SUFFIX) and path.is_file():
            yield Candidate(path, tree_bytes(path), "a file that was never finished")


def _superseded(workspace: Workspace, keep: int) -> list[Artifact]:
    """Return the artifacts that are neither among the newest nor an ancestor of a kept one."""
    kept: list[Artifact] = []
    rest: list[Artifact] = []
    for base in _bases(workspace):
        intact = []
        for version in workspace.versions(base.parent.name, base.name):
            try:
                intact.append(Artifact(workspace.path(base.parent.name, base.name, version)))
            except ArtifactError:
                continue
        kept += intact[-keep:]
        rest += intact[:-keep]
    by_digest = defaultdict(list)
    for artifact in rest:
        by_digest[artifact.digest].append(artifact)
    while kept:
        for parent in kept.pop().manifest.parents:
            kept += by_digest.pop(parent.digest, [])
    return sorted(
        (artifact for group in by_digest.values() for artifact in group),
        key=lambda artifact: str(artifact.path),
    )


def _base_of(workspace: Workspace, path: Path) -> Path:
    kind, name = path.relative_to(workspace.root).parts[:2]
    return workspace.root / kind / name


def _remove(path: Path) -> None:
    if not path.is_dir():
        files.remove_file(path)
        return
    if not path.name.startswith("."):
        # A reader sees a version whole or not at all; a killed deletion leaves a hidden rest.
        hidden = path.with_name(f"{REMOVED_PREFIX}{path.name}")
        files.remove_tree(hidden)
        files.rename_directory(path, hidden)
        path = hidden
    files.remove_tree(path)
