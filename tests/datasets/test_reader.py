"""Windows of a packed dataset: equal to slices, verified, bounded, picklable."""

from __future__ import annotations

import multiprocessing
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import zarr

from datasets.synthetic import make_histories
from pipelines.actions import Box
from pipelines.artifacts.artifact import Artifact
from pipelines.artifacts.workspace import Workspace
from pipelines.datasets.reader import DatasetReader
from pipelines.errors import ArtifactCorruptError, UsageError
from pipelines.histories.reader import HistoryReader
from pipelines.pack.config import PackConfig
from pipelines.pack.stage import run
from pipelines.reporter import NullReporter
from pipelines.rows import DATASET_ROWS

STEPS, CHUNK = 1000, 170


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    workspace = Workspace(tmp_path_factory.mktemp("work"))
    make_histories(workspace, observation_dim=5, action_dim=2, steps=STEPS, count=2, episode=30)
    return run(PackConfig(chunk_rows=CHUNK), workspace, NullReporter()).artifact


@pytest.fixture
def own(packed, tmp_path):
    """A copy that a test may damage."""
    import shutil

    return Artifact(shutil.copytree(packed.path, tmp_path / "v1"))


def test_windows_equal_plain_zarr(packed):
    """At every alignment to the chunks, from one row to the whole trajectory."""
    reader = DatasetReader(packed)
    plain = zarr.open_group(packed.path / "data.zarr", mode="r")
    begin, count = (int(plain[f"made-up/trajectory_{name}"][1]) for name in ("start", "length"))
    assert count == STEPS
    whole = {field: plain[f"made-up/{field}"][begin : begin + count] for field in DATASET_ROWS}
    chunk = plain["made-up/observation"].chunks[0]
    starts = [0, 1, chunk - 1, chunk, chunk + 1, 3 * chunk - 5, STEPS - 1]
    for start in starts:
        for length in (1, 2, chunk - 1, chunk, chunk + 1, 2 * chunk + 3, STEPS):
            if start + length > STEPS:
                continue
            window = reader.window("made-up", 1, start, length)
            assert set(window) == set(DATASET_ROWS)
            for field, values in window.items():
                np.testing.assert_array_equal(values, whole[field][start : start + length])
                assert values.dtype == whole[field].dtype
                assert values.flags.writeable
                assert values.flags.c_contiguous


def test_pieces_are_the_window_as_the_files_hold_it_and_not_to_be_changed(packed):
    reader = DatasetReader(packed)
    window = reader.window("made-up", 0, 100, 500)
    pieces = list(reader.pieces("made-up", 0, 100, 500, ("action", "reward")))
    chunk = zarr.open_group(packed.path / "data.zarr")["made-up/action"].chunks[0]
    ends = [*range(-(-101 // chunk) * chunk, 600, chunk), 600]
    assert [len(piece["reward"]) for piece in pieces] == np.diff([100, *ends]).tolist()
    for field in ("action", "reward"):
        joined = np.concatenate([piece[field] for piece in pieces])
        np.testing.assert_array_equal(joined, window[field])
    for piece in pieces:
        assert set(piece) == {"action", "reward"}
        with pytest.raises(ValueError, match="read-only"):
            piece["action"][0] = 0


def test_several_threads_may_read(packed):
    """With fewer files kept open than they touch."""
    expected = DatasetReader(packed)
    reader = DatasetReader(packed, open_files=2)
    starts = np.random.default_rng(0).integers(0, STEPS - 300, 200).tolist()

    def read(start):
        return reader.window("made-up", start % 2, start, 300)

    with ThreadPoolExecutor(8) as pool:
        for start, found in zip(starts, pool.map(read, starts), strict=True):
            for field, values in expected.window("made-up", start % 2, start, 300).items():
                np.testing.assert_array_equal(found[field], values)
    assert len(reader._maps) <= 2


def test_windows_may_be_changed(packed):
    """A window is a copy: what the caller does to it stays with the caller."""
    reader = DatasetReader(packed)
    first = reader.window("made-up", 0, 10, 20)
    kept = first["observation"].copy()
    first["observation"] *= 0
    np.testing.assert_array_equal(reader.window("made-up", 0, 10, 20)["observation"], kept)


def test_task_description(packed):
    task = DatasetReader(packed).tasks["made-up"]
    assert (task.observation_dim, task.actions, task.rows) == (5, Box(2), (STEPS, STEPS))
    assert (task.split, task.group, task.reward_scale, task.episode_sparsity) == (
        "train",
        "none",
        1.0,
        1,
    )
    assert task.statistics["observation_mean"].shape == (5,)
    assert task.statistics["action_std"].dtype == np.float64


def test_episodes(packed):
    reader = DatasetReader(packed)
    starts = reader.episode_starts("made-up", 1)
    np.testing.assert_array_equal(starts, np.arange(0, STEPS, 30))
    steps = reader.window("made-up", 1, 0, STEPS)["episode_step"]
    np.testing.assert_array_equal(np.flatnonzero(steps == 0), starts)
    assert len(reader.episode_returns("made-up", 1)) == len(starts)


@pytest.mark.parametrize(
    ("trajectory", "start", "length"),
    [(0, -1, 5), (0, 0, 0), (0, 996, 5), (0, 0, STEPS + 1), (2, 0, 1), (-1, 0, 1)],
)
def test_outside(packed, trajectory, start, length):
    with pytest.raises(IndexError):
        DatasetReader(packed).window("made-up", trajectory, start, length)


def test_unknown_task(packed):
    with pytest.raises(KeyError):
        DatasetReader(packed).window("hopper", 0, 0, 1)


def test_open_maps_are_bounded(packed):
    reader = DatasetReader(packed, open_files=3)
    for start in range(0, STEPS - 50, 90):
        reader.window("made-up", start % 2, start, 50)
        assert len(reader._maps) <= 3


def test_a_corrupt_chunk_is_refused(own):
    """A flipped byte in one chunk file spoils the windows that touch it, and no others."""
    path = own.path / "data.zarr/made-up/observation/c/1/0"
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    reader = DatasetReader(Artifact(own.path))
    reader.window("made-up", 0, 0, 100)
    with pytest.raises(ArtifactCorruptError):
        reader.window("made-up", 0, 100, 100)


@pytest.mark.parametrize("name", ["made-up/reward/zarr.json", "made-up/zarr.json"])
def test_corrupt_metadata_is_refused(own, name):
    path = own.path / "data.zarr" / name
    path.write_bytes(path.read_bytes().replace(b"0", b"1", 1))
    with pytest.raises(ArtifactCorruptError):
        DatasetReader(Artifact(own.path)).window("made-up", 0, 0, 10)


def test_compressed_rows_are_not_mapped(tmp_path):
    """An artifact that is whole but laid out otherwise is an error, not noise."""
    workspace = Workspace(tmp_path)
    source = make_histories(workspace, observation_dim=5, action_dim=2, steps=60, count=1)
    dataset = run(PackConfig(), workspace, NullReporter()).artifact
    from pipelines.artifacts.arrays import create_rows

    with workspace.stage("datasets", "odd", config={}) as staging:
        with staging.work_item("made-up") as unit:
            group = unit.group("made-up", dict(dataset.group("made-up").attrs))
            for field, array in dataset.group("made-up").arrays():
                values = np.asarray(array[...])
                create_rows(group, field, values.shape, values.dtype, chunk_rows=60)[...] = values
        odd = staging.publish(summary={})
    assert source.kind == "histories"
    with pytest.raises(ArtifactCorruptError, match="laid out"):
        DatasetReader(odd).window("made-up", 0, 0, 10)


def test_wrong_kind(tmp_path):
    workspace = Workspace(tmp_path)
    found = make_histories(workspace, observation_dim=1, action_dim=1, steps=10, count=1)
    with pytest.raises(UsageError, match="wrong kind"):
        DatasetReader(found)


def _sum_window(reader):
    return float(reader.window("made-up", 1, 100, 400)["observation"].sum(dtype=np.float64))


@pytest.mark.process
def test_travels_to_a_spawned_worker(packed):
    reader = DatasetReader(packed)
    expected = _sum_window(reader)
    assert len(pickle.dumps(reader)) < 2000, "no data travels along"
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(_sum_window, (reader,)) == expected


def test_files_grow_with_the_data_and_not_with_the_trajectories(tmp_path):
    """Short trajectories share chunk files, and each is read as if it had arrays of its own."""
    workspace = Workspace(tmp_path)
    make_histories(workspace, observation_dim=5, action_dim=2, steps=60, count=20)
    source = HistoryReader(workspace.find("histories", None))
    dataset = run(PackConfig(chunk_rows=600), workspace, NullReporter()).artifact
    reader = DatasetReader(dataset)
    for trajectory in (0, 9, 10, 19):
        (expected,) = source.blocks("made-up", trajectory, rows=60)
        found = reader.window("made-up", trajectory, 5, 50)
        for field in ("observation", "reward", "noise", "demonstrator_action"):
            np.testing.assert_array_equal(found[field], expected[field][5:55])
        np.testing.assert_array_equal(
            reader.episode_starts("made-up", trajectory),
            source.episodes("made-up", trajectory)["episode_start"],
        )
    assert len(dataset.manifest.files) < 40


def test_only_the_fields_that_are_asked_for_are_opened(packed):
    reader = DatasetReader(packed)
    assert list(reader.window("made-up", 0, 0, 10, ("reward",))) == ["reward"]
    assert {rows.field for rows, _ in reader._maps} == {"reward"}
