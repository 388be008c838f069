"""Staged work: durable work items, resumed by name, published by one rename.

What a crash leaves at each point, and what the next run makes of it:

=============================  ====================================================
killed while                   the next run of the same command
=============================  ====================================================
writing a file                 deletes ``*.partial``; redoes the work item
between files of a work item   finds no record of it; redoes it
after a work item's record     verifies the record and its files by hash, keeps it
before the manifest            keeps all work items, publishes
after the manifest, while      verifies every file of the manifest by hash, finishes
clearing what is not in it     the clearing, publishes
before the rename              the same
after the rename               finds the published version: "up to date"
=============================  ====================================================

A record or a file with other bytes than were written means that its work item is made again. What
cannot be read is neither absent nor damaged: the run ends with a `StorageError`, and publishes
and deletes nothing.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import ValidationError

from pipelines.artifacts import files
from pipelines.artifacts.artifact import Artifact
from pipelines.artifacts.locks import NameLock
from pipelines.artifacts.provenance import git_revision, package_versions
from pipelines.artifacts.schema import (
    DATA,
    MANIFEST,
    SCHEMA_VERSIONS,
    FileEntry,
    Manifest,
    Parent,
    config_digest,
    dump_manifest,
    parse_manifest,
    seal,
)
from pipelines.artifacts.work import (
    LOG,
    SCRATCH,
    StagedWork,
    WorkItem,
    all_intact,
    group_key,
    group_metadata,
    list_records,
    parent_groups,
    read_record,
    record_path,
    recorded_name,
)
from pipelines.errors import (
    ArtifactCorruptError,
    ArtifactError,
    InterruptedRunError,
    StorageError,
)

if TYPE_CHECKING:
    import zarr

    from pipelines.artifacts.workspace import Workspace

STAGING_PREFIX = ".staging-"
PARENTS = "parents.json"
"""What staged work is made from, so that it is known, and kept, also while nobody runs it."""
_CHUNK = re.compile(r"(.+)/c((?:/\d+)*)")


class Staging(StagedWork):
    """The work in progress towards the next version of a name; made by `Workspace.stage`.

    Entering looks for a published version of the same configuration (`published`), and otherwise
    takes the name's lock and opens the staging directory of this configuration with the work items
    that earlier runs finished. Leaving gives the lock back; unpublished work stays.

    Args:
        config: The stage's resolved configuration, JSON; what does not change the result (worker
            counts, output options) is not in it.
        parents: The artifacts it is made from, or how a manifest names them where they are not
            at hand.

    Attributes:
        directory: The staging directory, from which worker processes make their `WorkItem`.
        published: The published version of this configuration, once there is one.
        resumed_items: Number of work items that earlier runs had finished.

    Raises:
        LockedError: Another process works under this name.
        StorageError: The workspace cannot be written.
    """

    def __init__(
        self,
        workspace: Workspace,
        kind: str,
        name: str,
        *,
        config: Mapping[str, Any],
        parents: Sequence[Artifact | Parent] = (),
        seeds: Mapping[str, int] | None = None,
    ) -> None:
        self.workspace, self.kind, self.name = workspace, kind, name
        # Through JSON, so that what is compared is what is stored.
        self.config: dict[str, Any] = json.loads(files.canonical_json(dict(config)))
        self.parents: list[Parent] = [
            parent if isinstance(parent, Parent) else parent.as_parent() for parent in parents
        ]
        # What is read stays as long as this does; see `pipelines.artifacts.locks`.
        self._reads = list(parents)
        self.seeds = dict(seeds or {})
        self.published: Artifact | None = None
        self.resumed_items = 0
        self._wanted = config_digest(kind, self.config, self.parents)
        base = workspace.root / kind / name
        super().__init__(base / f"{STAGING_PREFIX}{self._wanted[:16]}")
        self._lock = NameLock(base)

    def __enter__(self) -> Self:
        self.published = self._find_published()
        if self.published is not None:
            return self
        check_place(self.workspace.root, self.directory)
        self._lock.acquire()
        try:
            # Another process may have published it and given the lock back meanwhile.
            self.published = self._find_published() or self._open()
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self._lock.release()
        if not isinstance(error, InterruptedRunError) or self.published is not None:
            return
        # Where the records cannot be read now, what stopped the run is told as it is.
        with contextlib.suppress(StorageError):
            if any(record["files"] for record in self.records().values()):
                return
            # What stopped it knows only that whatever is finished is kept.
            raise InterruptedRunError(
                error.message.partition(";")[0] + "; no part was finished yet, so none is kept",
                signal_number=error.exit_code - 128,
                fix="run the same command again: it begins anew",
            ) from error

    def place(self) -> str:
        """Return where the work lies until it is published, and where then, a sentence."""
        version = self.workspace.next_version(self.kind, self.name)
        target = self.workspace.path(self.kind, self.name, version)
        return f"making {target}, until then {self.directory.name} beside it"

    def work_item(self, name: str) -> WorkItem:
        """Begin a work item, or begin it again."""
        self._records.pop(name, None)
        return WorkItem(self.directory, name)

    def group(self, path: str) -> zarr.Group:
        """Open a group of the staged hierarchy for reading what durable work items wrote."""
        return self._read(DATA, path)

    def scratch(self, path: str) -> zarr.Group:
        """Open a group of the scratch hierarchy for reading."""
        return self._read(SCRATCH, path)

    def publish(
        self,
        *,
        summary: Mapping[str, Any],
        work_items: Iterable[str] | None = None,
        fingerprints: Mapping[str, Any] | None = None,
        packages: Iterable[str] | Mapping[str, str] = (),
    ) -> Artifact:
        """Publish what durable work items wrote as the next version.

        Args:
            summary: What ``vintix artifacts show`` prints; JSON.
            work_items: Those that the artifact is made of, every one of which has to be durable;
                None for all that have a record.
            packages: Names of further distributions whose versions matter; or all versions, where
                the content was made elsewhere.

        Raises:
            ArtifactCorruptError: The staged work is not whole: a work item, or a file of one, is
                missing or damaged. Nothing is published.
            StorageError: The file system refused, or a record cannot be read; nothing is published,
                and the staged work is kept.
        """
        finished = self.published or self._finish_interrupted()
        if finished is not None:
            return finished
        if work_items is None:
            work_items = map(recorded_name, list_records(self.directory))
        listed = self._assemble(work_items)
        manifest = seal(
            {
                "kind": self.kind,
                "schema_version": SCHEMA_VERSIONS[self.kind],
                "name": self.name,
                "version": self.workspace.next_version(self.kind, self.name),
                "config": self.config,
                "seeds": self.seeds,
                "parents": [parent.model_dump() for parent in self.parents],
                "files": {path: entry.model_dump() for path, entry in listed.items()},
                "fingerprints": dict(fingerprints or {}),
                "summary": json.loads(files.canonical_json(dict(summary))),
                "packages": dict(packages)
                if isinstance(packages, Mapping)
                else package_versions(packages),
                "git_revision": git_revision(),
                "created_at": datetime.now(UTC).isoformat(timespec="microseconds"),
            }
        )
        files.write_file(self.directory / MANIFEST, dump_manifest(manifest))
        return self._commit(manifest)

    def _open(self) -> Artifact | None:
        """Open the staging directory; returns the artifact if only its rename was missing."""
        files.make_directory(self.directory)
        parents = [parent.model_dump() for parent in self.parents]
        files.write_sealed(self.directory / PARENTS, {"parents": parents})
        for path in files.list_files(self.directory):
            if path.endswith(files.TEMPORARY_SUFFIX):
                files.remove_file(self.directory / path)
        finished = self._finish_interrupted()
        if finished is None:
            self._forget_damaged()
            self.resumed_items = len(self._records)
        return finished

    def _forget_damaged(self) -> None:
        """Read the records whose files have the recorded bytes, and delete the others.

        Those of an older release, which have no checksum, are among the others.
        """
        for path in list_records(self.directory):
            record = read_record(path)
            if record is None or not all_intact(self.directory, record["files"]):
                files.remove_file(path)
            else:
                self._records[record["unit"]] = record

    def _finish_interrupted(self) -> Artifact | None:
        """Publish a staging directory whose manifest a killed run had already written."""
        path = self.directory / MANIFEST
        data = files.read_if_there(path)
        if data is None:
            return None
        try:
            manifest = parse_manifest(data, where=path)
            whole = config_digest(manifest.kind, manifest.config, manifest.parents) == self._wanted
        except ArtifactError:
            whole = False
        if not whole or not all_intact(self.directory, manifest.model_dump()["files"]):
            files.remove_file(path)
            return None
        version = self.workspace.next_version(self.kind, self.name)
        if manifest.version != version:
            fields = manifest.model_dump(exclude={"digest", "checksum"})
            manifest = seal({**fields, "version": version})
            files.write_file(path, dump_manifest(manifest))
        return self._commit(manifest)

    def _commit(self, manifest: Manifest) -> Artifact:
        target = self.workspace.path(self.kind, self.name, manifest.version)
        files.move_whole(self.directory, target, [MANIFEST, *manifest.files])
        self._records = {}
        self.published = Artifact(target)
        return self.published

    def _find_published(self) -> Artifact | None:
        def same(manifest: Manifest) -> bool:
            return config_digest(self.kind, manifest.config, manifest.parents) == self._wanted

        return self.workspace.find_whole(self.kind, self.name, same)

    def _assemble(self, work_items: Iterable[str]) -> dict[str, FileEntry]:
        """List the files to publish, and write the metadata of groups that no work item owns.

        Raises an `ArtifactCorruptError` where anything of the staged work is missing or damaged.
        """
        listed: dict[str, FileEntry] = {}
        owner: dict[str, str] = {}
        for name in work_items:
            if not self.done(name):
                missing = record_path(self.directory, name)
                found = "other bytes than were written" if files.is_there(missing) else "none"
                raise _incomplete(missing, f"the record of the work item {name}", found)
            for path, written in self._records[name]["files"].items():
                if path.startswith(f"{SCRATCH}/"):
                    continue
                entry = FileEntry(**written, log=path.startswith(f"{LOG}/"))
                if listed.setdefault(path, entry) != entry:
                    both = f"work items {owner[path]} and {name}"
                    raise _incomplete(self.directory / path, "one work item a file", both)
                owner[path] = name
        for path, entry in listed.items():
            wrong = files.what_is_wrong(self.directory / path, entry.size)
            if wrong is not None:
                raise _incomplete(self.directory / path, f"{entry.size:,} bytes", wrong)
        listed |= self._complete_groups(listed)
        for array, expected, chunks in incomplete_arrays(self.directory, listed):
            raise _incomplete(self.directory / array, f"{expected} chunks", f"{chunks} chunks")
        return listed

    def _complete_groups(self, listed: Iterable[str]) -> dict[str, FileEntry]:
        """Write the metadata of the groups above those that are listed, where none is."""
        nodes = (path.removeprefix(f"{DATA}/") for path in metadata_files(listed))
        above = (parent_groups(node.removesuffix("/zarr.json")) for node in nodes)
        groups = {"", *(group for parents in above for group in parents)}
        entries = {}
        for path in sorted(f"{DATA}/{group_key(group)}" for group in groups):
            if path not in listed:
                record = files.write_file(self.directory / path, group_metadata({}))
                entries[path] = FileEntry(size=record.size, sha256=record.sha256)
        return entries

    def _read(self, tree: str, path: str) -> zarr.Group:
        from pipelines.artifacts.zarr_stores import open_staged

        return open_staged(self.directory / tree, path)


def check_place(root: Path, directory: Path) -> None:
    """Check that what is staged in a directory stays in the workspace, and is files.

    Raises:
        ArtifactCorruptError: A link may lead out of it.
    """
    link = files.find_link(root, directory)
    if link is not None:
        raise _not_staged(link, "a directory of the workspace", f"a link to {link.readlink()}")
    try:
        files.check_tree(directory)
    except files.UnfitFileError as error:
        raise _not_staged(Path(error.filename), "a file", error.strerror) from error


def read_parents(staging: Path) -> list[Parent] | None:
    """Return what a directory of staged work is made from; None where it does not tell."""
    stated = files.read_sealed(staging / PARENTS)
    try:
        if stated is not None:
            return [Parent(**parent) for parent in stated["parents"]]
        # All but the manifest is cleared away before the rename that publishes.
        manifest = files.read_if_there(staging / MANIFEST)
        return None if manifest is None else parse_manifest(manifest, staging).parents
    except (ArtifactError, ValidationError, KeyError, TypeError):
        return None


def metadata_files(listed: Iterable[str]) -> list[str]:
    """Return those of an artifact's files that describe its arrays and groups, sorted."""
    return sorted(
        path for path in listed if path.startswith(f"{DATA}/") and path.endswith("/zarr.json")
    )


def incomplete_arrays(directory: Path, listed: Iterable[str]) -> list[tuple[str, int, int]]:
    """Find the arrays that have not exactly the chunk files their shape asks for.

    Readers would take a chunk that was never written for zeros.

    Args:
        directory: What the paths are relative to.
        listed: Paths of the files, among them the ``zarr.json`` of the arrays to look at.

    Returns:
        Array, expected and found number of chunks, for each array with a difference.
    """
    paths = list(listed)
    chunks = Counter(match[1] for path in paths if (match := _CHUNK.fullmatch(path)))
    wrong = []
    for path in metadata_files(paths):
        metadata = json.loads(files.read_if_there(directory / path) or b"{}")
        if metadata.get("node_type") == "array":
            array = path.removesuffix("/zarr.json")
            grid = metadata["chunk_grid"]["configuration"]["chunk_shape"]
            expected = math.prod(
                -(-rows // size) for rows, size in zip(metadata["shape"], grid, strict=True)
            )
            if chunks[array] != expected:
                wrong.append((array, expected, chunks[array]))
    return wrong


def _incomplete(path: Path, expected: str, found: str) -> ArtifactCorruptError:
    return ArtifactCorruptError(
        "the staged work is not whole and was not published",
        where=path,
        expected=expected,
        found=found,
        fix="run the same command again: work items that lost files are made anew",
    )


def _not_staged(path: Path, expected: str, found: object) -> ArtifactCorruptError:
    return ArtifactCorruptError(
        "nothing was staged: what is there may lead out of the workspace",
        where=path,
        expected=expected,
        found=found,
        fix="move it away, or point --workspace to where it leads",
    )
