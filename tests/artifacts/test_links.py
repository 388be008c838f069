"""gc and staging stay in the workspace, wherever a symbolic link leads."""

from __future__ import annotations

import gc
import shutil

import pytest

from pipelines.artifacts.gc import collect, plan_gc
from pipelines.artifacts.locks import LOCK
from pipelines.artifacts.workspace import Workspace
from pipelines.errors import ArtifactCorruptError, StorageError

from .helpers import run_tiny, write_item
from .hostile import HOSTILE, bounded, called

CONFIG = {"shards": 1, "seed": 9}


def _tree(root):
    return {
        path.relative_to(root): None if path.is_dir() else path.read_bytes()
        for path in sorted(root.rglob("*"))
    }


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """Three versions, staged work, and debris of each kind; not to be changed."""
    root = tmp_path_factory.mktemp("links") / "workspace"
    for seed in (1, 2, 3):
        run_tiny(root, config={"shards": 1, "seed": seed})
    space = Workspace(root)
    _begin(space)
    base = root / "histories/tiny"
    (base / ".removed-v9").mkdir()
    (base / ".removed-v9/file").write_bytes(b"1")
    (base / "x.partial").write_bytes(b"1")
    gc.collect()
    return root


@pytest.fixture
def workspace(template, tmp_path):
    """A copy of it."""
    shutil.copytree(template, tmp_path / "workspace")
    return Workspace(tmp_path / "workspace")


def _begin(space):
    with space.stage("histories", "tiny", config=CONFIG) as staging:
        write_item(staging, "toy/00000/00000")


def _staged(space):
    (found,) = (space.root / "histories/tiny").glob(".staging-*")
    return found


def _move_out(space, place):
    """Put what is at a place elsewhere, and a link there; return where it is now."""
    path = _staged(space) if place == "staging" else space.root / place
    if place.startswith("staging/"):
        path = _staged(space) / place.removeprefix("staging/")
    outside = space.root.parent / "outside" / path.name
    outside.parent.mkdir()
    path.rename(outside)
    path.symlink_to(outside)
    return outside


PLACES = [
    "histories",
    "histories/tiny",
    "histories/tiny/v1",
    "histories/tiny/v2/data.zarr",
    "staging",
    "staging/data.zarr",
    "staging/data.zarr/toy/00000/reward/c/0",
    "histories/tiny/.removed-v9",
    "histories/tiny/x.partial",
]


NAMED = {
    "histories": {"histories", "v1", "v2"},
    "histories/tiny": {"tiny", "v1", "v2"},
    "histories/tiny/v1": {"v1"},
}
"""What the report names as kept for a link's sake; links to leftovers go, as links."""


@pytest.mark.parametrize("place", PLACES)
def test_gc_deletes_nothing_through_a_link(workspace, place):
    """Of what lies outside no byte changes, and nothing is in the way of the rest."""
    outside = _move_out(workspace, place)
    before = _tree(outside.parent)
    plan = plan_gc(workspace, keep=1, staging=False)
    collect(workspace, plan.leftovers + plan.staged + plan.versions)
    plan = plan_gc(workspace, keep=1)
    collect(workspace, plan.leftovers + plan.staged + plan.versions)
    assert _tree(outside.parent) == before
    kept = {entry.path.name for entry in plan.kept if "symbolic link" in entry.why}
    assert kept == NAMED.get(place, set())
    assert workspace.versions("histories", "tiny")[-1] == 3


@pytest.mark.parametrize("place", PLACES[:2] + PLACES[4:7])
def test_staging_writes_nothing_through_a_link(workspace, place):
    """The link is named; a lock, an owner's name or an item would be written outside otherwise."""
    outside = _move_out(workspace, place)
    before = _tree(outside.parent)
    with pytest.raises(ArtifactCorruptError, match="nothing was staged") as caught:
        _begin(workspace)
    assert "link" in str(caught.value.found)
    assert _tree(outside.parent) == before


def test_reading_through_a_link_stays_possible(workspace):
    """A kind that was moved to a larger disk can still be read."""
    _move_out(workspace, "histories")
    assert workspace.find("histories", "tiny@v1").read("toy/00000/reward").shape == (4,)


def test_a_workspace_may_be_a_link_itself(workspace):
    """Where the workspace is, is for the user to say."""
    link = workspace.root.with_name("link")
    link.symlink_to(workspace.root)
    _begin(Workspace(link))
    plan = plan_gc(Workspace(link), keep=1)
    assert len(plan.versions) == 2 and collect(Workspace(link), plan.versions)[1] == []


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_file_in_staged_work_is_named(workspace, name):
    """A record that is a pipe must not hang the run that resumes."""
    (path,) = (_staged(workspace) / "progress").glob("*.json")
    HOSTILE[name][0](path)
    found = called(name, path)
    with bounded(), pytest.raises((ArtifactCorruptError, StorageError)) as caught:
        _begin(workspace)
    assert found in str(caught.value)
    assert path.name in str(caught.value.where)


@pytest.mark.parametrize("name", sorted(set(HOSTILE) - {"giant"}))
def test_a_lock_that_is_no_file_is_not_opened(workspace, name):
    """Older releases of filelock empty the file that a link leads to."""
    path = workspace.root / "histories/tiny" / LOCK
    HOSTILE[name][0](path)
    with bounded(), pytest.raises(StorageError) as caught:
        _begin(workspace)
    assert called(name, path) in str(caught.value)
