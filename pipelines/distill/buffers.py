"""Shards in memory, and the thread that makes them durable while the simulation goes on.

Shapes: R rows of a shard, B trajectories of the job, O observation, A action, E episodes.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from pipelines.artifacts.row_arrays import RowArrays
from pipelines.artifacts.work import WorkItem
from pipelines.histories.layout import shard_unit, trajectory_path
from pipelines.rows import HISTORY_ROWS, row_layout

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pipelines.distill.job import EpisodeMark, Job
    from pipelines.playing.episodes import Episode


_SCRATCH = "episodes"
_WRITERS = 4
"""Threads that write the trajectories of a job: most of a small shard's time is waiting."""


class ShardBuffer:
    """One shard of a job; time comes first, so that a step fills one contiguous row.

    Attributes:
        rows: Array (R, B, ...) of each per-step field.
        episodes: What has ended within the shard, by trajectory.
        demonstrators: Who has played in each of these episodes, as ``episode_demonstrator`` of
            `pipelines.rows`, by trajectory; nothing where only the task's demonstrator plays.
        marks: Episode in progress after the shard, by trajectory.
        scratch: Further arrays that a resumed run needs; not published.
        data: Further JSON that is kept with the shard's unit.
    """

    def __init__(self, job: Job) -> None:
        size = len(job.trajectories)
        layout = row_layout("histories", job.task.observation_dim, job.task.actions)
        self.rows: dict[str, NDArray[Any]] = {
            name: np.zeros((job.shard_rows, size, *shape), dtype)
            for name, (shape, dtype) in layout.items()
        }
        self.begin(0, size)

    def begin(self, shard: int, size: int) -> None:
        """Make ready for a shard.

        Rows of the last use are overwritten as they are filled, but for the flags, which are
        written only where one is raised.
        """
        self.rows["terminated"][:] = False
        self.rows["truncated"][:] = False
        self.shard = shard
        self.episodes: list[list[Episode]] = [[] for _ in range(size)]
        self.demonstrators: list[list[int]] = [[] for _ in range(size)]
        self.marks: tuple[EpisodeMark, ...] = ()
        self.scratch: dict[str, NDArray[Any]] = {}
        self.data: dict[str, Any] = {}


class ShardWriter:
    """Writes shards in order, at most one behind the simulation, in threads of its own.

    Compression, hashing and fsync give the interpreter lock back, so they run beside the
    simulator; two buffers take turns and bound the memory.

    Args:
        directory: The staging directory.
        durable: Number of durable shards of each trajectory; they are not written again.
    """

    def __init__(self, job: Job, directory: Path, durable: tuple[int, ...]) -> None:
        self._job, self._directory, self._durable = job, directory, durable
        self._buffers = [ShardBuffer(job) for _ in range(min(2, job.shards))]
        threads = min(_WRITERS, len(job.trajectories))
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="shard-writer")
        self._pending: list[Future[None]] = []
        self._arrays = RowArrays()
        # Opening a group writes its parents' metadata, which the trajectories share.
        self._opening = Lock()

    def begin(self, shard: int) -> ShardBuffer:
        """Return the buffer of the next shard."""
        buffer = self._buffers[shard % len(self._buffers)]
        buffer.begin(shard, len(self._job.trajectories))
        return buffer

    def submit(self, buffer: ShardBuffer) -> None:
        """Hand a full buffer over, once the one before is durable.

        Raises:
            StorageError: The shard before could not be written.
        """
        self.wait()
        if self._job.together:
            self._pending = [self._threads.submit(self._write_together, buffer)]
            return
        self._pending = [
            self._threads.submit(self._write_shard, buffer, index, trajectory)
            for index, trajectory in enumerate(self._job.trajectories)
            if buffer.shard >= self._durable[index]
        ]

    def wait(self) -> None:
        """Wait until everything handed over is durable.

        Raises:
            StorageError: It could not be written.
        """
        pending, self._pending = self._pending, []
        for future in pending:
            future.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._threads.shutdown(wait=True, cancel_futures=error is not None)
        if error is None:
            self.wait()

    def _write_shard(self, buffer: ShardBuffer, index: int, trajectory: int) -> None:
        job, shard = self._job, buffer.shard
        begin, end = job.shard_range(shard)
        with WorkItem(self._directory, shard_unit(job.task.name, trajectory, shard)) as unit:
            path = trajectory_path(job.task.name, trajectory)
            # The first shard owns the group: attributes, even none, make it write the metadata.
            with self._opening:
                group = unit.group(path, {} if shard == 0 else None)
                scratch = unit.scratch(f"{path}/{shard:05d}") if shard < job.shards - 1 else None
            for name in HISTORY_ROWS:
                rows = buffer.rows[name]
                if shard == 0:
                    shape = (job.steps, *rows.shape[2:])
                    self._arrays.create(group, name, shape, rows.dtype, job.shard_rows)
                values = rows[: end - begin, index]
                self._arrays.write_chunk(group, name, shard, values, job.shard_rows)
            unit.data.update(buffer.data, next=buffer.marks[index].as_json())
            table = _table(job, buffer, index)
            if scratch is not None:
                for name, values in {_SCRATCH: table, **buffer.scratch}.items():
                    self._arrays.write(scratch, name, values)
            else:
                for name, values in self._assemble(unit, path, table).items():
                    self._arrays.write(group, name, values)

    def _write_together(self, buffer: ShardBuffer) -> None:
        """Write all trajectories of a job of one shard, one behind the other, to be joined."""
        job = self._job
        with WorkItem(self._directory, job.unit) as unit:
            scratch = unit.scratch(job.unit)
            for name in HISTORY_ROWS:
                rows_BT = np.swapaxes(buffer.rows[name][: job.steps], 0, 1)
                values = rows_BT.reshape(-1, *rows_BT.shape[2:])
                self._arrays.write(scratch, name, values)
            tables = [_table(job, buffer, index) for index in range(len(job.trajectories))]
            for name, values in _episode_arrays(job, np.concatenate(tables)).items():
                self._arrays.write(scratch, name, values)
            unit.data["trajectories"] = list(job.trajectories)
            unit.data["episodes"] = [len(table) for table in tables]

    def _assemble(
        self, unit: WorkItem, path: str, last: NDArray[np.float64]
    ) -> dict[str, NDArray[Any]]:
        """Join the episodes of all shards; those of the last one are still in memory."""
        with self._opening:
            earlier = [unit.scratch(f"{path}/{shard:05d}") for shard in range(self._job.shards - 1)]
        tables = [np.asarray(group[_SCRATCH][...]) for group in earlier]  # type: ignore[index]
        return _episode_arrays(self._job, np.concatenate([*tables, last]))


def _episode_arrays(job: Job, table: NDArray[np.float64]) -> dict[str, NDArray[Any]]:
    """Return the per-episode arrays of a history for the columns of `_table`."""
    end = 3 + job.task.observation_dim
    arrays: dict[str, NDArray[Any]] = {
        "episode_start": table[:, 0].astype(np.int64),
        "episode_length": table[:, 1].astype(np.int32),
        "episode_return": np.ascontiguousarray(table[:, 2]),
        "episode_final_observation": table[:, 3:end].astype(np.float32),
    }
    if job.decoys is not None:
        arrays["episode_demonstrator"] = table[:, end].astype(np.int16)
    return arrays


def _table(job: Job, buffer: ShardBuffer, index: int) -> NDArray[np.float64]:
    """Return the episodes of a trajectory that ended in a shard, float64 (E, 3 + O).

    The columns are start, length, return and final observation, and with decoys of tasks one more:
    who played. Every one of them is a float64 without loss.
    """
    episodes, end = buffer.episodes[index], 3 + job.task.observation_dim
    table = np.empty((len(episodes), end + (job.decoys is not None)), dtype=np.float64)
    for row, each in zip(table, episodes, strict=True):
        row[:3] = each.start, each.length, each.total
        row[3:end] = each.final_observation_O
    if job.decoys is not None:
        table[:, end] = buffer.demonstrators[index]
    return table
