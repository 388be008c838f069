"""Durable file writing, and the one way to open a file of an artifact.

A file is written beside its target, flushed to the disk, and renamed over it; a reader sees the
old file, the new one or none, never a part. Every refusal of the file system becomes a
`StorageError` here, so that no stage has to think of it; only "there is no such file" counts as
absent, for what cannot be read now may be there.

What is read is a regular file of a known or bounded size: a named pipe would hang its reader, a
device or a sparse file fill its memory, and a symbolic link lead out of the artifact.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import secrets
import shutil
import stat
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from pipelines.errors import StorageError

TEMPORARY_SUFFIX = ".partial"
MAX_METADATA_BYTES = 1 << 28
"""Largest file that is read where nothing states its size: manifests, records, ``zarr.json``."""
CHECKSUM = "checksum"
"""The field of a sealed JSON object that holds its SHA-256."""
_PROCESS = secrets.token_hex(4)
_HASH_BLOCK_BYTES = 1 << 20
_HASH_THREADS = 4
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_NOT_ALLOWED = (errno.EACCES, errno.EPERM, errno.EROFS)
_NO_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)
_FAILING = (*_NO_ROOM, *_NO_DESCRIPTORS, errno.EIO, errno.ESTALE, errno.EROFS)
_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)
_NO_HARD_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


_KINDS = {
    stat.S_IFLNK: "a symbolic link, not a file",
    stat.S_IFDIR: "a directory, not a file",
    stat.S_IFIFO: "a named pipe, not a file",
    stat.S_IFSOCK: "a socket, not a file",
    stat.S_IFCHR: "a device, not a file",
    stat.S_IFBLK: "a device, not a file",
}


@dataclass(frozen=True, slots=True)
class FileRecord:
    """Size in bytes and SHA-256 (hex) of one file."""

    size: int
    sha256: str


class UnfitFileError(OSError):
    """What is there is no regular file, or has another size; `strerror` says what it is."""


def check_file(path: Path, size: int | None = None) -> None:
    """Check kind and size of a file without opening it; see `open_file`.

    Raises:
        UnfitFileError: As `open_file`.
        OSError: Nothing is there, or the file system refused.
    """
    _check_regular(path.lstat(), size, path)


def open_file(path: Path, size: int | None = None) -> BinaryIO:
    """Open a regular file for reading; nothing else is ever opened, and no link followed.

    Args:
        path: The file.
        size: The bytes it has to have; None for at most `MAX_METADATA_BYTES`.

    Raises:
        UnfitFileError: It is a link, a directory, a pipe, a socket or a device, or its size does
            not fit.
        OSError: It cannot be opened.
    """
    # Opening some devices does something, so they are recognised before as well as after.
    check_file(path, size)
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    file = os.fdopen(os.open(path, flags), "rb")
    try:
        _check_regular(os.fstat(file.fileno()), size, path)
    except BaseException:
        file.close()
        raise
    return file


def read_file(path: Path, size: int | None = None) -> bytes:
    """Read a whole regular file; see `open_file`.

    Raises:
        UnfitFileError: As `open_file`; also where it grew or shrank meanwhile.
        OSError: It cannot be read.
    """
    with open_file(path, size) as file:
        expected = os.fstat(file.fileno()).st_size
        data = file.read(expected + 1)
    if len(data) != expected:
        raise UnfitFileError(errno.EFBIG, "a file that changed while it was read", str(path))
    return data


def write_file(path: Path, data: bytes | memoryview) -> FileRecord:
    """Write a file durably and atomically, and return what was written.

    Missing directories are made durably. The entry of the file in its directory is made durable
    by `sync_directories`, once for many files.

    Raises:
        StorageError: The file system refused (no space, I/O error, no permission); the target is
            as it was.
    """
    temporary = _write_temporary(path, data)
    try:
        temporary.replace(path)
    except OSError as error:
        _discard(temporary)
        raise storage_error(error, path) from error
    return hash_bytes(data)


def write_new_file(path: Path, data: bytes | memoryview) -> bool:
    """Write a file durably unless it is there; of several processes, exactly one writes it.

    Returns:
        Whether this call wrote it.

    Raises:
        StorageError: The file system refused.
    """
    if is_there(path):
        return False
    temporary = _write_temporary(path, data)
    try:
        move_if_free(temporary, path)
    except FileExistsError:
        return False
    except OSError as error:
        raise storage_error(error, path) from error
    finally:
        _discard(temporary)
    return True


def move_if_free(source: Path, path: Path) -> None:
    """Give a file a name that no file has; its old name may stay.

    Raises:
        FileExistsError: The name is taken.
        OSError: The file system refused.
    """
    try:
        path.hardlink_to(source)
    except OSError as error:
        # Some network and removable file systems have no hard links, and nothing else as exact.
        if error.errno not in _NO_HARD_LINKS or path.exists():
            raise
        source.replace(path)


def write_json(path: Path, value: object) -> FileRecord:
    """Write canonical JSON durably; see `canonical_json`."""
    return write_file(path, canonical_json(value))


def write_sealed(path: Path, value: Mapping[str, Any]) -> FileRecord:
    """Write a JSON object durably with a checksum, to be read by `read_sealed`."""
    return write_json(path, {**value, CHECKSUM: checksum(value)})


def read_sealed(path: Path) -> dict[str, Any] | None:
    """Read what `write_sealed` wrote; None where there is no file, or it has other bytes.

    Raises:
        StorageError: It cannot be read.
    """
    data = read_if_there(path)
    try:
        return None if data is None else unseal(data)
    except ValueError:
        return None


def unseal(data: bytes) -> dict[str, Any]:
    """Return a JSON object from its canonical bytes, without its checksum.

    Raises:
        ValueError: The bytes are not what was written; it says why.
    """
    try:
        value = json.loads(data)
        # NaN, a lone surrogate and the like pass the parser and have no canonical form.
        intact = isinstance(value, dict) and canonical_json(value) == data
    except (ValueError, RecursionError) as error:
        raise ValueError("no JSON") from error
    if not intact:
        raise ValueError("other JSON")
    if value.pop(CHECKSUM, None) != checksum(value):
        raise ValueError("a checksum that does not fit")
    found: dict[str, Any] = value
    return found


def checksum(value: object) -> str:
    """Return the SHA-256 (hex) of a JSON value's canonical bytes."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def canonical_json(value: object) -> bytes:
    """Return the one byte string that stands for a JSON value.

    Sorted keys, one space a level, UTF-8, a final newline. Digests of published artifacts rest
    on this form: it never changes.

    Raises:
        ValueError: The value holds NaN, infinity or text that is not Unicode.
    """
    text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode()


def make_directory(path: Path) -> None:
    """Create a directory with its parents, durably; an existing one is fine.

    Raises:
        StorageError: The file system refused.
    """
    try:
        missing = [each for each in (path, *path.parents) if not each.exists()]
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(error, path) from error
    sync_directories([each.parent for each in missing])


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


def rename_directory(source: Path, target: Path) -> None:
    """Rename a directory to a free name and make the rename durable.

    Raises:
        StorageError: The target exists, or the file system refused; the source is as it was.
    """
    try:
        # A rename would silently replace an empty directory.
        if target.exists():
            raise FileExistsError(errno.EEXIST, "the target exists", str(target))
        source.rename(target)
    except OSError as error:
        raise storage_error(error, target) from error
    sync_directories([target.parent, source.parent])


def remove_file(path: Path) -> None:
    """Delete a file; a missing one is fine.

    Raises:
        StorageError: The file system refused.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise storage_error(error, path) from error


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


def keep_only(directory: Path, keep: Iterable[str]) -> None:
    """Delete every file of a tree that is not named, and the directories that become empty.

    Args:
        directory: Root of the tree; stays.
        keep: Paths relative to it, with slashes.

    Raises:
        StorageError: The file system refused.
    """
    kept = set(keep)
    for path, is_directory in reversed(_tree(directory)):
        try:
            if is_directory:
                if not any(path.iterdir()):
                    path.rmdir()
            elif path.relative_to(directory).as_posix() not in kept:
                path.unlink()
        except OSError as error:
            raise storage_error(error, path) from error


def list_files(directory: Path) -> list[str]:
    """Return the paths, relative and with slashes, of all files of a tree, sorted.

    Raises:
        StorageError: A directory cannot be read.
    """
    return sorted(
        path.relative_to(directory).as_posix()
        for path, is_directory in _tree(directory)
        if not is_directory
    )


def list_directories(directory: Path) -> list[Path]:
    """Return a directory and all directories below it.

    Raises:
        StorageError: One cannot be read.
    """
    return [directory, *(path for path, is_directory in _tree(directory) if is_directory)]


def find_link(root: Path, path: Path) -> Path | None:
    """Return the first symbolic link on the way from a directory to a path below it, or None."""
    parts = path.relative_to(root).parts
    steps = (root.joinpath(*parts[:depth]) for depth in range(1, len(parts) + 1))
    return next((step for step in steps if step.is_symlink()), None)


def list_directory(directory: Path) -> list[Path]:
    """Return what is in a directory, sorted; nothing where there is none.

    Raises:
        StorageError: It cannot be read.
    """
    try:
        # Not by a pattern: what pathlib cannot read it takes for empty.
        return sorted(directory.iterdir())
    except OSError as error:
        if is_absence(error):
            return []
        raise reading_error(error, directory) from error


def is_there(path: Path) -> bool:
    """Tell whether anything is there, of whatever kind.

    Raises:
        StorageError: The file system does not tell.
    """
    try:
        path.lstat()
    except OSError as error:
        if is_absence(error):
            return False
        raise reading_error(error, path) from error
    return True


def has_size(path: Path, size: int) -> bool:
    """Tell whether a regular file with this size is there.

    Raises:
        StorageError: The file system does not tell.
    """
    try:
        check_file(path, size)
    except OSError as error:
        if is_no_file(error):
            return False
        raise reading_error(error, path) from error
    return True


def read_if_there(path: Path, *, any_size: bool = False) -> bytes | None:
    """Read a whole regular file; None where nothing is there.

    Args:
        path: The file.
        any_size: Whether it may be larger than `MAX_METADATA_BYTES`.

    Raises:
        StorageError: It cannot be read.
    """
    try:
        return read_file(path, path.lstat().st_size if any_size else None)
    except OSError as error:
        if is_absence(error):
            return None
        raise reading_error(error, path) from error


def is_absence(error: OSError) -> bool:
    """Tell whether an error says that there is no such file, not that it cannot be read now."""
    return error.errno in _ABSENT


def is_no_file(error: OSError) -> bool:
    """Tell whether an error says that no such file is there, but nothing or something else."""
    return is_absence(error) or isinstance(error, UnfitFileError)


def hash_bytes(data: bytes | memoryview) -> FileRecord:
    """Return size and SHA-256 of bytes in memory."""
    return FileRecord(size=memoryview(data).nbytes, sha256=hashlib.sha256(data).hexdigest())


def hash_file(path: Path, size: int | None = None) -> FileRecord:
    """Read a regular file and return its size and SHA-256.

    Args:
        path: The file.
        size: The bytes it has to have; None for those that it has.

    Raises:
        UnfitFileError: As `open_file`.
        OSError: It cannot be read.
    """
    size = path.lstat().st_size if size is None else size
    digest, read = hashlib.sha256(), 0
    with open_file(path, size) as file:
        while read <= size and (block := file.read(_HASH_BLOCK_BYTES)):
            digest.update(block)
            read += len(block)
    return FileRecord(size=read, sha256=digest.hexdigest())


def hash_files(files: Iterable[tuple[Path, int | None]]) -> Iterable[FileRecord | OSError]:
    """Hash files, each with its size, on a few threads; see `hash_file`.

    Yields:
        In order, a record or the error in its place.
    """
    with ThreadPoolExecutor(_HASH_THREADS) as pool:
        yield from pool.map(_hash_or_error, files)


def check_room(path: Path, needed: int) -> None:
    """Refuse to begin writing what the file system has no room for.

    For libraries that do not survive a full disk (HDF5 may crash when it closes its files).

    Raises:
        StorageError: There are fewer bytes free than needed.
    """
    room = _free_bytes(path)
    if room is not None and room < needed:
        raise storage_error(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), path, needed)


def storage_error(error: OSError, path: Path, needed: int | None = None) -> StorageError:
    """Return the error to raise for a refused write, with the room there is and what to do.

    Libraries that write files of their own may not tell why they could not; a full disk is seen.
    """
    room = _free_bytes(path)
    if error.errno is None and room == 0:
        error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return StorageError(
        f"cannot write: {_reason(error)}",
        where=path,
        expected=None if needed is None else f"room for {needed:,} bytes",
        found=None if room is None else f"{room:,} bytes free on this file system",
        fix=_advice(error, "writing there or choose another --workspace"),
    )


def _check_regular(found: os.stat_result, size: int | None, path: Path) -> None:
    if not stat.S_ISREG(found.st_mode):
        kind = _KINDS.get(stat.S_IFMT(found.st_mode), "not a file")
        raise UnfitFileError(errno.EINVAL, kind, str(path))
    if found.st_size != size and (size is not None or found.st_size > MAX_METADATA_BYTES):
        most = "" if size is not None else f", more than the {MAX_METADATA_BYTES:,} that are read"
        raise UnfitFileError(errno.EFBIG, f"{found.st_size:,} bytes{most}", str(path))


def reading_error(error: OSError, path: Path | str | None) -> StorageError:
    """Return the error to raise for a file or directory that cannot be read now."""
    return StorageError(
        f"cannot read: {_reason(error)}", where=path, fix=_advice(error, "reading it")
    )


def failure_of(error: BaseException) -> StorageError | None:
    """Return the error to raise where a failing file system stopped a library; None for others.

    Whether it read or wrote is not known any more.
    """
    if not isinstance(error, OSError):
        return None
    refused = error.errno in _NOT_ALLOWED and error.filename is not None
    if not refused and error.errno not in _FAILING:
        return None
    return StorageError(
        f"the file system failed: {_reason(error)}",
        where=error.filename,
        fix=_advice(error, "using it"),
    )


def raise_if_failing(error: BaseException, path: Path | None = None) -> None:
    """Raise where a failing file system is why a file could not be read, and not the file itself.

    An I/O error, a full disk or too many open files say nothing of the file.

    Args:
        error: What was met.
        path: The file; None for the one that the error names.

    Raises:
        StorageError: It is.
    """
    if isinstance(error, OSError) and error.errno in _FAILING:
        raise reading_error(error, path or error.filename) from error


def _reason(error: OSError) -> str:
    name = errno.errorcode.get(error.errno or 0)
    return f"{error.strerror or error}" + (f" ({name})" if name else "")


def _advice(error: OSError, use: str) -> str:
    if error.errno in _NO_ROOM:
        advice = "make room (vintix artifacts gc)"
    elif error.errno in _NOT_ALLOWED:
        advice = f"allow {use}"
    elif error.errno in _NO_DESCRIPTORS:
        advice = "allow more open files (ulimit -n)"
    else:
        advice = "check the disk and the file system"
    return f"{advice}, then run the same command again: staged work is kept"


def _tree(directory: Path) -> list[tuple[Path, bool]]:
    """Return all that is below a directory, and whether it is a directory, no link to one.

    Sorted: a directory comes before what is in it.
    """
    found: list[tuple[Path, bool]] = []
    waiting = [directory]
    while waiting:
        for path in list_directory(waiting.pop()):
            try:
                is_directory = stat.S_ISDIR(path.lstat().st_mode)
            except OSError as error:
                raise reading_error(error, path) from error
            found.append((path, is_directory))
            if is_directory:
                waiting.append(path)
    return sorted(found)


def _write_temporary(path: Path, data: bytes | memoryview) -> Path:
    # A name of its own keeps a worker that outlived its killed parent from writing into the
    # temporary file of the run that took over; numbers of processes repeat from host to host.
    temporary = path.with_name(f"{path.name}.{os.getpid()}-{_PROCESS}{TEMPORARY_SUFFIX}")
    try:
        if not path.parent.is_dir():
            make_directory(path.parent)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        try:
            left = memoryview(data).cast("B")
            while left.nbytes:
                left = left[os.write(descriptor, left) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        _discard(temporary)
        raise storage_error(error, path, needed=memoryview(data).nbytes) from error
    return temporary


def _discard(temporary: Path) -> None:
    # On a full or failing disk this may fail too; the next run and `gc` know the suffix.
    with contextlib.suppress(OSError):
        temporary.unlink(missing_ok=True)


def _hash_or_error(file: tuple[Path, int | None]) -> FileRecord | OSError:
    try:
        return hash_file(*file)
    except OSError as error:
        return error


def _free_bytes(path: Path) -> int | None:
    for directory in (path, *path.parents):
        with contextlib.suppress(OSError):
            return shutil.disk_usage(directory).free
    return None
