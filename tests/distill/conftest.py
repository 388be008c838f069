from __future__ import annotations

import shutil

import pytest

from distill.toy import make_demonstrators, toy_installed
from pipelines.artifacts.workspace import Workspace


@pytest.fixture(scope="module")
def toy_domain(tmp_path_factory):
    """The plugin, for no longer than a module: other tests count the tasks that there are."""
    directory = tmp_path_factory.mktemp("site")
    with toy_installed(directory):
        yield directory


@pytest.fixture(scope="module")
def toy_workspace(tmp_path_factory, toy_domain):
    """A workspace with demonstrators of the three toy tasks; not to be changed."""
    found = Workspace(tmp_path_factory.mktemp("toys") / "work")
    make_demonstrators(found)
    return found


@pytest.fixture(scope="module")
def shared(tmp_path_factory, toy_workspace):
    """A copy for undisturbed runs: the first test makes them, the others find them done."""
    root = tmp_path_factory.mktemp("shared") / "work"
    shutil.copytree(toy_workspace.root, root)
    return Workspace(root)


@pytest.fixture
def workspace(tmp_path, toy_workspace):
    """A copy of the test's own."""
    shutil.copytree(toy_workspace.root, tmp_path / "work")
    return Workspace(tmp_path / "work")
