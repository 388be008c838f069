"""What tests of several packages need."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.domains.opengl import VARIABLE, prepare_opengl
from pipelines.errors import MissingDependencyError

DATA = Path(__file__).with_name("data")


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
