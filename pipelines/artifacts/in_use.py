"""What keeps a published version from being deleted: who reads it, and what will be made of it.

A reader holds a shared lock on the manifest of what it reads, for as long as its `Artifact` lives.
The lock needs no right to write, adds no file, and the kernel gives it back however a process
ends. Staged work names its parents in a file, so that what it will read is known while nobody runs
it. `pipelines.artifacts.gc` takes the lock of a version for itself, looks at the staged work, and
only then deletes.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from pydantic import ValidationError

from pipelines.artifacts import files
from pipelines.artifacts.schema import MANIFEST, Parent, parse_manifest
from pipelines.errors import ArtifactError, LockedError

PARENTS = "parents.json"
_PATIENCE_SECONDS = 5.0
_POLL_SECONDS = 0.01


def share(manifest: BinaryIO, path: Path) -> int:
    """Take the reader's lock of a version.

    Args:
        manifest: Its open manifest.
        path: The manifest's path.

    Returns:
        A descriptor; closing it gives the lock back.

    Raises:
        FileNotFoundError: The version was deleted between the opening and the lock.
        LockedError: `gc` holds it, and does not go on.
        OSError: There are no descriptors left.
    """
    end = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            fcntl.flock(manifest, fcntl.LOCK_SH | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            # It is held for an instant, to look whether anybody reads.
            pass
        except OSError:
            # A file system without locks has readers all the same.
            break
        if time.monotonic() > end:
            raise LockedError(
                "another process is deleting this version",
                where=path.parent,
                expected="a version that stays",
                found="vintix artifacts gc",
                fix="wait for it or stop it, then run the same command again",
            )
        time.sleep(_POLL_SECONDS)
    if not os.path.samestat(os.fstat(manifest.fileno()), path.stat()):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    return os.dup(manifest.fileno())


@contextlib.contextmanager
def alone(path: Path) -> Iterator[str | None]:
    """Hold a version against readers that come, if there is none.

    Args:
        path: The version's directory.

    Yields:
        None, or why it cannot be had.
    """
    try:
        # Network file systems give the lock of a writer only to who may write.
        descriptor = os.open(
            path / MANIFEST, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        )
    except OSError as error:
        yield f"it cannot be locked: {error.strerror}"
        return
    try:
        found = None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            found = "a process reads it"
        except OSError as error:
            found = f"it cannot be locked: {error.strerror}"
        yield found
    finally:
        os.close(descriptor)


def write_parents(staging: Path, parents: Sequence[Parent]) -> None:
    """Tell what staged work is made from.

    Raises:
        StorageError: The file system refused.
    """
    told = {"parents": [parent.model_dump() for parent in parents]}
    files.write_sealed(staging / PARENTS, told)


def read_parents(staging: Path) -> list[Parent] | None:
    """Return what staged work is made from; None where it does not tell.

    Raises:
        StorageError: It cannot be read.
    """
    told = files.read_sealed(staging / PARENTS)
    try:
        if told is not None:
            return [Parent(**parent) for parent in told["parents"]]
        # All but the manifest is cleared away before the rename that publishes.
        manifest = files.read_if_there(staging / MANIFEST)
        return None if manifest is None else parse_manifest(manifest, staging).parents
    except (ArtifactError, ValidationError, KeyError, TypeError):
        return None
