"""Locks: one writer of a name at a time, and no deletion of a version that somebody reads.

The writer's lock names its holder by host, process and start time. A reader holds a shared lock on
the manifest of what it reads, for as long as its `Artifact` lives: it needs no right to write and
adds no file. The kernel gives both back however a process ends.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Self

from pipelines.artifacts import files
from pipelines.artifacts.schema import MANIFEST
from pipelines.errors import LockedError, StorageError

LOCK = ".lock"
OWNER = ".owner.json"
# `artifacts ls` and `gc` hold a lock for milliseconds to see whether it is free.
_GRACE_SECONDS = 0.5
_PATIENCE_SECONDS = 5.0


class NameLock:
    """The writer's lock of a name.

    Args:
        base: The name's directory, ``<workspace>/<kind>/<name>``.
    """

    def __init__(self, base: Path) -> None:
        from filelock import FileLock

        self._base = base
        self._lock = FileLock(base / LOCK)

    def acquire(self) -> None:
        """Take the lock and write who has it.

        Raises:
            LockedError: Another process has it.
            StorageError: The directory cannot be written.
        """
        files.make_directory(self._base)
        if not self._take(_GRACE_SECONDS):
            raise LockedError(
                "another process is writing under this name",
                where=self._base,
                expected="no other writer",
                found=self._describe_owner(),
                fix="wait for it, stop it, or choose another --name",
            )
        owner = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        try:
            files.write_json(self._base / OWNER, owner)
        except BaseException:
            self._lock.release()
            raise

    def release(self) -> None:
        """Give the lock back; fine if it is not held."""
        if not self._lock.is_locked:
            return
        try:
            # A name left behind does no harm: the next owner overwrites it.
            with contextlib.suppress(OSError):
                (self._base / OWNER).unlink(missing_ok=True)
        finally:
            self._lock.release()

    def holder(self) -> str | None:
        """Return who holds the lock now, or None; leaves nothing behind."""
        if not (self._base / LOCK).exists():
            return None
        try:
            if self._take(0):
                self._lock.release()
                return None
        except StorageError:
            # A workspace that cannot be written has no writers.
            return None
        return self._describe_owner()

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(self, *exc: object) -> None:
        self.release()

    def _take(self, seconds: float) -> bool:
        from filelock import Timeout

        try:
            # A lock file is opened for writing, which some releases of filelock do through links.
            if files.is_there(self._base / LOCK):
                files.check_file(self._base / LOCK)
            self._lock.acquire(timeout=seconds, poll_interval=0.02)
        except Timeout:
            return False
        except OSError as error:
            raise files.storage_error(error, self._base / LOCK) from error
        return True

    def _describe_owner(self) -> str:
        # Between taking the lock and writing the name, the file still names the last owner.
        end = time.monotonic() + _GRACE_SECONDS
        while True:
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                owner = json.loads(files.read_file(self._base / OWNER))
                host, pid, started = owner["host"], int(owner["pid"]), owner["started"]
                if host != socket.gethostname() or _is_alive(pid):
                    return f"process {pid} on {host}, started {started}"
            if time.monotonic() > end:
                return "a process that has not said who it is"
            time.sleep(0.02)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def lock_for_reading(manifest: BinaryIO, path: Path) -> int:
    """Take the reader's lock of a version.

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
        time.sleep(0.01)
    if not os.path.samestat(os.fstat(manifest.fileno()), path.stat()):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    return os.dup(manifest.fileno())


@contextlib.contextmanager
def without_readers(version: Path) -> Iterator[str | None]:
    """Keep readers away from a version, if there is none; yields why it cannot be had, or None."""
    try:
        # Network file systems give the lock of a writer only to who may write.
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(version / MANIFEST, flags)
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
