from __future__ import annotations

import importlib
import sys

import pytest
from cli.fixtures import (  # noqa: F401 - fixtures
    empty,
    faulty,
    faulty_site,
    gallery,
    gallery_shell,
    prepared,
    shell,
    site,
)


@pytest.fixture
def point_mass_here(site):  # noqa: F811
    """The point mass is installed for this process too."""
    from pipelines.domains import registry

    packages = str(site / "packages")
    sys.path.insert(0, packages)
    importlib.invalidate_caches()
    registry._discover.cache_clear()
    yield
    sys.path.remove(packages)
    sys.modules.pop("point_mass_domain", None)
    importlib.invalidate_caches()
    registry._discover.cache_clear()
