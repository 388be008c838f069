"""Reads windows of a packed dataset through mapped chunk files.

How a dataset is laid out in an artifact:

    card                      attributes: the rows of the paper's Table 1 for this data
    <task>                    attributes: task, group, split, reward_scale, rows, weights, ...
    <task>/observation_mean   float64 (O,), and observation_std, action_mean, action_std
    <task>/trajectory_start   int64 (N,), first row of each trajectory in the arrays below
    <task>/trajectory_length  int64 (N,), its steps; what lies between trajectories is padding
    <task>/trajectory_episodes int64 (N,), number of its episodes
    <task>/<field>            (rows, ...), per step, as `pipelines.rows` lists them
    <task>/episode_start      int64 (E,), step of the trajectory that each episode begins with
    <task>/episode_return     float64 (E,)

The per-step arrays are uncompressed little-endian rows, so a chunk file is the memory image of its
rows and can be mapped. A task that was imported from a format which does not record all of them
lacks arrays, names those it has in its attribute ``fields``, and where it came from in
``imported``.

In schema version 1 each trajectory had a group of its own, ``<task>/<trajectory>/<field>``, and
there was no ``demonstrator_action``. It is read as before.

Shapes: L rows of a window, O observation, A action, E episodes.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.actions import ActionSpec, actions_of
from pipelines.artifacts.files import instead_of_file, open_file
from pipelines.artifacts.row_arrays import TrajectoryIndex
from pipelines.artifacts.schema import DATA
from pipelines.errors import ArtifactCorruptError, ConfigError
from pipelines.histories.layout import trajectory_path
from pipelines.rows import DATASET_ROWS, row_layout

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pipelines.artifacts.artifact import Artifact

CARD = "card"
STATISTICS = ("observation_mean", "observation_std", "action_mean", "action_std")
OPEN_FILES = 512
"""Chunk files that one reader keeps mapped; each holds one file descriptor."""


@dataclass(frozen=True, slots=True)
class DatasetTask:
    """One task of a dataset.

    Attributes:
        group: Its group; encoder and head are chosen by it.
        reward_scale: Factor on the reward before the model sees it.
        split: ``train`` or ``validation``.
        episode_sparsity: Training windows keep every k-th episode.
        statistics: ``observation_mean``, ``observation_std`` (O,), ``action_mean``,
            ``action_std`` (A,), float64; of discrete actions zeros and ones, one for each.
    """

    name: str
    group: str
    observation_dim: int
    actions: ActionSpec
    reward_scale: float
    split: str
    episode_sparsity: int
    statistics: Mapping[str, NDArray[np.float64]]
    rows: tuple[int, ...]
    attributes: Mapping[str, Any]


class DatasetReader:
    """A packed dataset.

    A chunk file is checked against the manifest when it is first touched, then mapped; up to
    `OPEN_FILES` stay mapped. Several threads may read. A pickled reader reopens the artifact by its
    path, so that spawned workers can be given one.

    Args:
        open_files: Chunk files to keep mapped.

    Raises:
        UsageError: The artifact is of another kind.
        ArtifactCorruptError: Its metadata is damaged.
    """

    def __init__(self, artifact: Artifact, open_files: int = OPEN_FILES) -> None:
        names = artifact.groups_of("datasets")
        self.artifact = artifact
        self._open_files = max(1, open_files)
        self._maps: OrderedDict[tuple[_Rows, int], NDArray[Any]] = OrderedDict()
        self._lock = threading.Lock()
        self._fields: dict[str, tuple[str, ...]] = {}
        self._rows: dict[tuple[str, int], dict[str, _Rows]] = {}
        self._places: dict[tuple[str, int], int] = {}
        self._indices: dict[str, TrajectoryIndex] = {}
        self._episodes: dict[tuple[str, str], NDArray[Any]] = {}
        self.tasks: dict[str, DatasetTask] = {
            name: self._read_task(name) for name in names if name != CARD
        }

    def fields(self, task: str) -> tuple[str, ...]:
        """Return which per-step arrays there are of a task, in the order of `pipelines.rows`.

        All of them, unless it was imported from a format without some, or packed by an older
        release.
        """
        if task not in self._fields:
            prefix = f"{DATA}/{task}" + ("" if self._index(task) else f"/{0:05d}")
            self._fields[task] = tuple(
                name
                for name in DATASET_ROWS
                if f"{prefix}/{name}/zarr.json" in self.artifact.manifest.files
            )
        return self._fields[task]

    def window(
        self,
        task: str,
        trajectory: int,
        start: int,
        length: int,
        fields: Collection[str] | None = None,
    ) -> dict[str, NDArray[Any]]:
        """Read consecutive steps of a trajectory.

        Args:
            length: L, at least 1.
            fields: Arrays to read; None for all there are.

        Returns:
            Fresh arrays of L rows by field, as `pipelines.rows` describes them.

        Raises:
            KeyError: No such task.
            IndexError: No such trajectory, or the window leaves it.
            ConfigError: The dataset lacks one of the fields that were asked for.
            ArtifactCorruptError: A chunk file does not have the bytes the manifest promises.
        """
        pieces = list(self.pieces(task, trajectory, start, length, fields))
        if len(pieces) == 1:
            return {field: values.copy() for field, values in pieces[0].items()}
        return {field: np.concatenate([piece[field] for piece in pieces]) for field in pieces[0]}

    def pieces(
        self,
        task: str,
        trajectory: int,
        start: int,
        length: int,
        fields: Collection[str] | None = None,
    ) -> Iterator[dict[str, NDArray[Any]]]:
        """Read consecutive steps of a trajectory without copying them.

        Arguments and errors are those of `window`.

        Yields:
            What `window` returns, in consecutive parts as the files hold them: read-only views of
            mapped files, which are opened for these fields alone.
        """
        opened = self._rows.get((task, trajectory))
        if opened is None:
            opened = self._open(task, trajectory)
        if fields is None:
            fields = self.fields(task)
        try:
            wanted = [opened[field] for field in fields]
        except KeyError:
            wanted = [self._open_field(task, trajectory, field) for field in fields]
        total = self.tasks[task].rows[trajectory]
        if start < 0 or length < 1 or start + length > total:
            raise IndexError(
                f"steps {start} to {start + length - 1} of {task}/{trajectory}, which has {total}"
            )
        start += self._places[task, trajectory]
        stop = start + length
        while start < stop:
            end = min(stop, *((start // rows.chunk + 1) * rows.chunk for rows in wanted))
            yield {rows.field: self._view(rows, start, end) for rows in wanted}
            start = end

    def episode_starts(self, task: str, trajectory: int) -> NDArray[np.int64]:
        """Return the first step of every episode of a trajectory, int64 (E,).

        Raises:
            ArtifactCorruptError: The array is damaged.
        """
        return self._read_episodes(task, trajectory, "episode_start")

    def episode_returns(self, task: str, trajectory: int) -> NDArray[np.float64]:
        """Return the return of every episode of a trajectory, unscaled, float64 (E,).

        Raises:
            ArtifactCorruptError: The array is damaged.
        """
        return self._read_episodes(task, trajectory, "episode_return")

    def _read_episodes(self, task: str, trajectory: int, field: str) -> NDArray[Any]:
        index = self._index(task)
        if index is None:
            return self.artifact.read(f"{trajectory_path(task, trajectory)}/{field}")
        if (task, field) not in self._episodes:
            self._episodes[task, field] = self.artifact.read(f"{task}/{field}")
        return self._episodes[task, field][index.episodes(trajectory)]

    def _index(self, task: str) -> TrajectoryIndex | None:
        """Return where a task's trajectories are; None where each has arrays of its own."""
        if not TrajectoryIndex.has(self.artifact, task):
            return None
        if task not in self._indices:
            self._indices[task] = TrajectoryIndex(self.artifact, task)
        return self._indices[task]

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.artifact.path, "open_files": self._open_files}

    def __setstate__(self, state: dict[str, Any]) -> None:
        from pipelines.artifacts.artifact import Artifact

        self.__init__(Artifact(Path(state["path"])), state["open_files"])  # type: ignore[misc]

    def _view(self, rows: _Rows, start: int, stop: int) -> NDArray[Any]:
        """Return steps that one file holds."""
        chunk = start // rows.chunk
        offset = chunk * rows.chunk
        return self._map(rows, chunk)[start - offset : stop - offset]

    def _map(self, rows: _Rows, chunk: int) -> NDArray[Any]:
        key = (rows, chunk)
        with self._lock:
            found = self._maps.get(key)
            if found is not None:
                self._maps.move_to_end(key)
                return found
        # Outside of the lock: the first touch of a file reads and checks all of it.
        found = self._map_file(rows, chunk)
        with self._lock:
            self._maps[key] = found
            if len(self._maps) > self._open_files:
                self._maps.popitem(last=False)
        return found

    def _map_file(self, rows: _Rows, chunk: int) -> NDArray[Any]:
        path = self.artifact.file(f"{rows.path}/c/{chunk}" + "/0" * len(rows.shape))
        shape = (rows.chunk, *rows.shape)
        expected = int(np.prod(shape)) * rows.dtype.itemsize
        try:
            with open_file(path, expected) as file:
                # A plain array over the map: slices of a np.memmap cost a Python call each.
                return np.asarray(np.memmap(file, dtype=rows.dtype, mode="r", shape=shape))
        except OSError as error:
            found = instead_of_file(error, path)
            raise self._unfit(path, f"{expected:,} bytes", found) from error

    def _open(self, task: str, trajectory: int) -> dict[str, _Rows]:
        """Find the rows of a trajectory; its arrays are opened as fields are asked for."""
        described = self.tasks[task]
        if not 0 <= trajectory < len(described.rows):
            raise IndexError(f"{task} has {len(described.rows)} trajectories, no {trajectory}")
        index = self._index(task)
        self._places[task, trajectory] = 0 if index is None else index.starts[trajectory]
        # The trajectories of a task share arrays, and so what is opened of them.
        shared = (task, trajectory if index is None else -1)
        self._rows[task, trajectory] = self._rows.setdefault(shared, {})
        return self._rows[task, trajectory]

    def _open_field(self, task: str, trajectory: int, field: str) -> _Rows:
        opened = self._rows[task, trajectory]
        if field not in opened:
            if field not in self.fields(task):
                raise ConfigError(
                    f"the dataset does not record {field!r} of a task",
                    where=f"dataset {self.artifact.reference}, task {task}",
                    expected=f"{field} of every step",
                    found=", ".join(self.fields(task)),
                    fix="vintix pack, from histories that record it",
                )
            opened[field] = self._open_rows(task, trajectory, field)
        return opened[field]

    def _open_rows(self, task: str, trajectory: int, field: str) -> _Rows:
        """Read an array's metadata; only raw rows, cut along time alone, can be mapped."""
        described, index = self.tasks[task], self._index(task)
        layout = row_layout("datasets", described.observation_dim, described.actions)
        row_shape, dtype = layout[field]
        total, path = described.rows[trajectory], trajectory_path(task, trajectory)
        if index is not None:
            total, path = max(map(sum, zip(index.starts, index.lengths, strict=True))), task
        path = f"{DATA}/{path}/{field}"
        metadata = json.loads(self.artifact.read_file(f"{path}/zarr.json"))
        chunk_shape = metadata["chunk_grid"]["configuration"]["chunk_shape"]
        found = (
            tuple(metadata["shape"]),
            metadata["data_type"],
            tuple(chunk_shape[1:]),
            [codec["name"] for codec in metadata["codecs"]],
            metadata["codecs"][0].get("configuration", {}).get("endian"),
        )
        expected = ((total, *row_shape), dtype, row_shape, ["bytes"], "little")
        if found != expected:
            raise self._unfit(self.artifact.path / path, f"raw rows: {expected}", found)
        return _Rows(field, path, row_shape, chunk_shape[0], np.dtype(dtype).newbyteorder("<"))

    def _read_task(self, name: str) -> DatasetTask:
        attributes: dict[str, Any] = dict(self.artifact.group(name).attrs)
        task = attributes["task"]
        return DatasetTask(
            name=name,
            group=attributes["group"],
            observation_dim=task["observation_dim"],
            actions=actions_of(task),
            reward_scale=attributes["reward_scale"],
            split=attributes["split"],
            episode_sparsity=attributes["episode_sparsity"],
            statistics={field: self.artifact.read(f"{name}/{field}") for field in STATISTICS},
            rows=tuple(attributes["rows"]),
            attributes=attributes,
        )

    def _unfit(self, path: Path, expected: object, found: object) -> ArtifactCorruptError:
        return ArtifactCorruptError(
            f"dataset {self.artifact.reference} is not laid out as its schema says",
            where=path,
            expected=expected,
            found=found,
            fix="vintix pack",
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    """One per-step array: hashed by identity, since it is looked up in every read."""

    field: str
    path: str
    shape: tuple[int, ...]
    chunk: int
    dtype: np.dtype[Any]
