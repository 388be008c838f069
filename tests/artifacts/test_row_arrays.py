"""The fast writer leaves exactly the files that Zarr leaves, and trajectories lie side by side."""

from __future__ import annotations

import numpy as np
import pytest
import zarr

from pipelines.artifacts.arrays import create_rows, write_array
from pipelines.artifacts.files import list_files
from pipelines.artifacts.row_arrays import (
    RowArrays,
    RowLayout,
    RowWriter,
    StoredRows,
    balanced_rows,
    chunk_length,
)
from pipelines.artifacts.staging import incomplete_arrays
from pipelines.artifacts.work import WorkItem
from pipelines.errors import StorageError


def files_below(directory):
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("dtype", ["float32", "float64", "bool", "int32", "int64"])
@pytest.mark.parametrize("shape", [(10,), (10, 3), (7, 1)])
@pytest.mark.parametrize("chunk_rows", [4, 5, 100])
def test_chunks_have_the_bytes_that_zarr_writes(tmp_path, dtype, shape, chunk_rows):
    """Every file of an array: metadata, full chunks, and a padded last one."""
    values = (np.random.default_rng(0).random(shape) * 3).astype(dtype)
    rows = min(chunk_rows, shape[0])
    ours, theirs = (WorkItem(tmp_path / name, "u").group("g", {}) for name in ("ours", "theirs"))
    arrays = RowArrays()
    arrays.create(ours, "a", shape, values.dtype, chunk_rows)
    array = create_rows(theirs, "a", shape, dtype, chunk_rows=chunk_rows)
    for chunk, begin in enumerate(range(0, shape[0], rows)):
        arrays.write_chunk(ours, "a", chunk, values[begin : begin + rows], rows)
        array[begin : begin + rows] = values[begin : begin + rows]
    assert files_below(tmp_path / "ours") == files_below(tmp_path / "theirs")
    directory = tmp_path / "ours/data.zarr/g/a"
    np.testing.assert_array_equal(zarr.open_array(directory, mode="r")[...], values)
    stored = StoredRows(directory)
    assert (stored.shape, stored.dtype, stored.chunk_rows) == (shape, values.dtype, rows)
    np.testing.assert_array_equal(stored[...], values)


@pytest.mark.parametrize("shape", [(0,), (0, 3), (5, 3), (1,)])
def test_whole_arrays_have_the_bytes_that_zarr_writes(tmp_path, shape):
    values = np.arange(np.prod(shape), dtype=np.float64).reshape(shape)
    ours, theirs = (WorkItem(tmp_path / name, "u").group("g", {}) for name in ("ours", "theirs"))
    RowArrays().write(ours, "a", values)
    write_array(theirs, "a", values)
    assert files_below(tmp_path / "ours") == files_below(tmp_path / "theirs")
    np.testing.assert_array_equal(StoredRows(tmp_path / "ours/data.zarr/g/a")[...], values)


def test_rows_that_cannot_be_read_are_named(tmp_path):
    """Where Zarr would give zeros for a chunk that is gone."""
    create_rows(WorkItem(tmp_path, "u").group("g", {}), "a", (5,), np.float32, chunk_rows=2)[:] = 1
    directory = tmp_path / "data.zarr/g/a"
    (directory / "c/1").unlink()
    with pytest.raises(StorageError) as found:
        StoredRows(directory)[...]
    assert str(found.value.where).endswith("c/1")


def test_every_file_is_in_the_work_items_record(tmp_path):
    """What is written past Zarr is part of the item like everything else."""
    from pipelines.artifacts.work import read_record, record_path

    with WorkItem(tmp_path, "u") as item:
        RowArrays().write(item.group("g", {}), "a", np.zeros((4, 2), np.float32))
    assert set(read_record(record_path(tmp_path, "u"))["files"]) == {
        "data.zarr/g/zarr.json",
        "data.zarr/g/a/zarr.json",
        "data.zarr/g/a/c/0/0",
    }


def test_balanced_rows():
    """As few chunks as allowed, nearly equal, so that little padding is stored."""
    assert balanced_rows(100_000, 65_536) == 50_000
    assert balanced_rows(65_536, 65_536) == 65_536
    assert balanced_rows(65_537, 65_536) == 32_769
    assert balanced_rows(5, 100) == 5


def test_short_trajectories_share_chunks_and_long_ones_have_their_own():
    together = RowLayout((10,) * 7, chunk_length((10,) * 7, 35))
    assert (together.chunk_rows, together.starts) == (30, (0, 10, 20, 30, 40, 50, 60))
    assert together.groups == (range(3), range(3, 6), range(6, 7))
    alone = RowLayout((90, 90), chunk_length((90, 90), 60))
    assert (alone.chunk_rows, alone.starts, alone.total) == (45, (0, 90), 180)
    assert [alone.chunks(number) for number in (0, 1)] == [range(2), range(2, 4)]
    mixed = RowLayout((10, 95, 5, 20, 30), 40)
    assert mixed.starts == (0, 40, 160, 165, 200)
    assert mixed.groups == (range(1), range(1, 2), range(2, 4), range(4, 5))


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("lengths", [(4,) * 5, (25, 25), (3, 30, 1, 8), (11,)])
def test_what_is_written_trajectory_by_trajectory_is_read_by_zarr(tmp_path, lengths, mapped):
    """In blocks of any length, a group of trajectories at a time, as a resumed run writes them."""
    layout = RowLayout(lengths, chunk_length(lengths, 10))
    fields = {"a": ((2,), "float32"), "b": ((), "bool")}
    rng = np.random.default_rng(0)
    rows = [{"a": rng.random((n, 2), dtype=np.float32), "b": rng.random(n) < 0.5} for n in lengths]
    with WorkItem(tmp_path, "u") as item:
        group = item.group("g", {})
        for trajectories in reversed(layout.groups):
            writer = RowWriter(group, layout, fields, mapped=mapped)
            for number in trajectories:
                writer.begin(number)
                for begin in range(0, lengths[number], 7):
                    writer.write({k: v[begin : begin + 7] for k, v in rows[number].items()})
            writer.flush()
        writer.create()
    found = zarr.open_group(tmp_path / "data.zarr/g", mode="r")
    for name in fields:
        for number, (start, length) in enumerate(zip(layout.starts, lengths, strict=True)):
            np.testing.assert_array_equal(
                found[name][start : start + length], rows[number][name], err_msg=name
            )
    assert incomplete_arrays(tmp_path, list_files(tmp_path)) == []
