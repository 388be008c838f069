"""The streams of one task: their environments, their state and the record of what they do.

Shapes: S streams of the task, B of them still playing, E episodes, T steps, O observation,
A action.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipelines.errors import VintixError
from pipelines.rng import derive_seed
from pipelines.rng import stream as random_stream
from pipelines.rollout.crew import Copies, Crew, LocalCopies, MakeBatch
from pipelines.rollout.unseen import RunningStatistics

if TYPE_CHECKING:
    from pipelines.model.normalization import TaskStatistics
    from pipelines.model.random_map import RandomMap
    from pipelines.rollout.config import Rewards
    from pipelines.rollout.prompt import Prompt
    from pipelines.tasks.spec import TaskSpec

__all__ = ["MakeBatch", "StreamRecord", "StreamTask", "TaskStreams", "Tokens"]

STAGE = "rollout"


@dataclass(frozen=True)
class StreamTask:
    """What the streams of one task need.

    Attributes:
        spec: The task or variation.
        statistics: Normalisation and reward scale, from the checkpoint.
        options: Options of the domain's environments.
        shots: Episodes of each stream.
        streams: Numbers of the streams, which key their seeds.
        model_group: The model's group for the task where it is not the catalogue's: imported
            checkpoints have names of their own.
        prompt: Recorded steps that the context of the streams starts with; None for an empty one.
        apart: Whether the environments may live in worker processes.
        running: Estimate the observations' statistics in context, from `statistics` on, by which
            a prompt is normalised.
        rewards: What a stream is shown as its previous reward; see
            `pipelines.rollout.config.RolloutConfig`.
    """

    spec: TaskSpec
    statistics: TaskStatistics
    options: Mapping[str, Any]
    shots: int
    streams: tuple[int, ...]
    model_group: str | None = None
    prompt: Prompt | None = None
    apart: bool = False
    running: bool = False
    rewards: Rewards = "true"

    @property
    def group(self) -> str:
        """The model's group: which encoders and head the streams go through."""
        return self.model_group or self.spec.group

    @property
    def bound(self) -> int:
        """Most steps that one stream can take."""
        return self.shots * self.spec.horizon


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


@dataclass(frozen=True)
class Tokens:
    """Where the streams still playing put what the model sees next.

    Attributes:
        observation_BO: float32, normalised if the model asks for it, and mapped likewise.
        previous_action_BA: float32, as executed, mapped if the model asks for it.
        previous_reward_B: float32, scaled.
        episode_step_B: int64.
    """

    observation_BO: NDArray[np.float32]
    previous_action_BA: NDArray[np.float32]
    previous_reward_B: NDArray[np.float32]
    episode_step_B: NDArray[np.int64]


def episode_seed(seed: int, spec: TaskSpec, stream: int, episode: int) -> int:
    """Return the seed of an episode; a variation plays the episodes of its base task."""
    return derive_seed(seed, STAGE, spec.variation_of or spec.name, stream, "episode", episode)


def stream_seed(seed: int, spec: TaskSpec, stream: int) -> int:
    """Return the seed of what an option fixes over all episodes of a stream."""
    return derive_seed(seed, STAGE, spec.variation_of or spec.name, stream, "stream")


def stream_map(seed: int, task: StreamTask, stream: int, *, normalized: bool) -> RandomMap:
    """Return the map that a stream is seen through; a variation's is drawn as its base task's.

    Args:
        seed: Base seed.
        task: The task.
        stream: Number of the stream.
        normalized: Whether the model wants normalised observations.
    """
    from pipelines.model.random_map import RandomMap

    name = task.spec.variation_of or task.spec.name
    generator = random_stream(seed, STAGE, name, stream, "map")
    return RandomMap.draw(task.statistics, generator, normalized=normalized)


class TaskStreams:
    """The streams of one task.

    What environments do is asked for and taken later, so that those of all tasks work at once
    where they live in worker processes: `act` for all, exchange, `observe` for all, exchange,
    `begin` for all. After the first exchange `begin` brings the first observations.

    Args:
        task: The task and its streams.
        seed: Base seed.
        make_batch: Makes the environments, whose episodes end at the horizon at the latest.
        crew: Worker processes for the environments of tasks that allow it; None for none.
        normalize: Whether the model wants normalised observations.
        mask_rewards: Show the model rewards of 0, as it was trained.
        random_map: Show the model each stream through a random map, as it was trained, and map its
            actions back.

    Attributes:
        playing: Which streams still play, ascending indices (B,).
        maps: The map of each stream; None for none.
    """

    def __init__(
        self,
        task: StreamTask,
        *,
        seed: int,
        make_batch: MakeBatch,
        crew: Crew | None = None,
        normalize: bool,
        mask_rewards: bool,
        random_map: bool = False,
    ) -> None:
        spec, size = task.spec, len(task.streams)
        self.task, self._seed = task, seed
        self._normalize, self._mask_rewards = normalize, mask_rewards
        self._running = RunningStatistics(task.statistics, size) if task.running else None
        self._moved_SO = np.zeros((size, spec.observation_dim), np.bool_)
        self._constant_O = np.flatnonzero(task.statistics.constant_observation)
        if not normalize:
            self._constant_O = self._constant_O[:0]
        self.maps: list[RandomMap] | None = None
        if random_map:
            self.maps = [
                stream_map(seed, task, stream, normalized=normalize) for stream in task.streams
            ]
        seeds = [stream_seed(seed, spec, stream) for stream in task.streams]
        self._copies: Copies = (
            LocalCopies(make_batch(spec, size, task.options, seeds))
            if crew is None or not task.apart
            else crew.make(spec, task.options, seeds)
        )
        self._low_A, self._high_A = self._copies.action_low_A, self._copies.action_high_A
        # What a copy is stepped with once its stream is over; within bounds, else without meaning.
        self._action_SA = np.tile(np.clip(np.float32(0), self._low_A, self._high_A), (size, 1))
        self._reward_ST = np.zeros((size, task.bound), np.float32)
        self._return_SE = np.zeros((size, task.shots), np.float64)
        self._length_SE = np.zeros((size, task.shots), np.int32)
        self._success_SE: NDArray[np.bool_] | None = None
        self._steps_S = np.zeros(size, np.int64)
        self._episode_S = np.zeros(size, np.int64)
        self._episode_step_S = np.zeros(size, np.int64)
        self._last_reward_S = np.zeros(size, np.float32)
        self._observation_SO = np.zeros((size, spec.observation_dim), np.float32)
        base = spec.variation_of or spec.name
        self._draws: list[np.random.Generator] = []
        if task.rewards == "shuffled":
            self._draws = [
                random_stream(seed, STAGE, base, each, "rewards") for each in task.streams
            ]
        self.playing = np.arange(size)
        self._starting = np.arange(0)
        self._ask_reset(self.playing)

    @property
    def group(self) -> str:
        """The model's group for the task."""
        return self.task.group

    @property
    def demonstrator_view(self) -> NDArray[np.float32]:
        """What a demonstrator sees of each copy, (S, O), also of those whose stream is over."""
        return self._copies.demonstrator_view(self._observation_SO)

    @property
    def fresh(self) -> NDArray[np.int64]:
        """Playing streams whose next step is the first of an episode; ascending indices."""
        return self.playing[self._episode_step_S[self.playing] == 0]

    @property
    def completed(self) -> NDArray[np.int64]:
        """Episodes that each stream has completed, (S,)."""
        return self._episode_S

    @property
    def action_bounds(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Lower and upper bound of each action dimension, (A,) each."""
        return self._low_A, self._high_A

    @property
    def steps(self) -> int:
        """Steps taken so far, over all streams."""
        return int(self._steps_S.sum())

    def write(self, tokens: Tokens) -> None:
        """Write what the model sees next into the places of the playing streams.

        Called once for each step: running statistics take every observation in once.
        """
        playing = self.playing
        observation_BO = self._observation_SO[playing]
        if len(self._constant_O):
            self._note_moved(observation_BO)
        if self._normalize and self._running is not None:
            observation_BO = self._running.normalize(playing, observation_BO)
        elif self._normalize:
            observation_BO = self.task.statistics.normalize_observation(observation_BO)
        action_BA = self._action_SA[playing]
        if self.maps is not None:
            for row, stream in enumerate(playing):
                self.maps[stream].apply(observation_BO[row], action_BA[row])
        tokens.observation_BO[...] = observation_BO
        tokens.previous_action_BA[...] = action_BA
        tokens.previous_reward_B[...] = self._last_reward_S[playing]
        tokens.episode_step_B[...] = self._episode_step_S[playing]

    def act(self, action_BA: NDArray[np.float32]) -> None:
        """Ask for one step of the model's actions.

        Raises:
            VintixError: An action is not a finite number.
        """
        if not np.isfinite(action_BA).all():
            raise self._not_finite(action_BA)
        if self.maps is not None:
            rows = zip(self.playing, action_BA, strict=True)
            action_BA = np.stack([self.maps[stream].executed(one) for stream, one in rows])
        self._action_SA[self.playing] = np.clip(action_BA, self._low_A, self._high_A)
        self._copies.ask_step(self._action_SA)

    def observe(self) -> bool:
        """Record the step that was asked for; return whether a stream has played its last."""
        playing, result = self.playing, self._copies.take_step()
        episode_B, reward_B = self._episode_S[playing], result.reward_B[playing]
        self._reward_ST[playing, self._steps_S[playing]] = reward_B
        self._return_SE[playing, episode_B] += reward_B
        self._length_SE[playing, episode_B] += 1
        if result.success_B is not None:
            if self._success_SE is None:
                self._success_SE = np.zeros(self._return_SE.shape, np.bool_)
            self._success_SE[playing, episode_B] |= result.success_B[playing]
        if not self._mask_rewards:
            shown_B = self._shown_rewards(reward_B)
            self._last_reward_S[playing] = self.task.statistics.scale_reward(shown_B)
        self._observation_SO[...] = result.observation_BO
        self._steps_S[playing] += 1
        self._episode_step_S += 1
        over_S = result.terminated_B | result.truncated_B
        return bool(over_S.any()) and self._end_episodes(over_S)

    def begin(self) -> None:
        """Take the first observations of the episodes that begin, if any do."""
        if len(self._starting):
            self._observation_SO[self._starting] = self._copies.take_reset()
            self._starting = self._starting[:0]

    def records(self) -> dict[int, StreamRecord]:
        """Return the record of each stream by its number."""
        return {
            stream: StreamRecord(
                reward_T=self._reward_ST[index, : self._steps_S[index]].copy(),
                episode_return_E=self._return_SE[index].copy(),
                episode_length_E=self._length_SE[index].copy(),
                success_E=None if self._success_SE is None else self._success_SE[index].copy(),
                moved=tuple(np.flatnonzero(self._moved_SO[index]).tolist()),
            )
            for index, stream in enumerate(self.task.streams)
        }

    def close(self) -> None:
        """Give back what the environments hold."""
        self._copies.close()

    def _shown_rewards(self, reward_B: NDArray[np.float64]) -> NDArray[Any]:
        """Return what the playing streams are shown in place of their latest rewards (B,)."""
        if self.task.rewards == "true":
            return reward_B
        if self.task.rewards == "zero":
            return np.zeros_like(reward_B)
        if self.task.rewards == "flipped":
            return -reward_B
        # The latest one is recorded already and may be drawn, too.
        steps = [
            int(self._draws[index].integers(self._steps_S[index] + 1)) for index in self.playing
        ]
        drawn_B: NDArray[Any] = self._reward_ST[self.playing, steps]
        return drawn_B

    def _note_moved(self, observation_BO: NDArray[np.float32]) -> None:
        from pipelines.model.normalization import float32_resolution

        mean_C = self.task.statistics.observation_mean[self._constant_O]
        distance_BC = np.abs(observation_BO[:, self._constant_O] - mean_C)
        # Rounding alone may take a value a few steps of float32 from the mean.
        moved_BC = distance_BC > 10 * float32_resolution(mean_C)
        self._moved_SO[np.ix_(self.playing, self._constant_O)] |= moved_BC

    def _end_episodes(self, over_S: NDArray[np.bool_]) -> bool:
        self._episode_S[over_S] += 1
        before = len(self.playing)
        self.playing = self.playing[self._episode_S[self.playing] < self.task.shots]
        if len(self.playing):
            # Copies whose stream is over go on beside the others, for a batch is stepped as a
            # whole; nobody looks at them.
            self._ask_reset(np.flatnonzero(over_S))
        return len(self.playing) < before

    def _ask_reset(self, copies: NDArray[np.int64]) -> None:
        seeds = [
            episode_seed(
                self._seed, self.task.spec, self.task.streams[copy], int(self._episode_S[copy])
            )
            for copy in copies
        ]
        self._copies.ask_reset(copies.tolist(), seeds)
        self._starting = copies
        self._episode_step_S[copies] = 0

    def _not_finite(self, action_BA: NDArray[np.float32]) -> VintixError:
        row = int(np.flatnonzero(~np.isfinite(action_BA).all(axis=1))[0])
        index = self.playing[row]
        return VintixError(
            "the model's action is not a finite number",
            where=f"task {self.task.spec.name}, stream {self.task.streams[index]}, "
            f"step {self._steps_S[index]}",
            expected="finite numbers",
            found=action_BA[row].tolist(),
            fix="train the checkpoint anew with a lower learning rate",
        )
