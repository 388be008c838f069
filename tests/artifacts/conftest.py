"""Fixtures of the store's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.artifacts.artifact import Artifact

from .helpers import quick_directory, run_tiny


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A fresh directory, in memory where possible: these tests flush thousands of files."""
    with quick_directory() as directory:
        yield directory


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """What an uninterrupted run of the tiny stage publishes, on a real disk; not to be changed."""
    return run_tiny(tmp_path_factory.mktemp("undisturbed"))
