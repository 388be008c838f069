"""What the scripts of runs/ say where an artifact is missing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.process
def test_a_missing_artifact_is_told_without_a_traceback(tmp_path):
    """Whoever runs a script before the commands that it reads from is told which they are."""
    done = subprocess.run(
        [sys.executable, ROOT / "runs/packaged_model.py", "card", "--rollout", "nowhere"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "VINTIX_WORKSPACE": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("error: no rollouts artifact 'nowhere'")
    assert "fix: vintix rollout" in done.stderr
