"""Reads learning histories, block by block, every byte verified."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from pipelines.artifacts.row_arrays import TrajectoryIndex
from pipelines.errors import UsageError
from pipelines.histories.blocks import regroup
from pipelines.histories.layout import trajectory_path
from pipelines.rows import HISTORY_EPISODES, HISTORY_ROWS

if TYPE_CHECKING:
    import zarr
    from numpy.typing import NDArray

    from pipelines.artifacts.artifact import Artifact


class HistoryReader:
    """The learning histories of an artifact.

    Raises:
        UsageError: The artifact is of another kind.
    """

    def __init__(self, artifact: Artifact) -> None:
        self.artifact, self._tasks = artifact, artifact.groups_of("histories")
        self._attributes: dict[str, dict[str, Any]] = {}
        self._indices: dict[str, TrajectoryIndex | None] = {}
        self._episodes: dict[tuple[str, str], NDArray[Any]] = {}
        # Of tasks whose trajectories share arrays.
        self._arrays: dict[tuple[str, str], zarr.Array[Any]] = {}
        # Trajectories that share a chunk are read one after the other.
        self._chunks: dict[str, tuple[int, NDArray[Any]]] = {}

    def tasks(self) -> list[str]:
        """Return the names of the tasks, sorted."""
        return list(self._tasks)

    def task(self, name: str) -> dict[str, Any]:
        """Return a task's attributes: task, schedule, options, scores, steps, trajectories.

        Raises:
            UsageError: The artifact has no such task.
            ArtifactCorruptError: The metadata is damaged.
        """
        if name not in self._attributes:
            self._attributes[name] = self._read_attributes(name)
        return self._attributes[name]

    def trajectories(self, name: str) -> list[int]:
        """Return the numbers of a task's trajectories."""
        return list(range(self.task(name)["trajectories"]))

    def fields(self, name: str) -> tuple[str, ...]:
        """Return which per-step arrays a task's history has.

        All of `pipelines.rows.HISTORY_ROWS`, unless it was imported from a format that
        does not record some of them.
        """
        return tuple(self.task(name).get("fields", HISTORY_ROWS))

    def lengths(self, name: str) -> list[int]:
        """Return the number of steps of each trajectory, in the order of their numbers."""
        attributes = self.task(name)
        # Imported trajectories need not be equally long.
        return list(attributes.get("rows", [attributes["steps"]] * attributes["trajectories"]))

    def fingerprint(self, name: str) -> dict[str, Any] | None:
        """Return the recorded fingerprint of a task's environment, None where there is none."""
        found: dict[str, Any] | None = self.artifact.manifest.fingerprints.get(name)
        return found

    @property
    def reference(self) -> str:
        """``name@vN`` of the artifact."""
        return self.artifact.reference

    def rows(self, name: str, trajectory: int) -> int:
        """Return the number of steps of a trajectory."""
        return self._span(name, trajectory)[1]

    def blocks(
        self,
        name: str,
        trajectory: int,
        fields: Sequence[str] = HISTORY_ROWS,
        rows: int | None = None,
    ) -> Iterator[dict[str, NDArray[Any]]]:
        """Yield consecutive blocks of rows, holding a few chunks and a block in memory.

        Args:
            fields: Which per-step arrays, names of `pipelines.rows.HISTORY_ROWS`.
            rows: Rows of a block (the last may be shorter); None for the chunks as stored.

        Yields:
            Arrays of `rows` rows by field.

        Raises:
            ArtifactCorruptError: Bytes differ from the manifest's.
            ValueError: `rows` is below 1.
        """

        if rows is not None and rows < 1:
            raise ValueError(f"a block needs at least one row, not {rows}")
        arrays = {field: self._array(name, trajectory, field) for field in fields}
        if not arrays:
            return
        start, total = self._span(name, trajectory)
        stored = next(iter(arrays.values())).chunks[0]
        # Each stored chunk is decoded once, whatever the length of the blocks.
        chunks = (
            {
                field: self._read(array, first, min(first + stored, start + total))
                for field, array in arrays.items()
            }
            for first in range(start, start + total, stored)
        )
        yield from regroup(chunks, min(rows or stored, total))

    def window(
        self, name: str, trajectory: int, start: int, length: int
    ) -> dict[str, NDArray[Any]]:
        """Read consecutive steps of a trajectory, as `pipelines.datasets.reader` does.

        Args:
            length: L, at least 1.

        Returns:
            ``observation`` float32 (L, O), ``action`` float32 (L, A), ``reward`` float32 (L,) and
            ``episode_step`` int64 (L,), 0 at an episode's first step.

        Raises:
            ArtifactCorruptError: Bytes differ from the manifest's.
            IndexError: The window leaves the trajectory.
        """
        import numpy as np

        begin, total = self._span(name, trajectory)
        if start < 0 or length < 1 or start + length > total:
            raise IndexError(f"steps {start} to {start + length - 1} of {name}/{trajectory}")
        step = np.arange(start, start + length)
        episode_start = self.episodes(name, trajectory)["episode_start"]
        begun = episode_start[np.searchsorted(episode_start, step, side="right") - 1]
        read = {
            field: self._read(
                self._array(name, trajectory, field), begin + start, begin + start + length
            ).copy()
            for field in ("observation", "action", "reward")
        }
        return {**read, "episode_step": step - begun}

    def episodes(self, name: str, trajectory: int) -> dict[str, NDArray[Any]]:
        """Return the per-episode arrays of a trajectory.

        Returns:
            ``episode_start`` int64 (E,), ``episode_length`` int32, ``episode_return`` float64,
            ``episode_final_observation`` float32 (E, O), and ``complete`` bool: False for a last
            episode that the trajectory's end cut off. A history that was imported from a format
            which lacks one of them has no such entry.
        """
        import numpy as np

        known = self.task(name).get("episode_fields", HISTORY_EPISODES)
        index = self._index(name)
        if index is None:
            path = trajectory_path(name, trajectory)
            found = {field: self.artifact.read(f"{path}/{field}") for field in known}
        else:
            own = index.episodes(trajectory)
            found = {field: self._all_episodes(name, field)[own] for field in known}
        complete = np.ones(len(found["episode_start"]), dtype=bool)
        if len(complete):
            complete[-1] = self.task(name)["last_episode_complete"][trajectory]
        return {**found, "complete": complete}

    def _read_attributes(self, name: str) -> dict[str, Any]:
        if name not in self._tasks:
            raise UsageError(
                f"no history of task {name!r} in histories {self.artifact.reference}",
                where=self.artifact.path,
                expected=", ".join(self._tasks),
                found=name,
                fix=f"vintix distill --task {name}",
            )
        return dict(self.artifact.group(name).attrs)

    def _index(self, name: str) -> TrajectoryIndex | None:
        """Return where a task's trajectories are; None where each has arrays of its own."""
        if name not in self._indices:
            has = TrajectoryIndex.has(self.artifact, name)
            self._indices[name] = TrajectoryIndex(self.artifact, name) if has else None
        return self._indices[name]

    def _span(self, name: str, trajectory: int) -> tuple[int, int]:
        """Return the first row of a trajectory in its arrays, and how many it has."""
        index = self._index(name)
        array = self._array(name, trajectory, "reward")
        if index is None:
            return 0, int(array.shape[0])
        return index.starts[trajectory], index.lengths[trajectory]

    def _all_episodes(self, name: str, field: str) -> NDArray[Any]:
        if (name, field) not in self._episodes:
            self._episodes[name, field] = self.artifact.read(f"{name}/{field}")
        return self._episodes[name, field]

    def _read(self, array: zarr.Array[Any], start: int, stop: int) -> NDArray[Any]:
        """Return rows of an array; those of a part of a chunk from the chunk that is kept."""
        import numpy as np

        stored = array.chunks[0]
        chunk = start // stored
        if stop - start == stored or (stop - 1) // stored != chunk:
            return np.asarray(array[start:stop])
        kept = self._chunks.get(array.path)
        if kept is None or kept[0] != chunk:
            values = np.asarray(array[chunk * stored : (chunk + 1) * stored])
            values.flags.writeable = False
            kept = self._chunks[array.path] = (chunk, values)
        return kept[1][start - chunk * stored : stop - chunk * stored]

    def _array(self, name: str, trajectory: int, field: str) -> zarr.Array[Any]:
        known = self.task(name)["trajectories"]
        if not 0 <= trajectory < known:
            raise UsageError(
                f"task {name!r} has no such trajectory",
                where=self.artifact.path,
                expected=f"0 to {known - 1}",
                found=trajectory,
            )
        import zarr

        shared = self._index(name) is not None
        if shared and (name, field) in self._arrays:
            return self._arrays[name, field]
        path = name if shared else trajectory_path(name, trajectory)
        found = self.artifact.group(path).get(field)
        if not isinstance(found, zarr.Array):
            raise UsageError(
                f"a history has no per-step array {field!r}",
                where=f"{self.artifact.path}, task {name}",
                expected=", ".join(self.fields(name)),
                found=field,
            )
        if shared:
            self._arrays[name, field] = found
        return found
