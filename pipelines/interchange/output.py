"""Directories that an export writes: whole or not at all, and never over what is not an export."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipelines.artifacts import files
from pipelines.errors import UsageError


@contextmanager
def output_directory(target: Path, *, overwrite: bool, own: str, needed: int = 0) -> Iterator[Path]:
    """Give a directory to write in, and put it in the target's place once it is complete.

    Args:
        target: Where the export goes. An empty directory counts as none.
        overwrite: Replace an earlier export.
        own: Regular expression of the relative paths that this format writes. A directory that
            holds anything else is never replaced.
        needed: Bytes that will be written, about.

    Yields:
        A directory beside the target; deleted if the body raises.

    Raises:
        UsageError: The target is there, and is not to be replaced or is not an export.
        StorageError: The file system refused.
    """
    target = target.expanduser().absolute()
    _check_target(target, overwrite, own)
    files.check_room(target, needed)
    staged = target.with_name(f".{target.name}.{os.getpid()}{files.TEMPORARY_SUFFIX}")
    files.remove_tree(staged)
    files.make_directory(staged)
    try:
        yield staged
        _sync(staged)
        if target.exists():
            files.remove_tree(target)
        files.rename_directory(staged, target)
    except BaseException:
        files.remove_tree(staged)
        raise


def describe_files(directory: Path) -> list[dict[str, Any]]:
    """Return path, bytes and SHA-256 of every file below a directory, sorted by path."""
    listed = sorted(path for path in directory.rglob("*") if path.is_file())
    return [
        {
            "path": path.relative_to(directory).as_posix(),
            "bytes": record.size,
            "sha256": record.sha256,
        }
        for path in listed
        for record in [files.hash_file(path.resolve())]
    ]


def _check_target(target: Path, overwrite: bool, own: str) -> None:
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    if not target.is_dir():
        raise UsageError(
            "the output is a file", where=target, expected="a directory, or nothing there"
        )
    if not overwrite:
        raise UsageError(
            "the output directory is there already",
            where=target,
            expected="a directory that is not there yet",
            found=f"{sum(1 for _ in target.iterdir())} entries",
            fix="choose another --output, or add --overwrite to replace it",
        )
    for path in sorted(target.rglob("*")):
        relative = path.relative_to(target).as_posix()
        if not path.is_dir() and not re.fullmatch(own, relative):
            raise UsageError(
                "the output directory holds files that no export of this format wrote",
                where=target,
                expected="an earlier export of the same format",
                found=relative,
                fix="choose another --output",
            )


def _sync(directory: Path) -> None:
    """Make what other libraries wrote below a directory durable."""
    for path in directory.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            except OSError as error:
                raise files.storage_error(error, path) from error
            finally:
                os.close(descriptor)
    files.sync_directories([directory, *(path for path in directory.rglob("*") if path.is_dir())])
