"""What tests of several packages need."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def conformance() -> Path:
    """The folder with the released code's inputs and outputs."""
    default = Path(__file__).resolve().parents[2] / "shared" / "conformance"
    folder = Path(os.environ.get("VINTIX_CONFORMANCE", default))
    if not folder.is_dir():
        pytest.skip(f"no conformance data at {folder} (set VINTIX_CONFORMANCE)")
    return folder
