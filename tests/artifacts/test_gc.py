"""Garbage: what is deleted, what is never, and that a deletion can be killed too."""

from __future__ import annotations

import gc
import os
import shutil
from datetime import timedelta

import pytest

from pipelines.artifacts.gc import Entry, Plan, collect, plan_gc
from pipelines.artifacts.schema import MANIFEST
from pipelines.artifacts.verify import verify
from pipelines.artifacts.workspace import Workspace
from pipelines.errors import ArtifactMissingError, UsageError

from .helpers import CONFIG, Crash, FileSystem, run_tiny, write_item


def _seed(number):
    return {"shards": 1, "seed": number}


def _abandon(root, seed=3, name="tiny"):
    with Workspace(root).stage("histories", name, config=_seed(seed)) as staging:
        write_item(staging, "toy/00000/00000")
    return staging.directory


def _paths(entries):
    return [entry.path for entry in entries]


def _versions(plan):
    return [str(path.relative_to(path.parents[2])) for path in _paths(plan.versions)]


def _collect_all(workspace, plan):
    # What the test itself opened and dropped holds nothing any more.
    gc.collect()
    return collect(workspace, plan.leftovers + plan.staged + plan.versions)


def test_planning_touches_nothing(tmp_path):
    run_tiny(tmp_path)
    staged = _abandon(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    plan = plan_gc(Workspace(tmp_path))
    assert sorted(tmp_path.rglob("*")) == before
    (entry,) = plan.staged
    assert plan.leftovers == plan.versions == plan.kept == []
    assert entry.path == staged
    assert entry.bytes == sum(f.stat().st_size for f in staged.rglob("*") if f.is_file())
    assert entry.as_dict() == {
        "path": str(staged),
        "bytes": entry.bytes,
        "why": "staged work that no process holds",
    }


def test_published_versions_stay_unless_asked_for(tmp_path):
    for seed in range(3):
        run_tiny(tmp_path, config=_seed(seed))
    assert plan_gc(Workspace(tmp_path)).versions == []
    assert plan_gc(Workspace(tmp_path), keep=3).versions == []
    plan = plan_gc(Workspace(tmp_path), keep=1)
    assert _versions(plan) == ["histories/tiny/v1", "histories/tiny/v2"]
    assert _collect_all(Workspace(tmp_path), plan) == (plan.versions[::-1], [])
    assert Workspace(tmp_path).versions("histories", "tiny") == [3]
    assert run_tiny(tmp_path, config=_seed(9)).manifest.version == 4


@pytest.mark.parametrize("keep", [0, -1])
def test_the_newest_version_is_always_kept(tmp_path, keep):
    with pytest.raises(UsageError):
        plan_gc(Workspace(tmp_path), keep=keep)


def test_ancestors_of_what_is_kept_are_kept(tmp_path):
    """By content, through any number of generations, under whatever name."""
    workspace = Workspace(tmp_path)
    first = run_tiny(tmp_path, "grand", config=_seed(1))
    run_tiny(tmp_path, "grand", config=_seed(2))
    run_tiny(tmp_path, "grand", config=_seed(3))
    parent = run_tiny(tmp_path, "parent", config=_seed(1), parents=[first])
    run_tiny(tmp_path, "parent", config=_seed(2))
    run_tiny(tmp_path, "child", config=_seed(1), parents=[parent])
    del first, parent
    plan = plan_gc(workspace, keep=1)
    assert _versions(plan) == ["histories/grand/v2"]
    assert {(entry.path.parent.name, entry.why) for entry in plan.kept} == {
        ("grand", "histories/parent@v1 was made from it"),
        ("parent", "histories/child@v1 was made from it"),
    }
    run_tiny(tmp_path, "child", config=_seed(2))
    assert _versions(plan_gc(workspace, keep=1)) == [
        "histories/child/v1",
        "histories/grand/v1",
        "histories/grand/v2",
        "histories/parent/v1",
    ]


def test_damaged_versions_are_neither_counted_nor_deleted(tmp_path):
    """What cannot be read may be restored; deleting it is for a person to decide."""
    for seed in range(3):
        run_tiny(tmp_path, config=_seed(seed))
    for version in (1, 3):
        (tmp_path / f"histories/tiny/v{version}" / MANIFEST).write_bytes(b"{}")
    plan = plan_gc(Workspace(tmp_path), keep=1)
    assert plan.versions == []
    assert [(path.name, why) for path, why in ((e.path, e.why) for e in plan.kept)] == [
        ("v1", "its manifest is damaged"),
        ("v3", "its manifest is damaged"),
    ]


def test_work_that_a_process_holds_is_left_alone(tmp_path):
    workspace = Workspace(tmp_path)
    staged = _abandon(tmp_path)
    plan = plan_gc(workspace)
    assert _paths(plan.staged) == [staged]
    with workspace.stage("histories", "tiny", config=CONFIG):
        held = plan_gc(workspace)
        assert held.staged == [] and staged in _paths(held.kept)
        removed, kept = collect(workspace, plan.staged)
    assert staged.is_dir() and removed == [] and _paths(kept) == [staged]
    for entry in (*held.kept, *kept):
        assert f"process {os.getpid()}" in entry.why
    assert collect(workspace, plan.staged) == (plan.staged, [])
    assert not staged.exists()


def test_debris_of_killed_processes(tmp_path):
    """Unfinished files and half deletions, with or without the staged work around them."""
    base = run_tiny(tmp_path).path.parent
    staged = _abandon(tmp_path)
    partials = [base / ".owner.json.77.partial", staged / "data.zarr" / "x.77.partial"]
    for partial in partials:
        partial.write_bytes(b"12345")
    (base / ".removed-v9").mkdir()
    everything = plan_gc(Workspace(tmp_path))
    assert set(_paths(everything.leftovers)) == {base / ".removed-v9", partials[0]}
    assert _paths(everything.staged) == [staged]
    debris = plan_gc(Workspace(tmp_path), staging=False).leftovers
    assert set(_paths(debris)) == {base / ".removed-v9", *partials}
    collect(Workspace(tmp_path), debris)
    assert staged.is_dir()
    assert plan_gc(Workspace(tmp_path), staging=False).leftovers == []


def test_resuming_clears_unfinished_files(tmp_path):
    staged = _abandon(tmp_path)
    (staged / "data.zarr" / "x.77.partial").write_bytes(b"12345")
    artifact = run_tiny(tmp_path, config=_seed(3))
    assert verify(artifact) == []


def test_recent_things_are_left_alone(tmp_path):
    workspace = Workspace(tmp_path)
    run_tiny(tmp_path, config=_seed(1))
    run_tiny(tmp_path, config=_seed(2))
    staged = _abandon(tmp_path)
    young = plan_gc(workspace, keep=1, older_than=timedelta(hours=1))
    assert young.staged == young.versions == []
    assert [entry.why for entry in young.kept] == ["it is younger than asked for"]
    for path in (staged, *staged.rglob("*")):
        os.utime(path, (0, 0))
    assert _paths(plan_gc(workspace, keep=1, older_than=timedelta(hours=1)).staged) == [staged]
    old = plan_gc(workspace, keep=1, older_than=timedelta(0))
    assert len(old.staged) == len(old.versions) == 1


@pytest.mark.parametrize("step", [7, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_deletion_never_shows_half_a_version(tmp_path, step):
    """Killed before each change, or each seventh: the version is whole or gone, then gone."""
    template = tmp_path / "template"
    for seed in (1, 2):
        run_tiny(template, config=_seed(seed))

    def copied(name):
        shutil.copytree(template, tmp_path / name)
        workspace = Workspace(tmp_path / name)
        return workspace, plan_gc(workspace, keep=1)

    counted = FileSystem(tmp_path / "undisturbed")
    workspace, plan = copied("undisturbed")
    with counted.installed():
        _collect_all(workspace, plan)
    assert len(counted.log) > 30
    for number in range(1, len(counted.log) + 1, step):
        workspace, plan = copied(str(number))
        dies = FileSystem(workspace.root, refuses=lambda n, name, path, at=number: n >= at)
        with dies.installed(), pytest.raises(Crash):
            _collect_all(workspace, plan)
        try:
            assert verify(workspace.find("histories", "tiny@v1")) == []
        except ArtifactMissingError:
            assert not plan.versions[0].path.exists()
        _collect_all(workspace, plan_gc(workspace, keep=1))
        assert plan_gc(workspace, keep=1) == Plan()
        assert workspace.versions("histories", "tiny") == [2]


def test_what_is_gone_already_is_fine(tmp_path):
    base = run_tiny(tmp_path).path.parent
    entries = [Entry(base / ".staging-gone", 1, "gone"), Entry(base / "v9", 1, "gone")]
    assert collect(Workspace(tmp_path), entries) == (entries, [])
