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


SMALL = {
    "VINTIX_DISTILL_STEPS": "400",
    "VINTIX_DISTILL_TRAJECTORIES": "1",
    "VINTIX_TRAIN_STEPS": "1",
    "VINTIX_TRAIN_CONTEXT": "50",
    "VINTIX_TRAIN_BATCH_SIZE": "1",
    "VINTIX_ROLLOUT_SHOTS": "1",
    "VINTIX_ROLLOUT_SEEDS": "1",
}
"""Variables that keep the card's commands small, so that they can run as they are written."""
