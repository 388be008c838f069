"""What tests of several packages need."""

from __future__ import annotations

import contextlib
import functools
import multiprocessing.process
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import settings

from pipelines.domains.opengl import VARIABLE, prepare_opengl
from pipelines.errors import MissingDependencyError

DATA = Path(__file__).with_name("data")

settings.register_profile("brief", max_examples=25, deadline=None, derandomize=True)
settings.register_profile("thorough", max_examples=200, deadline=None)
settings.load_profile("brief")


@pytest.fixture
def opengl(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """What MuJoCo's scenes are drawn with; where there is nothing, the test is skipped."""
    # Set, so that it is put back to what it was.
    monkeypatch.setenv(VARIABLE, os.environ.get(VARIABLE, ""))
    try:
        yield prepare_opengl()
    except MissingDependencyError as error:
        pytest.skip(f"no off-screen OpenGL: {error.found}")


@pytest.fixture(scope="session")
def conformance() -> Path:
    """The folder with the released code's inputs and outputs."""
    return DATA / "conformance"


@pytest.fixture(scope="session")
def paper_tables() -> Path:
    """The folder with the paper's tables."""
    return DATA / "paper"


START_PROCESSES = {
    *("browser", "empty", "fake", "faulty", "gallery_shell", "prepared", "scripts", "server"),
    *("shell", "site"),
}
"""Fixtures with which a test starts processes, or that start some."""

OF_A_LINE = {"git", "uname"}
"""Programs that are asked for a line, once a session: a revision, the name of a processor."""

MEANING = {"process": "this test starts a process", "simulator": "this test steps a simulator"}

_used: set[str] = set()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what starts a process through a fixture."""
    for item in items:
        if START_PROCESSES & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.process)


def pytest_sessionstart(session: pytest.Session) -> None:
    """In `nox -s fast`, hear of each process that is started and of each step of a simulator."""
    if "not process" not in session.config.option.markexpr:
        return
    import mujoco

    from pipelines.domains.industrial_benchmark.dynamics import Dynamics

    def heard(event: str, arguments: tuple[Any, ...]) -> None:
        if event in ("os.posix_spawn", "os.fork") or (
            event == "subprocess.Popen" and Path(os.fsdecode(arguments[0])).name not in OF_A_LINE
        ):
            _used.add("process")

    sys.addaudithook(heard)
    _hear(multiprocessing.process.BaseProcess, "start", "process")
    _hear(Dynamics, "step", "simulator")
    for name in ("mj_step", "mj_step1", "mj_step2"):
        _hear(mujoco, name, "simulator")


def _hear(owner: Any, name: str, marker: str) -> None:
    original = getattr(owner, name)

    @functools.wraps(original)
    def heard(*arguments: Any, **named: Any) -> Any:
        _used.add(marker)
        return original(*arguments, **named)

    setattr(owner, name, heard)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Do not wait for the disk: power does not fail here, and each file costs milliseconds."""
    measured = item.get_closest_marker("benchmark")
    with contextlib.nullcontext() if measured else patch("os.fsync", lambda descriptor: None):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Fail a test that lacks a marker by which `nox -s fast` leaves it out."""
    _used.clear()
    result = yield
    if not any(map(item.get_closest_marker, ("slow", "benchmark"))):
        for name in _used:
            if item.get_closest_marker(name) is None:
                pytest.fail(f"{MEANING[name]}: mark it with @pytest.mark.{name}", pytrace=False)
    return result
