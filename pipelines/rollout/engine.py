"""Many streams of many tasks, advanced together from an empty context (section 2.3.3).

All streams of a call take one step at a time: one forward pass for all of them, one call per task
to its batch of environments. Streams that have played their last shot leave the batch and the
cache; what the others do does not depend on them.

Shapes: B streams of a group or a task, O observation, A action.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipelines.rollout.streams import MakeBatch, StreamRecord, StreamTask, TaskStreams, Tokens

if TYPE_CHECKING:
    import torch

    from pipelines.model.batch import GroupBatch
    from pipelines.model.vintix import Vintix

#: Steps between two calls of `on_steps`: often enough for a progress line, too rare to cost time.
REPORT_EVERY = 16


def roll(
    model: Vintix,
    tasks: Sequence[StreamTask],
    *,
    seed: int,
    make_batch: MakeBatch,
    context: int | None = None,
    mask_rewards: bool = False,
    on_steps: Callable[[int], None] | None = None,
) -> dict[str, dict[int, StreamRecord]]:
    """Play all streams of all tasks to their last shot.

    The previous action is the executed one, clipped to the environment's bounds, and the previous
    reward is scaled as in training. An episode's first token carries episode step 0, where the
    model puts its padding vectors.

    Args:
        model: In evaluation mode, with the groups of all tasks.
        tasks: At least one; no two of one name.
        seed: Base seed.
        make_batch: Makes the environments of a task.
        context: Tokens the cache keeps; the model's own if None.
        mask_rewards: Show the model rewards of 0, for models trained that way (Appendix C.2).
        on_steps: Called now and then with the stream steps done since the last call.

    Returns:
        The record of each stream by task name and stream number.

    Raises:
        VintixError: An action of the model is not a finite number.
    """
    import torch

    everyone: list[TaskStreams] = []
    try:
        for task in tasks:
            everyone.append(
                TaskStreams(
                    task,
                    seed=seed,
                    make_batch=make_batch,
                    normalize=model.config.normalize_observations,
                    mask_rewards=mask_rewards,
                )
            )
        with torch.inference_mode():
            _play(model, everyone, context, on_steps or (lambda _: None))
        return {streams.task.spec.name: streams.records() for streams in everyone}
    finally:
        for streams in everyone:
            streams.close()


def _play(
    model: Vintix,
    everyone: Sequence[TaskStreams],
    context: int | None,
    on_steps: Callable[[int], None],
) -> None:
    # Tasks of one group stand together, so that its encoder and head run once a step.
    groups = list(dict.fromkeys(streams.group for streams in everyone))
    playing = sorted(everyone, key=lambda streams: groups.index(streams.group))
    cache = model.make_cache(sum(len(streams.playing) for streams in playing), context)
    table = _Table(model, playing)
    tick, reported = 0, 0
    while playing:
        seats = [streams.playing for streams in playing]
        if table.step(model.step(table.batches, cache)):
            kept = [
                np.isin(before, streams.playing)
                for before, streams in zip(seats, playing, strict=True)
            ]
            playing = [streams for streams in playing if len(streams.playing)]
            if playing:
                cache.keep(np.flatnonzero(np.concatenate(kept)).tolist())
                table = _Table(model, playing)
        tick += 1
        if tick % REPORT_EVERY == 0 or not playing:
            total = sum(streams.steps for streams in everyone)
            on_steps(total - reported)
            reported = total


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

    def step(self, actions: Sequence[torch.Tensor]) -> bool:
        """Play the model's actions; return whether a stream has played its last step."""
        ended = False
        for action_BA, (_, seats) in zip(actions, self._groups, strict=True):
            array_BA = action_BA.float().cpu().numpy()
            for streams, rows, _ in seats:
                ended |= streams.step(array_BA[rows])
        if not ended:
            self._write()
        return ended

    def _write(self) -> None:
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


def time_step(model: Vintix, tasks: Sequence[StreamTask], context: int, steps: int = 8) -> float:
    """Return the seconds of one forward pass for all streams of `tasks`, without environments.

    The cache is empty at first: once a long context is full, a step takes longer.
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
    with torch.inference_mode():
        cache = model.make_cache(sum(batch.batch_size for batch in batches), context)
        model.step(batches, cache)
        started = time.perf_counter()
        for _ in range(steps):
            model.step(batches, cache)
    return (time.perf_counter() - started) / steps
