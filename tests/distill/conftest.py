from __future__ import annotations

import pytest

from distill.toy import make_demonstrators, toy_installed
from pipelines.artifacts.workspace import Workspace


@pytest.fixture(scope="module")
def toy_domain(tmp_path_factory):
    """The plugin, for no longer than a module: other tests count the tasks that there are."""
    directory = tmp_path_factory.mktemp("site")
    with toy_installed(directory):
        yield directory


@pytest.fixture
def workspace(tmp_path, toy_domain):
    """A workspace with demonstrators of the three toy tasks."""
    found = Workspace(tmp_path / "work")
    make_demonstrators(found)
    return found
