"""The lock of an artifact name: one writer, named by host, process and start time."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from pipelines.artifacts import files
from pipelines.errors import LockedError, StorageError

LOCK = ".lock"
OWNER = ".owner.json"
# `artifacts ls` and `gc` hold a lock for milliseconds to see whether it is free.
_GRACE_SECONDS = 0.5


class NameLock:
    """An exclusive lock of a name, which the kernel gives back when its holder dies.

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
        try:
            files.write_json(self._base / OWNER, _this_process())
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
            owner = _read_owner(self._base / OWNER)
            if owner is not None and _may_be_alive(owner):
                return f"process {owner['pid']} on {owner['host']}, started {owner['started']}"
            if time.monotonic() > end:
                return "a process that has not said who it is"
            time.sleep(0.02)


def _this_process() -> dict[str, object]:
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _read_owner(path: Path) -> dict[str, object] | None:
    try:
        owner = json.loads(files.read_file(path))
        return {"host": owner["host"], "pid": int(owner["pid"]), "started": owner["started"]}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _may_be_alive(owner: dict[str, object]) -> bool:
    if owner["host"] != socket.gethostname():
        return True
    try:
        os.kill(int(str(owner["pid"])), 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
