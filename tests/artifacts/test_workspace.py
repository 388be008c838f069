"""References: names, versions, kinds, paths, the newest, and what cannot be found."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.artifacts.references import parse_reference
from pipelines.artifacts.schema import MANIFEST
from pipelines.artifacts.workspace import Workspace
from pipelines.errors import ArtifactCorruptError, ArtifactMissingError, UsageError

from .helpers import CONFIG, run_tiny


def _other(root, kind="datasets", name="tiny"):
    with Workspace(root).stage(kind, name, config={}) as staging:
        return staging.published or staging.publish(summary={})


def test_workspace_is_the_option_else_the_variable_else_artifacts(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VINTIX_WORKSPACE", raising=False)
    assert Workspace.resolve().root == tmp_path / "artifacts"
    monkeypatch.setenv("VINTIX_WORKSPACE", "from-variable")
    assert Workspace.resolve().root == tmp_path / "from-variable"
    assert Workspace.resolve("from-option").root == tmp_path / "from-option"
    assert Workspace.resolve("~/here").root == Path.home() / "here"


def test_a_file_is_no_workspace(tmp_path):
    (tmp_path / "f").touch()
    with pytest.raises(UsageError, match="not a directory"):
        Workspace.resolve(tmp_path / "f")


def test_references(tmp_path, monkeypatch):
    first = run_tiny(tmp_path)
    second = run_tiny(tmp_path, config={**CONFIG, "seed": 4})
    workspace = Workspace(tmp_path)
    for reference, expected in [
        ("tiny", second),
        ("tiny@v1", first),
        ("tiny@v2", second),
        ("histories/tiny", second),
        ("histories/tiny@v1", first),
        (str(first.path), first),
        (f"{first.path}/", first),
        (None, second),
    ]:
        found = workspace.find("histories", reference)
        assert found.path == expected.path, reference
        if reference:
            assert workspace.locate(reference) == expected.path
    monkeypatch.chdir(first.path)
    assert Workspace(tmp_path).find("histories", "./").digest == first.digest
    assert Workspace(tmp_path).find("histories", "../v2").digest == second.digest


def test_name_wins_over_a_directory_of_the_same_name(tmp_path, monkeypatch):
    """A bare name never means a directory that happens to be where the command runs."""
    artifact = run_tiny(tmp_path / "workspace")
    (tmp_path / "tiny").mkdir()
    monkeypatch.chdir(tmp_path)
    assert Workspace(tmp_path / "workspace").find("histories", "tiny").path == artifact.path


def test_versions_sort_by_number(tmp_path):
    for seed in range(11):
        run_tiny(tmp_path, config={"shards": 1, "seed": seed})
    assert Workspace(tmp_path).versions("histories", "tiny") == list(range(1, 12))
    assert Workspace(tmp_path).find("histories", "tiny").manifest.version == 11


def test_newest_is_the_last_published_of_the_kind(tmp_path):
    """By the time in the manifest, not by name or the directory's time."""
    run_tiny(tmp_path, "zebra")
    last = run_tiny(tmp_path, "ant")
    _other(tmp_path)
    (tmp_path / "histories/zebra/v1").touch()
    assert Workspace(tmp_path).find("histories").path == last.path


def test_missing_artifacts_name_what_there_is_and_the_command(tmp_path):
    workspace = Workspace(tmp_path)
    with pytest.raises(ArtifactMissingError) as caught:
        workspace.find("histories")
    assert "vintix distill" in (caught.value.fix or "")
    assert caught.value.exit_code == 4
    run_tiny(tmp_path)
    for reference in ("other", "tiny@v2", "histories/other", str(tmp_path / "nowhere")):
        with pytest.raises(ArtifactMissingError) as caught:
            workspace.find("histories", reference)
    with pytest.raises(ArtifactMissingError) as caught:
        workspace.find("histories", "tiny@v2")
    assert caught.value.found == "tiny@v1"
    for reference in ("other", "datasets/tiny", "tiny@v2", str(tmp_path / "nowhere")):
        with pytest.raises(ArtifactMissingError):
            workspace.locate(reference)


def test_wrong_kind_is_a_usage_error(tmp_path):
    dataset = _other(tmp_path)
    for reference in (str(dataset.path), "datasets/tiny"):
        with pytest.raises(UsageError) as caught:
            Workspace(tmp_path).find("histories", reference)
        assert (caught.value.expected, caught.value.found) == ("histories", "datasets")


def test_name_of_several_kinds_needs_its_kind(tmp_path):
    run_tiny(tmp_path)
    dataset = _other(tmp_path)
    with pytest.raises(UsageError) as caught:
        Workspace(tmp_path).locate("tiny")
    assert caught.value.expected == "histories/tiny or datasets/tiny"
    assert Workspace(tmp_path).locate("datasets/tiny") == dataset.path


def test_damaged_versions_can_be_located(tmp_path):
    """`verify` and `show` must reach what `find` refuses."""
    path = run_tiny(tmp_path).path
    (path / MANIFEST).write_bytes(b"{}")
    with pytest.raises(ArtifactCorruptError):
        Workspace(tmp_path).find("histories", "tiny")
    assert Workspace(tmp_path).locate("tiny") == path
    (path / MANIFEST).unlink()
    assert Workspace(tmp_path).locate("histories/tiny@v1") == path


@pytest.mark.parametrize(
    "text", ["", "a@", "a@1", "a@v0", "a@v01", "a@vx", "@v1", "-a", "a b", "a@v1@v2"]
)
def test_malformed_references_are_usage_errors(tmp_path, text):
    for access in (
        lambda: parse_reference(text),
        lambda: Workspace(tmp_path).find("histories", text),
        lambda: Workspace(tmp_path).locate(text),
    ):
        with pytest.raises(UsageError) as caught:
            access()
        assert caught.value.exit_code == 2


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", ".hidden", "-a", "a b", "ä", "a\n"])
def test_malformed_names_are_usage_errors(tmp_path, name):
    with pytest.raises(UsageError):
        Workspace(tmp_path).stage("histories", name, config={})


def test_unknown_kind_is_a_usage_error(tmp_path):
    for access in (Workspace(tmp_path).find, Workspace(tmp_path).names):
        with pytest.raises(UsageError):
            access("poems")
    with pytest.raises(UsageError):
        Workspace(tmp_path).stage("poems", "a", config={})


def test_stray_files_do_not_disturb(tmp_path):
    run_tiny(tmp_path)
    (tmp_path / "histories" / "README").touch()
    (tmp_path / "histories" / "tiny" / "v7").touch()
    (tmp_path / "histories" / "tiny" / "notes").mkdir()
    workspace = Workspace(tmp_path)
    assert workspace.names("histories") == ["tiny"]
    assert workspace.versions("histories", "tiny") == [1]
    assert [artifact.reference for artifact in workspace.artifacts("histories")] == ["tiny@v1"]
    assert run_tiny(tmp_path, config={**CONFIG, "seed": 9}).manifest.version == 8
