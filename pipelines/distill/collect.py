"""Algorithm 1 of the paper over a block of trajectories, recorded while it simulates.

    a_t = (1 - epsilon_t) pi(s_t) + epsilon_t u_t,   u_t uniform in the box of actions

Noise is keyed by (seed, task, trajectory, shard) and episodes by (seed, task, trajectory,
episode), so a run that is resumed at a shard writes the bytes that an uninterrupted one writes.
An episode that crosses into the shard is simulated again from its seed with the recorded actions.

Shapes: R rows of a shard, B trajectories of the block, O observation, A action.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipelines.distill.block import Block, EpisodeMark, Position, episode_seed
from pipelines.distill.buffers import Progress, ShardBuffer, ShardWriter
from pipelines.distill.schedule import noise_along
from pipelines.errors import VintixError
from pipelines.histories.layout import trajectory_path
from pipelines.rng import stream

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pipelines.domains.base import BatchEnvironment, StepBatch
    from pipelines.policies.base import Policy

_REPORT_STEPS = 512


class ReplayError(VintixError):
    """An environment did not repeat a recorded episode from its seed and actions."""


def collect_block(
    block: Block,
    environment: BatchEnvironment,
    policy: Policy,
    directory: Path,
    *,
    position: Position | None = None,
    progress: Progress = lambda steps: None,
) -> None:
    """Collect what is left of a block; every (trajectory, shard) becomes a durable unit.

    Args:
        block: What to collect.
        environment: As many copies of the task as the block has trajectories, checked
            (`pipelines.domains.checked`).
        policy: The demonstrator, for as many copies.
        directory: The staging directory.
        position: Where to go on; None for the beginning.
        progress: Told of environment steps as they are done.

    Raises:
        ReplayError: A resumed episode came out differently; the block must be begun again.
        StorageError: A shard could not be written; those before it are kept.
        VintixError: The environment or the policy returned a number that is not finite.
    """
    position = position or Position.start(block)
    if position.shard >= block.shards:
        return
    collector = _Collector(block, environment, policy, directory)
    collector.restore(position)
    with ShardWriter(block, directory, position.durable) as writer:
        for shard in range(position.shard, block.shards):
            buffer = writer.begin(shard)
            collector.fill(buffer, progress)
            writer.submit(buffer)


@dataclass(slots=True)
class _Running:
    """Episode in progress of one trajectory."""

    episode: int
    start: int


class _Collector:
    def __init__(
        self, block: Block, environment: BatchEnvironment, policy: Policy, directory: Path
    ) -> None:
        self._block, self._environment, self._policy = block, environment, policy
        self._directory = directory
        self._low_A, self._high_A = environment.action_low_A, environment.action_high_A
        size = len(block.trajectories)
        self._running = [_Running(0, 0) for _ in range(size)]
        self._returns_B = np.zeros(size, dtype=np.float64)
        self._observation_BO = np.zeros((size, environment.observation_dim), dtype=np.float32)
        self._epsilon_T = noise_along(block.steps, block.schedule).astype(np.float32)

    def restore(self, position: Position) -> None:
        """Bring environment, policy and counters to the first step of a shard.

        All copies step together, so shorter replays begin later: until its turn comes, a copy
        plays an episode that nobody records.
        """
        here = position.shard * self._block.shard_rows
        lengths = [here - mark.start for mark in position.marks]
        longest = max(lengths)
        everyone = list(range(len(lengths)))
        self._running = [_Running(mark.episode, mark.start) for mark in position.marks]
        self._observation_BO[:] = self._reset(everyone)
        if longest:
            self._replay(here, lengths, longest)

    def _replay(self, here: int, lengths: list[int], longest: int) -> None:
        recorded = [
            _Recorded(self._directory, self._block, index, here - length, here)
            for index, length in enumerate(lengths)
        ]
        size = len(lengths)
        idle_A = self._low_A + (self._high_A - self._low_A) / 2
        # Copies with the longest replay are reset already, and so is the policy's memory of them.
        for step in range(longest):
            starting = [i for i in range(size) if longest - lengths[i] == step and step > 0]
            if starting:
                self._observation_BO[starting] = self._reset(starting)
            action_BA = np.empty((size, len(self._low_A)), dtype=np.float32)
            for index, episode in enumerate(recorded):
                at = step - (longest - lengths[index])
                action_BA[index] = idle_A if at < 0 else episode.action[at]
                if at >= 0 and not np.array_equal(
                    episode.observation[at], self._observation_BO[index]
                ):
                    raise replay_error(self._block, index, self._running[index].start + at)
            self._policy.act(self._environment.demonstrator_view(self._observation_BO))
            result = self._environment.step(action_BA)
            np.copyto(self._observation_BO, result.observation_BO)
            ended_B = result.terminated_B | result.truncated_B
            waiting = [i for i in range(size) if step < longest - lengths[i]]
            for index in range(size):
                if index not in waiting:
                    self._returns_B[index] += result.reward_B[index]
                    if ended_B[index]:
                        raise replay_error(self._block, index, self._running[index].start + step)
            again = [i for i in waiting if ended_B[i]]
            if again:
                self._observation_BO[again] = self._reset(again)
        fresh = [i for i in range(size) if lengths[i] == 0]
        if fresh:
            self._observation_BO[fresh] = self._reset(fresh)

    def fill(self, buffer: ShardBuffer, progress: Progress) -> None:
        """Simulate one shard into a buffer."""
        begin, end = self._block.shard_range(buffer.shard)
        size = len(self._block.trajectories)
        keep_R = 1 - self._epsilon_T[begin:end]
        push_RBA = self._noise(buffer.shard, end - begin)
        push_RBA *= self._epsilon_T[begin:end, None, None]
        buffer.rows["noise"][: end - begin] = self._epsilon_T[begin:end, None]
        for first in range(begin, end, _REPORT_STEPS):
            last = min(first + _REPORT_STEPS, end)
            span = slice(first - begin, last - begin)
            self._run(buffer, first, begin, keep_R[span].tolist(), push_RBA[span])
            progress((last - first) * size)
        check_finite(self._block, buffer)
        buffer.marks = tuple(EpisodeMark(each.episode, each.start) for each in self._running)
        if end == self._block.steps:
            self._cut(buffer)

    def _run(
        self,
        buffer: ShardBuffer,
        first: int,
        begin: int,
        keeps: list[float],
        push_RBA: NDArray[np.float32],
    ) -> None:
        """Simulate a span of steps: the loop that decides the throughput.

        Bound methods and views are looked up once; at some 10 microseconds a step, each
        attribute counts.
        """
        rows = buffer.rows
        observations, actions = rows["observation"], rows["action"]
        experts, rewards = rows["demonstrator_action"], rows["reward"]
        act, step = self._policy.act, self._environment.step
        view = self._environment.demonstrator_view
        low_A, high_A, returns_B = self._low_A, self._high_A, self._returns_B
        multiply, minimum, maximum, float32 = np.multiply, np.minimum, np.maximum, np.float32
        observation_BO = self._observation_BO
        for row, (keep, push_BA) in enumerate(zip(keeps, push_RBA, strict=True), first - begin):
            observations[row] = observation_BO
            expert_BA = act(view(observation_BO))
            experts[row] = expert_BA
            # A new array each step: an environment may keep it, or work in place on it.
            action_BA = multiply(expert_BA, keep, dtype=float32)
            action_BA += push_BA
            # A convex mix of points of the box leaves it by a rounding at most.
            maximum(action_BA, low_A, out=action_BA)
            minimum(action_BA, high_A, out=action_BA)
            actions[row] = action_BA
            result = step(action_BA)
            observation_BO = result.observation_BO
            rewards[row] = result.reward_B
            returns_B += result.reward_B
            # A list of a few flags is searched in a fifth of the time that any() takes.
            if True in (result.terminated_B | result.truncated_B).tolist():
                observation_BO = self._turn(buffer, result, row, begin + row + 1)
        # Kept by value: the environment may reuse its array.
        self._observation_BO = np.array(observation_BO, dtype=np.float32)

    def _turn(
        self, buffer: ShardBuffer, result: StepBatch, row: int, now: int
    ) -> NDArray[np.float32]:
        """End the episodes that ended, begin the next ones, and return the observation."""
        buffer.rows["terminated"][row] = result.terminated_B
        buffer.rows["truncated"][row] = result.truncated_B
        ended = np.flatnonzero(result.terminated_B | result.truncated_B).tolist()
        observation_BO = np.array(result.observation_BO, dtype=np.float32)
        for index in ended:
            running = self._running[index]
            buffer.episodes[index].add(
                running.start,
                now,
                float(self._returns_B[index]),
                observation_BO[index].copy(),
            )
            self._running[index] = _Running(running.episode + 1, now)
        self._returns_B[ended] = 0.0
        if now < self._block.steps:
            observation_BO[ended] = self._reset(ended)
        return observation_BO

    def _cut(self, buffer: ShardBuffer) -> None:
        """List the episodes that the end of the trajectory cuts off."""
        for index, running in enumerate(self._running):
            if running.start < self._block.steps:
                buffer.episodes[index].add(
                    running.start,
                    self._block.steps,
                    float(self._returns_B[index]),
                    self._observation_BO[index].copy(),
                )

    def _reset(self, indices: list[int]) -> NDArray[np.float32]:
        block = self._block
        seeds = [
            episode_seed(
                block.seed,
                block.task.name,
                block.trajectories[index],
                self._running[index].episode,
            )
            for index in indices
        ]
        observation = self._environment.reset(indices, seeds)
        self._policy.reset(indices)
        self._returns_B[indices] = 0.0
        return observation

    def _noise(self, shard: int, rows: int) -> NDArray[np.float32]:
        """Draw u for a shard (R, B, A), uniform in the box, one stream for each trajectory."""
        noise_RBA = np.empty((rows, len(self._block.trajectories), len(self._low_A)), np.float32)
        for index, trajectory in enumerate(self._block.trajectories):
            generator = stream(
                self._block.seed, "distill", self._block.task.name, trajectory, "noise", shard
            )
            noise_RBA[:, index] = generator.random((rows, len(self._low_A)), dtype=np.float32)
        noise_RBA *= self._high_A - self._low_A
        noise_RBA += self._low_A
        return noise_RBA


class _Recorded:
    """Actions and observations of an unfinished episode, as staged."""

    def __init__(self, directory: Path, block: Block, index: int, start: int, stop: int) -> None:
        from pipelines.artifacts.schema import DATA
        from pipelines.artifacts.zarr_stores import open_staged

        path = trajectory_path(block.task.name, block.trajectories[index])
        group = open_staged(directory / DATA, path)
        self.action = np.asarray(group["action"][start:stop])  # type: ignore[index]
        self.observation = np.asarray(group["observation"][start:stop])  # type: ignore[index]


def replay_error(block: Block, index: int, step: int) -> ReplayError:
    """Return the error of a trajectory that did not come out as recorded.

    Args:
        block: Its block.
        index: Its place in the block.
        step: The step that differs.
    """
    return ReplayError(
        "the environment did not repeat a recorded episode",
        where=f"task {block.task.name}, trajectory {block.trajectories[index]}, step {step}",
        expected="the recorded observations for the same seed and actions",
        fix="the trajectories of this block have to be collected from their beginning",
    )


def check_finite(block: Block, buffer: ShardBuffer) -> None:
    """Check the numbers of a full shard.

    Raises:
        VintixError: One is not finite.
    """
    begin, end = block.shard_range(buffer.shard)
    for name in ("observation", "demonstrator_action", "action", "reward"):
        values = buffer.rows[name][: end - begin]
        # A sum is finite only where all terms are, and needs no array of flags.
        if np.isfinite(values.sum(dtype=np.float64)):
            continue
        bad = np.argwhere(~np.isfinite(values))
        if len(bad):
            row, index = int(bad[0][0]), int(bad[0][1])
            raise VintixError(
                f"{name} is not finite",
                where=f"task {block.task.name}, trajectory {block.trajectories[index]}, "
                f"step {begin + row}",
                expected="finite numbers",
                found=values[row, index].tolist(),
                fix="measure the demonstrator again: vintix demonstrators --evaluate"
                if "action" in name
                else "scale what the environment returns: it has to fit into a float32",
            )
