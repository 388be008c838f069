"""A published artifact, read only, every byte checked against its manifest before use."""

from __future__ import annotations

import errno
import os
import re
import weakref
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.artifacts import files
from pipelines.artifacts.locks import lock_for_reading
from pipelines.artifacts.references import VERSION
from pipelines.artifacts.schema import (
    DATA,
    MANIFEST,
    SCHEMA_VERSIONS,
    FileEntry,
    Manifest,
    Parent,
    parse_manifest,
)
from pipelines.errors import ArtifactCorruptError, ArtifactMissingError, UsageError

if TYPE_CHECKING:
    import numpy as np
    import zarr

_GROUP = re.compile(rf"{re.escape(DATA)}/([^/]+)/zarr\.json")


class Artifact:
    """One published version; may be sent to worker processes.

    As long as it lives, in any process, `pipelines.artifacts.gc` does not delete the version.

    Args:
        path: Its directory, ``<workspace>/<kind>/<name>/v<N>``.

    Raises:
        ArtifactMissingError: Nothing is published there.
        ArtifactCorruptError: The manifest is damaged, or is of another kind or version than the
            place that it lies at.
        ArtifactSchemaError: A newer release wrote it.
        StorageError: The manifest cannot be read.
        LockedError: The version is being deleted.
    """

    def __init__(self, path: Path) -> None:
        # Absolute, so that a worker with another working directory finds it.
        self.path = path.absolute()
        self.manifest: Manifest = parse_manifest(self._open(), where=self.path / MANIFEST)
        _check_place(self.path, self.manifest)
        self._checked: set[str] = set()

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "root"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    @property
    def kind(self) -> str:
        """One of the kinds of `SCHEMA_VERSIONS`."""
        return self.manifest.kind

    @property
    def reference(self) -> str:
        """``name@vN``."""
        return f"{self.manifest.name}@v{self.manifest.version}"

    @property
    def digest(self) -> str:
        """SHA-256 of the content."""
        return self.manifest.digest

    @property
    def config(self) -> dict[str, Any]:
        """Resolved configuration of the stage that wrote it."""
        return self.manifest.config

    def as_parent(self) -> Parent:
        """Return how a child's manifest names this artifact."""
        return Parent(
            kind=self.kind,
            name=self.manifest.name,
            version=self.manifest.version,
            digest=self.digest,
        )

    @cached_property
    def root(self) -> zarr.Group:
        """The Zarr hierarchy, read only; holds what the manifest lists, checked on first touch."""
        import zarr

        from pipelines.artifacts.zarr_stores import VerifiedStore

        sizes = {
            path.removeprefix(f"{DATA}/"): entry.size
            for path, entry in self.manifest.files.items()
            if path.startswith(f"{DATA}/")
        }
        store = VerifiedStore(self._read_key, sizes, where=self.path / DATA)
        return zarr.open_group(store=store, mode="r", zarr_format=3)

    def group(self, path: str) -> zarr.Group:
        """Open a group of the hierarchy.

        Raises:
            ArtifactCorruptError: The group is not there, or its metadata is damaged.
        """
        import zarr

        found = self.root.get(path)
        if not isinstance(found, zarr.Group):
            raise self._corrupt(f"{DATA}/{path}", "a Zarr group", "nothing of the kind")
        return found

    def groups_of(self, kind: str) -> list[str]:
        """Return the names of the groups at the top of the data, sorted.

        Raises:
            UsageError: The artifact is of another kind.
        """
        if self.kind != kind:
            raise UsageError(
                "wrong kind of artifact", where=self.path, expected=kind, found=self.kind
            )
        found = (_GROUP.fullmatch(path) for path in self.manifest.files)
        return sorted(match[1] for match in found if match)

    def read(self, path: str) -> np.ndarray[Any, Any]:
        """Read a whole array; raises as `group`."""
        import numpy as np
        import zarr

        found = self.root.get(path)
        if not isinstance(found, zarr.Array):
            raise self._corrupt(f"{DATA}/{path}", "a Zarr array", "nothing of the kind")
        return np.asarray(found[...])

    def file(self, relative: str) -> Path:
        """Return the path of one file after checking its bytes, for readers that map files.

        Raises:
            ArtifactCorruptError: The file is not listed, missing or damaged.
            StorageError: It cannot be read.
        """
        path, entry = self.path / relative, self._entry(relative)
        if relative not in self._checked:
            try:
                record = files.hash_file(path, entry.size)
            except OSError as error:
                raise self._unreadable(relative, error) from error
            self._compare(relative, record)
        return path

    def read_file(self, relative: str) -> bytes:
        """Read one file, checking the bytes it returns on the first touch; raises as `file`."""
        entry = self._entry(relative)
        try:
            data = files.read_file(self.path / relative, entry.size)
        except OSError as error:
            raise self._unreadable(relative, error) from error
        if relative not in self._checked:
            self._compare(relative, files.hash_bytes(data))
        return data

    def has_all_files(self) -> bool:
        """Tell whether every listed file is there with its size; reads no file.

        Raises:
            StorageError: The file system does not tell.
        """
        return all(
            files.what_is_wrong(self.path / relative, entry.size) is None
            for relative, entry in self.manifest.files.items()
        )

    def _open(self) -> bytes:
        """Return the manifest's bytes, and hold the version until this object goes."""
        data, held = _open_manifest(self.path)
        weakref.finalize(self, os.close, held)
        return data

    def _read_key(self, key: str) -> bytes:
        return self.read_file(f"{DATA}/{key}")

    def _entry(self, relative: str) -> FileEntry:
        if relative not in self.manifest.files:
            raise self._corrupt(relative, "a file listed in the manifest", "none")
        return self.manifest.files[relative]

    def _compare(self, relative: str, record: files.FileRecord) -> None:
        entry = self.manifest.files[relative]
        if (record.size, record.sha256) != (entry.size, entry.sha256):
            raise self._corrupt(
                relative,
                f"{entry.size:,} bytes with SHA-256 {entry.sha256[:16]}...",
                f"{record.size:,} bytes with SHA-256 {record.sha256[:16]}...",
            )
        self._checked.add(relative)

    def _unreadable(self, relative: str, error: OSError) -> ArtifactCorruptError:
        found = files.instead_of_file(error, self.path / relative)
        return self._corrupt(relative, f"{self.manifest.files[relative].size:,} bytes", found)

    def _corrupt(self, relative: str, expected: str, found: str) -> ArtifactCorruptError:
        return ArtifactCorruptError(
            f"artifact {self.kind} {self.reference} is damaged",
            where=self.path / relative,
            expected=expected,
            found=found,
            fix=f"vintix artifacts verify {self.kind}/{self.reference}",
        )


def _open_manifest(path: Path) -> tuple[bytes, int]:
    """Return the manifest's bytes, and a descriptor that holds the version while it is open."""
    file = path / MANIFEST
    try:
        # Staged and half-removed versions are hidden: a reader sees published ones or nothing.
        if path.name.startswith("."):
            raise FileNotFoundError(errno.ENOENT, "hidden", str(path))
        with files.open_file(file) as opened:
            data = opened.read()
            return data, lock_for_reading(opened, file)
    except OSError as error:
        if files.is_absence(error):
            raise _missing(path) from error
        raise ArtifactCorruptError(
            "the manifest is not a file",
            where=file,
            found=files.instead_of_file(error, file),
            fix="restore the file from a copy, or delete the directory and run the stage again",
        ) from error


def _missing(path: Path) -> ArtifactMissingError:
    versions = sorted(
        (int(match[1]), each.name)
        for each in files.list_directory(path)
        if (match := VERSION.fullmatch(each.name)) and files.is_there(each / MANIFEST)
    )
    newest = str(path / versions[-1][1]) if versions else None
    error = ArtifactMissingError(
        "no published artifact here",
        where=path,
        expected=f"a directory with {MANIFEST}",
        found="the versions " + ", ".join(name for _, name in versions) if versions else None,
        fix=f"give one of its versions: {newest}" if newest else "vintix artifacts ls",
    )
    if newest:
        error.instead = (str(path), newest)
    return error


def _check_place(path: Path, manifest: Manifest) -> None:
    """Compare kind and version with those of the path, where it is ``<kind>/<name>/v<N>``."""
    kind, version = path.parent.parent.name, VERSION.fullmatch(path.name)
    if kind not in SCHEMA_VERSIONS or version is None:
        return
    if (manifest.kind, manifest.version) != (kind, int(version[1])):
        raise ArtifactCorruptError(
            "the manifest is that of another artifact",
            where=path / MANIFEST,
            expected=f"{kind}, {path.name}",
            found=f"{manifest.kind}, v{manifest.version}",
            fix="move the directory back to where it was published",
        )
