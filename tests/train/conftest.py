from __future__ import annotations

import shutil

import pytest

from pipelines.artifacts.workspace import Workspace

from .support import write_dataset


@pytest.fixture(scope="session")
def template(tmp_path_factory):
    """A workspace with the toy dataset; not to be changed."""
    root = tmp_path_factory.mktemp("template")
    write_dataset(Workspace(root))
    return root


@pytest.fixture
def new_workspace(template, tmp_path):
    """Makes workspaces that hold the dataset."""

    def make(name="artifacts"):
        shutil.copytree(template, tmp_path / name)
        return Workspace(tmp_path / name)

    return make


@pytest.fixture
def workspace(new_workspace):
    return new_workspace()
