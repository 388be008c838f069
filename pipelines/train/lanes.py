"""Lanes: the rows of a trajectory that windows are cut from.

A lane is a trajectory, or its noise-free end (expert distillation), or every k-th episode of it
(episode sparsity), seen as one gapless sequence of rows. Thinning makes a history k times shorter,
so that a context holds k times more of its improvement. The release keeps episodes 0, k, 2k and
never sees the others; here each of the k phases is a lane, so that every episode is used.

Thinning is left out for a task with a trajectory of which a phase would keep fewer than
`THINNED_WINDOWS` windows: histories that were collected shorter than the paper's are not thinned
to nothing.

Shapes: E episodes.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.errors import ConfigError
from pipelines.train.config import Method
from pipelines.train.data import DataTask, Rows, TrainingData
from pipelines.train.fidelity import Fidelity

#: Windows that every phase of a thinned trajectory must hold, end to end.
THINNED_WINDOWS = 2

#: What training reads of a row.
TOKEN_FIELDS = ("observation", "action", "reward", "episode_step")

_NOISE_BLOCK_ROWS = 1 << 16
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Lane:
    """Rows of one trajectory as one sequence.

    Attributes:
        task: Name of the task.
        trajectory: Number of the trajectory.
        first: The trajectory's first row that belongs to the lane, if the lane is gapless.
        rows: Rows of the lane.
        phase: Which of the `every` phases of the episodes.
        every: Every which episode is kept; 1 for a gapless lane.
        begin: Row of the lane before which the release starts no window; the lane is cut instead
            where its rules are not followed.
        segment_row_E: First row of each kept episode in the trajectory.
        segment_end_E: Row of the lane after each kept episode (cumulative lengths).
    """

    task: str
    trajectory: int
    first: int
    rows: int
    phase: int = 0
    every: int = 1
    begin: int = 0
    segment_row_E: Integers | None = None
    segment_end_E: Integers | None = None

    def pieces(
        self, data: TrainingData, start: int, length: int, fields: Collection[str] = TOKEN_FIELDS
    ) -> Iterator[Rows]:
        """Yield rows [start, start + length) of the lane in consecutive parts, read-only.

        Args:
            data: The dataset.
            start: First row of the lane.
            length: How many.
            fields: Arrays to read.
        """
        stop = start + length
        while start < stop:
            row, end = self.first + start, stop
            if self.segment_row_E is not None and self.segment_end_E is not None:
                episode = int(np.searchsorted(self.segment_end_E, start, side="right"))
                row = int(self.trajectory_rows(np.array([start]))[0])
                end = min(stop, int(self.segment_end_E[episode]))
            yield from data.pieces(self.task, self.trajectory, row, end - start, fields)
            start = end

    def trajectory_rows(self, rows: Integers) -> Integers:
        """Return the rows of the trajectory that are these rows of the lane, (N,) to (N,)."""
        if self.segment_row_E is None or self.segment_end_E is None:
            return self.first + rows
        episode = np.searchsorted(self.segment_end_E, rows, side="right")
        before = np.concatenate([[0], self.segment_end_E])[episode]
        return self.segment_row_E[episode] + (rows - before)


def build_lanes(
    data: TrainingData,
    tasks: Sequence[DataTask],
    *,
    context: int,
    method: Method = "ad",
    episode_sparsity: bool = True,
    fidelity: Fidelity = "corrected",
    last_fraction: float | None = None,
    trajectories: Mapping[str, Sequence[int]] | None = None,
) -> dict[str, list[Lane]]:
    """Return the lanes of each task.

    Args:
        data: The dataset.
        tasks: Tasks to train on.
        context: Sequence length; a window reads one row more, for the previous action and reward
            of its first token.
        method: ``ed`` keeps the noise-free end of each trajectory only.
        episode_sparsity: Thin tasks that have an episode sparsity.
        fidelity: ``release`` thins every task that has an episode sparsity, keeps the phase of its
            first episode only, and gives no window of what is too short, as released.
        last_fraction: Last part of each trajectory that windows start in; None for all of it or,
            with ``ed``, for its noise-free end.
        trajectories: Trajectories of each task; all of them if None.

    Raises:
        ConfigError: A trajectory, or its noise-free end, is shorter than a window.
    """
    return {
        task.name: _task_lanes(
            data,
            task,
            context + 1,
            method,
            episode_sparsity,
            fidelity == "release",
            last_fraction,
            range(len(task.rows)) if trajectories is None else trajectories[task.name],
        )
        for task in tasks
    }


def _task_lanes(
    data: TrainingData,
    task: DataTask,
    window: int,
    method: Method,
    thin: bool,
    as_released: bool,
    last_fraction: float | None,
    trajectories: Sequence[int],
) -> list[Lane]:
    lanes = []
    for trajectory in trajectories:
        rows = task.rows[trajectory]
        first = 0
        if last_fraction is not None:
            first = 0 if as_released else last_part(rows, last_fraction)
        elif method == "ed":
            first = _noise_free_from(data, task.name, trajectory, rows)
        if rows - first < window and not as_released:
            raise _too_short(task, trajectory, rows - first, window, method, last_fraction)
        lanes.append(Lane(task.name, trajectory, first, rows - first))
    every = task.episode_sparsity
    if as_released:
        if thin and every > 1:
            lanes = [_thin(data, lane, 0, every) for lane in lanes]
        if last_fraction is not None:
            return [
                _begun(lane, last_part(task.rows[lane.trajectory], last_fraction)) for lane in lanes
            ]
        return lanes
    if thin and every > 1:
        thinned = [_thin(data, lane, phase, every) for lane in lanes for phase in range(every)]
        if all(lane.rows >= THINNED_WINDOWS * window for lane in thinned):
            return thinned
    return lanes


def last_part(rows: int, fraction: float) -> int:
    """Return the first row of the last part of so many rows."""
    return math.ceil((1 - fraction) * rows)


def _begun(lane: Lane, row: int) -> Lane:
    """Return a lane whose windows start at this row of the trajectory or later."""
    begin = np.searchsorted(lane.trajectory_rows(np.arange(lane.rows)), row)
    return replace(lane, begin=int(begin))


def _thin(data: TrainingData, lane: Lane, phase: int, every: int) -> Lane:
    starts = np.asarray(data.episode_starts(lane.task, lane.trajectory), dtype=np.int64)
    stop = lane.first + lane.rows
    ends = np.append(starts[1:], stop)
    kept = ends > lane.first
    starts, ends = np.maximum(starts[kept], lane.first)[phase::every], ends[kept][phase::every]
    segment_end_E = np.cumsum(ends - starts)
    return Lane(
        lane.task,
        lane.trajectory,
        first=lane.first,
        rows=int(segment_end_E[-1]) if len(segment_end_E) else 0,
        phase=phase,
        every=every,
        segment_row_E=starts,
        segment_end_E=segment_end_E,
    )


def _noise_free_from(data: TrainingData, task: str, trajectory: int, rows: int) -> int:
    """Return the row after the last one with noise, reading from the end."""
    stop = rows
    while stop > 0:
        start = max(0, stop - _NOISE_BLOCK_ROWS)
        rows_read = data.window(task, trajectory, start, stop - start)
        if "noise" not in rows_read:
            raise ConfigError(
                "the noise of a task's actions is not known, so neither is its noise-free end",
                where=f"task {task}, trajectory {trajectory}",
                expected="a dataset packed from histories that this toolkit collected",
                found="data imported from a format that does not record the noise",
                fix="--set train.last_fraction=0.1, or leave the task out",
            )
        noise: npt.NDArray[Any] = rows_read["noise"]
        noisy = np.flatnonzero(noise)
        if len(noisy):
            return start + int(noisy[-1]) + 1
        stop = start
    return 0


def _too_short(
    task: DataTask,
    trajectory: int,
    rows: int,
    window: int,
    method: Method,
    last_fraction: float | None,
) -> ConfigError:
    longest = rows - 1
    if last_fraction is not None:
        what = f"the last {last_fraction:g} of a trajectory"
    else:
        what = "the noise-free end of a trajectory" if method == "ed" else "a trajectory"
    if longest >= 2:
        fix = f"vintix train --context {longest}, or distill longer trajectories"
    else:
        fix = "distill longer trajectories"
        if method == "ed" and last_fraction is None:
            fix += ", with a larger f (--schedule p=1,f=0.2): the part that is free of noise"
    return ConfigError(
        f"the context is longer than {what}",
        where=f"task {task.name}, trajectory {trajectory}",
        expected=f"at least {window:,} rows: the context and the row before it",
        found=f"{rows:,} rows",
        fix=fix,
    )
