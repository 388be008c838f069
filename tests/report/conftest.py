from __future__ import annotations

from pathlib import Path

import pytest
from cli.fixtures import once, prepared, shell, site  # noqa: F401 - fixtures

from pipelines.artifacts.workspace import Workspace
from pipelines.report.document import report_document
from pipelines.report.sources import Sources, read_sources

from .made import SHOTS, TASKS, returns, rising, write_everything, write_lineage, write_rollouts

ROLLOUTS = ("model-ad", "model-ed", "model-ad-no-reward", "unseen")


@pytest.fixture(scope="session")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace with rollouts of each kind that the paper has; not to be changed."""

    def fill(directory: Path) -> None:
        write_everything(directory / "work")

    return Workspace(once(tmp_path_factory, "report", fill) / "work")


@pytest.fixture(scope="session")
def sources(everything: Workspace) -> Sources:
    return read_sources(everything, ROLLOUTS)


@pytest.fixture(scope="session")
def document(sources: Sources) -> dict:
    return report_document(sources)


@pytest.fixture(scope="session")
def converged(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace with a rollout of training tasks that played four episodes after convergence."""
    workspace = Workspace(tmp_path_factory.mktemp("converged"))
    names = [*TASKS, "industrial-benchmark-0", "industrial-benchmark-50", "door-unlock"]
    curves = {name: returns(name, rising(0.1, 1.0), SHOTS + 4) for name in names}
    checkpoint = write_lineage(workspace, "model-ad", "ad", names)
    write_rollouts(workspace, checkpoint, curves, name="model-ad", converged=4)
    return workspace
