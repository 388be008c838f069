from __future__ import annotations

import importlib
import shutil
import sys
from pathlib import Path

import pytest

from pipelines.artifacts.workspace import Workspace


@pytest.fixture(scope="package", autouse=True)
def tiny_domain(tmp_path_factory):
    """The plugin of vintix_tiny.py, installed for this process and for spawned workers."""
    from pipelines.domains import registry

    directory = tmp_path_factory.mktemp("site")
    shutil.copy(Path(__file__).with_name("vintix_tiny.py"), directory)
    info = directory / "vintix_tiny-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: vintix-tiny\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[vintix.domains]\ntiny = vintix_tiny:Tiny\n")
    sys.path.insert(0, str(directory))
    importlib.invalidate_caches()
    registry._discover.cache_clear()
    yield
    sys.path.remove(str(directory))
    sys.modules.pop("vintix_tiny", None)
    registry._discover.cache_clear()


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path / "work")


@pytest.fixture
def failing(tmp_path, monkeypatch):
    """Call with task names to let their simulator break, with none to mend it."""
    path = tmp_path / "failing"
    monkeypatch.setenv("VINTIX_TINY_FAIL", str(path))

    def set_failing(*names):
        path.write_text(" ".join(names))

    return set_failing


def get(name, given=None):
    """Return task, domain and resolved options of a task."""
    from pipelines.domains.registry import domain_of, full_catalogue, resolve_options

    task = full_catalogue().get(name)
    domain = domain_of(task)
    return task, domain, resolve_options(domain, given or {})
