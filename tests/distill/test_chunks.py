"""The fast writer leaves exactly the files that Zarr leaves."""

from __future__ import annotations

import numpy as np
import pytest
import zarr

from pipelines.artifacts.arrays import create_rows, write_array
from pipelines.artifacts.work import WorkItem
from pipelines.distill.chunks import RowArrays


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
    np.testing.assert_array_equal(
        zarr.open_array(tmp_path / "ours/data.zarr/g/a", mode="r")[...], values
    )


@pytest.mark.parametrize("shape", [(0,), (0, 3), (5, 3), (1,)])
def test_whole_arrays_have_the_bytes_that_zarr_writes(tmp_path, shape):
    values = np.arange(np.prod(shape), dtype=np.float64).reshape(shape)
    ours, theirs = (WorkItem(tmp_path / name, "u").group("g", {}) for name in ("ours", "theirs"))
    RowArrays().write(ours, "a", values)
    write_array(theirs, "a", values)
    assert files_below(tmp_path / "ours") == files_below(tmp_path / "theirs")


def test_every_file_is_in_the_units_record(tmp_path):
    """What is written past Zarr is part of the unit like everything else."""
    from pipelines.artifacts.work import read_record, record_path

    with WorkItem(tmp_path, "u") as unit:
        RowArrays().write(unit.group("g", {}), "a", np.zeros((4, 2), np.float32))
    assert set(read_record(record_path(tmp_path, "u"))["files"]) == {
        "data.zarr/g/zarr.json",
        "data.zarr/g/a/zarr.json",
        "data.zarr/g/a/c/0/0",
    }
