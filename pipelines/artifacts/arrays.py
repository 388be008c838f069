"""How arrays of artifacts are laid out: one chunk a shard of rows, plain or compressed."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import zarr
    from zarr.core.array_spec import ArrayConfigParams

# A chunk of zeros is data like any other: without its file a lost chunk could not be told from
# it, and a mapping reader would have nothing to map.
_KEEP_ZEROS: ArrayConfigParams = {"write_empty_chunks": True}
_FLAT_CHUNK_ELEMENTS = 1 << 24


def create_rows(
    group: zarr.Group,
    name: str,
    shape: tuple[int, ...],
    dtype: Any,
    *,
    chunk_rows: int,
    mapped: bool = False,
) -> zarr.Array[Any]:
    """Create an array that is written chunk by chunk along its first axis.

    Args:
        shape: Full shape; the first axis is rows.
        chunk_rows: Rows of a chunk; a chunk is one file, written once by one process.
        mapped: Store raw little-endian rows, so that a reader may map the file; else Zarr's
            default compression (zstd).
    """
    return group.create_array(
        name,
        shape=shape,
        chunks=(max(1, min(chunk_rows, shape[0] or 1)), *(max(1, n) for n in shape[1:])),
        dtype=dtype,
        compressors=None if mapped else "auto",
        fill_value=0,
        overwrite=True,
        config=_KEEP_ZEROS,
    )


def write_array(group: zarr.Group, name: str, values: np.ndarray[Any, Any]) -> None:
    """Write a whole array as one chunk."""
    if values.ndim == 0:
        array: zarr.Array[Any] = group.create_array(
            name, shape=(), dtype=values.dtype, overwrite=True, config=_KEEP_ZEROS
        )
    else:
        array = create_rows(group, name, values.shape, values.dtype, chunk_rows=len(values))
    if values.size:
        array[...] = values


def write_flat(group: zarr.Group, name: str, values_N: np.ndarray[Any, Any]) -> None:
    """Write a long vector (N,) of weights uncompressed: their bits do not shrink."""
    array = create_rows(
        group, name, values_N.shape, values_N.dtype, chunk_rows=_FLAT_CHUNK_ELEMENTS, mapped=True
    )
    array[...] = values_N


def to_npz(arrays: Mapping[str, Any]) -> bytes:
    """Return arrays as the bytes of an .npz file, not compressed."""
    import numpy as np

    file = io.BytesIO()
    # Keyword arguments of NumPy's own would clash with an array called "file".
    np.savez(file, **arrays)
    return file.getvalue()


def from_npz(data: bytes) -> dict[str, np.ndarray[Any, Any]]:
    """Return the arrays of `to_npz`."""
    import numpy as np

    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        return {name: file[name] for name in file.files}
