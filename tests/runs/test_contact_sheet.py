"""The script that draws many tasks on one sheet."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

pytestmark = pytest.mark.process

SCRIPT = Path(__file__).parents[2] / "runs" / "contact_sheet.py"


def run(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, words)],
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_each_task_has_its_tile(tmp_path: Path) -> None:
    """In rows, in the order given; what is left of the last row stays white."""
    file = tmp_path / "docs" / "sheet.png"
    names = [f"ib-{setpoint}" for setpoint in (50, 0, 100)]
    done = run(*names, "--output", file, "--columns", 2, "--tile", "200x150", "--steps", 9)
    assert done.returncode == 0, done.stderr
    assert "3 tasks" in done.stdout
    told = [line.split()[0] for line in done.stderr.splitlines()]
    assert told == [f"industrial-benchmark-{setpoint}" for setpoint in (50, 0, 100)]
    sheet = imread(file)[..., :3]
    assert sheet.shape[1] == 2 * 200 + 3 * 8
    half, middle = sheet.shape[0] // 2, sheet.shape[1] // 2
    quarters = [sheet[:half, :middle], sheet[:half, middle:], sheet[half:, :middle]]
    colours = [len(np.unique(each.reshape(-1, 3), axis=0)) for each in quarters]
    assert min(colours) > 20
    assert (sheet[half:, middle:] == 1).all()


def test_no_sheet_where_a_task_cannot_be_drawn(tmp_path: Path) -> None:
    file = tmp_path / "sheet.png"
    done = run("ib-50", "no-such-task", "--output", file)
    assert done.returncode == 2
    assert "no-such-task" in done.stderr
    assert not file.exists()
