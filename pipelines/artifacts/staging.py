"""Staged work: durable units, resumed by name, published by one rename.

What a crash leaves at each point, and what the next run makes of it:

=============================  ====================================================
killed while                   the next run of the same command
=============================  ====================================================
writing a file                 deletes ``*.partial``; redoes the unit
between files of a unit        finds no record of the unit; redoes it
after a unit's record          verifies the record and the unit's files by hash, keeps it
before the manifest            keeps all units, publishes
after the manifest, while      verifies every file of the manifest by hash, finishes
clearing what is not in it     the clearing, publishes
before the rename              the same
after the rename               finds the published version: "up to date"
=============================  ====================================================

A record or a file with other bytes than were written means that its unit is made again. What
cannot be read is neither absent nor damaged: the run ends with a `StorageError`, and publishes
and deletes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pipelines.artifacts import files
from pipelines.artifacts.artifact import Artifact
from pipelines.artifacts.in_use import write_parents
from pipelines.artifacts.lock import NameLock
from pipelines.artifacts.provenance import git_revision, package_versions
from pipelines.artifacts.publish import assemble, incomplete
from pipelines.artifacts.schema import (
    DATA,
    MANIFEST,
    SCHEMA_VERSIONS,
    Manifest,
    Parent,
    config_digest,
    dump_manifest,
    parse_manifest,
    seal,
)
from pipelines.artifacts.unit import (
    LOG,
    PROGRESS,
    SCRATCH,
    Unit,
    all_intact,
    list_records,
    read_record,
    record_path,
    recorded_unit,
    take_intact_records,
)
from pipelines.errors import ArtifactCorruptError, ArtifactError

if TYPE_CHECKING:
    import zarr

    from pipelines.artifacts.workspace import Workspace

__all__ = ["LOG", "PROGRESS", "SCRATCH", "STAGING_PREFIX", "Staging", "Unit"]

STAGING_PREFIX = ".staging-"


class Staging:
    """The work in progress towards the next version of a name; made by `Workspace.stage`.

    Entering looks for a published version of the same configuration (`published`), and otherwise
    takes the name's lock and opens the staging directory of this configuration with the units
    that earlier runs finished. Leaving gives the lock back; unpublished work stays.

    Args:
        workspace: Where.
        kind: The kind of artifact.
        name: Its name.
        config: The stage's resolved configuration, JSON; what does not change the result (worker
            counts, output options) is not in it.
        parents: The artifacts it is made from, or how a manifest names them where they are not
            at hand.
        seeds: Base seeds by purpose.

    Attributes:
        directory: The staging directory, from which worker processes make their `Unit`.
        published: The published version of this configuration, once there is one.
        resumed_units: Number of units that earlier runs had finished.

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
        # What is read stays as long as this does; see `pipelines.artifacts.in_use`.
        self._reads = list(parents)
        self.seeds = dict(seeds or {})
        self.published: Artifact | None = None
        self.resumed_units = 0
        self._records: dict[str, dict[str, Any]] = {}
        self._wanted = config_digest(kind, self.config, self.parents)
        base = workspace.root / kind / name
        self.directory = base / f"{STAGING_PREFIX}{self._wanted[:16]}"
        self._lock = NameLock(base)

    def __enter__(self) -> Self:
        self.published = self._find_published()
        if self.published is not None:
            return self
        self._refuse_links()
        self._lock.acquire()
        try:
            # Another process may have published it and given the lock back meanwhile.
            self.published = self._find_published() or self._open()
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self._lock.release()

    def place(self) -> str:
        """Return where the work lies until it is published, and where then, a sentence."""
        version = self.workspace.next_version(self.kind, self.name)
        target = self.workspace.path(self.kind, self.name, version)
        return f"making {target}, until then {self.directory.name} beside it"

    def done(self, unit: str) -> bool:
        """Tell whether a unit is durable, whichever process wrote it.

        Raises:
            StorageError: Its record cannot be read.
        """
        path = record_path(self.directory, unit)
        if not files.is_there(path):
            self._records.pop(unit, None)
        elif unit not in self._records:
            record = read_record(path)
            if record is not None:
                self._records[unit] = record
        return unit in self._records

    def data(self, unit: str) -> dict[str, Any]:
        """Return the small JSON that a durable unit kept.

        Raises:
            KeyError: The unit is not durable.
        """
        if not self.done(unit):
            raise KeyError(unit)
        return dict(self._records[unit]["data"])

    def units(self) -> list[str]:
        """Return the durable units, sorted.

        Raises:
            StorageError: A record cannot be read.
        """
        recorded = [recorded_unit(path) for path in list_records(self.directory)]
        self._records = {unit: self._records[unit] for unit in recorded if self.done(unit)}
        return sorted(self._records)

    def unit(self, name: str) -> Unit:
        """Begin a unit, or begin it again."""
        self._records.pop(name, None)
        return Unit(self.directory, name)

    def drop(self, name: str) -> None:
        """Take back a durable unit: first its record, then the files that are its alone.

        Raises:
            KeyError: The unit is not durable.
            StorageError: The file system refused.
        """
        if not self.done(name):
            raise KeyError(name)
        self.units()
        record = self._records.pop(name)
        others = {path for other in self._records.values() for path in other["files"]}
        files.remove_file(record_path(self.directory, name))
        files.sync_directories([self.directory / PROGRESS])
        for path in record["files"]:
            if path not in others:
                files.remove_file(self.directory / path)

    def group(self, path: str) -> zarr.Group:
        """Open a group of the staged hierarchy for reading what durable units wrote."""
        return self._read(DATA, path)

    def scratch(self, path: str) -> zarr.Group:
        """Open a group of the scratch hierarchy for reading."""
        return self._read(SCRATCH, path)

    def publish(
        self,
        *,
        summary: Mapping[str, Any],
        units: Iterable[str] | None = None,
        fingerprints: Mapping[str, Any] | None = None,
        packages: Iterable[str] | Mapping[str, str] = (),
    ) -> Artifact:
        """Publish what durable units wrote as the next version.

        Args:
            summary: What ``vintix artifacts show`` prints; JSON.
            units: The units that the artifact is made of, every one of which has to be durable;
                None for all that have a record.
            fingerprints: Environment fingerprint of each task.
            packages: Names of further distributions whose versions matter; or all versions, where
                the content was made elsewhere.

        Raises:
            ArtifactCorruptError: The staged work is not whole: a unit, or a file of one, is missing
                or damaged. Nothing is published.
            StorageError: The file system refused, or a record cannot be read; nothing is published,
                and the staged work is kept.
        """
        finished = self.published or self._finish_interrupted()
        if finished is not None:
            return finished
        if units is None:
            units = [recorded_unit(path) for path in list_records(self.directory)]
        listed = assemble(self.directory, {unit: self._require(unit) for unit in units})
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

    def _refuse_links(self) -> None:
        """Check that what is written stays in the workspace, and that staged work is files.

        Raises:
            ArtifactCorruptError: A link leads away, or something is no file.
            StorageError: The staged work cannot be read.
        """
        link = files.find_link(self.workspace.root, self.directory)
        if link is not None:
            raise _no_directory(
                link, "a directory of the workspace", f"a link to {link.readlink()}"
            )
        for path in files.list_files(self.directory):
            try:
                files.check_file(self.directory / path, (self.directory / path).lstat().st_size)
            except OSError as error:
                if not isinstance(error, files.UnfitFileError):
                    raise files.reading_error(error, self.directory / path) from error
                raise _no_directory(self.directory / path, "a file", error.strerror) from error

    def _open(self) -> Artifact | None:
        """Open the staging directory; returns the artifact if only its rename was missing."""
        files.make_directory(self.directory)
        write_parents(self.directory, self.parents)
        for path in files.list_files(self.directory):
            if path.endswith(files.TEMPORARY_SUFFIX):
                files.remove_file(self.directory / path)
        finished = self._finish_interrupted()
        if finished is None:
            self._records = take_intact_records(self.directory)
            self.resumed_units = len(self._records)
        return finished

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
        files.keep_only(self.directory, [MANIFEST, *manifest.files])
        files.sync_directories(files.list_directories(self.directory))
        target = self.workspace.path(self.kind, self.name, manifest.version)
        files.rename_directory(self.directory, target)
        self._records = {}
        self.published = Artifact(target)
        return self.published

    def _find_published(self) -> Artifact | None:
        for version in reversed(self.workspace.versions(self.kind, self.name)):
            try:
                artifact = Artifact(self.workspace.path(self.kind, self.name, version))
            except ArtifactError:
                # What is damaged is not up to date; `verify` names it.
                continue
            manifest = artifact.manifest
            wanted = config_digest(self.kind, manifest.config, manifest.parents) == self._wanted
            if wanted and artifact.has_all_files():
                return artifact
        return None

    def _require(self, unit: str) -> dict[str, Any]:
        """Return the record of a unit that is to be published.

        Raises:
            ArtifactCorruptError: There is none, or it is damaged.
            StorageError: It cannot be read.
        """
        if not self.done(unit):
            path = record_path(self.directory, unit)
            found = "other bytes than were written" if files.is_there(path) else "none"
            raise incomplete(path, f"the record of the unit {unit}", found)
        return self._records[unit]

    def _read(self, tree: str, path: str) -> zarr.Group:
        from pipelines.artifacts.zarr_stores import open_staged

        return open_staged(self.directory / tree, path)


def _no_directory(path: Path, expected: str, found: object) -> ArtifactCorruptError:
    return ArtifactCorruptError(
        "nothing was staged: what is there may lead out of the workspace",
        where=path,
        expected=expected,
        found=found,
        fix="move it away, or point --workspace to where it leads",
    )
