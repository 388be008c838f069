"""What tests of several packages need."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.errors import MissingDependencyError
from pipelines.scenes.opengl import VARIABLE, prepare_opengl


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
    default = Path(__file__).resolve().parents[2] / "shared" / "conformance"
    folder = Path(os.environ.get("VINTIX_CONFORMANCE", default))
    if not folder.is_dir():
        pytest.skip(f"no conformance data at {folder} (set VINTIX_CONFORMANCE)")
    return folder
