"""The script for a GPU runs its parts where there is none, so that none of its minutes are lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.process]
ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("part", ["attention", "training", "processes", "rollouts", "resume"])
def test_each_part_passes_on_the_cpu(tmp_path, part):
    command = ["bash", str(ROOT / "runs" / "gpu.sh"), "--device", "cpu", "--part", part]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHON": sys.executable}
    done = subprocess.run(
        command,
        check=False,
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [json.loads(line) for line in (tmp_path / "gpu.jsonl").read_text().splitlines()]
    assert rows and all(row["part"] == part for row in rows)
    assert all(row.get("passed", True) for row in rows), rows
