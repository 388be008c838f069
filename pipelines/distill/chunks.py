"""Writes the files that Zarr would write for an array of rows, without its cost per call.

Creating an array and setting a chunk take Zarr some 4 ms of processor time, whatever their
length; a shard of a vectorised domain has eleven arrays for each of its many trajectories, and is
simulated in a fraction of a second. The metadata still comes from Zarr itself, once for each kind
of array, and a test holds the files to the bytes that Zarr writes.
"""

from __future__ import annotations

import json
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.artifacts.arrays import create_rows

if TYPE_CHECKING:
    import zarr
    from numpy.typing import NDArray


class RowArrays:
    """Arrays as `pipelines.artifacts.arrays.create_rows` makes them; safe to use from threads."""

    def __init__(self) -> None:
        self._templates: dict[tuple[str, int], dict[str, Any]] = {}
        self._lock = Lock()

    def create(
        self,
        group: zarr.Group,
        name: str,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        chunk_rows: int,
    ) -> None:
        """Write the metadata of an array.

        Args:
            group: Where; its store is durable.
            name: The array's name.
            shape: Full shape; the first axis is rows.
            dtype: NumPy dtype.
            chunk_rows: Rows of a chunk.
        """
        template = self._template(np.dtype(dtype), len(shape))
        chunk_shape = _chunk_shape(shape, chunk_rows)
        grid = {**template["chunk_grid"], "configuration": {"chunk_shape": list(chunk_shape)}}
        metadata = {**template, "shape": list(shape), "chunk_grid": grid}
        _set(group, f"{name}/zarr.json", _as_json(metadata))

    def write_chunk(
        self, group: zarr.Group, name: str, chunk: int, rows: NDArray[Any], chunk_rows: int
    ) -> None:
        """Write one chunk.

        Args:
            group: Where.
            name: The array's name.
            chunk: Number of the chunk along the first axis.
            rows: Its rows; fewer than `chunk_rows` in the last chunk, which Zarr stores padded.
            chunk_rows: Rows of a chunk.
        """
        padded = np.zeros(_chunk_shape((chunk_rows, *rows.shape[1:]), chunk_rows), rows.dtype)
        padded[: len(rows)] = rows
        codecs = self._template(rows.dtype, rows.ndim)["codecs"]
        key = f"{name}/c/{chunk}" + "/0" * (rows.ndim - 1)
        _set(group, key, _encode(padded, codecs))

    def write(self, group: zarr.Group, name: str, values: NDArray[Any]) -> None:
        """Write a whole array as one chunk."""
        chunk_rows = max(1, len(values))
        self.create(group, name, values.shape, values.dtype, chunk_rows)
        if values.size:
            self.write_chunk(group, name, 0, values, chunk_rows)

    def _template(self, dtype: np.dtype[Any], ndim: int) -> dict[str, Any]:
        """Return Zarr's own metadata of an array of this dtype and rank."""
        import zarr

        key = (dtype.str, ndim)
        with self._lock:
            if key not in self._templates:
                values: dict[str, Any] = {}
                memory = zarr.create_group(zarr.storage.MemoryStore(values), zarr_format=3)
                create_rows(memory, "a", (1,) * ndim, dtype, chunk_rows=1)
                self._templates[key] = json.loads(values["a/zarr.json"].to_bytes())
            return self._templates[key]


def _chunk_shape(shape: tuple[int, ...], chunk_rows: int) -> tuple[int, ...]:
    return (max(1, min(chunk_rows, shape[0] or 1)), *(max(1, n) for n in shape[1:]))


def _encode(values: NDArray[Any], codecs: list[dict[str, Any]]) -> bytes:
    """Encode a chunk by the codecs that `create_rows` chose: little-endian bytes, then zstd."""
    from numcodecs import Zstd  # type: ignore[import-untyped]

    if [codec["name"] for codec in codecs] != ["bytes", "zstd"]:
        raise NotImplementedError(f"rows are written as zstd, not as {codecs}")
    little = values.astype(values.dtype.newbyteorder("<"), copy=False)
    return bytes(Zstd(**codecs[1]["configuration"]).encode(little))


def _as_json(metadata: dict[str, Any]) -> bytes:
    import zarr

    return json.dumps(metadata, indent=zarr.config.get("json_indent")).encode()


def _set(group: zarr.Group, key: str, data: bytes) -> None:
    from zarr.core.buffer import default_buffer_prototype

    buffer = default_buffer_prototype().buffer.from_bytes(data)
    group.store.set_sync(f"{group.path}/{key}", buffer)  # type: ignore[attr-defined]
