"""The released code's training rules, where they differ from the ones used by default.

`--fidelity release` trains by these. Numbers in brackets are the quirks listed in
`docs/deviations.md`. The release counts in micro-batches: an epoch is one pass over the index of
windows in a random order, cut into micro-batches; every `accumulation`-th micro-batch of an epoch
ends an update, and what is left over at an epoch's end is carried into the next one's first
update. `ReleaseSchedule` says which micro-batches an update consists of; the functions beside it
say how they count and at which rate.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from pipelines.errors import ConfigError

if TYPE_CHECKING:
    import numpy.typing as npt

    from pipelines.train.config import TrainConfig
    from pipelines.train.lanes import Lane
    from pipelines.train.sampler import Window

Fidelity = Literal["corrected", "release"]

#: Rows between two windows of the released index (`trajectory_sparsity` of its configuration).
WINDOW_STRIDE = 257

#: What `--fidelity release` sets unless it is given: the released configuration's weight decay,
#: no clipping [20], and windows drawn uniformly [21].
DEFAULTS: Mapping[str, object] = {"weight_decay": 0.1, "clip_norm": 0.0, "sampling": "window"}


def loss_weights(
    sizes: Sequence[int], *, fidelity: Fidelity, accumulation: int, world: int = 1
) -> list[float]:
    """Return the factor on the mean loss of each micro-batch of an update in this process.

    By default they make the mean over the sequences of all processes. The release sums over the
    sequences of a micro-batch [16], divides all micro-batches but an update's last by
    `accumulation` [17], and averages over processes.

    Args:
        sizes: Sequences of each micro-batch of this process.
        fidelity: Whose rules.
        accumulation: Micro-batches of an update, not counting those left over by an epoch.
        world: Processes, whose gradients are summed.
    """
    if fidelity == "release":
        divisors = [accumulation] * (len(sizes) - 1) + [1]
        return [size / divisor / world for size, divisor in zip(sizes, divisors, strict=True)]
    total = sum(sizes) * world
    return [size / total for size in sizes]


def release_learning_rate(update: int, config: TrainConfig) -> float:
    """Return the released schedule's rate of an update.

    Its lengths are counted in micro-batches and its steps in updates [18]: with an accumulation
    of 2, warm-up takes twice its part of the run and the cosine is used half-way only. The first
    update has rate 0 [19].

    Args:
        update: Number of the update, from 0.
        config: Peak, warm-up, end and number of updates.
    """
    total = config.steps * config.gradient_accumulation
    warmup = round(config.warmup_fraction * total)
    if update < warmup:
        return config.learning_rate * update / warmup
    progress = min(1.0, (update - warmup) / max(1, total - warmup))
    cosine = 0.5 * (1.0 + math.cos(math.pi * progress))
    floor = config.final_lr_fraction
    return config.learning_rate * (floor + (1.0 - floor) * cosine)


@dataclass(frozen=True)
class ReleaseSchedule:
    """Which micro-batches make up an update [19].

    Attributes:
        accumulation: Micro-batches of an update.
        epoch: Micro-batches of an epoch.
    """

    accumulation: int
    epoch: int

    def __post_init__(self) -> None:
        if self.epoch < self.accumulation:
            raise ConfigError(
                "an epoch of the released kind has fewer micro-batches than an update",
                where="train.gradient_accumulation",
                expected=f"at most {self.epoch}",
                found=self.accumulation,
                fix="train with a smaller batch, less accumulation, or without --fidelity release",
            )

    def end(self, update: int) -> int:
        """Return the micro-batch after the last of an update; 0 for the update before the first."""
        if update < 0:
            return 0
        epoch, place = divmod(update, self.epoch // self.accumulation)
        return epoch * self.epoch + (place + 1) * self.accumulation

    def micro_batches(self, update: int) -> range:
        """Return the micro-batches of an update; the first of an epoch has the left-over ones."""
        return range(self.end(update - 1), self.end(update))


def release_starts(rows: int, context: int, begin: int = 0) -> range:
    """Return where the windows start that the release cuts from so many rows.

    One every `WINDOW_STRIDE` rows. `range` ends before the last legal start [27], so that a file
    of no more rows than a window gives nothing.

    Args:
        rows: Rows, thinned.
        context: Sequence length; a window is one row longer.
        begin: Leave out what starts before this row.
    """
    return range(-(-begin // WINDOW_STRIDE) * WINDOW_STRIDE, rows - context - 1, WINDOW_STRIDE)


class ReleaseSampler:
    """Windows in the released order: each epoch a shuffle of the whole index [21, 27].

    The shuffle is that of PyTorch's DistributedSampler, seeded by `seed` plus the epoch; where the
    last micro-batch of an epoch is not full it is left out.

    Args:
        lanes: Lanes of each task; a task whose lanes are too short has no window.
        context: Sequence length; a window is one row longer.
        batch_size: Windows of a micro-batch over all processes.
        seed: Base seed.

    Raises:
        ConfigError: There are fewer windows than a micro-batch needs.
    """

    def __init__(
        self,
        lanes: Mapping[str, Sequence[Lane]],
        *,
        context: int,
        batch_size: int,
        seed: int,
    ) -> None:
        self.batch_size = batch_size
        self.seed = seed
        self._lanes = [
            (name, place, lane) for name in sorted(lanes) for place, lane in enumerate(lanes[name])
        ]
        self._starts = [
            release_starts(lane.rows, context, lane.begin) for _, _, lane in self._lanes
        ]
        counts = [len(starts) for starts in self._starts]
        self._cumulative = np.cumsum(counts, dtype=np.int64)
        self.windows = int(self._cumulative[-1]) if counts else 0
        if self.windows < batch_size:
            raise ConfigError(
                "the released index of windows is smaller than a micro-batch",
                where=f"one window every {WINDOW_STRIDE} rows",
                expected=f"at least {batch_size} windows",
                found=self.windows,
                fix="train with a smaller batch or context, or without --fidelity release",
            )
        self._shuffled: tuple[int, npt.NDArray[np.int64]] = (-1, np.empty(0, np.int64))

    @property
    def epoch(self) -> int:
        """Micro-batches of an epoch."""
        return self.windows // self.batch_size

    def shares(self) -> dict[str, float]:
        """Return each task's share of the windows."""
        counts = np.diff(self._cumulative, prepend=0)
        shares: dict[str, float] = {}
        for (name, _, _), count in zip(self._lanes, counts, strict=True):
            shares[name] = shares.get(name, 0.0) + float(count) / self.windows
        return shares

    def batch(self, step: int, rank: int = 0, world: int = 1) -> list[Window]:
        """Return the windows of a micro-batch that belong to one of `world` processes.

        Args:
            step: The micro-batch, counted over epochs, from 0.
            rank: Which process, from 0.
            world: Number of processes.

        Raises:
            ConfigError: The batch cannot be dealt out evenly.
        """
        from pipelines.train.sampler import check_even

        check_even(self.batch_size, rank, world)
        epoch, place = divmod(step, self.epoch)
        order = self._shuffle(epoch)
        chosen = order[place * self.batch_size : (place + 1) * self.batch_size]
        return [self.window(int(index)) for index in chosen[rank::world]]

    def _shuffle(self, epoch: int) -> npt.NDArray[np.int64]:
        # Threads that load ahead may be in two epochs at once.
        known, order = self._shuffled
        if known != epoch:
            import torch

            generator = torch.Generator().manual_seed(self.seed + epoch)
            order = torch.randperm(self.windows, generator=generator).numpy()
            self._shuffled = (epoch, order)
        return order

    def window(self, index: int) -> Window:
        """Return a window by its number in the index: over tasks by name, then trajectories."""
        from pipelines.train.sampler import Window

        place = int(np.searchsorted(self._cumulative, index, side="right"))
        name, lane_number, lane = self._lanes[place]
        before = int(self._cumulative[place - 1]) if place else 0
        return Window(name, lane.trajectory, self._starts[place][index - before], lane_number)
