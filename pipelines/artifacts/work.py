"""Durable work items: the pieces of staged work that are kept whole or made again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote, unquote

from pipelines.artifacts import files
from pipelines.artifacts.schema import DATA, check_relative

if TYPE_CHECKING:
    import zarr

    from pipelines.artifacts.artifact import Artifact
    from pipelines.artifacts.zarr_stores import DurableStore
    from pipelines.reporter import Advance

PROGRESS = "progress"
SCRATCH = "scratch"
LOG = "log"
_RECORD = ".json"
_COPIES = 4
"""Files that are copied at a time."""


class WorkItem:
    """A piece of work that is durable as a whole or redone as a whole.

    Used as a context manager; entering takes back the record of an earlier attempt, leaving
    without an exception writes the new one. Worker processes make their own from the staging
    directory: one process writes one work item.

    Args:
        directory: The staging directory.
        name: The item's name, such as ``hopper/00003/00000``.

    Attributes:
        data: Small JSON that is kept with the record and given back by `StagedWork.data`.
    """

    def __init__(self, directory: Path, name: str) -> None:
        self.directory, self.name = directory, name
        self.data: dict[str, Any] = {}
        self._stores: dict[str, DurableStore] = {}
        self._logs: dict[str, files.FileRecord] = {}

    def group(self, path: str, attributes: Mapping[str, Any] | None = None) -> zarr.Group:
        """Open or create a group of the artifact's hierarchy.

        One work item alone gives attributes to a group, and owns its metadata; a group that is
        opened without attributes belongs to none.
        """
        return self._open(DATA, path, attributes)

    def scratch(self, path: str) -> zarr.Group:
        """Open or create a group that later work items read and that is not published."""
        return self._open(SCRATCH, path, None)

    def take(
        self,
        source: Artifact,
        keys: Iterable[str],
        advance: Advance = lambda amount=1: None,
    ) -> None:
        """Copy files of a published artifact's hierarchy, with the bytes that its manifest names.

        Copies, not links: a disk that damages one then leaves the other whole.

        Args:
            keys: The files, relative to both hierarchies, such as ``hopper/00000/zarr.json``.
            advance: Called with the bytes of each file that is copied.

        Raises:
            ArtifactCorruptError: A file is missing or has other bytes.
            StorageError: The file system refused.
        """
        store = self._store(DATA)

        def copy(key: str) -> tuple[str, files.FileRecord]:
            path = f"{DATA}/{key}"
            return key, files.write_file(self.directory / path, source.read_file(path))

        # Most of the time goes by waiting for the disk to have each file.
        pool = ThreadPoolExecutor(_COPIES)
        try:
            for key, record in pool.map(copy, keys):
                store.written[key] = record
                advance(record.size)
        finally:
            pool.shutdown(cancel_futures=True)

    def adopt(self, keys: Mapping[str, str], recorded: Mapping[str, Mapping[str, Any]]) -> None:
        """Take files of the hierarchy that other work items wrote as files of its own, uncopied.

        Args:
            keys: Key that a file is to have, and the one that it has.
            recorded: From `StagedWork.files`, of the items that wrote them.

        Raises:
            StorageError: The file system refused.
        """
        store, root = self._store(DATA), self.directory / DATA
        for key, source in keys.items():
            record = files.FileRecord(**recorded[f"{DATA}/{source}"])
            files.link_file(root / source, root / key, record.size)
            store.written[key] = record

    def write_log(self, name: str, data: bytes) -> None:
        """Write ``log/<name>``: timings and the like, published but not part of the digest."""
        path = f"{LOG}/{check_relative(name)}"
        self._logs[path] = files.write_file(self.directory / path, data)

    def __enter__(self) -> Self:
        files.remove_file(record_path(self.directory, self.name))
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if error is None:
            self._commit()

    def _open(self, tree: str, path: str, attributes: Mapping[str, Any] | None) -> zarr.Group:
        import zarr

        if path:
            check_relative(path)
        store, root = self._store(tree), self.directory / tree
        for parent in parent_groups(path):
            files.write_new_file(root / group_key(parent), group_metadata({}))
        key = group_key(path)
        if attributes is None:
            files.write_new_file(root / key, group_metadata({}))
        else:
            # Over whatever an unfinished attempt or an opening without attributes left.
            store.written[key] = files.write_file(root / key, group_metadata(attributes))
        return zarr.open_group(store, path=path, mode="r+", zarr_format=3)

    def _store(self, tree: str) -> DurableStore:
        from pipelines.artifacts.zarr_stores import DurableStore

        if tree not in self._stores:

            def kept() -> set[str]:
                others = StagedWork(self.directory).files_of_others(self.name)
                return {path.partition("/")[2] for path in others if path.startswith(f"{tree}/")}

            self._stores[tree] = DurableStore(self.directory / tree, kept)
        return self._stores[tree]

    def _commit(self) -> None:
        stored = {
            f"{tree}/{key}": record
            for tree, store in self._stores.items()
            for key, record in store.written.items()
        }
        written = {path: asdict(record) for path, record in {**stored, **self._logs}.items()}
        files.sync_directories((self.directory / path).parent for path in written)
        path = record_path(self.directory, self.name)
        files.write_sealed(path, {"unit": self.name, "files": written, "data": self.data})
        files.sync_directories([path.parent])


class StagedWork:
    """The durable work items of a staging directory.

    Worker processes look through it at what is there by now; `Staging`, of the process that holds
    the lock, has checked every file by its hash before.

    Args:
        directory: The staging directory.

    Raises:
        StorageError: By each method: a record cannot be read, so that the item may be durable.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._records: dict[str, dict[str, Any]] = {}

    def done(self, name: str) -> bool:
        """Tell whether a work item is durable, whichever process wrote it."""
        path = record_path(self.directory, name)
        if not files.is_there(path):
            self._records.pop(name, None)
        elif name not in self._records:
            record = read_record(path)
            if record is not None:
                self._records[name] = record
        return name in self._records

    def data(self, name: str) -> dict[str, Any]:
        """Return the small JSON that a durable work item kept.

        Raises:
            KeyError: It is not durable.
        """
        return dict(self._record(name)["data"])

    def files(self, name: str) -> dict[str, dict[str, Any]]:
        """Return ``size`` and ``sha256`` of each file that a durable work item wrote, by path.

        Raises:
            KeyError: It is not durable.
        """
        return dict(self._record(name)["files"])

    def records(self) -> dict[str, dict[str, Any]]:
        """Return the records of all durable work items by name, sorted."""
        names = sorted(map(recorded_name, list_records(self.directory)))
        self._records = {name: self._records[name] for name in names if self.done(name)}
        return self._records

    def work_items(self) -> list[str]:
        """Return the names of the durable work items, sorted."""
        return list(self.records())

    def files_of_others(self, name: str) -> set[str]:
        """Return the files that durable work items other than this one wrote."""
        records = self.records()
        return {path for other in records if other != name for path in records[other]["files"]}

    def drop(self, *names: str) -> None:
        """Take back durable work items: first their records, then the files that are theirs alone.

        Raises:
            KeyError: One is not durable.
        """
        owned = {path for name in names for path in self._record(name)["files"]}
        for name in names:
            files.remove_file(record_path(self.directory, name))
        files.sync_directories([self.directory / PROGRESS] if names else [])
        for record in self.records().values():
            owned.difference_update(record["files"])
        for each in owned:
            files.remove_file(self.directory / each)

    def _record(self, name: str) -> dict[str, Any]:
        if not self.done(name):
            raise KeyError(name)
        return self._records[name]


def record_path(directory: Path, name: str) -> Path:
    """Return where a work item's record is: its name, escaped, so that no two share a file."""
    return directory / PROGRESS / (quote(name, safe="") + _RECORD)


def recorded_name(path: Path) -> str:
    """Return the work item whose record is at a path; the inverse of `record_path`."""
    return unquote(path.name.removesuffix(_RECORD))


def list_records(directory: Path) -> list[Path]:
    """Return where the records of a staging directory are, damaged or not."""
    found = files.list_directory(directory / PROGRESS)
    return [path for path in found if path.name.endswith(_RECORD)]


def read_record(path: Path) -> dict[str, Any] | None:
    """Read a work item's record; None where there is none, or one with other bytes than written."""
    record = files.read_sealed(path)
    return None if record is None or record.get("unit") != recorded_name(path) else record


def all_intact(directory: Path, entries: Mapping[str, Mapping[str, Any]]) -> bool:
    """Tell whether every file has the ``size`` and ``sha256`` that are recorded of it."""
    found = files.hash_files((directory / path, entry["size"]) for path, entry in entries.items())
    intact = True
    for record, (path, entry) in zip(found, entries.items(), strict=True):
        if isinstance(record, OSError):
            files.instead_of_file(record, directory / path)
        intact &= record == files.FileRecord(entry["size"], entry["sha256"])
    return intact


def group_metadata(attributes: Mapping[str, Any]) -> bytes:
    """Return the ``zarr.json`` of a group."""
    return files.canonical_json(
        {"attributes": dict(attributes), "node_type": "group", "zarr_format": 3}
    )


def group_key(path: str) -> str:
    """Return the key of a group's metadata; the root group is the empty path."""
    return f"{path}/zarr.json" if path else "zarr.json"


def parent_groups(path: str) -> list[str]:
    """Return the groups above a path, the root group first; none above the root itself."""
    parts = path.split("/") if path else []
    return ["/".join(parts[:depth]) for depth in range(len(parts))]
