"""The released code's data and outputs, and workspaces for imports."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.artifacts.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "work")
