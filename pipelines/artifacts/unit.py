"""Durable units: the pieces of staged work that are kept whole or made again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self
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


class Unit:
    """A piece of work that is durable as a whole or redone as a whole.

    Used as a context manager; entering takes back the record of an earlier attempt, leaving
    without an exception writes the new one. Worker processes make their own `Unit` from the
    staging directory: one process writes one unit.

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
        self._stores: dict[str, DurableStore] = {}
        self._logs: dict[str, files.FileRecord] = {}

    def group(self, path: str, attributes: Mapping[str, Any] | None = None) -> zarr.Group:
        """Open or create a group of the artifact's hierarchy.

        One unit alone gives attributes to a group, and owns its metadata; a group that is opened
        without attributes belongs to no unit.
        """
        return self._open(DATA, path, attributes)

    def scratch(self, path: str) -> zarr.Group:
        """Open or create a group that later units read and that is not published."""
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
            source: The artifact.
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

    def write_log(self, name: str, data: bytes) -> None:
        """Write ``log/<name>``: timings and the like, published but not part of the digest."""
        path = f"{LOG}/{check_relative(name)}"
        self._logs[path] = files.write_file(self.directory / path, data)

    def __enter__(self) -> Self:
        files.remove_file(record_path(self.directory, self.name))
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

        if path:
            check_relative(path)
        store = self._store(tree)
        for parent in parent_groups(path):
            files.write_new_file(self.directory / tree / group_key(parent), group_metadata({}))
        if attributes is None:
            files.write_new_file(self.directory / tree / group_key(path), group_metadata({}))
        else:
            # Over whatever an unfinished attempt or an opening without attributes left.
            store.written[group_key(path)] = files.write_file(
                self.directory / tree / group_key(path), group_metadata(attributes)
            )
        return zarr.open_group(store, path=path, mode="r+", zarr_format=3)

    def _store(self, tree: str) -> DurableStore:
        from pipelines.artifacts.zarr_stores import DurableStore

        if tree not in self._stores:

            def kept() -> set[str]:
                owned = files_of_others(self.directory, self.name)
                return {path.partition("/")[2] for path in owned if path.startswith(f"{tree}/")}

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
        record = {"unit": self.name, "files": written, "data": self.data}
        path = record_path(self.directory, self.name)
        files.write_sealed(path, record)
        files.sync_directories([path.parent])


class UnitRecords(Protocol):
    """Which units of a staging directory are durable."""

    def done(self, unit: str) -> bool:
        """Tell whether a unit is durable."""

    def data(self, unit: str) -> dict[str, Any]:
        """Return the small JSON that a durable unit kept."""

    def drop(self, name: str) -> None:
        """Take back a durable unit."""


class StagedUnits:
    """The durable units of a staging directory, as a worker process sees them at this moment.

    `Staging` belongs to the process that holds the lock, and has checked every file by its hash
    when it took over; this is for the workers that it started.

    Args:
        directory: The staging directory.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def done(self, unit: str) -> bool:
        """Tell whether a unit is durable."""
        return read_record(record_path(self._directory, unit)) is not None

    def data(self, unit: str) -> dict[str, Any]:
        """Return the small JSON that a durable unit kept.

        Raises:
            KeyError: The unit is not durable.
        """
        return dict(self._record(unit)["data"])

    def drop(self, name: str) -> None:
        """Take back a durable unit: first its record, then the files that are its alone.

        Raises:
            KeyError: The unit is not durable.
            StorageError: The file system refused.
        """
        owned = set(self._record(name)["files"]) - files_of_others(self._directory, name)
        path = record_path(self._directory, name)
        files.remove_file(path)
        files.sync_directories([path.parent])
        for each in owned:
            files.remove_file(self._directory / each)

    def _record(self, unit: str) -> dict[str, Any]:
        record = read_record(record_path(self._directory, unit))
        if record is None:
            raise KeyError(unit)
        return record


def record_path(directory: Path, unit: str) -> Path:
    """Return where a unit's record is: its name, escaped, so that no two units share a file."""
    return directory / PROGRESS / (quote(unit, safe="") + _RECORD)


def recorded_unit(path: Path) -> str:
    """Return the unit whose record is at a path; the inverse of `record_path`."""
    return unquote(path.name.removesuffix(_RECORD))


def list_records(directory: Path) -> list[Path]:
    """Return where the records of a staging directory are, damaged or not.

    Raises:
        StorageError: They cannot be listed.
    """
    found = files.list_directory(directory / PROGRESS)
    return [path for path in found if path.name.endswith(_RECORD)]


def read_record(path: Path) -> dict[str, Any] | None:
    """Read a unit's record; None where there is none, or one that is not what was written.

    Raises:
        StorageError: It cannot be read: the unit may be durable.
    """
    record = files.read_sealed(path)
    return None if record is None or record.get("unit") != recorded_unit(path) else record


def read_records(directory: Path) -> dict[str, dict[str, Any]]:
    """Read the records of all durable units of a staging directory by unit.

    Raises:
        StorageError: One cannot be read.
    """
    records = (read_record(path) for path in list_records(directory))
    return {record["unit"]: record for record in records if record is not None}


def take_intact_records(directory: Path) -> dict[str, dict[str, Any]]:
    """Read the records whose files have the recorded bytes, by unit, and delete the others.

    Those of an older release, which have no checksum, are among the others.

    Raises:
        StorageError: The file system refused; what cannot be read is not deleted.
    """
    records = {}
    for path in list_records(directory):
        record = read_record(path)
        if record is None or not all_intact(directory, record["files"]):
            files.remove_file(path)
        else:
            records[record["unit"]] = record
    return records


def all_intact(directory: Path, entries: Mapping[str, Mapping[str, Any]]) -> bool:
    """Tell whether every file has the ``size`` and ``sha256`` that are recorded of it.

    Raises:
        StorageError: A file cannot be read.
    """
    found = files.hash_files((directory / path, entry["size"]) for path, entry in entries.items())
    intact = True
    for record, (path, entry) in zip(found, entries.items(), strict=True):
        if isinstance(record, OSError) and not files.is_no_file(record):
            raise files.reading_error(record, directory / path)
        intact &= record == files.FileRecord(entry["size"], entry["sha256"])
    return intact


def files_of_others(directory: Path, unit: str) -> set[str]:
    """Return the files that durable units other than this one wrote."""
    return {
        path
        for name, record in read_records(directory).items()
        if name != unit
        for path in record["files"]
    }


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
