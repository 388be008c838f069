"""Durable file writing: the only place of the project that writes files of an artifact.

A file is written beside its target, flushed to the disk, and renamed over it; a reader sees the
old file, the new one or none, never a part. Everything goes through `write_file`, so that tests
can make any single write fail.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pipelines.errors import StorageError

TEMPORARY_SUFFIX = ".partial"
_HASH_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class FileRecord:
    """Size in bytes and SHA-256 (hex) of one file."""

    size: int
    sha256: str


def write_file(path: Path, data: bytes | memoryview) -> FileRecord:
    """Write a file durably and atomically, and return what was written.

    The directory entry itself is made durable by `sync_directories`, once for many files.

    Raises:
        StorageError: The file system refused (no space, I/O error, no permission); the target is
            as it was.
    """
    temporary = path.with_name(path.name + TEMPORARY_SUFFIX)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise storage_error(error, path, needed=len(data)) from error
    return FileRecord(size=len(data), sha256=hashlib.sha256(data).hexdigest())


def write_json(path: Path, value: object) -> FileRecord:
    """Write canonical JSON (sorted keys, two spaces, final newline) durably."""
    return write_file(path, canonical_json(value))


def canonical_json(value: object) -> bytes:
    """Return the one byte string that stands for a JSON value; NaN and infinity are refused."""
    text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode()


def sync_directories(directories: Iterable[Path]) -> None:
    """Make renames inside the directories durable.

    Raises:
        StorageError: The file system refused.
    """
    for directory in sorted(set(directories)):
        try:
            descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise storage_error(error, directory) from error


def publish_directory(source: Path, target: Path) -> None:
    """Rename a complete directory to its final name and make the rename durable.

    Raises:
        StorageError: The file system refused; the source is as it was.
    """
    try:
        source.rename(target)
    except OSError as error:
        raise storage_error(error, target) from error
    sync_directories([target.parent, source.parent])


def remove_tree(path: Path) -> None:
    """Delete a directory and all in it; a missing one is fine.

    Raises:
        StorageError: The file system refused.
    """
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise storage_error(error, path) from error


def hash_file(path: Path) -> FileRecord:
    """Read a file and return its size and SHA-256."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(_HASH_BLOCK_BYTES):
            digest.update(block)
            size += len(block)
    return FileRecord(size=size, sha256=digest.hexdigest())


def storage_error(error: OSError, path: Path, needed: int | None = None) -> StorageError:
    """Return the error to raise for a refused write, with the room there is."""
    free = None
    for directory in (path, *path.parents):
        if directory.exists():
            free = shutil.disk_usage(directory).free
            break
    return StorageError(
        f"cannot write: {error.strerror or error}",
        where=path,
        expected=None if needed is None else f"room for {needed:,} bytes",
        found=None if free is None else f"{free:,} bytes free on this file system",
        fix="make room (vintix artifacts gc), then run the same command again: staged work is kept",
    )
