"""Which windows a training step sees: a pure function of (seed, step, place in the batch).

There is no state to save and no order to replay: the data position of a checkpoint is its step,
and a process of any world size draws its own slice of the same global batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from pipelines.errors import ConfigError
from pipelines.rng import stream
from pipelines.train.config import Sampling
from pipelines.train.lanes import Lane


@dataclass(frozen=True, slots=True)
class Window:
    """One sequence of a batch.

    Attributes:
        task: Name of the task.
        trajectory: Number of the trajectory.
        start: First row in the lane; the window is this row and the `context` rows after it, whose
            tokens are those of all rows but the first.
        lane: Number of the lane among the task's.
        step: The step it was drawn for; with `index` it keys what else is drawn for the window.
        index: Its place in the global batch of that step.
    """

    task: str
    trajectory: int
    start: int
    lane: int
    step: int = field(default=0, compare=False)
    index: int = field(default=0, compare=False)


@dataclass(frozen=True)
class _TaskStarts:
    name: str
    trajectories: tuple[int, ...]
    cumulative: npt.NDArray[np.int64]  # legal starts over the lanes, summed up

    @property
    def starts(self) -> int:
        return int(self.cumulative[-1])


class WindowSampler:
    """Draws windows from lanes.

    Within a task all legal starts are equally likely. Over tasks, ``task`` gives each the same
    share (section 2.3 of the paper) and ``window`` a share in proportion to its windows, where the
    k phases of a thinned trajectory count once, as in the released code.

    Args:
        lanes: Lanes of each task.
        context: Sequence length; a window is one row longer.
        batch_size: Windows of a step over all processes.
        seed: Base seed.
        sampling: ``task`` or ``window``.

    Raises:
        ConfigError: No task, or a lane shorter than a window.
    """

    def __init__(
        self,
        lanes: Mapping[str, Sequence[Lane]],
        *,
        context: int,
        batch_size: int,
        seed: int,
        sampling: Sampling = "task",
    ) -> None:
        self.batch_size = batch_size
        self.seed = seed
        self._tasks: list[_TaskStarts] = []
        windows = []
        for name in sorted(lanes):
            counts = np.array([lane.rows - context for lane in lanes[name]], dtype=np.int64)
            if not len(counts) or (counts < 1).any():
                raise ConfigError(
                    "a task has no room for a window",
                    where=f"task {name}",
                    expected=f"lanes of at least {context + 1} rows",
                    found=[lane.rows for lane in lanes[name]],
                    fix="train with a shorter context",
                )
            trajectories = tuple(lane.trajectory for lane in lanes[name])
            self._tasks.append(_TaskStarts(name, trajectories, counts.cumsum()))
            windows.append(counts.sum() / lanes[name][0].every)
        if not self._tasks:
            raise ConfigError("there is nothing to sample from", expected="at least one task")
        weights = np.array(windows) if sampling == "window" else np.ones(len(windows))
        self._cumulative = (weights / weights.sum()).cumsum()

    def shares(self) -> dict[str, float]:
        """Return the probability of each task."""
        values = np.diff(self._cumulative, prepend=0.0)
        return {task.name: float(share) for task, share in zip(self._tasks, values, strict=True)}

    def window(self, step: int, index: int) -> Window:
        """Return one window: the one at place `index` of the global batch of a step."""
        draw = stream(self.seed, "train", "window", step, index)
        place = int(np.searchsorted(self._cumulative, draw.random(), side="right"))
        # Rounding may leave the last cumulative weight just below 1.
        task = self._tasks[min(place, len(self._tasks) - 1)]
        number = int(draw.integers(task.starts))
        lane = int(np.searchsorted(task.cumulative, number, side="right"))
        before = int(task.cumulative[lane - 1]) if lane else 0
        return Window(task.name, task.trajectories[lane], number - before, lane, step, index)

    def batch(self, step: int, rank: int = 0, world: int = 1) -> list[Window]:
        """Return the windows of a step that belong to one of `world` processes.

        Args:
            step: The optimizer step, from 0.
            rank: Which process, from 0.
            world: Number of processes.

        Raises:
            ConfigError: The batch cannot be dealt out evenly.
        """
        check_even(self.batch_size, rank, world)
        share = self.batch_size // world
        return [self.window(step, index) for index in range(rank * share, (rank + 1) * share)]


def check_even(batch_size: int, rank: int, world: int) -> None:
    """Refuse a world that a batch cannot be dealt out to.

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
