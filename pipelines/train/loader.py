"""From windows to batches the model takes, ahead of the step that needs them.

A window's rows 0 .. L make L tokens: token t has the observation of row t + 1, the action and
reward of row t before it, and the action of row t + 1 as its target (the released layout). Row 0
gives nothing but the first token's previous action and reward, so the first token need not be an
episode's first step.

Shapes: B sequences of a group, L context, O observation, A action; actions are (B, L, A) of a box
and (B, L) where they are discrete.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Self, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from pipelines.methods import DEFAULT, find_method
from pipelines.methods.base import Method
from pipelines.methods.windows import (
    TOKEN_FIELDS,
    Sampler,
    Subsequence,
    Window,
    shuffled_episodes,
)
from pipelines.model.batch import GroupBatch, stack_embeddings
from pipelines.model.config import ModelConfig
from pipelines.model.normalization import TaskStatistics, divisor
from pipelines.model.random_map import RandomMap
from pipelines.rng import stream
from pipelines.train.data import domain_of

if TYPE_CHECKING:
    from pipelines.datasets.reader import DatasetReader, DatasetTask

Item = TypeVar("Item")
Floats = npt.NDArray[np.float32]

#: Numbers normalised at a time (a quarter of a megabyte), and in one inner loop.
_BLOCK_ELEMENTS, _FOLDED_ELEMENTS = 1 << 16, 10_000


def task_statistics(task: DatasetTask) -> TaskStatistics:
    """Return the statistics of a dataset's task in the model's form.

    Raises:
        ConfigError: They are not finite numbers or do not fit together.
    """
    given = {name: values.astype(np.float32) for name, values in task.statistics.items()}
    return TaskStatistics(**given, reward_scale=task.reward_scale)


@dataclass(frozen=True)
class MicroBatch:
    """Sequences of one forward pass.

    Attributes:
        domains: Domain of each sequence, in the order of the batches and their rows.
    """

    batches: list[GroupBatch]
    domains: list[str]

    def to(self, device: torch.device) -> MicroBatch:
        """Return the same with tensors on a device."""
        return MicroBatch(
            [batch.to(device, non_blocking=True) for batch in self.batches], self.domains
        )

    def split(self, most: int | None) -> list[MicroBatch]:
        """Split into parts of at most `most` sequences; None for one part.

        Batches without sequences are in the first part.
        """
        if most is None or len(self.domains) <= most:
            return [self]
        parts, batches = [], [batch for batch in self.batches if not batch.batch_size]
        done = before = 0
        for batch in self.batches:
            start = 0
            while start < batch.batch_size:
                stop = min(batch.batch_size, start + most - (before + start - done))
                batches.append(batch.part(start, stop))
                start = stop
                if before + start - done == most:
                    parts.append(MicroBatch(batches, self.domains[done : before + start]))
                    batches, done = [], before + start
            before += batch.batch_size
        if batches:
            parts.append(MicroBatch(batches, self.domains[done:]))
        return parts


class BatchLoader:
    """Reads the windows of a step and stacks them by group.

    Args:
        subsequences: What the windows of each task are cut from.
        config: The model's configuration: context, and what is normalised.
        method: Says what is shown, what is to be predicted, and how steps are weighted.
        map_seed: Base seed of a random map for each window, of which the window's step and index
            say which; None for no maps.
        order_seed: Base seed of the order of each window's episodes, likewise; None for the order
            of the data.
        embedding_seed: Base seed of the embeddings of each window's actions, likewise, of groups
            whose head tells actions by them.
        pin: Put batches into page-locked memory, for copies to a GPU.
        world: Number of processes. With more than one, a micro-batch has an empty batch of each
            group that only other processes have windows of in this step: all of them have
            gradients of the same parameters then.
    """

    def __init__(
        self,
        data: DatasetReader,
        tasks: Sequence[DatasetTask],
        subsequences: Mapping[str, Sequence[Subsequence]],
        sampler: Sampler,
        config: ModelConfig,
        *,
        method: Method | None = None,
        map_seed: int | None = None,
        order_seed: int | None = None,
        embedding_seed: int = 0,
        pin: bool = False,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self._data = data
        self._tasks = {task.name: task for task in tasks}
        self._statistics = {task.name: task_statistics(task) for task in tasks}
        self._normalizers = {name: _Normalizer(each) for name, each in self._statistics.items()}
        self._subsequences = subsequences
        self._sampler = sampler
        self._config = config
        self._method = find_method(DEFAULT) if method is None else method
        self._fields = {*TOKEN_FIELDS, *self._method.fields, self._method.target}
        self._map_seed, self._order_seed = map_seed, order_seed
        self._embedding_seed = embedding_seed
        self._pin = pin
        self._rank, self._world = rank, world
        #: All domains there are, sorted.
        self.domains = sorted({domain_of(task) for task in tasks})

    def tokens(self, step: int) -> int:
        """Return the tokens of all processes in the steps up to and with this one."""
        return self._sampler.seen(step) * self._config.context

    def step(self, step: int) -> list[MicroBatch]:
        """Return the micro-batches of an optimizer step."""
        micros = self._sampler.micro_batches(step, self._rank, self._world)
        everyones = set()
        if self._world > 1:
            everyones = {
                self._tasks[window.task].group
                for windows in self._sampler.micro_batches(step)
                for window in windows
            }
        return [self.assemble(windows, everyones) for windows in micros]

    def assemble(
        self, windows: Sequence[Window], also: Collection[str] = frozenset()
    ) -> MicroBatch:
        """Read windows and stack those of one group, groups in the model's order.

        Args:
            also: Groups that are there with an empty batch if no window is theirs.
        """
        members: dict[str, list[Window]] = {group: [] for group in also}
        for window in windows:
            members.setdefault(self._tasks[window.task].group, []).append(window)
        groups = [group for group in self._config.groups if group in members]
        batches = [self._group_batch(group, members[group]) for group in groups]
        domains = [
            domain_of(self._tasks[window.task]) for group in groups for window in members[group]
        ]
        return MicroBatch(batches, domains)

    def _group_batch(self, group: str, windows: Sequence[Window]) -> GroupBatch:
        dims, length = self._config.groups[group], self._config.context
        size, kind = len(windows), dims.actions
        shape, dtype = (size, length, *kind.row_shape), getattr(torch, kind.row_dtype)
        # Memory from PyTorch, filled through NumPy: its alignment is always the same, and with it
        # the order in which vectorised sums run.
        observation_BLO = self._empty(size, length, dims.observation_dim)
        previous_BLA = self._empty(*shape, dtype=dtype)
        action_BLA = self._empty(*shape, dtype=dtype)
        reward_BL = self._empty(size, length)
        step_BL = self._empty(size, length, dtype=torch.int64)
        weight_BL: torch.Tensor | None = None
        observations, previous, actions, rewards, steps = (
            values.numpy()
            for values in (observation_BLO, previous_BLA, action_BLA, reward_BL, step_BL)
        )
        for place, window in enumerate(windows):
            subsequence = self._subsequences[window.task][window.subsequence]
            statistics = self._statistics[window.task]
            normalize = self._normalizers[window.task]
            scale = np.float32(statistics.reward_scale)
            row = 0
            pieces = subsequence.pieces(self._data, window.start, length + 1, self._fields)
            for rows in pieces:
                count = len(rows["reward"])
                # Row r is token r - 1's own, and its action and reward are token r's past.
                skipped = 1 if row == 0 else 0
                own = slice(row + skipped - 1, row + count - 1)
                past = slice(row, min(row + count, length))
                observation_NO = rows["observation"][skipped:]
                if self._config.normalize_observations:
                    normalize(observation_NO, observations[place, own])
                else:
                    observations[place, own] = observation_NO
                actions[place, own] = rows[self._method.target][skipped:]
                steps[place, own] = rows["episode_step"][skipped:]
                kept = past.stop - past.start
                previous[place, past] = rows["action"][:kept]
                if self._method.masks_rewards:
                    rewards[place, past] = 0.0
                else:
                    np.multiply(rows["reward"][:kept], scale, out=rewards[place, past])
                weight_N = self._method.loss_weights(rows)
                if weight_N is not None:
                    if weight_BL is None:
                        weight_BL = torch.ones(size, length)
                    weight_BL[place, own] = torch.from_numpy(weight_N[skipped:])
                row += count
            if self._order_seed is not None:
                draw = stream(self._order_seed, "train", "order", window.step, window.index)
                order_L = shuffled_episodes(steps[place], draw)
                for values in (observations, previous, actions, rewards, steps):
                    values[place] = values[place, order_L]
                if weight_BL is not None:
                    weight_BL[place] = weight_BL[place, order_L]
            if self._map_seed is not None:
                draw = stream(self._map_seed, "train", "map", window.step, window.index)
                normalized = self._config.normalize_observations
                # The group's actions may be more than the task's: those of its largest set.
                task = self._tasks[window.task]
                drawn = RandomMap.draw(statistics, draw, task.actions, normalized=normalized)
                drawn.apply(observations[place], previous[place], actions[place])
        embedding_BNE = None
        embedding = self._config.embedding_of(group)
        if embedding is not None:
            drawn_NE = [
                embedding.draw(
                    self._tasks[window.task].actions.width,
                    stream(self._embedding_seed, "train", "embedding", window.step, window.index),
                )
                for window in windows
            ]
            # A batch without windows has the shape of one with them.
            embedding_BNE = stack_embeddings(drawn_NE)
            if embedding_BNE is None:
                embedding_BNE = torch.zeros(0, kind.width, embedding.channels)
        means = stds = None
        if self._config.normalize_actions and kind.continuous:
            each = [self._statistics[window.task] for window in windows]
            vectors = (size, kind.width)
            means = torch.from_numpy(np.array([one.action_mean for one in each]).reshape(vectors))
            stds = torch.from_numpy(np.array([one.action_std for one in each]).reshape(vectors))
        return GroupBatch(
            group=group,
            observation_BLO=observation_BLO,
            previous_action_BLA=previous_BLA,
            previous_reward_BL=reward_BL,
            episode_step_BL=step_BL,
            action_BLA=action_BLA,
            weight_BL=weight_BL,
            action_mean_BA=means,
            action_std_BA=stds,
            embedding_BNE=embedding_BNE,
        )

    def _empty(self, *shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        return torch.empty(shape, dtype=dtype, pin_memory=self._pin)


class _Normalizer:
    """Writes a task's observations normalised, as `TaskStatistics.normalize_observation` does.

    Several rows are taken as one, since NumPy's inner loops are slow on short rows, and a few of
    these at a time, so that the division finds them in the cache.
    """

    def __init__(self, statistics: TaskStatistics) -> None:
        self._mean_O = statistics.observation_mean
        self._divisor_O = divisor(statistics.observation_mean, statistics.observation_std)
        self._fold = max(1, _FOLDED_ELEMENTS // len(self._mean_O))
        self._mean = np.tile(self._mean_O, self._fold)
        self._divisor = np.tile(self._divisor_O, self._fold)
        self._block = max(1, _BLOCK_ELEMENTS // len(self._mean))

    def __call__(self, rows_NO: Floats, out_NO: Floats) -> None:
        whole = len(rows_NO) - len(rows_NO) % self._fold
        rows = rows_NO[:whole].reshape(-1, len(self._mean))
        out = out_NO[:whole].reshape(-1, len(self._mean))
        for start in range(0, len(rows), self._block):
            part = out[start : start + self._block]
            np.subtract(rows[start : start + self._block], self._mean, out=part)
            np.divide(part, self._divisor, out=part)
        if whole < len(rows_NO):
            np.subtract(rows_NO[whole:], self._mean_O, out=out_NO[whole:])
            np.divide(out_NO[whole:], self._divisor_O, out=out_NO[whole:])


class Prefetcher(Generic[Item]):
    """Runs a function of 0, 1, 2 ... in threads, a few calls ahead, and hands out the results.

    The order is fixed, so results do not depend on how fast the threads are. Threads and not
    processes, since reading maps files and copies arrays, which leaves the interpreter lock to the
    training step for most of the time and needs nothing to be sent.

    Args:
        function: What to call with each number; safe to call from several threads.
        start: First number.
        stop: One past the last.
        depth: Results kept ready, at least one a thread.
        threads: How many call it: more than one hides the latency of files that are not cached.
    """

    def __init__(
        self,
        function: Callable[[int], Item],
        start: int,
        stop: int,
        *,
        depth: int = 3,
        threads: int = 1,
    ) -> None:
        self._function = function
        self._numbers = iter(range(start, stop))
        self._depth = max(depth, threads)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="prefetch")
        self._ahead: deque[Future[Item]] = deque()

    def __enter__(self) -> Self:
        for _ in range(self._depth):
            self._begin_next()
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def get(self) -> Item:
        """Return the next result; raises what the function raised."""
        item = self._ahead.popleft().result()
        self._begin_next()
        return item

    def _begin_next(self) -> None:
        number = next(self._numbers, None)
        if number is not None:
            self._ahead.append(self._pool.submit(self._function, number))
