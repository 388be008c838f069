"""What is read, or will be, is not deleted: across processes, whatever ends them."""

from __future__ import annotations

import errno
import fcntl
import gc
import os
import pickle
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.artifacts import files
from pipelines.artifacts.artifact import Artifact
from pipelines.artifacts.gc import collect, plan_gc
from pipelines.artifacts.schema import MANIFEST
from pipelines.artifacts.staging import PARENTS, read_parents
from pipelines.artifacts.verify import verify
from pipelines.artifacts.workspace import Workspace
from pipelines.errors import ArtifactMissingError, LockedError

from .helpers import Crash, items_of, publish_tiny, run_tiny, write_item

ROOT = Path(__file__).parents[2]
READER = """
import sys, time
from pathlib import Path
from pipelines.artifacts.artifact import Artifact
held = Artifact(Path(sys.argv[1]))
print("reading", flush=True)
time.sleep(60)
"""


def _seed(number):
    return {"shards": 1, "seed": number}


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """Two versions of a name, of which the first is old; not to be changed."""
    root = tmp_path_factory.mktemp("in-use")
    for seed in (1, 2):
        run_tiny(root, config=_seed(seed))
    gc.collect()
    return root


@pytest.fixture
def workspace(template, tmp_path):
    """A copy of it."""
    shutil.copytree(template, tmp_path, dirs_exist_ok=True)
    return Workspace(tmp_path)


def _kept(plan):
    return {f"{entry.path.parent.name}/{entry.path.name}": entry.why for entry in plan.kept}


def _stage(workspace, parents, name="child"):
    """Leave staged work that was made from artifacts, as a killed run does."""
    with workspace.stage("histories", name, config=_seed(7), parents=parents) as staging:
        write_item(staging, "toy/00000/00000")
    return staging.directory


@pytest.mark.process
def test_what_another_process_reads_is_kept_until_it_is_killed(workspace):
    """The kernel gives the lock back; nothing is left that would have to be cleaned up."""
    path = workspace.path("histories", "tiny", 1)
    before = sorted(path.rglob("*"))
    reader = subprocess.Popen(
        [sys.executable, "-c", READER, str(path)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    with reader:
        assert reader.stdout is not None and reader.stdout.readline() == b"reading\n"
        plan = plan_gc(workspace, keep=1)
        assert plan.versions == [] and _kept(plan) == {"tiny/v1": "a process reads it"}
        reader.send_signal(signal.SIGKILL)
        reader.wait()
    assert sorted(path.rglob("*")) == before
    plan = plan_gc(workspace, keep=1)
    assert [entry.path for entry in plan.versions] == [path] and plan.kept == []


def test_whoever_opens_it_after_the_plan_keeps_it(workspace):
    """A plan may be as old as it likes: what is deleted is looked at again, alone."""
    plan = plan_gc(workspace, keep=1)
    reader = workspace.find("histories", "tiny@v1")
    removed, kept = collect(workspace, plan.versions)
    assert removed == [] and [entry.why for entry in kept] == ["a process reads it"]
    assert verify(reader) == []
    del reader
    assert collect(workspace, plan.versions) == (plan.versions, [])


def test_a_worker_holds_what_it_was_sent(workspace):
    """A pickled artifact is one of its own: the sender may end before the worker."""
    sent = pickle.dumps(workspace.find("histories", "tiny@v1"))
    assert plan_gc(workspace, keep=1).kept == []
    received = pickle.loads(sent)
    assert list(_kept(plan_gc(workspace, keep=1))) == ["tiny/v1"]
    assert verify(received) == []


def test_what_staged_work_will_read_is_kept(workspace):
    """Its parent and what that was made from; whether or not the staged work is deleted too."""
    workspace_root = workspace.root
    first = workspace.find("histories", "tiny@v1")
    run_tiny(workspace_root, "middle", config=_seed(1), parents=[first])
    run_tiny(workspace_root, "middle", config=_seed(2))
    staged = _stage(workspace, [workspace.find("histories", "middle@v1")])
    del first
    gc.collect()
    for staging in (True, False):
        plan = plan_gc(workspace, keep=1, staging=staging)
        assert plan.versions == []
        assert _kept(plan) == {
            "middle/v1": f"the staged work {staged.relative_to(workspace_root)} reads it",
            "tiny/v1": "histories/middle@v1 was made from it",
        }
    collect(workspace, plan_gc(workspace, keep=1).staged)
    assert not staged.exists()
    assert len(plan_gc(workspace, keep=1).versions) == 2


def test_work_that_was_staged_after_the_plan_keeps_what_it_reads(workspace):
    """Also where its process has ended again, and no lock tells of it."""
    plan = plan_gc(workspace, keep=1)
    _stage(workspace, [workspace.find("histories", "tiny@v1")])
    removed, kept = collect(workspace, plan.versions)
    assert removed == [] and "staged work" in kept[0].why


def test_what_was_published_after_the_plan_keeps_what_it_was_made_from(workspace):
    """And what that was made from, though both were to go."""
    parent = workspace.find("histories", "tiny@v1")
    run_tiny(workspace.root, "middle", config=_seed(1), parents=[parent])
    run_tiny(workspace.root, "middle", config=_seed(2))
    del parent
    plan = plan_gc(workspace, keep=1)
    assert len(plan.versions) == 2
    run_tiny(workspace.root, "new", parents=[workspace.find("histories", "middle@v1")])
    gc.collect()
    removed, kept = collect(workspace, plan.versions)
    assert removed == []
    assert {entry.path.parent.name: entry.why for entry in kept} == {
        "middle": "histories/new@v1 was made from it",
        "tiny": "histories/middle@v1 was made from it",
    }


def test_a_run_that_was_killed_before_its_rename_still_tells(workspace, monkeypatch):
    """By then only the manifest and what it lists are left of the staged work."""
    first = workspace.find("histories", "tiny@v1")

    def dies(*paths):
        raise Crash

    monkeypatch.setattr(files, "rename_directory", dies)
    with workspace.stage("histories", "child", config=_seed(7), parents=[first]) as staging:
        for item in items_of(_seed(7)):
            write_item(staging, item)
        with pytest.raises(Crash):
            publish_tiny(staging)
    assert not (staging.directory / PARENTS).exists()
    assert read_parents(staging.directory) == [first.as_parent()]
    del first, staging
    gc.collect()
    assert "staged work" in _kept(plan_gc(workspace, keep=1))["tiny/v1"]


@pytest.mark.parametrize("damage", [None, b"", b'{"parents": []}', b"[]"])
def test_staged_work_that_does_not_tell_keeps_everything(workspace, damage):
    """Made by an older release, or damaged: what it will read is not known, and not guessed."""
    staged = _stage(workspace, [])
    assert len(plan_gc(workspace, keep=1).versions) == 1
    (staged / PARENTS).unlink()
    if damage is not None:
        (staged / PARENTS).write_bytes(damage)
    plan = plan_gc(workspace, keep=1)
    assert plan.versions == [] and "does not tell" in _kept(plan)["tiny/v1"]


def test_parents_are_not_published(workspace):
    """Nor do they count for the digest: published bytes are what they were."""
    parent = workspace.find("histories", "tiny@v1")
    child = run_tiny(workspace.root, "child", config=_seed(7), parents=[parent])
    assert not (child.path / PARENTS).exists() and verify(child) == []
    assert child.manifest.parents == [parent.as_parent()]


def test_without_locks_everything_is_read_and_nothing_deleted(workspace, monkeypatch):
    """Some network file systems have none; who reads is not known there, so all is kept."""

    def refused(descriptor, operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refused)
    assert verify(workspace.find("histories", "tiny@v1")) == []
    plan = plan_gc(workspace, keep=1)
    assert plan.versions == [] and "cannot be locked" in _kept(plan)["tiny/v1"]


def test_what_is_deleted_between_opening_and_lock_is_missing(workspace, monkeypatch):
    """The lock of a version that has gone protects nothing."""
    path = workspace.path("histories", "tiny", 1)
    real = fcntl.flock

    def late(descriptor, operation):
        path.rename(path.with_name(".removed-v1"))
        real(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with pytest.raises(ArtifactMissingError):
        Artifact(path)


def test_a_reader_does_not_wait_for_ever(workspace, monkeypatch):
    """A stopped gc holds its lock; the reader says so instead of hanging."""
    monkeypatch.setattr("pipelines.artifacts.locks._PATIENCE_SECONDS", 0.05)
    path = workspace.path("histories", "tiny", 1)
    with (path / MANIFEST).open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(LockedError, match="deleting"):
            Artifact(path)
    Artifact(path)


def test_a_dropped_artifact_holds_no_descriptor(workspace):
    """A workspace of thousands is listed one by one."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        list(workspace.artifacts("histories"))
    assert len(list(Path("/proc/self/fd").iterdir())) == before
