"""A folder `pipelines` of the user's, where a program starts, does not stand in for the package."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.process
ROOT = Path(__file__).parents[1]
USE = "import vintix; vintix.make('dark-room').reset(seed=0)"
WORKERS = (
    "import vintix; print(vintix.distill(tasks=('dark-room',), trajectories=2, steps=400, "
    "workers=2).artifact.reference)"
)


@pytest.fixture(params=["pipelines/__init__.py", "pipelines.py"])
def folder(request, tmp_path):
    path = tmp_path / request.param
    path.parent.mkdir(exist_ok=True)
    path.write_text("MINE = True\n")
    return tmp_path


def python(folder, *arguments, **environment):
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_library_is_used_and_the_folder_named(folder):
    done = python(folder, "-c", USE)
    assert done.returncode == 0, done.stderr
    assert str(folder / "pipelines") in done.stderr
    assert "'import pipelines' means that of vintix" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "path"),
    [
        (("-m", "vintix_cli"), str(ROOT)),
        # As the installed script, for a user whose PYTHONPATH begins with the folder.
        (("-c", "from vintix_cli.__main__ import main; main()"), f".{os.pathsep}{ROOT}"),
    ],
)
def test_the_command_runs_and_says_nothing_of_it(folder, arguments, path):
    done = python(folder, *arguments, "tasks", "dark-room", "--json", PYTHONPATH=path)
    assert done.returncode == 0 and '"dark-room"' in done.stdout
    assert done.stderr == ""


def test_worker_processes_take_the_package_too(folder):
    """Those of `python -c` and of notebooks import no main program that would find it."""
    done = python(folder, "-c", WORKERS)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "dark-room@v1"


def test_one_that_was_imported_before_is_told(folder):
    done = python(folder, "-c", f"import pipelines; assert pipelines.MINE; {USE}")
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: vintix needs") and str(folder / "pipelines") in last
    assert "Rename yours" in last
