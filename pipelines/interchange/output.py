"""Directories that an export writes: whole or not at all, and no file of others is ever lost.

The files are made in a hidden directory inside the output, so that a mount point, a link to a
directory and ``.`` are outputs like any other, and get their names one by one at the end. A name
has to be free then. With ``overwrite`` the files of an earlier export are moved out of the way
first, each only if it is still the file that was seen at the beginning.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.artifacts import files
from pipelines.errors import UsageError

if TYPE_CHECKING:
    from pipelines.artifacts.artifact import Artifact

_PREFIX = ".vintix-export-"
#: What tells a file from another one of the same name: device, inode, size, time of change.
_Identity = tuple[int, int, int, int]


@dataclass
class Output:
    """An export that is being written.

    Attributes:
        directory: Where to write; files get the same relative paths in the output.
        files: Path, bytes and SHA-256 of every file, sorted by path; filled in at the end.
    """

    directory: Path
    files: list[dict[str, Any]] = field(default_factory=list)


@contextmanager
def output_directory(
    target: Path, *, overwrite: bool, own: str, needed: int = 0
) -> Iterator[Output]:
    """Give a directory to write in, and move what it holds into the target once it is complete.

    Args:
        target: Where the export goes; links are followed. An empty directory counts as none.
        own: Regular expression of the relative paths that this format writes. A directory that
            holds anything else is not written to.
        needed: Bytes that will be written, about.

    Yields:
        What to write to. If the body raises, it is deleted and the target is as it was.

    Raises:
        UsageError: The target is there and is not to be replaced or is no export, or files of
            others came into it meanwhile.
        StorageError: The file system refused.
    """
    target, earlier = _check_target(target, overwrite, own)
    files.check_room(target, needed)
    made = [each for each in (target, *target.parents) if not each.exists()]
    staged = target / f"{_PREFIX}{secrets.token_hex(8)}{files.TEMPORARY_SUFFIX}"
    output = Output(staged / "new")
    try:
        files.make_directory(output.directory)
        yield output
        try:
            _finish(output.directory)
            output.files = _describe(output.directory)
            _publish(staged, target, [each["path"] for each in output.files], earlier)
        except OSError as error:
            raise files.storage_error(error, target) from error
    except BaseException:
        files.remove_tree(staged)
        _remove_empty(made)
        raise
    files.remove_tree(staged)


def export_report(
    artifact: Artifact, target: Path, output: Output, format_name: str, **details: Any
) -> dict[str, Any]:
    """Describe a finished export, JSON: what, where, and every file with its hash."""
    return {
        "exported": f"{artifact.kind}/{artifact.reference}",
        "digest": artifact.digest,
        "format": format_name,
        "output": str(target.expanduser().absolute()),
        **details,
        "files": output.files,
    }


def _check_target(target: Path, overwrite: bool, own: str) -> tuple[Path, dict[str, _Identity]]:
    """Return the directory that a target means, and the files of the earlier export in it."""
    try:
        target = target.expanduser().resolve()
        entries = sorted(target.iterdir()) if target.exists() else []
        if entries and not overwrite:
            raise UsageError(
                "the output directory is there already",
                where=target,
                expected="a directory that is not there yet",
                found=f"{len(entries)} entries",
                fix="choose another --output, or add --overwrite to replace it",
            )
        return target, _earlier_export(target, own)
    except NotADirectoryError as error:
        raise UsageError(
            "the output is a file", where=target, expected="a directory, or nothing there"
        ) from error
    except (OSError, RuntimeError) as error:
        raise UsageError(
            "the output cannot be used", where=target, expected="a directory", found=error
        ) from error


def _earlier_export(target: Path, own: str) -> dict[str, _Identity]:
    found = {}
    for path in sorted(target.rglob("*")):
        relative = path.relative_to(target).as_posix()
        if path.is_dir() and not path.is_symlink():
            continue
        if path.is_symlink() or not path.is_file() or not re.fullmatch(own, relative):
            first = relative.partition("/")[0]
            raise UsageError(
                "the output directory holds files that no export of this format wrote",
                where=target,
                expected="an earlier export of the same format",
                found=relative,
                fix=f"delete {first}: an export that was killed left it, or one is running"
                if first.startswith(_PREFIX)
                else "choose another --output",
            )
        found[relative] = _identity(path)
    return found


def _finish(directory: Path) -> None:
    """Make durable what libraries wrote, with the modes that the umask gives.

    Some libraries write temporary files that only their owner may read, and rename them.
    """
    mode = directory.stat().st_mode & 0o666
    for path in directory.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fchmod(descriptor, mode)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def _describe(directory: Path) -> list[dict[str, Any]]:
    """Return path, bytes and SHA-256 of every file below a directory, sorted by path."""
    listed = [(relative, files.hash_file(directory / relative)) for relative in _paths(directory)]
    return [
        {"path": relative, "bytes": record.size, "sha256": record.sha256}
        for relative, record in listed
    ]


def _paths(directory: Path) -> list[str]:
    return sorted(
        path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()
    )


def _publish(staged: Path, target: Path, written: list[str], earlier: dict[str, _Identity]) -> None:
    """Give the files their names in the target; on an error everything is back in its place."""
    new, old = staged / "new", staged / "old"
    placed: dict[str, _Identity] = {}
    try:
        for relative, identity in earlier.items():
            _move_aside(target / relative, old / relative, identity)
        for relative in written:
            files.make_directory((target / relative).parent)
            placed[relative] = _identity(new / relative)
            files.move_if_free(new / relative, target / relative)
    except BaseException as error:
        for relative, identity in placed.items():
            with suppress(OSError):
                _move_aside(target / relative, staged / "withdrawn" / relative, identity)
        for relative in _paths(old):
            files.make_directory((target / relative).parent)
            files.move_if_free(old / relative, target / relative)
        _remove_empty(_parents(target, written))
        if isinstance(error, FileExistsError | FileNotFoundError):
            raise UsageError(
                "files came into the output directory while the export was written",
                where=target,
                expected="what was there at the beginning",
                found=error.filename2 or error.filename,
                fix="choose another --output",
            ) from error
        raise
    directories = _parents(target, [*written, *earlier])
    _remove_empty(directories)
    files.sync_directories(each for each in (target, *directories) if each.is_dir())


def _move_aside(path: Path, aside: Path, identity: _Identity) -> None:
    """Move a file away if it is the one that is meant.

    Raises:
        FileExistsError: It is another one, and stays.
    """
    files.make_directory(aside.parent)
    if _identity(path) == identity:
        path.rename(aside)
        # Another one may have come in between.
        if _identity(aside) == identity:
            return
        files.move_if_free(aside, path)
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))


def _identity(path: Path) -> _Identity:
    found = path.lstat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _parents(target: Path, relatives: Iterable[str]) -> list[Path]:
    """Return the directories between a target and its files, the deepest first."""
    found = {
        parent
        for relative in relatives
        for parent in (target / relative).parents
        if parent.is_relative_to(target) and parent != target
    }
    return sorted(found, reverse=True)


def _remove_empty(directories: Iterable[Path]) -> None:
    for directory in directories:
        with suppress(OSError):
            directory.rmdir()
