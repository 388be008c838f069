"""What comes with the package stands in where a workspace has nothing of the kind."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.artifacts import workspace as module
from pipelines.artifacts.arrays import write_array
from pipelines.artifacts.workspace import Workspace, is_packaged
from pipelines.errors import ArtifactMissingError


def publish(root, name, value):
    with Workspace(root).stage("checkpoints", name, config={"value": value}) as staging:
        with staging.work_item("model") as item:
            write_array(item.group("model", {}), "weights", np.full(3, value, np.float32))
        return staging.publish(summary={})


@pytest.fixture
def package(tmp_path, monkeypatch):
    root = tmp_path / "package"
    publish(root, "packaged", 1)
    monkeypatch.setattr(module, "PACKAGE", root)
    return root


def test_an_empty_workspace_has_the_packaged_one(package, tmp_path):
    found = Workspace(tmp_path / "mine").find("checkpoints")
    assert found.reference == "packaged@v1"
    assert is_packaged(found)
    assert not (tmp_path / "mine").exists()


def test_what_the_workspace_has_comes_first(package, tmp_path):
    own = publish(tmp_path / "mine", "own", 2)
    mine = Workspace(tmp_path / "mine")
    assert mine.find("checkpoints").digest == own.digest
    assert is_packaged(mine.find("checkpoints", "packaged"))
    shadow = publish(tmp_path / "mine", "packaged", 3)
    assert mine.find("checkpoints", "packaged").digest == shadow.digest
    assert not is_packaged(mine.find("checkpoints", "packaged"))


@pytest.mark.parametrize(
    "reference", ["packaged", "packaged@v1", "checkpoints/packaged", "checkpoints/packaged@v1"]
)
def test_it_is_found_by_name_and_located(package, tmp_path, reference):
    mine = Workspace(tmp_path / "mine")
    expected = package / "checkpoints" / "packaged" / "v1"
    assert mine.find("checkpoints", reference).path == expected
    assert mine.locate(reference) == expected


@pytest.mark.parametrize("reference", ["other", "packaged@v2", "histories/packaged"])
def test_other_names_are_missing_as_before(package, tmp_path, reference):
    with pytest.raises(ArtifactMissingError):
        Workspace(tmp_path / "mine").locate(reference)


def test_other_kinds_are_missing_as_before(package, tmp_path):
    with pytest.raises(ArtifactMissingError, match="no datasets"):
        Workspace(tmp_path / "mine").find("datasets")
