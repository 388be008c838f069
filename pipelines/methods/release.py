"""The released code's training rules, where they differ from the ones used by default.

`--fidelity release` trains by these. Numbers in brackets are the quirks listed in
`docs/deviations.md`. The release counts in micro-batches: an epoch is one pass over the index of
windows in a random order, cut into micro-batches; every `accumulation`-th micro-batch of an epoch
ends an update, and what is left over at an epoch's end is carried into the next one's first
update [19].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from pipelines.errors import ConfigError
from pipelines.methods.base import Method, Rules, Schedule
from pipelines.methods.windows import (
    ContextOrder,
    Sampling,
    Subsequence,
    Window,
    check_even,
    last_part,
)
from pipelines.options import ConflictError

if TYPE_CHECKING:
    import numpy.typing as npt

    from pipelines.datasets.reader import DatasetReader, DatasetTask

#: Rows between two windows of the released index (`trajectory_sparsity` of its configuration).
WINDOW_STRIDE = 257


class ReleaseRules(Rules):
    """The rules of the release.

    By default they take the released configuration's weight decay, no clipping [20], and windows
    drawn uniformly [21].
    """

    defaults = {"weight_decay": 0.1, "clip_norm": 0.0, "sampling": "window"}  # noqa: RUF012
    # It averages over processes what it sums within one.
    by_process = True

    def check(self, *, sampling: Sampling, random_map: bool, context_order: ContextOrder) -> None:
        """Refuse what the release does not know."""
        if sampling != "window":
            raise ConflictError(
                "fidelity release draws windows: sampling must be window",
                fix="vintix train ... --set train.sampling=window",
                fidelity="release",
                sampling=sampling,
            )
        if random_map:
            raise ConflictError(
                "the released code knows no random maps: not with fidelity release",
                fix="vintix train ... --set train.random_map=false",
                fidelity="release",
                random_map=random_map,
            )
        if context_order != "recorded":
            raise ConflictError(
                "fidelity release shows episodes as recorded",
                fix="vintix train ... --set train.context_order=recorded",
                fidelity="release",
                context_order=context_order,
            )

    def cut(
        self,
        method: Method,
        data: DatasetReader,
        task: DatasetTask,
        trajectories: Sequence[int],
        *,
        context: int,
        thin: bool,
        last_fraction: float | None,
    ) -> list[Subsequence]:
        """Return the subsequences of a task; what is too short has no window and is no error.

        Every task with an episode sparsity is thinned, and the phase of its first episode alone is
        kept [28]. A last part bounds where windows start, in rows before thinning.
        """
        found, every = [], task.episode_sparsity if thin else 1
        for trajectory in trajectories:
            rows, first = task.rows[trajectory], 0
            if last_fraction is None:
                first = method.first_row(data, task.name, trajectory)
            one = Subsequence(task.name, trajectory, first, rows - first)
            if every > 1:
                one = one.thinned(data, 0, every)
            if last_fraction is not None:
                begin = last_part(rows, last_fraction)
                places = one.trajectory_rows(np.arange(one.rows))
                one = replace(one, begin=int(np.searchsorted(places, begin)))
            found.append(one)
        return found

    def sampler(
        self,
        subsequences: Mapping[str, Sequence[Subsequence]],
        *,
        context: int,
        batch_size: int,
        accumulation: int,
        seed: int,
        sampling: Sampling,
    ) -> ReleaseSampler:
        """Return what says which windows an update has."""
        return ReleaseSampler(
            subsequences,
            context=context,
            batch_size=batch_size,
            seed=seed,
            accumulation=accumulation,
        )

    def dealt(self, batch_size: int, accumulation: int) -> int:
        """Return the windows of a micro-batch."""
        return batch_size

    def loss_weights(
        self, sizes: Sequence[int], *, accumulation: int, world: int = 1
    ) -> list[float]:
        """Return the factor on the mean loss of each micro-batch of an update in this process.

        The release sums over the sequences of a micro-batch [16], divides all micro-batches but an
        update's last by `accumulation` [17], and averages over processes.
        """
        divisors = [accumulation] * (len(sizes) - 1) + [1]
        return [size / divisor / world for size, divisor in zip(sizes, divisors, strict=True)]

    def learning_rate(self, step: int, schedule: Schedule) -> float:
        """Return the released schedule's rate of an update.

        Its lengths are counted in micro-batches and its steps in updates [18]: with an
        accumulation of 2, warm-up takes twice its part of the run and the cosine is used half-way
        only. The first update has rate 0 [19].
        """
        total = schedule.steps * schedule.accumulation
        warmup = round(schedule.warmup_fraction * total)
        if step < warmup:
            return schedule.peak * step / warmup
        return schedule.cosine(min(1.0, (step - warmup) / max(1, total - warmup)))


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
        subsequences: Those of each task; a task whose subsequences are too short has no window.
        context: Sequence length; a window is one row longer.
        batch_size: Windows of a micro-batch over all processes.

    Attributes:
        windows: Windows of the index.
        epoch: Micro-batches of an epoch.

    Raises:
        ConfigError: There are fewer windows than a micro-batch needs, or fewer micro-batches in an
            epoch than an update needs.
    """

    def __init__(
        self,
        subsequences: Mapping[str, Sequence[Subsequence]],
        *,
        context: int,
        batch_size: int,
        seed: int,
        accumulation: int = 1,
    ) -> None:
        self.batch_size, self.seed, self._accumulation = batch_size, seed, accumulation
        self._members = [
            (name, place, one)
            for name in sorted(subsequences)
            for place, one in enumerate(subsequences[name])
        ]
        self._starts = [release_starts(one.rows, context, one.begin) for _, _, one in self._members]
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
        self.epoch = self.windows // batch_size
        if self.epoch < accumulation:
            raise ConfigError(
                "an epoch of the released kind has fewer micro-batches than an update",
                where="train.gradient_accumulation",
                expected=f"at most {self.epoch}",
                found=accumulation,
                fix="train with a smaller batch, less accumulation, or without --fidelity release",
            )
        self._shuffled: tuple[int, npt.NDArray[np.int64]] = (-1, np.empty(0, np.int64))

    def shares(self) -> dict[str, float]:
        """Return each task's share of the windows."""
        counts = np.diff(self._cumulative, prepend=0)
        shares: dict[str, float] = {}
        for (name, _, _), count in zip(self._members, counts, strict=True):
            shares[name] = shares.get(name, 0.0) + float(count) / self.windows
        return shares

    def micro_batches(self, step: int, rank: int = 0, world: int = 1) -> list[list[Window]]:
        """Return the windows of an update that belong to one of `world` processes.

        Raises:
            ConfigError: A micro-batch cannot be dealt out evenly.
        """
        numbers = release_numbers(step, self._accumulation, self.epoch)
        return [self.batch(number, rank, world) for number in numbers]

    def seen(self, step: int) -> int:
        """Return the windows of all processes in the updates up to and with this one."""
        return release_end(step, self._accumulation, self.epoch) * self.batch_size

    def batch(self, number: int, rank: int = 0, world: int = 1) -> list[Window]:
        """Return the windows of a micro-batch, counted over epochs from 0."""
        check_even(self.batch_size, rank, world)
        epoch, place = divmod(number, self.epoch)
        order = self._shuffle(epoch)
        first = place * self.batch_size
        return [
            replace(self.window(int(order[first + index])), step=number, index=index)
            for index in range(rank, self.batch_size, world)
        ]

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
        place = int(np.searchsorted(self._cumulative, index, side="right"))
        name, number, one = self._members[place]
        before = int(self._cumulative[place - 1]) if place else 0
        return Window(name, one.trajectory, self._starts[place][index - before], number)


def release_end(update: int, accumulation: int, epoch: int) -> int:
    """Return the micro-batch after the last of an update; 0 for the update before the first.

    Args:
        update: Number of the update.
        epoch: Micro-batches of an epoch.
    """
    if update < 0:
        return 0
    epochs, place = divmod(update, epoch // accumulation)
    return epochs * epoch + (place + 1) * accumulation


def release_numbers(update: int, accumulation: int, epoch: int) -> range:
    """Return the micro-batches of an update; the first of an epoch has the left-over ones [19]."""
    return range(
        release_end(update - 1, accumulation, epoch), release_end(update, accumulation, epoch)
    )
