"""Reading published artifacts: read only, only what is listed, also in worker processes."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import pickle

import numpy as np
import pytest
from zarr.core.buffer import default_buffer_prototype

from pipelines.artifacts.artifact import Artifact
from pipelines.artifacts.workspace import Workspace
from pipelines.artifacts.zarr_stores import VerifiedStore
from pipelines.errors import ArtifactCorruptError, ArtifactMissingError

from .helpers import check_tiny, run_tiny


def test_published_arrays_cannot_be_written(tmp_path):
    """Not by assignment, not by attributes, not by new nodes, not by opening it for writing."""
    artifact = run_tiny(tmp_path)
    before = {path: path.read_bytes() for path in artifact.path.rglob("*") if path.is_file()}
    array = artifact.root["toy/00000/reward"]
    with pytest.raises(ValueError, match=r"read.only"):
        array[0] = 9
    with pytest.raises(ValueError, match=r"read.only"):
        artifact.group("toy").attrs["steps"] = 0
    with pytest.raises(ValueError, match=r"read.only"):
        artifact.root.create_group("more")
    with pytest.raises(ValueError, match=r"read.only"):
        artifact.root.create_array("more", shape=(1,), dtype="f4")
    with pytest.raises(ValueError, match=r"read.only"):
        del artifact.root["toy"]
    with pytest.raises(ValueError, match="read only"):
        artifact.root.store.with_read_only(False)
    after = {path: path.read_bytes() for path in artifact.path.rglob("*") if path.is_file()}
    assert after == before


def test_hierarchy_is_listed_from_the_manifest(tmp_path):
    artifact = run_tiny(tmp_path)
    assert sorted(artifact.root) == ["toy"]
    group = artifact.group("toy/00000")
    assert sorted(group.array_keys()) == ["episode_return", "observation", "reward"]
    members = dict(artifact.root.members(max_depth=None))
    assert {"toy", "toy/00000", "toy/00000/reward"} <= members.keys()


def test_what_is_not_there_is_a_clear_error(tmp_path):
    artifact = run_tiny(tmp_path)
    for access, path in [
        (artifact.group, "nothing"),
        (artifact.group, "toy/00000/reward"),
        (artifact.read, "nothing"),
        (artifact.read, "toy"),
        (artifact.file, "data.zarr/nothing"),
        (artifact.file, "../../escape"),
        (artifact.read_file, "manifest.json"),
    ]:
        with pytest.raises(ArtifactCorruptError) as caught:
            access(path)
        assert caught.value.where.endswith(path)


def test_a_file_is_hashed_once_and_then_trusted(tmp_path, monkeypatch):
    artifact = run_tiny(tmp_path)
    artifact.read("toy/00000/reward")
    hashed = []
    monkeypatch.setattr("pipelines.artifacts.artifact.files.hash_bytes", hashed.append)
    monkeypatch.setattr("pipelines.artifacts.artifact.files.hash_file", hashed.append)
    artifact.read("toy/00000/reward")
    artifact.file("data.zarr/toy/00000/reward/c/0")
    assert hashed == []


def test_relative_path_survives_a_change_of_directory(tmp_path, monkeypatch):
    run_tiny(tmp_path)
    monkeypatch.chdir(tmp_path)
    artifact = Artifact(tmp_path.__class__("histories/tiny/v1"))
    monkeypatch.chdir("/")
    check_tiny(artifact)


def _read_in_worker(artifact, sender):
    os.chdir("/")
    check_tiny(artifact)
    sender.send((artifact.digest, float(artifact.read("toy/00000/reward").sum())))


@pytest.mark.process
def test_artifact_goes_to_spawned_workers(tmp_path):
    """With its Zarr hierarchy already open, which itself could not be sent."""
    artifact = run_tiny(tmp_path)
    check_tiny(artifact)
    assert "root" in artifact.__dict__
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    worker = context.Process(target=_read_in_worker, args=(artifact, sender))
    worker.start()
    sender.close()
    digest, total = receiver.recv()
    worker.join()
    assert (worker.exitcode, digest) == (0, artifact.digest)
    assert total == artifact.read("toy/00000/reward").sum()


def test_pickled_artifact_checks_what_it_had_not_read(tmp_path):
    artifact = run_tiny(tmp_path)
    artifact.group("toy")
    copy = pickle.loads(pickle.dumps(artifact))
    chunk = artifact.path / "data.zarr/toy/00000/reward/c/0"
    chunk.write_bytes(bytes(len(chunk.read_bytes())))
    with pytest.raises(ArtifactCorruptError):
        copy.read("toy/00000/reward")


def test_directory_that_is_no_artifact(tmp_path):
    with pytest.raises(ArtifactMissingError) as caught:
        Artifact(tmp_path)
    assert caught.value.fix == "vintix artifacts ls"
    (tmp_path / "file").touch()
    with pytest.raises(ArtifactMissingError):
        Artifact(tmp_path / "file")
    (tmp_path / "manifest.json").mkdir()
    with pytest.raises(ArtifactCorruptError):
        Artifact(tmp_path)


def test_verified_store_serves_parts_and_sizes():
    """Readers that ask for byte ranges get them from the checked bytes."""
    from zarr.abc.store import OffsetByteRequest, RangeByteRequest, SuffixByteRequest

    data = bytes(range(10))
    store = VerifiedStore(
        lambda key: data, {"a/b/c": 10, "a/d": 10}, where=Workspace.resolve().root
    )

    async def collect():
        prototype = default_buffer_prototype()
        ranges = [None, RangeByteRequest(2, 5), OffsetByteRequest(7), SuffixByteRequest(2)]
        parts = await store.get_partial_values(prototype, [("a/d", each) for each in ranges])
        listed = [key async for key in store.list()]
        below = [key async for key in store.list_prefix("a/b")]
        names = [[name async for name in store.list_dir(at)] for at in ("", "a", "a/b/", "x")]
        absent = await store.get("x", prototype), await store.exists("x"), await store.exists("a/d")
        return [part.to_bytes() for part in parts], listed, below, names, absent

    parts, listed, below, names, absent = asyncio.run(collect())
    assert parts == [data, data[2:5], data[7:], data[-2:]]
    assert (listed, below) == (["a/b/c", "a/d"], ["a/b/c"])
    assert names == [["a"], ["b", "d"], ["c"], []]
    assert absent == (None, False, True)
    assert asyncio.run(store.getsize("a/d")) == 10
    with pytest.raises(FileNotFoundError):
        asyncio.run(store.getsize("x"))
    with pytest.raises(ValueError, match=r"read.only"):
        asyncio.run(store.delete("a/d"))


def test_chunks_of_zeros_are_files(tmp_path):
    """Else a lost chunk could not be told from zeros, and there would be nothing to map."""
    from pipelines.artifacts.arrays import create_rows

    with Workspace(tmp_path).stage("histories", "zeros", config={}) as staging:
        with staging.work_item("a") as item:
            create_rows(item.group("a"), "x", (4, 2), np.float32, chunk_rows=2, mapped=True)[:] = 0
        artifact = staging.publish(summary={})
    chunk = artifact.file("data.zarr/a/x/c/1/0")
    assert chunk.read_bytes() == bytes(16)
