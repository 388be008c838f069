from __future__ import annotations

from collections.abc import Iterator

import pytest

from pipelines.hardware import torch_threads


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Models this small lose by a second thread, on a busy machine a hundredfold."""
    with torch_threads(1):
        yield
