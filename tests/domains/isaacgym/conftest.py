"""A worker in its fake mode, started as a real one is."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipelines.domains.isaacgym import worker
from pipelines.domains.isaacgym.link import WORKER_FILE
from pipelines.domains.isaacgym.settings import IsaacGymSettings

Fake = Callable[..., IsaacGymSettings]
Server = tuple[int, int]
TOKEN = "0123456789abcdef"


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    """Settings of fake workers; a fault may be named, and any field given."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)

    def make(fault: str = "", **fields: object) -> IsaacGymSettings:
        arguments = ("--fake", *(("--fake-fault", fault) if fault else ()))
        chosen = {"kind": "python", "target": sys.executable, "arguments": arguments, **fields}
        return IsaacGymSettings(**chosen)  # type: ignore[arg-type]

    return make


def children() -> list[int]:
    """Process ids of the children of this process, without those that have ended."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if int(parent) == os.getpid() and state != "Z":
            found.append(int(entry.name))
    return found


def connect(process: subprocess.Popen[bytes]) -> socket.socket:
    """Connect to a worker that was told to listen at ``unix:socket`` in the current directory.

    The path is a relative one, since that of a Unix socket has to be short.
    """
    client = socket.socket(socket.AF_UNIX)
    deadline = time.monotonic() + 60
    while client.connect_ex("socket"):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    return client


@pytest.fixture
def server() -> Iterator[Server]:
    """Process and port of a worker that serves clients until it is stopped."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    endpoint = f"tcp:127.0.0.1:{port}"
    process = subprocess.Popen(
        [sys.executable, str(WORKER_FILE), "--serve", "--endpoint", endpoint, "--fake"],
        env={**os.environ, worker.TOKEN_VARIABLE: TOKEN},
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            break
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    yield process.pid, port
    process.kill()
    process.wait()
