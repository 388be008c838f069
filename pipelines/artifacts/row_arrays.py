"""Rows of trajectories in chunk files: where they lie, and a writer without Zarr's cost per call.

An array of a task holds the rows of all its trajectories one behind the other. A chunk file holds
whole trajectories where these are short, and a part of one where they are long, so that the number
of files grows with the data and not with the number of trajectories, and a window of a trajectory
touches as few of them as it would in an array of its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.artifacts import files
from pipelines.artifacts.arrays import create_rows, write_array
from pipelines.artifacts.schema import DATA

if TYPE_CHECKING:
    import zarr
    from numpy.typing import NDArray

    from pipelines.artifacts.artifact import Artifact


def balanced_rows(total: int, most: int) -> int:
    """Return the chunk length that cuts rows into as few chunks as allowed, all nearly equal.

    Zarr stores the last chunk at full length, so 100,000 rows in chunks of 65,536 would store
    31 % of padding; in chunks of 50,000 they store none.

    Args:
        total: Number of rows, >= 1.
        most: Longest chunk allowed, >= 1.
    """
    chunks = -(-total // most)
    return -(-total // chunks)


def chunk_length(lengths: Sequence[int], most: int) -> int:
    """Return the rows of a chunk for trajectories of these lengths.

    Args:
        most: Most rows of a chunk.
    """
    longest = max(lengths, default=1)
    if longest > most:
        return balanced_rows(longest, most)
    if min(lengths, default=1) == longest:
        return longest * balanced_rows(max(1, len(lengths)), most // longest)
    return max(longest, balanced_rows(sum(lengths), most))


@dataclass(frozen=True)
class RowLayout:
    """Where the rows of a task's trajectories lie in its arrays.

    A trajectory that is longer than a chunk begins and ends at chunks of its own; others lie side
    by side as long as they fit. What is left of a chunk is padding.
    """

    lengths: tuple[int, ...]
    chunk_rows: int
    starts: tuple[int, ...] = field(init=False)
    total: int = field(init=False)

    def __post_init__(self) -> None:
        row, starts, end, alone = 0, [], 0, False
        for length in self.lengths:
            left = -row % self.chunk_rows
            row += left if length > left or alone else 0
            starts.append(row)
            row = end = row + length
            alone = length > self.chunk_rows
        object.__setattr__(self, "starts", tuple(starts))
        object.__setattr__(self, "total", end)

    @cached_property
    def groups(self) -> tuple[range, ...]:
        """The trajectories by those that share chunk files."""
        found: list[range] = []
        last = -1
        for trajectory, (start, length) in enumerate(zip(self.starts, self.lengths, strict=True)):
            if start // self.chunk_rows == last:
                found[-1] = range(found[-1].start, trajectory + 1)
            else:
                found.append(range(trajectory, trajectory + 1))
            last = (start + length - 1) // self.chunk_rows
        return tuple(found)

    def chunks(self, trajectory: int) -> range:
        """Return the numbers of the chunks that hold rows of a trajectory."""
        start, stop = self.starts[trajectory], self.starts[trajectory] + self.lengths[trajectory]
        return range(start // self.chunk_rows, -(-stop // self.chunk_rows))


def write_trajectories(
    group: zarr.Group, layout: RowLayout, episodes: Sequence[Mapping[str, NDArray[Any]]]
) -> None:
    """Write where the rows and episodes of each trajectory are, and the episodes.

    Args:
        episodes: Per-episode arrays (E, ...) of each trajectory; written one behind the other.
    """
    counts = [len(next(iter(each.values()))) for each in episodes]
    table = {"start": layout.starts, "length": layout.lengths, "episodes": counts}
    for name, values in table.items():
        write_array(group, f"trajectory_{name}", np.array(values, dtype=np.int64))
    for name in episodes[0] if episodes else ():
        write_array(group, name, np.concatenate([each[name] for each in episodes]))


class TrajectoryIndex:
    """Where rows and episodes of each trajectory are, as `write_trajectories` wrote them."""

    def __init__(self, artifact: Artifact, task: str) -> None:
        read = {
            name: artifact.read(f"{task}/trajectory_{name}")
            for name in ("start", "length", "episodes")
        }
        self.starts, self.lengths = read["start"].tolist(), read["length"].tolist()
        self._ends = np.cumsum(read["episodes"]).tolist()

    def episodes(self, trajectory: int) -> slice:
        """Return which of the task's episodes are a trajectory's."""
        return slice(self._ends[trajectory - 1] if trajectory else 0, self._ends[trajectory])

    @staticmethod
    def has(artifact: Artifact, task: str) -> bool:
        """Tell whether a task is laid out so; before, each trajectory had arrays of its own."""
        return f"{DATA}/{task}/trajectory_start/zarr.json" in artifact.manifest.files


class RowWriter:
    """Writes the rows of some trajectories, in order, into the chunk files of a task's arrays.

    Holds one chunk of each array.

    Args:
        group: The task's group; its store is durable.
        fields: Shape of a row and dtype by array.
        mapped: Whether files are raw little-endian rows that a reader may map, or compressed.
    """

    def __init__(
        self,
        group: zarr.Group,
        layout: RowLayout,
        fields: Mapping[str, tuple[tuple[int, ...], Any]],
        *,
        mapped: bool = False,
    ) -> None:
        self._group, self._layout, self._fields = group, layout, fields
        self._arrays = RowArrays(mapped=mapped)
        self._rows: dict[str, NDArray[Any]] = {}
        self._chunk = self._position = -1

    def create(self) -> None:
        """Write the metadata of the arrays, once for all trajectories."""
        for name, (shape, dtype) in self._fields.items():
            whole = (self._layout.total, *shape)
            self._arrays.create(self._group, name, whole, dtype, self._layout.chunk_rows)

    def begin(self, trajectory: int) -> None:
        """Go to the first row of a trajectory."""
        self._position = self._layout.starts[trajectory]

    def write(self, rows: Mapping[str, NDArray[Any]]) -> None:
        """Write the next rows of the trajectory, by array."""
        length, offset = self._layout.chunk_rows, 0
        count = len(next(iter(rows.values())))
        while offset < count:
            chunk, at = divmod(self._position, length)
            if chunk != self._chunk:
                self.flush()
                self._chunk = chunk
                self._rows = {
                    name: np.zeros((length, *shape), dtype)
                    for name, (shape, dtype) in self._fields.items()
                }
            taken = min(count - offset, length - at)
            for name, values in rows.items():
                self._rows[name][at : at + taken] = values[offset : offset + taken]
            self._position, offset = self._position + taken, offset + taken

    def flush(self) -> None:
        """Write the chunk that is held, if there is one."""
        for name, rows in self._rows.items():
            self._arrays.write_chunk(self._group, name, self._chunk, rows, self._layout.chunk_rows)
        self._rows, self._chunk = {}, -1


class RowArrays:
    """Arrays as `pipelines.artifacts.arrays.create_rows` makes them; safe to use from threads.

    Creating an array and setting a chunk take Zarr some 4 ms of processor time, whatever their
    length; a shard of a vectorised domain is simulated in a fraction of a second. The metadata
    still comes from Zarr itself, once for each kind of array, and a test holds the files to the
    bytes that Zarr writes.
    """

    def __init__(self, *, mapped: bool = False) -> None:
        self._mapped = mapped
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
            shape: Full shape; the first axis is rows.
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
            chunk: Number of the chunk along the first axis.
            rows: Its rows; fewer than `chunk_rows` in the last chunk, which Zarr stores padded.
        """
        padded = rows
        if len(rows) < chunk_rows:
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
                create_rows(memory, "a", (1,) * ndim, dtype, chunk_rows=1, mapped=self._mapped)
                self._templates[key] = json.loads(values["a/zarr.json"].to_bytes())
            return self._templates[key]


class StoredRows:
    """An array that `pipelines.artifacts.arrays.create_rows` made, read without Zarr's cost a call.

    Opening an array and reading a chunk take Zarr some 2 ms of processor time each; publishing a
    history reads a dozen arrays of each of thousands of trajectories.

    Args:
        directory: The array's, of a work item that is durable.

    Raises:
        StorageError: By each method: a file cannot be read.
    """

    def __init__(self, directory: Path) -> None:
        metadata = json.loads(_read(directory / "zarr.json"))
        self._directory, self._codecs = directory, metadata["codecs"]
        self.shape = tuple(metadata["shape"])
        self.dtype = np.dtype(metadata["data_type"])
        self.chunk_rows: int = metadata["chunk_grid"]["configuration"]["chunk_shape"][0]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> Any:
        """Return rows, as of a NumPy array; all of them are read."""
        rows = np.empty(self.shape, self.dtype)
        for number, first in enumerate(range(0, len(rows) if rows.size else 0, self.chunk_rows)):
            path = self._directory / f"c/{number}{'/0' * (rows.ndim - 1)}"
            chunk = _decode(_read(path), self._codecs, self.dtype)
            part = rows[first : first + self.chunk_rows]
            part[...] = chunk[: part.size].reshape(part.shape)
        return rows[key]


def _read(path: Path) -> bytes:
    try:
        return files.read_file(path, any_size=True)
    except OSError as error:
        raise files.reading_error(error, path) from error


def _chunk_shape(shape: tuple[int, ...], chunk_rows: int) -> tuple[int, ...]:
    return (max(1, min(chunk_rows, shape[0] or 1)), *(max(1, n) for n in shape[1:]))


def _encode(values: NDArray[Any], codecs: list[dict[str, Any]]) -> bytes:
    """Encode a chunk by the codecs that `create_rows` chose: little-endian bytes, then zstd."""
    little = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
    zstd = _zstd(codecs)
    return little.tobytes() if zstd is None else bytes(zstd.encode(little))


def _decode(data: bytes, codecs: list[dict[str, Any]], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return the elements of a chunk that `_encode` wrote, flat."""
    zstd = _zstd(codecs)
    return np.frombuffer(data if zstd is None else zstd.decode(data), dtype.newbyteorder("<"))


def _zstd(codecs: list[dict[str, Any]]) -> Any:
    """Return the compressor of chunks, None where they are not compressed."""
    from numcodecs import Zstd  # type: ignore[import-untyped]

    names = [codec["name"] for codec in codecs]
    if names == ["bytes"]:
        return None
    if names != ["bytes", "zstd"]:
        raise NotImplementedError(f"rows are stored as zstd, not as {codecs}")
    return Zstd(**codecs[1]["configuration"])


def _as_json(metadata: dict[str, Any]) -> bytes:
    import zarr

    return json.dumps(metadata, indent=zarr.config.get("json_indent")).encode()


def _set(group: zarr.Group, key: str, data: bytes) -> None:
    from zarr.core.buffer import default_buffer_prototype

    buffer = default_buffer_prototype().buffer.from_bytes(data)
    group.store.set_sync(f"{group.path}/{key}", buffer)  # type: ignore[attr-defined]
