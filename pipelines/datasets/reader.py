"""Reads windows of a packed dataset through mapped chunk files.

Shapes: L rows of a window, O observation, A action, E episodes.
"""

from __future__ import annotations

import json
import re
import threading
from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.actions import actions_of
from pipelines.artifacts.files import instead_of_file, open_file
from pipelines.artifacts.schema import DATA
from pipelines.datasets.layout import CARD, STATISTICS
from pipelines.errors import ArtifactCorruptError, UsageError
from pipelines.histories.layout import trajectory_path
from pipelines.rows import DATASET_ROWS, row_layout

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pipelines.artifacts.artifact import Artifact

_TASK_GROUP = re.compile(rf"{re.escape(DATA)}/([^/]+)/zarr\.json")
OPEN_FILES = 512
"""Chunk files that one reader keeps mapped; each holds one file descriptor."""


@dataclass(frozen=True, slots=True)
class DatasetTask:
    """One task of a dataset.

    Attributes:
        name: The task.
        group: Its group; encoder and head are chosen by it.
        observation_dim: O.
        action_dim: A.
        reward_scale: Factor on the reward before the model sees it.
        split: ``train`` or ``validation``.
        episode_sparsity: Training windows keep every k-th episode.
        statistics: ``observation_mean``, ``observation_std`` (O,), ``action_mean``,
            ``action_std`` (A,), float64.
        rows: Steps of each trajectory.
        attributes: Everything the task's group says.
    """

    name: str
    group: str
    observation_dim: int
    action_dim: int
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
        artifact: A published artifact of kind ``datasets``.
        open_files: Chunk files to keep mapped.

    Raises:
        UsageError: The artifact is of another kind.
        ArtifactCorruptError: Its metadata is damaged.
    """

    def __init__(self, artifact: Artifact, open_files: int = OPEN_FILES) -> None:
        if artifact.kind != "datasets":
            raise UsageError(
                "wrong kind of artifact",
                where=artifact.path,
                expected="datasets",
                found=artifact.kind,
            )
        self.artifact = artifact
        self._open_files = max(1, open_files)
        self._maps: OrderedDict[tuple[_Rows, int], NDArray[Any]] = OrderedDict()
        self._lock = threading.Lock()
        self._arrays: dict[tuple[str, int], tuple[_Rows, ...]] = {}
        found = (_TASK_GROUP.fullmatch(path) for path in artifact.manifest.files)
        names = sorted(match[1] for match in found if match and match[1] != CARD)
        self.tasks: dict[str, DatasetTask] = {name: self._read_task(name) for name in names}

    def window(
        self, task: str, trajectory: int, start: int, length: int
    ) -> dict[str, NDArray[Any]]:
        """Read consecutive steps of a trajectory.

        Args:
            task: The task's name.
            trajectory: Its number.
            start: First step.
            length: L, at least 1.

        Returns:
            Fresh arrays: ``observation`` float32 (L, O), ``action`` float32 (L, A), ``reward``
            float32 (L,), ``episode_step`` int32 (L,), ``noise`` float32 (L,); the last is not
            there for a task whose data was imported without it.

        Raises:
            KeyError: No such task.
            IndexError: No such trajectory, or the window leaves it.
            ArtifactCorruptError: A chunk file does not have the bytes the manifest promises.
        """
        pieces = list(self.pieces(task, trajectory, start, length))
        if len(pieces) == 1:
            return {field: values.copy() for field, values in pieces[0].items()}
        return {field: np.concatenate([piece[field] for piece in pieces]) for field in pieces[0]}

    def pieces(
        self,
        task: str,
        trajectory: int,
        start: int,
        length: int,
        fields: Collection[str] = DATASET_ROWS,
    ) -> Iterator[dict[str, NDArray[Any]]]:
        """Read consecutive steps of a trajectory without copying them.

        Args:
            task: The task's name.
            trajectory: Its number.
            start: First step.
            length: L, at least 1.
            fields: Arrays to read.

        Yields:
            What `window` returns, in consecutive parts as the files hold them: read-only views of
            mapped files, of the fields asked for.

        Raises:
            KeyError, IndexError, ArtifactCorruptError: As `window`.
        """
        arrays = self._arrays.get((task, trajectory)) or self._open(task, trajectory)
        total = arrays[0].total
        stop = start + length
        if start < 0 or length < 1 or stop > total:
            raise IndexError(
                f"steps {start} to {stop - 1} of {task}/{trajectory}, which has {total}"
            )
        wanted = [rows for rows in arrays if rows.field in fields]
        while start < stop:
            end = min(stop, *((start // rows.chunk + 1) * rows.chunk for rows in wanted))
            yield {rows.field: self._view(rows, start, end) for rows in wanted}
            start = end

    def episode_starts(self, task: str, trajectory: int) -> NDArray[np.int64]:
        """Return the first step of every episode of a trajectory, int64 (E,).

        Raises:
            ArtifactCorruptError: The array is damaged.
        """
        return self.artifact.read(f"{trajectory_path(task, trajectory)}/episode_start")

    def episode_returns(self, task: str, trajectory: int) -> NDArray[np.float64]:
        """Return the return of every episode of a trajectory, unscaled, float64 (E,).

        Raises:
            ArtifactCorruptError: The array is damaged.
        """
        return self.artifact.read(f"{trajectory_path(task, trajectory)}/episode_return")

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

    def _open(self, task: str, trajectory: int) -> tuple[_Rows, ...]:
        described = self.tasks[task]
        if not 0 <= trajectory < len(described.rows):
            raise IndexError(f"{task} has {len(described.rows)} trajectories, no {trajectory}")
        layout = row_layout(
            "datasets", described.observation_dim, actions_of(described.attributes["task"])
        )
        arrays = tuple(
            self._open_rows(
                field, task, trajectory, (described.rows[trajectory], *shape), np.dtype(dtype)
            )
            for field, (shape, dtype) in layout.items()
            if field in described.attributes.get("fields", DATASET_ROWS)
        )
        self._arrays[task, trajectory] = arrays
        return arrays

    def _open_rows(
        self,
        field: str,
        task: str,
        trajectory: int,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
    ) -> _Rows:
        """Read an array's metadata; only raw rows, cut along time alone, can be mapped."""
        path = f"{DATA}/{trajectory_path(task, trajectory)}/{field}"
        metadata = json.loads(self.artifact.read_file(f"{path}/zarr.json"))
        chunk_shape = metadata["chunk_grid"]["configuration"]["chunk_shape"]
        found = (
            tuple(metadata["shape"]),
            metadata["data_type"],
            tuple(chunk_shape[1:]),
            [codec["name"] for codec in metadata["codecs"]],
            metadata["codecs"][0].get("configuration", {}).get("endian"),
        )
        expected = (shape, dtype.name, shape[1:], ["bytes"], "little")
        if found != expected:
            raise self._unfit(self.artifact.path / path, f"raw rows: {expected}", found)
        return _Rows(field, path, shape[0], shape[1:], chunk_shape[0], dtype.newbyteorder("<"))

    def _read_task(self, name: str) -> DatasetTask:
        attributes: dict[str, Any] = dict(self.artifact.group(name).attrs)
        task = attributes["task"]
        return DatasetTask(
            name=name,
            group=attributes["group"],
            observation_dim=task["observation_dim"],
            action_dim=task["action_dim"],
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
    total: int
    shape: tuple[int, ...]
    chunk: int
    dtype: np.dtype[Any]
