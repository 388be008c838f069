"""Streams: what a rollout plays, and the record of it.

A stream is one copy of a task that plays a number of episodes one after the other, which a model
sees as one sequence.

Shapes: S streams of a task, B of them still playing, E episodes, T steps, L steps of a prompt,
O observation, A action.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pipelines.playing.environments import EnvironmentWorkers, MakeBatch, make_batch
from pipelines.playing.episodes import Actor, Episode, play
from pipelines.rng import derive_seed, stream

if TYPE_CHECKING:
    from pipelines.domains.base import BatchEnvironment, StepBatch
    from pipelines.model.normalization import TaskStatistics
    from pipelines.tasks.spec import TaskSpec

STAGE = "rollout"

#: Steps of the streams between two reports: often enough for a progress line, too rare to cost
#: time.
REPORT_EVERY = 16


@dataclass(frozen=True)
class PromptRows:
    """Steps in the environment's own units, as the model is to see them.

    Attributes:
        observation_LO: float32.
        previous_action_LA: The action one step before, as it is stored.
        previous_reward_L: float32, unscaled, the reward one step before.
        episode_step_L: int64, step within the episode.
    """

    observation_LO: NDArray[np.float32]
    previous_action_LA: NDArray[Any]
    previous_reward_L: NDArray[np.float32]
    episode_step_L: NDArray[np.int64]


class Prompt(Protocol):
    """Recorded steps that the context of a task's streams starts with."""

    @property
    def steps(self) -> int:
        """L, at least 1."""
        ...

    def rows(self, stream: int) -> PromptRows:
        """Return the prompt of a stream."""
        ...


@dataclass(frozen=True)
class ModelView:
    """What a model is shown of a task.

    Attributes:
        group: The model's group: which encoders and head the streams go through.
        statistics: Normalisation and reward scale, from the checkpoint.
        mask_rewards: Rewards of 0, for models trained that way (Appendix C.2).
        random_map: Each stream through a random map (`pipelines.model.random_map`), the same in all
            its episodes, for models trained that way.
        rewards: What is shown as the previous reward; see
            `pipelines.rollout.config.RolloutConfig`.
        mean_reward: The mean reward of the task's data, unscaled, where `rewards` is ``mean``.
        running: Estimate the observations' statistics in context, from `statistics` on, by which
            a prompt is normalised.
        prompt: What the context starts with; None for an empty one.
    """

    group: str
    statistics: TaskStatistics
    mask_rewards: bool = False
    random_map: bool = False
    rewards: str = "true"
    mean_reward: float = 0.0
    running: bool = False
    prompt: Prompt | None = None

    @property
    def prompt_steps(self) -> int:
        """Steps of the prompt, 0 for an empty context."""
        return 0 if self.prompt is None else self.prompt.steps


@dataclass(frozen=True)
class StreamTask:
    """The streams of one task.

    Attributes:
        streams: Numbers of the streams, which key their seeds.
        in_workers: Whether the environments may live in worker processes.
    """

    spec: TaskSpec
    options: Mapping[str, Any]
    shots: int
    streams: tuple[int, ...]
    view: ModelView
    in_workers: bool = False

    @property
    def bound(self) -> int:
        """Most steps that one stream can take."""
        return self.shots * self.spec.horizon

    def key(self, copy: int, *rest: str | int) -> tuple[str | int, ...]:
        """Return what keys a random stream of a copy; a variation has its base task's."""
        return (STAGE, self.spec.variation_of or self.spec.name, self.streams[copy], *rest)

    def make(
        self, seed: int, make_batch: MakeBatch, workers: EnvironmentWorkers | None
    ) -> BatchEnvironment:
        """Make the environments, in the workers where there are any and they may."""
        seeds = [stream_seed(seed, self.spec, each) for each in self.streams]
        if workers is None or not self.in_workers:
            return make_batch(self.spec, len(seeds), self.options, seeds)
        return workers.make(self.spec, self.options, seeds)

    def episode_seeds(self, seed: int) -> Callable[[int, int], int | None]:
        """Return the seeds of the episodes, for `pipelines.playing.episodes.Episodes`."""
        return lambda copy, number: (
            episode_seed(seed, self.spec, self.streams[copy], number)
            if number < self.shots
            else None
        )


def episode_seed(seed: int, spec: TaskSpec, stream: int, episode: int) -> int:
    """Return the seed of an episode; a variation plays the episodes of its base task."""
    return derive_seed(seed, STAGE, spec.variation_of or spec.name, stream, "episode", episode)


def stream_seed(seed: int, spec: TaskSpec, stream: int) -> int:
    """Return the seed of what an option fixes over all episodes of a stream."""
    return derive_seed(seed, STAGE, spec.variation_of or spec.name, stream, "stream")


@dataclass(frozen=True)
class StreamRecord:
    """What one stream did.

    Attributes:
        reward_T: float32, unscaled.
        episode_return_E: float64, sum of an episode's rewards.
        episode_length_E: int32, steps.
        success_E: Whether the episode succeeded at any of its steps; None where the domain knows
            no success.
        moved: Observation channels that moved though they were constant in the data of the
            statistics, ascending: the model does not see them.
    """

    reward_T: NDArray[np.float32]
    episode_return_E: NDArray[np.float64]
    episode_length_E: NDArray[np.int32]
    success_E: NDArray[np.bool_] | None
    moved: tuple[int, ...] = ()


Records = Mapping[str, Mapping[int, StreamRecord]]
"""The record of each stream by task and number."""


class StreamRecorder:
    """Keeps what the streams of a task do.

    Attributes:
        reward_TS: float32, the rewards of all copies; of a stream that is over, without meaning.
        steps: Steps so far, over all streams.
    """

    def __init__(self, task: StreamTask) -> None:
        self._task, self._now, self.steps = task, 0, 0
        self.reward_TS = np.zeros((task.bound, len(task.streams)), np.float32)
        self._episodes: list[list[Episode]] = [[] for _ in task.streams]

    def step(self, playing: NDArray[np.int64], after: StepBatch) -> None:
        """Record a step that some streams have made."""
        self.reward_TS[self._now] = after.reward_B
        self._now += 1
        self.steps += len(playing)

    def end(self, after: StepBatch, ended: Sequence[Episode]) -> None:
        """Record episodes that have ended."""
        for episode in ended:
            self._episodes[episode.copy].append(episode)

    def records(self) -> dict[int, StreamRecord]:
        """Return the record of each stream by its number."""
        success = any(each.success is not None for one in self._episodes for each in one)
        return {
            stream: StreamRecord(
                reward_T=self.reward_TS[: sum(each.length for each in episodes), copy].copy(),
                episode_return_E=np.array([each.total for each in episodes]),
                episode_length_E=np.array([each.length for each in episodes], np.int32),
                success_E=np.array([bool(each.success) for each in episodes]) if success else None,
            )
            for copy, (stream, episodes) in enumerate(
                zip(self._task.streams, self._episodes, strict=True)
            )
        }


def play_streams(
    tasks: Sequence[StreamTask],
    actor_of: Callable[[StreamTask, BatchEnvironment], Actor],
    *,
    seed: int,
    make_batch: MakeBatch = make_batch,
    workers: EnvironmentWorkers | None = None,
    on_steps: Callable[[int], None] = lambda steps: None,
) -> Records:
    """Play the streams of some tasks with something that needs no context, task by task.

    Args:
        tasks: The tasks; of their views nothing is used.
        seed, make_batch, workers, on_steps: As of `pipelines.playing.model.roll`.

    Raises:
        VintixError: As an environment or an actor raised it.
    """
    records = {}
    for task in tasks:
        with task.make(seed, make_batch, workers) as batch:
            actor = actor_of(task, batch)
            records[task.spec.name] = _play_task(task, batch, actor, seed, on_steps)
    return records


def _play_task(
    task: StreamTask,
    batch: BatchEnvironment,
    actor: Actor,
    seed: int,
    on_steps: Callable[[int], None],
) -> dict[int, StreamRecord]:
    recorder, reported = StreamRecorder(task), 0

    def step(playing: NDArray[np.int64], after: StepBatch) -> None:
        nonlocal reported
        recorder.step(playing, after)
        if recorder.steps - reported >= REPORT_EVERY * batch.size:
            on_steps(recorder.steps - reported)
            reported = recorder.steps

    play(batch, actor, task.episode_seeds(seed), on_step=step, on_end=recorder.end)
    on_steps(recorder.steps - reported)
    return recorder.records()


def random_generators(task: StreamTask, seed: int) -> Callable[[int, int], np.random.Generator]:
    """Return the random numbers of random play, by copy and number of the episode."""
    return lambda copy, number: stream(seed, *task.key(copy, "random", number))
