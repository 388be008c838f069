"""Workspaces that were filled once, and a copy of them for each test.

Imported by the conftest of every folder that tests commands.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
from filelock import FileLock

from .support import TINY_RUN, Shell, install_metadata, install_point_mass

_FAULTY = Path(__file__).with_name("faulty_domain.py")


def once(factory: pytest.TempPathFactory, name: str, fill: Callable[[Path], None]) -> Path:
    """Fill a directory once for all workers of a test run."""
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    directory = base / name
    with FileLock(base / f"{name}.lock"):
        if not (directory / ".filled").exists():
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir()
            fill(directory)
            (directory / ".filled").touch()
    return directory


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of installed distributions: the domain of ``examples/point_mass``."""
    return once(tmp_path_factory, "site", lambda path: install_point_mass(path / "packages"))


@pytest.fixture(scope="session")
def faulty_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same beside domains whose code raises."""

    def fill(directory: Path) -> None:
        install_point_mass(directory / "packages")
        shutil.copy(_FAULTY, directory / "packages")
        entries = {"faulty": "faulty_domain:Faulty", "grumbling": "faulty_domain:Grumbling"}
        install_metadata(
            directory / "packages", "vintix-faulty", "1.0", {"vintix.domains": entries}
        )

    return once(tmp_path_factory, "faulty-site", fill)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory, site: Path) -> Path:
    """A workspace in which the five stages ran, tiny, on the point mass."""

    def fill(directory: Path) -> None:
        run_file = directory / "run.yaml"
        run_file.write_text(TINY_RUN)
        shell = Shell(directory / "work", directory, _path(site))
        commands = [
            ["demonstrators", "--domain", "point-mass"],
            ["distill", "--domain", "point-mass"],
            ["pack"],
            ["train"],
            ["rollout"],
        ]
        shell.prepare([*command, "--quiet", "--config", str(run_file)] for command in commands)

    return once(tmp_path_factory, "prepared", fill)


@pytest.fixture(scope="session")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace, and exports of it, that have what the help's examples name, in miniature."""

    def fill(directory: Path) -> None:
        run_file = directory / "run.yaml"
        run_file.write_text(TINY_RUN)
        shell = Shell(directory / "work", directory, {})
        ars = ["--source", "train", "--algorithm", "ars", "--total-steps", "200"]
        one = ["--trajectories", "1", "--steps", "600"]
        commands = [
            ["demonstrators", "--task", "reach", "--name", "metaworld"],
            ["demonstrators", "--task", "hopper", "--name", "hopper", *ars],
            ["distill", "--domain", "metaworld", "--name", "metaworld", *one],
            ["distill", "--task", "hopper", "--name", "mujoco", *one],
            ["distill", "--task", "hopper", "--name", "mujoco", *one, "--seed", "1"],
            *(
                ["distill", "--task", "hopper", "--name", "hopper", *one, "--shard", f"{shard}/2"]
                for shard in (1, 2)
            ),
            ["pack", "--histories", "metaworld", "--histories", "mujoco", "--name", "quickstart"],
            ["train", "--name", "quickstart"],
            ["rollout", "--task", "hopper", "--shots", "1", "--name", "quickstart"],
        ]
        shell.prepare([*command, "--quiet", "--config", str(run_file)] for command in commands)
        exports = [
            ["checkpoint", "--format", "official", "--output", "released/checkpoint"],
            ["checkpoint", "--format", "safetensors", "--output", "shared/model"],
        ]
        if find_spec("h5py"):
            exports.append(["dataset", "--format", "official", "--output", "released/data"])
        shell.prepare(["export", *command, "--quiet"] for command in exports)

    return once(tmp_path_factory, "gallery", fill)


@pytest.fixture
def empty(tmp_path: Path, site: Path) -> Shell:
    """Commands on an empty workspace that know the point mass."""
    return _shell(tmp_path, _path(site))


@pytest.fixture
def shell(tmp_path: Path, site: Path, prepared: Path) -> Shell:
    """Commands on a copy of the prepared workspace."""
    shutil.copytree(prepared / "work", tmp_path / "work")
    return _shell(tmp_path, _path(site))


@pytest.fixture
def gallery_shell(tmp_path: Path, gallery: Path) -> Shell:
    """Commands on a copy of the gallery."""
    for name in ("work", "released", "shared"):
        shutil.copytree(gallery / name, tmp_path / name)
    return _shell(tmp_path, {})


@pytest.fixture
def faulty(tmp_path: Path, faulty_site: Path) -> Shell:
    """Commands on an empty workspace, with domains installed whose code raises."""
    return _shell(tmp_path, _path(faulty_site))


def _shell(directory: Path, variables: dict[str, str]) -> Shell:
    (directory / "run.yaml").write_text(TINY_RUN)
    return Shell(directory / "work", directory, variables)


def _path(site: Path) -> dict[str, str]:
    before = os.environ.get("PYTHONPATH")
    return {"PYTHONPATH": os.pathsep.join([str(site / "packages"), *([before] if before else [])])}
