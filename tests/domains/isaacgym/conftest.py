"""A worker in its fake mode, started as a real one is."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.domains.isaacgym.settings import IsaacGymSettings

Fake = Callable[..., IsaacGymSettings]


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
    import os

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
