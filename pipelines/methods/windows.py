"""Windows of histories: the rows they are cut from, and which ones a training step sees.

A subsequence is a trajectory, or the part of it that a method uses, or every k-th episode of that
(episode sparsity), seen as one gapless sequence of rows. Thinning makes a history k times shorter,
so that a context holds k times more of its improvement. The release keeps episodes 0, k, 2k and
never sees the others; here each of the k phases is a subsequence, so that every episode is used.

Which windows a step sees is a pure function of (seed, step, place in the batch). There is no state
to save and no order to replay: the data position of a checkpoint is its step, and each of any
number of processes draws its own slice of the same global batch.

Shapes: E episodes.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from pipelines.errors import ConfigError
from pipelines.rng import stream

if TYPE_CHECKING:
    from pipelines.datasets.reader import DatasetReader

Sampling = Literal["task", "window"]
ContextOrder = Literal["recorded", "shuffled"]
Integers = npt.NDArray[np.int64]

#: Windows that every phase of a thinned trajectory must hold, end to end. Histories that were
#: collected shorter than the paper's are not thinned to nothing.
THINNED_WINDOWS = 2

#: What every method reads of a row.
TOKEN_FIELDS = ("observation", "action", "reward", "episode_step")


@dataclass(frozen=True, eq=False)
class Subsequence:
    """Rows of one trajectory as one sequence.

    Attributes:
        first: The trajectory's first row that belongs to it, if it is gapless; -1 stands for what
            comes before the trajectory: nothing, so that a window's first token may be its first.
        phase: Which of the `every` phases of the episodes.
        every: Every which episode is kept; 1 for a gapless one.
        begin: Row of the subsequence before which the release starts no window; by other rules
            the subsequence itself begins there.
        segment_row_E: First row of each kept episode in the trajectory.
        segment_end_E: Row of the subsequence after each kept episode (cumulative lengths).
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
        self, data: DatasetReader, start: int, length: int, fields: Collection[str] = TOKEN_FIELDS
    ) -> Iterator[Mapping[str, npt.NDArray[Any]]]:
        """Yield rows [start, start + length) in consecutive parts, read-only.

        Args:
            start: First row of the subsequence.
        """
        stop = start + length
        while start < stop:
            row, end = self.first + start, stop
            if self.segment_row_E is not None and self.segment_end_E is not None:
                episode = int(np.searchsorted(self.segment_end_E, start, side="right"))
                row = int(self.trajectory_rows(np.array([start]))[0])
                end = min(stop, int(self.segment_end_E[episode]))
            if row < 0:
                begins = next(data.pieces(self.task, self.trajectory, 0, 1, fields))
                yield {name: np.zeros_like(values) for name, values in begins.items()}
                start += 1
                continue
            yield from data.pieces(self.task, self.trajectory, row, end - start, fields)
            start = end

    def trajectory_rows(self, rows: Integers) -> Integers:
        """Return the rows of the trajectory that are these rows of it, (N,) to (N,)."""
        if self.segment_row_E is None or self.segment_end_E is None:
            return self.first + rows
        episode = np.searchsorted(self.segment_end_E, rows, side="right")
        before = np.concatenate([[0], self.segment_end_E])[episode]
        return self.segment_row_E[episode] + (rows - before)

    def thinned(self, data: DatasetReader, phase: int, every: int) -> Subsequence:
        """Return its episodes `phase`, `phase` + `every` and so on."""
        starts = np.asarray(data.episode_starts(self.task, self.trajectory), dtype=np.int64)
        ends = np.append(starts[1:], self.first + self.rows)
        kept = ends > self.first
        starts = np.maximum(starts[kept], self.first)[phase::every]
        segment_end_E = np.cumsum(ends[kept][phase::every] - starts)
        return Subsequence(
            self.task,
            self.trajectory,
            first=self.first,
            rows=int(segment_end_E[-1]) if len(segment_end_E) else 0,
            phase=phase,
            every=every,
            segment_row_E=starts,
            segment_end_E=segment_end_E,
        )


def whole_phases(
    data: DatasetReader, given: list[Subsequence], every: int, window: int
) -> list[Subsequence]:
    """Return all phases of some subsequences; these themselves where a phase would be too short."""
    if every == 1:
        return given
    thinned = [one.thinned(data, phase, every) for one in given for phase in range(every)]
    long_enough = all(one.rows >= THINNED_WINDOWS * window for one in thinned)
    return thinned if long_enough else given


def last_part(rows: int, fraction: float) -> int:
    """Return the first row of the last part of so many rows."""
    return math.ceil((1 - fraction) * rows)


def too_short(
    task: str, trajectory: int, rows: int, window: int, part: str, advice: str
) -> ConfigError:
    """Return the error of a part of a trajectory that holds no window."""
    longest = rows - 1
    if longest >= 2:
        fix = f"vintix train --context {longest}, or distill longer trajectories"
    else:
        fix = f"distill longer trajectories{advice}"
    return ConfigError(
        f"the context is longer than {part}",
        where=f"task {task}, trajectory {trajectory}",
        expected=f"at least {window:,} rows: the context and the row before it",
        found=f"{rows:,} rows",
        fix=fix,
    )


@dataclass(frozen=True, slots=True)
class Window:
    """One sequence of a batch.

    Attributes:
        start: First row in the subsequence; the window is this row and the `context` rows after
            it, whose tokens are those of all rows but the first.
        subsequence: Number of the subsequence among the task's.
        step: The step it was drawn for, or the micro-batch where a sampler counts those; with
            `index` it keys what else is drawn for the window.
        index: Its place in the global batch of that step, or in that micro-batch.
    """

    task: str
    trajectory: int
    start: int
    subsequence: int
    step: int = field(default=0, compare=False)
    index: int = field(default=0, compare=False)


def shuffled_episodes(episode_step_L: Integers, draw: np.random.Generator) -> Integers:
    """Return the steps of a window with its episodes in a random order, indices (L,).

    Episodes that the window cuts off are moved as they are. A step keeps the action and reward
    that came before it, which an episode's first step does not show.

    Args:
        episode_step_L: Step within the episode; 0 begins one.
    """
    starts = np.flatnonzero(episode_step_L[1:] == 0) + 1
    episodes = np.split(np.arange(len(episode_step_L)), starts)
    return np.concatenate([episodes[index] for index in draw.permutation(len(episodes))])


class Sampler(Protocol):
    """Says which windows a step has."""

    def micro_batches(self, step: int, rank: int = 0, world: int = 1) -> list[list[Window]]:
        """Return the windows of a step's micro-batches that belong to one of `world` processes.

        Args:
            step: The optimizer step, from 0.
            rank: Which process, from 0.

        Raises:
            ConfigError: A batch cannot be dealt out evenly.
        """
        ...

    def seen(self, step: int) -> int:
        """Return the windows of all processes in the steps up to and with this one."""
        ...

    def shares(self) -> dict[str, float]:
        """Return each task's share of the windows."""
        ...


@dataclass(frozen=True)
class _TaskStarts:
    name: str
    trajectories: tuple[int, ...]
    begins: tuple[int, ...]  # first legal start of each subsequence
    cumulative: npt.NDArray[np.int64]  # legal starts over the subsequences, summed up

    @property
    def starts(self) -> int:
        return int(self.cumulative[-1])


class WindowSampler:
    """Draws windows from subsequences; a `Sampler`.

    Within a task all legal starts are equally likely. Over tasks, ``task`` gives each the same
    share (section 2.3 of the paper) and ``window`` a share in proportion to its windows, where the
    k phases of a thinned trajectory count once, as in the released code.

    Args:
        context: Sequence length; a window is one row longer.
        batch_size: Windows of a step over all processes.
        sampling: ``task`` or ``window``.

    Raises:
        ConfigError: No task, or a subsequence shorter than a window.
    """

    def __init__(
        self,
        subsequences: Mapping[str, Sequence[Subsequence]],
        *,
        context: int,
        batch_size: int,
        seed: int,
        sampling: Sampling = "task",
        accumulation: int = 1,
    ) -> None:
        self.batch_size = batch_size
        self.seed = seed
        self._accumulation = accumulation
        self._tasks: list[_TaskStarts] = []
        windows = []
        for name in sorted(subsequences):
            members = subsequences[name]
            counts = np.array([one.rows - one.begin - context for one in members], dtype=np.int64)
            if not len(counts) or (counts < 1).any():
                raise ConfigError(
                    "a task has no room for a window",
                    where=f"task {name}",
                    expected=f"subsequences of at least {context + 1} rows",
                    found=[one.rows for one in members],
                    fix="train with a shorter context",
                )
            trajectories = tuple(one.trajectory for one in members)
            begins = tuple(one.begin for one in members)
            self._tasks.append(_TaskStarts(name, trajectories, begins, counts.cumsum()))
            windows.append(counts.sum() / members[0].every)
        if not self._tasks:
            raise ConfigError("there is nothing to sample from", expected="at least one task")
        weights = np.array(windows) if sampling == "window" else np.ones(len(windows))
        self._cumulative = (weights / weights.sum()).cumsum()

    def shares(self) -> dict[str, float]:
        """Return the probability of each task."""
        values = np.diff(self._cumulative, prepend=0.0)
        return {task.name: float(share) for task, share in zip(self._tasks, values, strict=True)}

    def seen(self, step: int) -> int:
        """Return the windows in the steps up to and with this one."""
        return (step + 1) * self.batch_size

    def window(self, step: int, index: int) -> Window:
        """Return one window: the one at place `index` of the global batch of a step."""
        draw = stream(self.seed, "train", "window", step, index)
        place = int(np.searchsorted(self._cumulative, draw.random(), side="right"))
        # Rounding may leave the last cumulative weight just below 1.
        task = self._tasks[min(place, len(self._tasks) - 1)]
        number = int(draw.integers(task.starts))
        chosen = int(np.searchsorted(task.cumulative, number, side="right"))
        before = int(task.cumulative[chosen - 1]) if chosen else 0
        start = task.begins[chosen] + number - before
        return Window(task.name, task.trajectories[chosen], start, chosen, step, index)

    def batch(self, step: int, rank: int = 0, world: int = 1) -> list[Window]:
        """Return the windows of a step that belong to one of `world` processes.

        Raises:
            ConfigError: The batch cannot be dealt out evenly.
        """
        check_even(self.batch_size, rank, world)
        share = self.batch_size // world
        return [self.window(step, index) for index in range(rank * share, (rank + 1) * share)]

    def micro_batches(self, step: int, rank: int = 0, world: int = 1) -> list[list[Window]]:
        """Return the same in micro-batches, all but the last of one size."""
        windows = self.batch(step, rank, world)
        size = -(-len(windows) // self._accumulation)
        return [windows[start : start + size] for start in range(0, len(windows), size)]


def check_even(batch_size: int, rank: int, world: int) -> None:
    """Refuse a number of processes that a batch cannot be dealt out to.

    Raises:
        ConfigError: The number of processes does not divide the batch, or the rank is none.
    """
    if batch_size % world or not 0 <= rank < world:
        raise ConfigError(
            "the sequences of a step cannot be dealt out evenly",
            where=f"rank {rank} of {world}",
            expected=f"a number of processes that divides {batch_size}",
            found=world,
            fix="choose a batch size that is a multiple of the number of processes",
        )
