"""Durable file writing, and the one way to open a file of an artifact.

A file is written beside its target, flushed to the disk, and renamed over it; a reader sees the
old file, the new one or none, never a part. Unless a function says otherwise, whatever the file
system refuses is raised as a `StorageError`; only "there is no such file" counts as absent, for
what cannot be read now may be there.

Only a regular file of a known or bounded size is read: a named pipe would hang its reader, a
device or a sparse file fill its memory, and a symbolic link lead out of the artifact.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, TypeVar

from pipelines.errors import StorageError

Value = TypeVar("Value")

TEMPORARY_SUFFIX = ".partial"
MAX_METADATA_BYTES = 1 << 28
"""Largest file that is read where nothing states its size: manifests, records, ``zarr.json``."""
CHECKSUM = "checksum"
"""The field of a sealed JSON object that holds its SHA-256."""
_CHECKSUM_LINE = re.compile(rb'\n "checksum": "([0-9a-f]{64})"(,?)(?=\n)')
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
    """Check kind and size of a file as `open_file` does, without opening it."""
    _check_regular(path.lstat(), size, path)


def open_file(path: Path, size: int | None = None, *, any_size: bool = False) -> BinaryIO:
    """Open a regular file for reading; nothing else is ever opened, and no link followed.

    Args:
        size: The bytes it has to have; None for at most `MAX_METADATA_BYTES`.
        any_size: Whether its size is not looked at: another process may be writing to it.

    Raises:
        UnfitFileError: It is a link, a directory, a pipe, a socket or a device, or its size does
            not fit.
        OSError: It cannot be opened.
    """
    # Opening some devices does something, so they are recognised before as well as after.
    _check_regular(path.lstat(), size, path, any_size)
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    file = os.fdopen(os.open(path, flags), "rb")
    try:
        _check_regular(os.fstat(file.fileno()), size, path, any_size)
    except BaseException:
        file.close()
        raise
    return file


def read_file(path: Path, size: int | None = None, *, any_size: bool = False) -> bytes:
    """Read a whole regular file; raises as `open_file`, also where it grew or shrank meanwhile."""
    with open_file(path, size, any_size=any_size) as file:
        expected = os.fstat(file.fileno()).st_size
        data = file.read(expected + 1)
    if len(data) != expected:
        raise UnfitFileError(errno.EFBIG, "a file that changed while it was read", str(path))
    return data


def read_if_there(path: Path, *, any_size: bool = False) -> bytes | None:
    """Read a whole regular file; None where nothing is there.

    Args:
        any_size: Whether it may be larger than `MAX_METADATA_BYTES`.
    """
    return _unless_absent(path, lambda: read_file(path, any_size=any_size))


def write_file(path: Path, data: bytes | memoryview) -> FileRecord:
    """Write a file durably and atomically, and return what was written.

    Missing directories are made durably. The entry of the file in its directory is made durable
    by `sync_directories`, once for many files. Where it fails, the target is as it was.
    """
    with _writing(path):
        temporary = _write_temporary(path, data)
        try:
            temporary.replace(path)
        except OSError:
            _discard(temporary)
            raise
    return hash_bytes(data)


def write_new_file(path: Path, data: bytes | memoryview) -> bool:
    """Write a file durably unless it is there; of several processes, exactly one writes it.

    Returns:
        Whether this call wrote it.
    """
    if is_there(path):
        return False
    with _writing(path):
        temporary = _write_temporary(path, data)
        try:
            move_if_free(temporary, path)
        except FileExistsError:
            return False
        finally:
            _discard(temporary)
    return True


def link_file(source: Path, path: Path, size: int) -> None:
    """Give a file of `size` bytes a second name; a copy where the file system has no such links.

    Raises:
        StorageError: The file system refused.
    """
    make_directory(path.parent)
    remove_file(path)
    try:
        path.hardlink_to(source)
    except OSError:
        write_file(path, read_file(source, size))


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
    """Read what `write_sealed` wrote; None where there is no file, or it has other bytes."""
    data = read_if_there(path)
    try:
        return None if data is None else unseal(data)[0]
    except ValueError:
        return None


def unseal(data: bytes) -> tuple[dict[str, Any], str]:
    """Return a JSON object from its canonical bytes without its checksum, and the checksum.

    The checksum is that of the bytes without its own line: encoding them again, which takes a
    second for a manifest of some MB, would say no more.

    Raises:
        ValueError: The bytes are not what was written; it says why.
    """
    try:
        value = json.loads(data, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise ValueError("no JSON") from error
    found = _CHECKSUM_LINE.search(data)
    if not isinstance(value, dict) or not found:
        raise ValueError("other JSON")
    # The comma that is left over where the line is the last one stands before it.
    before = data[: found.start()] if found[2] else data[: found.start()].removesuffix(b",")
    after = data[found.end() :]
    rest = b"{}\n" if (before, after) == (b"{", b"\n}\n") else before + after
    if hashlib.sha256(rest).hexdigest() != value.pop(CHECKSUM, None):
        raise ValueError("a checksum that does not fit")
    return value, found[1].decode()


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


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
    """Create a directory with its parents, durably; an existing one is fine."""
    with _writing(path):
        missing = [each for each in (path, *path.parents) if not each.exists()]
        path.mkdir(parents=True, exist_ok=True)
    sync_directories([each.parent for each in missing])


def sync_directories(directories: Iterable[Path]) -> None:
    """Make renames inside the directories durable."""
    for directory in sorted(set(directories)):
        with _writing(directory):
            descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def rename_directory(source: Path, target: Path) -> None:
    """Rename a directory durably to a free name; where it fails, the source is as it was."""
    with _writing(target):
        # A rename would silently replace an empty directory.
        if target.exists():
            raise FileExistsError(errno.EEXIST, "the target exists", str(target))
        source.rename(target)
    sync_directories([target.parent, source.parent])


def remove_file(path: Path) -> None:
    """Delete a file; a missing one is fine."""
    with _writing(path):
        path.unlink(missing_ok=True)


def remove_tree(path: Path) -> None:
    """Delete a directory and all in it; a missing one is fine."""
    with _writing(path), contextlib.suppress(FileNotFoundError):
        shutil.rmtree(path)


def keep_only(directory: Path, keep: Iterable[str]) -> None:
    """Delete every file of a tree that is not named, and the directories that become empty.

    Args:
        directory: Root of the tree; stays.
    """
    kept = set(keep)
    for path, mode in reversed(_tree(directory)):
        with _writing(path):
            if stat.S_ISDIR(mode):
                if not any(path.iterdir()):
                    path.rmdir()
            elif path.relative_to(directory).as_posix() not in kept:
                path.unlink()


def move_whole(directory: Path, target: Path, keep: Iterable[str]) -> None:
    """Publish a directory under a free name, durably: of its files those that are named."""
    keep_only(directory, keep)
    sync_directories(list_directories(directory))
    rename_directory(directory, target)


def list_files(directory: Path) -> list[str]:
    """Return the paths, relative and with slashes, of all files of a tree, sorted."""
    return sorted(
        path.relative_to(directory).as_posix()
        for path, mode in _tree(directory)
        if not stat.S_ISDIR(mode)
    )


def list_directories(directory: Path) -> list[Path]:
    """Return a directory and all directories below it."""
    return [directory, *(path for path, mode in _tree(directory) if stat.S_ISDIR(mode))]


def check_tree(directory: Path) -> None:
    """Check that a tree holds nothing but directories and regular files.

    Raises:
        UnfitFileError: Something is neither.
    """
    for path, mode in _tree(directory):
        if not stat.S_ISDIR(mode):
            _check_kind(mode, path)


def list_directory(directory: Path) -> list[Path]:
    """Return what is in a directory, sorted; nothing where there is none."""
    # Not by a pattern: what pathlib cannot read it takes for empty.
    return sorted(_unless_absent(directory, lambda: list(directory.iterdir())) or [])


def find_link(root: Path, path: Path) -> Path | None:
    """Return the first symbolic link on the way from a directory to a path below it, or None."""
    parts = path.relative_to(root).parts
    steps = (root.joinpath(*parts[:depth]) for depth in range(1, len(parts) + 1))
    return next((step for step in steps if step.is_symlink()), None)


def is_there(path: Path) -> bool:
    """Tell whether anything is there, of whatever kind."""
    return _unless_absent(path, path.lstat) is not None


def what_is_wrong(path: Path, size: int) -> str | None:
    """Return what is in the place of a regular file of this size; None where it is there."""
    try:
        check_file(path, size)
    except OSError as error:
        return instead_of_file(error, path)
    return None


def instead_of_file(error: OSError, path: Path) -> str:
    """Return what is in the place of a file, by the error of reading it; raises any other error."""
    if not is_absence(error) and not isinstance(error, UnfitFileError):
        raise reading_error(error, path) from error
    return error.strerror or str(error)


def is_absence(error: OSError) -> bool:
    """Tell whether an error says that there is no such file, not that it cannot be read now."""
    return error.errno in _ABSENT


def hash_bytes(data: bytes | memoryview) -> FileRecord:
    """Return size and SHA-256 of bytes in memory."""
    return FileRecord(size=memoryview(data).nbytes, sha256=hashlib.sha256(data).hexdigest())


def hash_file(path: Path, size: int | None = None) -> FileRecord:
    """Read a regular file and return its size and SHA-256; raises as `open_file`.

    Args:
        size: The bytes it has to have; None for those that it has.
    """
    size = path.lstat().st_size if size is None else size
    digest, read = hashlib.sha256(), 0
    with open_file(path, size) as file:
        while read <= size and (block := file.read(_HASH_BLOCK_BYTES)):
            digest.update(block)
            read += len(block)
    return FileRecord(size=read, sha256=digest.hexdigest())


def hash_files(files: Iterable[tuple[Path, int | None]]) -> Iterable[FileRecord | OSError]:
    """Hash files, each with its size, on a few threads: in order, a record or the error."""

    def hash_or_error(file: tuple[Path, int | None]) -> FileRecord | OSError:
        try:
            return hash_file(*file)
        except OSError as error:
            return error

    with ThreadPoolExecutor(_HASH_THREADS) as pool:
        yield from pool.map(hash_or_error, files)


def check_room(path: Path, needed: int) -> None:
    """Refuse to begin writing what the file system has no room for.

    For libraries that do not survive a full disk (HDF5 may crash when it closes its files).
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
        path: The file; None for the one that the error names.
    """
    if isinstance(error, OSError) and error.errno in _FAILING:
        raise reading_error(error, path or error.filename) from error


def _reason(error: OSError) -> str:
    name = errno.errorcode.get(error.errno or 0)
    return f"{error.strerror or error}" + (f" ({name})" if name else "")


def _advice(error: OSError, use: str) -> str:
    if error.errno in _NO_ROOM:
        advice = "make room (vintix artifacts gc --no-staging --keep 1)"
    elif error.errno in _NOT_ALLOWED:
        advice = f"allow {use}"
    elif error.errno in _NO_DESCRIPTORS:
        advice = "allow more open files (ulimit -n)"
    else:
        advice = "check the disk and the file system"
    return f"{advice}, then run the same command again: staged work is kept"


@contextlib.contextmanager
def _writing(path: Path, needed: int | None = None) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise storage_error(error, path, needed) from error


def _unless_absent(path: Path, read: Callable[[], Value]) -> Value | None:
    try:
        return read()
    except OSError as error:
        if is_absence(error):
            return None
        raise reading_error(error, path) from error


def _check_kind(mode: int, path: Path) -> None:
    if not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "not a file")
        raise UnfitFileError(errno.EINVAL, kind, str(path))


def _check_regular(
    found: os.stat_result, size: int | None, path: Path, any_size: bool = False
) -> None:
    _check_kind(found.st_mode, path)
    if any_size:
        return
    if found.st_size != size and (size is not None or found.st_size > MAX_METADATA_BYTES):
        most = "" if size is not None else f", more than the {MAX_METADATA_BYTES:,} that are read"
        raise UnfitFileError(errno.EFBIG, f"{found.st_size:,} bytes{most}", str(path))


def _tree(directory: Path) -> list[tuple[Path, int]]:
    """Return all that is below a directory with its mode, sorted: a directory before its files."""
    found: list[tuple[Path, int]] = []
    waiting = [directory]
    while waiting:
        for path in list_directory(waiting.pop()):
            try:
                mode = path.lstat().st_mode
            except OSError as error:
                raise reading_error(error, path) from error
            found.append((path, mode))
            if stat.S_ISDIR(mode):
                waiting.append(path)
    return sorted(found)


def _write_temporary(path: Path, data: bytes | memoryview) -> Path:
    # A name of its own keeps a worker that outlived its killed parent from writing into the
    # temporary file of the run that took over; numbers of processes repeat from host to host.
    temporary = path.with_name(f"{path.name}.{os.getpid()}-{_PROCESS}{TEMPORARY_SUFFIX}")
    left = memoryview(data).cast("B")
    with _writing(path, needed=left.nbytes):
        if not path.parent.is_dir():
            make_directory(path.parent)
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
            descriptor = os.open(temporary, flags, 0o666)
            try:
                while left.nbytes:
                    left = left[os.write(descriptor, left) :]
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError:
            _discard(temporary)
            raise
    return temporary


def _discard(temporary: Path) -> None:
    # On a full or failing disk this may fail too; the next run and `gc` know the suffix.
    with contextlib.suppress(OSError):
        temporary.unlink(missing_ok=True)


def _free_bytes(path: Path) -> int | None:
    for directory in (path, *path.parents):
        with contextlib.suppress(OSError):
            return shutil.disk_usage(directory).free
    return None
