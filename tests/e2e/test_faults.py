"""A disk that is full or failing, at the Nth change that a stage makes to it, or the Nth read."""

from __future__ import annotations

import errno
import os
import shutil
from importlib import import_module
from pathlib import Path

import pytest
from artifacts.helpers import FileSystem

from pipelines.artifacts.files import failure_of
from pipelines.artifacts.verify import verify
from pipelines.artifacts.workspace import STAGE_OF_KIND, Workspace
from pipelines.config import config_class, resolve_config
from pipelines.errors import StorageError
from pipelines.reporter import NullReporter

KINDS = {stage: kind for kind, stage in STAGE_OF_KIND.items()}
GIVEN = {
    "demonstrators": {"tasks": ["point-mass-north-east", "point-mass-south-west"]},
    "distill": {"trajectories": 1, "steps": 60, "shard_rows": 40},
    "pack": {},
    "train": {"steps": 2, "checkpoint_every": 1},
    "rollout": {"shots": 1, "seeds": 1},
}
SPREAD = 4
ERRORS = {"full": errno.ENOSPC, "failing": errno.EIO}
READ_ERRORS = (errno.EIO, errno.EMFILE, errno.ENOSPC, errno.EACCES)

pytestmark = pytest.mark.usefixtures("point_mass_here")


class Stage:
    """A stage whose result always has the name ``faults``."""

    def __init__(self, name: str, shell) -> None:
        self.workspace = Workspace(shell.workspace)
        self.kind = KINDS[name]
        self.base = self.workspace.root / self.kind / "faults"
        self._run = import_module(f"pipelines.{name}.stage").run
        self.config = resolve_config(
            name,
            config_class(name),
            command_line={**GIVEN[name], "name": "faults"},
            file=shell.directory / "run.yaml",
            environment={},
        )

    def run(self) -> str:
        """Run it in this process and return the digest."""
        return self._run(self.config, self.workspace, NullReporter()).artifact.digest

    def undisturbed(self, *, reads: bool = False) -> tuple[int, str]:
        """Return the number of changes, or of reads, of a whole run, and its digest."""
        counted = FileSystem(self.workspace.root, reads=reads)
        with counted.installed():
            digest = self.run()
        shutil.rmtree(self.base)
        return len(counted.log), digest


def _check(stage: Stage, number: int, kind: str, digest: str) -> None:
    def refuses(n: int, name: str, path: str) -> bool:
        # A full disk stays full, and lets files be deleted; an I/O error may pass.
        if kind == "full":
            return n >= number and name not in ("unlink", "rmdir")
        return n == number

    system = FileSystem(
        stage.workspace.root, lambda: OSError(ERRORS[kind], os.strerror(ERRORS[kind])), refuses
    )
    with system.installed():
        try:
            assert stage.run() == digest
        except StorageError as error:
            assert os.strerror(ERRORS[kind]) in error.message
            assert error.where is not None and Path(error.where).is_absolute()
            assert "run the same command again" in (error.fix or "")
        else:
            # Refused was what does not matter: tidying up, or making what is there.
            assert kind == "full" or system.log[number - 1][0] in ("unlink", "rmdir", "mkdir")
    for version in stage.base.glob("v*"):
        assert verify(version, deep=True) == []
    assert stage.run() == digest, (number, kind)
    assert [path.name for path in stage.base.glob("v*")] == ["v1"]
    assert verify(stage.base / "v1", deep=True) == []
    assert not list(stage.base.glob(".staging-*"))
    shutil.rmtree(stage.base)


@pytest.mark.parametrize("name", GIVEN)
def test_refused_changes(shell, name):
    """Moments spread over the run: an error that helps, no damage, and an exact resume."""
    stage = Stage(name, shell)
    count, digest = stage.undisturbed()
    assert count > 50
    for part in range(SPREAD):
        number = round(1 + (count - 1) * part / (SPREAD - 1))
        _check(stage, number, list(ERRORS)[part % len(ERRORS)], digest)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ERRORS)
@pytest.mark.parametrize("name", GIVEN)
def test_every_refused_change(shell, name, kind):
    stage = Stage(name, shell)
    count, digest = stage.undisturbed()
    for number in range(1, count + 1):
        _check(stage, number, kind, digest)


def _check_read(stage: Stage, number: int, error: int, digest: str) -> None:
    """Refuse one read: what is published is whole, or it is told and nothing is."""
    system = FileSystem(
        stage.workspace.root,
        lambda: OSError(error, os.strerror(error)),
        lambda n, name, path: n == number,
        reads=True,
    )
    with system.installed():
        try:
            assert stage.run() == digest, (system.log[number - 1], error)
        except StorageError as caught:
            assert os.strerror(error) in caught.message
            assert "run the same command again" in (caught.fix or "")
        except OSError as caught:
            # In a library; the command line tells it like the others.
            assert failure_of(caught) is not None
    for version in stage.base.glob("v*"):
        assert verify(version, deep=True) == []
    assert stage.run() == digest, (system.log[number - 1], error)
    assert [path.name for path in stage.base.glob("v*")] == ["v1"]
    shutil.rmtree(stage.base)


@pytest.mark.parametrize("name", GIVEN)
def test_refused_reads(shell, name):
    """Moments spread over the run: never less than was made, never a parent called corrupt."""
    stage = Stage(name, shell)
    count, digest = stage.undisturbed(reads=True)
    assert count > 50
    for part in range(SPREAD):
        number = round(1 + (count - 1) * part / (SPREAD - 1))
        _check_read(stage, number, READ_ERRORS[part % len(READ_ERRORS)], digest)


@pytest.mark.slow
@pytest.mark.parametrize("error", READ_ERRORS)
@pytest.mark.parametrize("name", GIVEN)
def test_every_refused_read(shell, name, error):
    stage = Stage(name, shell)
    count, digest = stage.undisturbed(reads=True)
    for number in range(1, count + 1):
        _check_read(stage, number, error, digest)
