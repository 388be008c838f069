"""What may lie where a file should: links, pipes, sockets, devices, sparse giants."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import socket
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_GIANT_BYTES = 8 << 30
_SPARE_BYTES = 2 << 30
"""Memory a test may take more than it has: enough for every reader, and not for a giant."""


def _link(path: Path) -> None:
    """A link to the very bytes that should be there."""
    elsewhere = path.with_name(f"{path.name}.elsewhere")
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


def _dangling(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.with_name("nowhere"))


def _loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def _directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _socket(path: Path) -> None:
    path.unlink()
    # A socket's address is short, and it stays when its maker has gone.
    here = Path.cwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(path.name)
    finally:
        os.chdir(here)


def _device(path: Path) -> None:
    """``/dev/zero``, which never ends; a user without the right to make it gets a link to it."""
    path.unlink()
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))
    except PermissionError:
        path.symlink_to("/dev/zero")


def _giant(path: Path) -> None:
    os.truncate(path, _GIANT_BYTES)


HOSTILE: dict[str, tuple[Callable[[Path], None], str]] = {
    "link": (_link, "symbolic link"),
    "dangling link": (_dangling, "symbolic link"),
    "link to itself": (_loop, "symbolic link"),
    "directory": (_directory, "a directory"),
    "pipe": (_pipe, "named pipe"),
    "socket": (_socket, "a socket"),
    "device": (_device, "device"),
    "giant": (_giant, f"{_GIANT_BYTES:,} bytes"),
}
"""What puts each kind in the place of a file, and what a message has to call it."""


def called(name: str, path: Path) -> str:
    """Return what a message has to call the thing that is at the path."""
    return "symbolic link" if name == "device" and path.is_symlink() else HOSTILE[name][1]


@contextmanager
def bounded(seconds: int = 20) -> Iterator[None]:
    """Fail, rather than hang or fill the memory."""

    def late(number: int, frame: object) -> None:
        raise AssertionError(f"not done after {seconds} seconds")

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + _SPARE_BYTES, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def copy(source: Path, target: Path) -> Path:
    """Copy an artifact."""
    shutil.copytree(source, target, symlinks=True)
    return target
