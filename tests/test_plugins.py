"""The project's own plugins are found without installation, declared as anyone's would be."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from pipelines.domains.registry import DOMAINS
from pipelines.errors import UsageError
from pipelines.methods import METHODS, find_method
from pipelines.model.backbones import BACKBONES
from pipelines.model.heads import HEADS
from pipelines.plugins import Kind

KINDS = [DOMAINS, METHODS, HEADS, BACKBONES]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.noun)
def test_the_tables_are_those_of_the_project_file(kind: Kind) -> None:
    """An installation and a checkout offer the same."""
    project = Path(__file__).resolve().parents[1] / "pyproject.toml"
    declared = tomllib.loads(project.read_text())["project"]["entry-points"]
    assert declared[kind.group] == dict(kind.own)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.noun)
def test_every_own_plugin_loads(kind: Kind) -> None:
    for name in kind.own:
        assert isinstance(kind.find(name), type)
        assert kind.package(name) is None


def test_an_unknown_name_is_told_with_the_nearest_and_the_package_that_brings_it() -> None:
    with pytest.raises(UsageError) as caught:
        find_method("ad-no-rewards")
    assert "Did you mean ad-no-reward" in str(caught.value)
    assert "vintix.methods" in str(caught.value)
    with pytest.raises(UsageError, match="pip install vintix-gail"):
        METHODS.find("gail", "vintix-gail")
