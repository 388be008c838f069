"""Telling what was measured, and peak memory."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

_STATUS = Path("/proc/self/status")


def show(capsys: pytest.CaptureFixture[str], text: str) -> None:
    """Print past pytest's capture."""
    with capsys.disabled():
        sys.stderr.write(f"\n{text}\n")


def paired_ratio(baseline: Sequence[float], ours: Sequence[float]) -> float:
    """Return the median ratio of times that were taken one right after the other.

    A machine's speed may change by a third within a minute, which meets both of a pair alike.
    """
    return statistics.median(one / other for one, other in zip(baseline, ours, strict=True))


def peak_megabytes() -> float:
    """Return the highest resident memory of this process so far; skips where there is no /proc."""
    if not _STATUS.exists():
        pytest.skip("peak memory is read from /proc, which only Linux has")
    # Not getrusage: its peak is inherited from the process that started this one.
    lines = _STATUS.read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024
