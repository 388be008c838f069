"""Many streams of many tasks, advanced together from an empty context (section 2.3.3).

All streams of a call take one step at a time: one forward pass for all of them, one call per task
to its batch of environments. Streams that have played their last shot leave the batch and the
cache; what the others do does not depend on them.

Shapes: B streams of a group or a task, O observation, A action.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
from numpy.typing import NDArray

from pipelines.errors import ConfigError
from pipelines.rollout.crew import Crew, MakeBatch
from pipelines.rollout.streams import StreamRecord, StreamTask, TaskStreams, Tokens

if TYPE_CHECKING:
    import torch

    from pipelines.model.batch import GroupBatch
    from pipelines.model.cache import Context
    from pipelines.model.vintix import Vintix

#: Prompt tokens that are run at once; bounds the memory of activations.
PROMPT_TOKENS = 16_384
#: Steps between two calls of `on_steps`: often enough for a progress line, too rare to cost time.
REPORT_EVERY = 16


@dataclass(frozen=True)
class Memory:
    """What a stream keeps in view.

    Attributes:
        context: Steps; the model's training context if None.
        cache: ``window`` for keys and values in a ring; ``none`` for a full pass over the window
            at each step, the exact reference.
        sinks: First steps that stay in view for good.
    """

    context: int | None = None
    cache: Literal["window", "none"] = "window"
    sinks: int = 0

    def make(self, model: Vintix, streams: int) -> Context:
        """Return the empty context of some streams.

        Raises:
            UsageError: The sinks leave no room.
        """
        if self.cache == "none":
            return model.make_window(streams, self.context, self.sinks)
        return model.make_cache(streams, self.context, sinks=self.sinks)


def roll(
    model: Vintix,
    tasks: Sequence[StreamTask],
    *,
    seed: int,
    make_batch: MakeBatch,
    memory: Memory | None = None,
    mask_rewards: bool = False,
    random_map: bool = False,
    crew: Crew | None = None,
    on_steps: Callable[[int], None] | None = None,
) -> dict[str, dict[int, StreamRecord]]:
    """Play all streams of all tasks to their last shot.

    The previous action is the executed one, clipped to the environment's bounds, and the previous
    reward is scaled as in training. An episode's first token carries episode step 0, where the
    model puts its padding vectors.

    Args:
        model: In evaluation mode, with the groups of all tasks.
        tasks: At least one; no two of one name; all with prompts of one length, or none.
        seed: Base seed.
        make_batch: Makes the environments of a task.
        memory: What a stream keeps in view; the model's own context if None.
        mask_rewards: Show the model rewards of 0, for models trained that way (Appendix C.2).
        random_map: Play each stream through a random map (`pipelines.model.random_map`), the same
            in all its episodes, for models trained that way.
        crew: Worker processes for the environments of tasks that are `apart`.
        on_steps: Called now and then with the stream steps done since the last call.

    Returns:
        The record of each stream by task name and stream number.

    Raises:
        VintixError: An action of the model is not a finite number, or as `Crew`.
        ConfigError: Prompts of several lengths.
    """
    with Player(
        model,
        tasks,
        seed=seed,
        make_batch=make_batch,
        memory=memory,
        mask_rewards=mask_rewards,
        random_map=random_map,
        crew=crew,
    ) as player:
        ticks, reported = 0, 0
        while player.playing:
            player.tick()
            ticks += 1
            if on_steps and (ticks % REPORT_EVERY == 0 or not player.playing):
                total = player.steps
                on_steps(total - reported)
                reported = total
        return player.records()


class Player:
    """Streams that stand at the first observation of their first episode, and play on by `tick`.

    Args:
        model, tasks, seed, make_batch, memory, mask_rewards, random_map, crew: As of `roll`.

    Attributes:
        playing: The tasks that still have streams to play.
    """

    def __init__(
        self,
        model: Vintix,
        tasks: Sequence[StreamTask],
        *,
        seed: int,
        make_batch: MakeBatch,
        memory: Memory | None = None,
        mask_rewards: bool = False,
        random_map: bool = False,
        crew: Crew | None = None,
    ) -> None:
        import torch

        self._model, self._crew = model, crew
        self._everyone: list[TaskStreams] = []
        try:
            for task in tasks:
                self._everyone.append(
                    TaskStreams(
                        task,
                        seed=seed,
                        make_batch=make_batch,
                        crew=crew,
                        normalize=model.config.normalize_observations,
                        mask_rewards=mask_rewards,
                        random_map=random_map,
                    )
                )
            self._exchange()
            for streams in self._everyone:
                streams.begin()
            # Tasks of one group stand together, so that its encoder and head run once a step.
            groups = list(dict.fromkeys(streams.group for streams in self._everyone))
            self.playing = sorted(self._everyone, key=lambda each: groups.index(each.group))
            count = sum(len(streams.playing) for streams in self.playing)
            with torch.inference_mode():
                self._context = (memory or Memory()).make(model, count)
                prefill(model, self._context, self.playing, mask_rewards)
            self._table = _Table(model, self.playing)
        except BaseException:
            self.close()
            raise

    @property
    def steps(self) -> int:
        """Steps played so far, over all streams."""
        return sum(streams.steps for streams in self._everyone)

    def tick(self) -> None:
        """Play one step of every stream that still plays.

        Raises:
            VintixError: As `roll`.
        """
        import torch

        with torch.inference_mode():
            actions = self._model.step(self._table.batches, self._context)
        self._table.act(actions)
        seats = [streams.playing for streams in self.playing]
        self._exchange()
        ended = [streams.observe() for streams in self.playing]
        self._exchange()
        for streams in self.playing:
            streams.begin()
        if not any(ended):
            self._table.write()
            return
        kept = [
            np.isin(before, streams.playing)
            for before, streams in zip(seats, self.playing, strict=True)
        ]
        self.playing = [streams for streams in self.playing if len(streams.playing)]
        if self.playing:
            with torch.inference_mode():
                self._context.keep(np.flatnonzero(np.concatenate(kept)).tolist())
            self._table = _Table(self._model, self.playing)

    def records(self) -> dict[str, dict[int, StreamRecord]]:
        """Return the record of each stream by task name and stream number."""
        return {streams.task.spec.name: streams.records() for streams in self._everyone}

    def close(self) -> None:
        """Give back what the environments hold."""
        for streams in self._everyone:
            streams.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _exchange(self) -> None:
        if self._crew is not None:
            self._crew.exchange()


def prefill(
    model: Vintix, context: Context, everyone: Sequence[TaskStreams], mask_rewards: bool
) -> None:
    """Put the prompts of all streams into an empty context, a few streams at a time.

    Args:
        model: In evaluation mode.
        context: Of the streams, in the order of `everyone` and of their streams.
        everyone: The streams of tasks all with prompts of one length, or none.
        mask_rewards: Show rewards of 0.

    Raises:
        ConfigError: Prompts of several lengths.
        UsageError: There are sinks and the prompts are longer than the context.
    """
    prompts = [streams.task.prompt for streams in everyone]
    lengths = sorted({0 if prompt is None else prompt.steps for prompt in prompts})
    if len(lengths) > 1:
        raise ConfigError(
            "streams that advance together have prompts of several lengths",
            where="prompts of one batch",
            expected="one length",
            found=", ".join(map(str, lengths)),
        )
    if lengths == [0]:
        return
    some, row = max(1, PROMPT_TOKENS // lengths[0]), 0
    for streams in everyone:
        for start in range(0, len(streams.task.streams), some):
            part = range(start, min(start + some, len(streams.task.streams)))
            batches = _prompt_batches(model, streams, part, mask_rewards)
            model.prefill(batches, context.part(row, row + len(part)))
            row += len(part)
    context.advance(lengths[0])


def _prompt_batches(
    model: Vintix, streams: TaskStreams, part: Sequence[int], mask_rewards: bool
) -> list[GroupBatch]:
    import torch

    from pipelines.model.batch import TaskSequence, group_sequences

    task, sequences = streams.task, []
    for index in part:
        rows = task.prompt.rows(task.streams[index])  # type: ignore[union-attr]
        reward_L = np.zeros_like(rows.previous_reward_L) if mask_rewards else rows.previous_reward_L
        sequences.append(
            TaskSequence(
                group=task.group,
                statistics=task.statistics,
                observation_LO=torch.from_numpy(rows.observation_LO),
                previous_action_LA=torch.from_numpy(rows.previous_action_LA),
                previous_reward_L=torch.from_numpy(reward_L),
                episode_step_L=torch.from_numpy(rows.episode_step_L),
            )
        )
    batches = group_sequences(model.config, sequences)[0]
    if streams.maps is not None:
        # The sequences of one task are one batch, stacked into memory of its own.
        observations, actions = batches[0].observation_BLO, batches[0].previous_action_BLA
        for row, index in enumerate(part):
            streams.maps[index].apply(observations[row].numpy(), actions[row].numpy())
    device = model.encoder.prev_acs_padding.device
    return [batch.to(device) for batch in batches]


class _Table:
    """The tokens of all playing streams: one batch a group, with a slice for each task.

    The tensors are made once and share their memory with the arrays that the tasks write into.
    """

    def __init__(self, model: Vintix, playing: Sequence[TaskStreams]) -> None:
        self._device = model.encoder.prev_acs_padding.device
        self._groups: list[tuple[GroupBatch, list[tuple[TaskStreams, slice, Tokens]]]] = []
        for group in dict.fromkeys(streams.group for streams in playing):
            members = [streams for streams in playing if streams.group == group]
            self._groups.append(self._seat(model, group, members))

    @property
    def batches(self) -> list[GroupBatch]:
        """One token of every playing stream, by group."""
        if self._device.type == "cpu":
            return [batch for batch, _ in self._groups]
        return [batch.to(self._device) for batch, _ in self._groups]

    def act(self, actions: Sequence[torch.Tensor]) -> None:
        """Ask the environments for a step of the model's actions, group by group."""
        for action_BA, (_, seats) in zip(actions, self._groups, strict=True):
            array_BA = action_BA.float().cpu().numpy()
            for streams, rows, _ in seats:
                streams.act(array_BA[rows])

    def write(self) -> None:
        """Write what every stream sees next."""
        for _, seats in self._groups:
            for streams, _, tokens in seats:
                streams.write(tokens)

    def _seat(
        self, model: Vintix, group: str, members: Sequence[TaskStreams]
    ) -> tuple[GroupBatch, list[tuple[TaskStreams, slice, Tokens]]]:
        import torch

        from pipelines.model.batch import GroupBatch

        dims = model.config.groups[group]
        size = sum(len(streams.playing) for streams in members)
        observation_BO = np.zeros((size, dims.observation_dim), np.float32)
        action_BA = np.zeros((size, dims.action_dim), np.float32)
        reward_B, step_B = np.zeros(size, np.float32), np.zeros(size, np.int64)
        seats, mean, std, start = [], [], [], 0
        for streams in members:
            rows = slice(start, start + len(streams.playing))
            tokens = Tokens(observation_BO[rows], action_BA[rows], reward_B[rows], step_B[rows])
            streams.write(tokens)
            seats.append((streams, rows, tokens))
            statistics = streams.task.statistics
            mean.append(_repeat(statistics.action_mean, len(streams.playing)))
            std.append(_repeat(statistics.action_std, len(streams.playing)))
            start = rows.stop
        normalize = model.config.normalize_actions
        return GroupBatch(
            group=group,
            observation_BLO=torch.from_numpy(observation_BO)[:, None],
            previous_action_BLA=torch.from_numpy(action_BA)[:, None],
            previous_reward_BL=torch.from_numpy(reward_B)[:, None],
            episode_step_BL=torch.from_numpy(step_B)[:, None],
            action_mean_BA=torch.from_numpy(np.concatenate(mean)) if normalize else None,
            action_std_BA=torch.from_numpy(np.concatenate(std)) if normalize else None,
        ), seats


def _repeat(vector_A: NDArray[np.float32], times: int) -> NDArray[np.float32]:
    return np.tile(vector_A, (times, 1))


def time_steps(
    model: Vintix, tasks: Sequence[StreamTask], memory: Memory, steps: int = 8
) -> tuple[float, float]:
    """Time forward passes for all streams of `tasks`, without environments.

    Args:
        model: In evaluation mode.
        tasks: Whose streams advance together.
        memory: What they keep in view.
        steps: Passes to take the mean of.

    Returns:
        Seconds of one pass with nothing in view, and with everything that fits.
    """
    import torch

    from pipelines.model.batch import GroupBatch

    batches = []
    for group in dict.fromkeys(task.group for task in tasks):
        size = sum(len(task.streams) for task in tasks if task.group == group)
        dims = model.config.groups[group]
        batches.append(
            GroupBatch(
                group=group,
                observation_BLO=torch.zeros(size, 1, dims.observation_dim),
                previous_action_BLA=torch.zeros(size, 1, dims.action_dim),
                previous_reward_BL=torch.zeros(size, 1),
                episode_step_BL=torch.zeros(size, 1, dtype=torch.int64),
                action_mean_BA=torch.zeros(size, dims.action_dim),
                action_std_BA=torch.ones(size, dims.action_dim),
            )
        )

    def time_one(count: int) -> float:
        started = time.perf_counter()
        for _ in range(count):
            model.step(batches, context)
        return (time.perf_counter() - started) / count

    with torch.inference_mode():
        context = memory.make(model, sum(batch.batch_size for batch in batches))
        time_one(1)
        empty = time_one(steps)
        context.assume_full()
        # A pass over a whole window takes long enough to be timed once.
        return empty, time_one(1 if memory.cache == "none" else steps)
