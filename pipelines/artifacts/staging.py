"""Staged work: durable units, resumed by name, published by one rename.

What a crash leaves at each point, and what the next run makes of it:

=============================  ====================================================
killed while                   the next run of the same command
=============================  ====================================================
writing a file                 ignores ``*.partial``; redoes the unit
between files of a unit        finds no record of the unit; redoes it
after a unit's record          verifies the unit's files by hash and keeps it
before the manifest            keeps all units, publishes
after the manifest             writes the same manifest again, publishes
after the rename               finds the published version: "up to date"
=============================  ====================================================
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from pipelines.artifacts import files
from pipelines.artifacts.artifact import Artifact
from pipelines.artifacts.provenance import git_revision, package_versions
from pipelines.artifacts.schema import (
    DATA,
    MANIFEST,
    SCHEMA_VERSIONS,
    FileEntry,
    Parent,
    config_digest,
    dump_manifest,
    seal,
)
from pipelines.errors import LockedError

if TYPE_CHECKING:
    import zarr

    from pipelines.artifacts.workspace import Workspace

PROGRESS = "progress"
SCRATCH = "scratch"
LOG = "log"
_GROUP_METADATA = {"attributes": {}, "node_type": "group", "zarr_format": 3}


class Unit:
    """A piece of work that is durable as a whole or redone as a whole.

    Used as a context manager; leaving it without an exception writes the unit's record. Worker
    processes make their own `Unit` from the staging directory: one process writes one unit.

    Args:
        directory: The staging directory.
        name: The unit's name, such as ``hopper/00003/00000``.

    Attributes:
        data: Small JSON that is kept with the record and given back by `Staging.data`.
    """

    def __init__(self, directory: Path, name: str) -> None:
        self.directory = directory
        self.name = name
        self.data: dict[str, Any] = {}
        self._stores: dict[str, Any] = {}
        self._groups: set[str] = set()
        self._logs: dict[str, files.FileRecord] = {}

    def group(self, path: str, attributes: Mapping[str, Any] | None = None) -> zarr.Group:
        """Open or create a group of the artifact's hierarchy.

        One unit alone may give attributes to a group; its parents are made at publishing.
        """
        return self._open(DATA, path, attributes)

    def scratch(self, path: str) -> zarr.Group:
        """Open or create a group that later units read and that is not published."""
        return self._open(SCRATCH, path, None)

    def write_log(self, name: str, data: bytes) -> None:
        """Write ``log/<name>``: timings and the like, published but not part of the digest."""
        self._logs[f"{LOG}/{name}"] = files.write_file(self.directory / LOG / name, data)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self._commit()

    def _open(self, tree: str, path: str, attributes: Mapping[str, Any] | None) -> zarr.Group:
        import zarr

        from pipelines.artifacts.zarr_stores import DurableStore

        self._groups.add(f"{tree}/{path}/zarr.json")
        store = self._stores.get(tree)
        if store is None:
            store = self._stores[tree] = DurableStore(self.directory / tree)
        if attributes is None and (self.directory / tree / path / "zarr.json").is_file():
            return zarr.open_group(store, path=path, mode="r+", zarr_format=3)
        # An unfinished attempt may have left the group: its metadata is written anew.
        (self.directory / tree / path / "zarr.json").unlink(missing_ok=True)
        return zarr.create_group(store, path=path, attributes=dict(attributes or {}), zarr_format=3)

    def _commit(self) -> None:
        written = dict(self._logs)
        for tree, store in self._stores.items():
            written |= {f"{tree}/{key}": record for key, record in store.written.items()}
        # Zarr also makes missing parents of a group; those are nobody's until publishing.
        for opened in self._groups:
            for parent in Path(opened).parent.parents:
                if f"{parent}/zarr.json" not in self._groups:
                    written.pop(f"{parent}/zarr.json", None)
        directories = {(self.directory / path).parent for path in written}
        parents = {
            parent
            for directory in directories
            for parent in directory.parents
            if parent.is_relative_to(self.directory)
        }
        files.sync_directories(directories | parents)
        record = {
            "unit": self.name,
            "files": {
                path: {"size": each.size, "sha256": each.sha256} for path, each in written.items()
            },
            "data": self.data,
        }
        path = _record_path(self.directory, self.name)
        files.write_json(path, record)
        files.sync_directories([path.parent])


class Staging:
    """The work in progress towards the next version of a name; made by `Workspace.stage`.

    Entering takes the name's lock, looks for a published version of the same configuration
    (`published`), and otherwise opens the staging directory of this configuration with the units
    that earlier runs finished. Leaving gives the lock back; unpublished work stays.

    Args:
        workspace: Where.
        kind: The kind of artifact.
        name: Its name.
        config: The stage's resolved configuration, JSON; what does not change the result (worker
            counts, output options) is not in it.
        parents: The artifacts it is made from.
        seeds: Base seeds by purpose.

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
        parents: Sequence[Artifact] = (),
        seeds: Mapping[str, int] | None = None,
    ) -> None:
        self.workspace, self.kind, self.name = workspace, kind, name
        # Through JSON, so that what is compared is what is stored.
        self.config: dict[str, Any] = json.loads(files.canonical_json(dict(config)))
        self.parents: list[Parent] = [parent.as_parent() for parent in parents]
        self.seeds = dict(seeds or {})
        self.published: Artifact | None = None
        self.resumed_units = 0
        self._records: dict[str, dict[str, Any]] = {}
        self._wanted = config_digest(kind, self.config, self.parents)
        base = workspace.root / kind / name
        self.directory = base / f".staging-{self._wanted[:16]}"
        self._lock = _NameLock(base)

    def __enter__(self) -> Self:
        self._lock.acquire()
        try:
            self.published = self._find_published()
            if self.published is None:
                self.directory.mkdir(parents=True, exist_ok=True)
                self._records = self._load_records()
                self.resumed_units = len(self._records)
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self._lock.release()

    def done(self, unit: str) -> bool:
        """Tell whether a unit is durable."""
        return unit in self._records or self._adopt(_record_path(self.directory, unit))

    def data(self, unit: str) -> dict[str, Any]:
        """Return the small JSON that a durable unit kept."""
        if not self.done(unit):
            raise KeyError(unit)
        data: dict[str, Any] = self._records[unit]["data"]
        return data

    def units(self) -> list[str]:
        """Return the durable units, sorted."""
        for path in (self.directory / PROGRESS).glob("*.json"):
            self._adopt(path)
        return sorted(self._records)

    def unit(self, name: str) -> Unit:
        """Begin a unit, or begin it again."""
        self._records.pop(name, None)
        _record_path(self.directory, name).unlink(missing_ok=True)
        return Unit(self.directory, name)

    def drop(self, name: str) -> None:
        """Take back a durable unit: first its record, then its files."""
        self.done(name)
        record = self._records.pop(name)
        _record_path(self.directory, name).unlink(missing_ok=True)
        for path in record["files"]:
            (self.directory / path).unlink(missing_ok=True)

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
        fingerprints: Mapping[str, Any] | None = None,
        packages: Iterable[str] = (),
    ) -> Artifact:
        """Publish what the durable units wrote as the next version.

        Args:
            summary: What ``vintix artifacts show`` prints; JSON.
            fingerprints: Environment fingerprint of each task.
            packages: Names of further distributions whose versions matter.

        Raises:
            StorageError: The file system refused; the staged work is kept.
        """
        listed: dict[str, FileEntry] = {}
        for unit in self.units():
            record = self._records[unit]
            for path, entry in record["files"].items():
                if not path.startswith(f"{SCRATCH}/"):
                    log = path.startswith(f"{LOG}/")
                    listed[path] = FileEntry(size=entry["size"], sha256=entry["sha256"], log=log)
        listed |= self._complete_groups(listed)
        files.remove_tree(self.directory / SCRATCH)
        self._remove_unlisted(listed)
        version = max(self.workspace.versions(self.kind, self.name), default=0) + 1
        manifest = seal(
            {
                "kind": self.kind,
                "schema_version": SCHEMA_VERSIONS[self.kind],
                "name": self.name,
                "version": version,
                "config": self.config,
                "seeds": self.seeds,
                "parents": [parent.model_dump() for parent in self.parents],
                "files": {path: entry.model_dump() for path, entry in listed.items()},
                "fingerprints": dict(fingerprints or {}),
                "summary": json.loads(files.canonical_json(dict(summary))),
                "packages": package_versions(packages),
                "git_revision": git_revision(),
                "created_at": datetime.now(UTC).isoformat(timespec="microseconds"),
            }
        )
        files.write_file(self.directory / MANIFEST, dump_manifest(manifest))
        files.remove_tree(self.directory / PROGRESS)
        files.sync_directories(
            [self.directory, *(path for path in self.directory.rglob("*") if path.is_dir())]
        )
        target = self.workspace.path(self.kind, self.name, version)
        files.publish_directory(self.directory, target)
        self.published = Artifact(target)
        return self.published

    def _find_published(self) -> Artifact | None:
        for version in reversed(self.workspace.versions(self.kind, self.name)):
            artifact = Artifact(self.workspace.path(self.kind, self.name, version))
            manifest = artifact.manifest
            if config_digest(self.kind, manifest.config, manifest.parents) == self._wanted:
                return artifact
        return None

    def _load_records(self) -> dict[str, dict[str, Any]]:
        records = {}
        for path in sorted((self.directory / PROGRESS).glob("*.json")):
            record = _intact_record(self.directory, path)
            if record is None:
                path.unlink()
            else:
                records[record["unit"]] = record
        return records

    def _adopt(self, path: Path) -> bool:
        """Take in a unit that was made durable since entering, here or in a worker process."""
        if not path.is_file():
            return False
        record = json.loads(path.read_bytes())
        self._records.setdefault(record["unit"], record)
        return True

    def _read(self, tree: str, path: str) -> zarr.Group:
        import zarr

        return zarr.open_group(self.directory / tree, path=path, mode="r", zarr_format=3)

    def _complete_groups(self, listed: Mapping[str, FileEntry]) -> dict[str, FileEntry]:
        """Write the metadata of groups that only hold other groups."""
        groups = {DATA}
        for path in listed:
            if path.startswith(f"{DATA}/") and path.endswith("/zarr.json"):
                groups |= {
                    str(parent)
                    for parent in Path(path).parent.parents
                    if parent.is_relative_to(DATA)
                }
        entries = {}
        for group in sorted(groups):
            path = f"{group}/zarr.json"
            if path not in listed:
                written = files.write_json(self.directory / path, _GROUP_METADATA)
                entries[path] = FileEntry(size=written.size, sha256=written.sha256)
        return entries

    def _remove_unlisted(self, listed: Mapping[str, FileEntry]) -> None:
        for path in [path for path in self.directory.rglob("*") if path.is_file()]:
            relative = path.relative_to(self.directory)
            if relative.parts[0] != PROGRESS and str(relative) not in listed:
                path.unlink()


def _record_path(directory: Path, unit: str) -> Path:
    return directory / PROGRESS / (unit.replace("/", "--") + ".json")


def _intact_record(directory: Path, path: Path) -> dict[str, Any] | None:
    try:
        record = json.loads(path.read_bytes())
        for name, entry in record["files"].items():
            found = files.hash_file(directory / name)
            if (found.size, found.sha256) != (entry["size"], entry["sha256"]):
                return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return dict(record)


class _NameLock:
    """An exclusive lock of a name, which the kernel gives back when its holder dies."""

    def __init__(self, base: Path) -> None:
        self._base = base
        self._owner = base / ".owner.json"

    def acquire(self) -> None:
        from filelock import FileLock, Timeout

        try:
            self._base.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise files.storage_error(error, self._base) from error
        self._lock = FileLock(self._base / ".lock")
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise LockedError(
                "another process is writing under this name",
                where=self._base,
                expected="no other writer",
                found=self._describe_owner(),
                fix="wait for it, stop it, or choose another --name",
            ) from error
        owner = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        files.write_json(self._owner, owner)

    def release(self) -> None:
        self._owner.unlink(missing_ok=True)
        self._lock.release()

    def _describe_owner(self) -> str:
        try:
            owner = json.loads(self._owner.read_bytes())
            return f"process {owner['pid']} on {owner['host']}, started {owner['started']}"
        except (OSError, ValueError, KeyError):
            return "a process that has not said who it is"
