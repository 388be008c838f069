"""Algorithm 1 of the paper over a job of trajectories, recorded while it simulates.

    a_t = (1 - epsilon_t) pi(s_t) + epsilon_t u_t,   u_t uniform in the box of actions

Of discrete actions, u_t is played with probability epsilon_t in place of pi(s_t).

Noise is keyed by (seed, task, trajectory, shard) and episodes by (seed, task, trajectory,
episode), so a run that is resumed at a shard writes the bytes that an uninterrupted one writes.
An episode that crosses into the shard is simulated again from its seed with the recorded actions.
Where a goal is hidden, or tasks look alike, pi may act for another goal or task than the recorded
demonstrator (`pipelines.distill.demonstrators`).

Shapes: R rows of a shard, B trajectories of the job, O observation, A action.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipelines.distill.acting import Models
from pipelines.distill.buffers import ShardBuffer, ShardWriter
from pipelines.distill.demonstrators import Demonstrators, Informed, demonstrators_of
from pipelines.distill.job import EpisodeMark, Job, Position
from pipelines.distill.schedule import draw_level, noise_of_trajectory
from pipelines.errors import VintixError
from pipelines.histories.layout import trajectory_path
from pipelines.playing.episodes import Episode, Episodes
from pipelines.tasks.schedule import Decay, EpisodeNoise

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pipelines.domains.base import BatchEnvironment, StepBatch
    from pipelines.policies.base import Policy
    from pipelines.reporter import Advance
    from pipelines.rollout.acting import Agent

_REPORT_STEPS = 512


def collect_job(
    job: Job,
    environment: BatchEnvironment,
    policy: Policy,
    directory: Path,
    *,
    decoy: Policy | None = None,
    others: Mapping[str, Policy] | None = None,
    agent: Agent | None = None,
    position: Position | None = None,
    progress: Advance = lambda amount=1: None,
) -> None:
    """Collect what is left of a job; every (trajectory, shard) becomes a durable work item.

    Args:
        environment: As many copies of the task as the job has trajectories, checked
            (`pipelines.domains.checked`).
        policy: The demonstrator, for as many copies.
        directory: The staging directory.
        decoy: Another instance of the demonstrator, where there are decoys of goals.
        others: Demonstrators of other tasks, where there are decoys of tasks.
        agent: The model that plays; None where demonstrators or learners do.
        position: Where to go on; None for the beginning.
        progress: Told of environment steps as they are done.

    Raises:
        ConfigError: The task's goals do not fit the option ``goal``.
        ReplayError: A resumed episode came out differently; the job must be begun again.
        StorageError: A shard could not be written; those before it are kept.
        VintixError: The environment or the policy returned a number that is not finite.
    """
    position = position or Position.start(job)
    if position.shard >= job.shards:
        return
    demonstrators = (
        demonstrators_of(job, environment, policy, decoy, others or {})
        if agent is None
        else Models(job, environment, policy, agent)
    )
    collector = _Collector(job, environment, policy, demonstrators)
    collector.restore(position, directory)
    with ShardWriter(job, directory, position.durable) as writer:
        for shard in range(position.shard, job.shards):
            buffer = writer.begin(shard)
            collector.fill(buffer, progress)
            writer.submit(buffer)


class _Collector:
    """Plays a job and fills shards with what happens."""

    _buffer: ShardBuffer

    def __init__(
        self,
        job: Job,
        environment: BatchEnvironment,
        policy: Policy,
        demonstrators: Demonstrators,
    ) -> None:
        self._job, self._policy, self._demonstrators = job, policy, demonstrators
        self._view = environment.demonstrator_view
        self._actions = environment.actions
        self._epsilon_T = noise_of_trajectory(job.steps, job.schedule).astype(np.float32)
        self._level_B = np.ones(len(job.trajectories), np.float32)
        if job.training is not None:
            # A learner's own exploration is in its actions.
            self._level_B[:] = 0
        elif not isinstance(job.schedule, (Decay, EpisodeNoise)):
            for copy in range(len(job.trajectories)):
                self._level_B[copy] = draw_level(job.schedule, job.stream(copy, "level"))
        self._alike = isinstance(job.schedule, Decay) and isinstance(self._demonstrators, Informed)
        # By weak reference: a simulator and its megabytes have to go with the job, and not to wait
        # in a circle of references for the garbage collector.
        this = weakref.proxy(self)
        self._episodes = Episodes(
            environment,
            job.episode_seed,
            on_begin=partial(_Collector._begin, this),
            on_end=partial(_Collector._end, this),
            steps=job.steps,
        )

    def restore(self, position: Position, directory: Path) -> None:
        """Bring environment, policy and counters to the first step of a shard."""
        job, marks = self._job, position.marks
        here = position.shard * job.shard_rows
        demonstrators = self._demonstrators
        demonstrators.restore([mark.demonstrator for mark in marks])
        self._episodes.replay(
            here,
            [mark.episode for mark in marks],
            [mark.start for mark in marks],
            [_read_rows(directory, job, copy, mark, here) for copy, mark in enumerate(marks)],
            lambda observation_BO: demonstrators.act(observation_BO)[1],
            job.where,
            demonstrators.learn,
        )
        demonstrators.restore(None)

    def fill(self, buffer: ShardBuffer, progress: Advance) -> None:
        """Simulate one shard into a buffer."""
        job, episodes, self._buffer = self._job, self._episodes, buffer
        begin, end = job.shard_range(buffer.shard)
        epsilon_R = self._epsilon_T[begin:end]
        # One stream of noise for each trajectory.
        generators = [
            job.stream(copy, "noise", buffer.shard) for copy in range(len(job.trajectories))
        ]
        noise = buffer.rows["noise"][: end - begin]
        np.multiply(epsilon_R[:, None], self._level_B, out=noise)
        self._mix = self._actions.mixer(generators, epsilon_R if self._alike else noise)
        run = self._run if self._alike else self._run_each
        for first in range(0, end - begin, _REPORT_STEPS):
            last = min(first + _REPORT_STEPS, end - begin)
            run(buffer, first, last)
            progress((last - first) * len(job.trajectories))
        check_finite(job, buffer)
        buffer.marks = tuple(self._mark(copy) for copy in range(len(job.trajectories)))
        if end == job.steps:
            self._keep(episodes.cut())

    def _run(self, buffer: ShardBuffer, first: int, last: int) -> None:
        """Simulate a span of rows: the loop that decides the throughput.

        Bound methods and views are looked up once; at some 10 microseconds a step, each
        attribute counts.
        """
        rows, episodes = buffer.rows, self._episodes
        observations, actions = rows["observation"], rows["action"]
        experts, rewards = rows["demonstrator_action"], rows["reward"]
        act, view, mix, step = self._policy.act, self._view, self._mix, episodes.step
        for row in range(first, last):
            if episodes.beginning:
                episodes.begin()
            observation_BO = episodes.observation_BO
            observations[row] = observation_BO
            expert_BA = act(view(observation_BO))
            experts[row] = expert_BA
            actions[row] = action_BA = mix(row, expert_BA)
            rewards[row] = step(action_BA).reward_B

    def _run_each(self, buffer: ShardBuffer, first: int, last: int) -> None:
        """Do the same where copies differ in their noise, or demonstrators do not see all."""
        rows, episodes, demonstrators = buffer.rows, self._episodes, self._demonstrators
        by_episode = isinstance(self._job.schedule, EpisodeNoise)
        for row in range(first, last):
            episodes.begin()
            if by_episode:
                rows["noise"][row] = self._level_B
            rows["observation"][row] = observation_BO = episodes.observation_BO
            acted_BA, rows["demonstrator_action"][row] = demonstrators.act(observation_BO)
            rows["action"][row] = action_BA = self._mix(row, acted_BA)
            after = episodes.step(action_BA)
            rows["reward"][row] = after.reward_B
            demonstrators.learn(after)

    def _begin(self, copies: list[int], number_B: NDArray[np.int64]) -> None:
        job = self._job
        if isinstance(job.schedule, EpisodeNoise):
            for copy in copies:
                generator = job.stream(copy, "level", int(number_B[copy]))
                self._level_B[copy] = draw_level(job.schedule, generator)
        self._demonstrators.begin(copies, number_B, self._episodes.start_B)

    def _mark(self, copy: int) -> EpisodeMark:
        """Return which episode of a copy is in progress."""
        episodes = self._episodes
        number, start = int(episodes.number_B[copy]), int(episodes.start_B[copy])
        known = self._demonstrators.state(copy, beginning=start == episodes.now)
        return EpisodeMark(number, start, known)

    def _end(self, after: StepBatch, ended: list[Episode]) -> None:
        row = self._episodes.now - 1 - self._job.shard_range(self._buffer.shard)[0]
        self._buffer.rows["terminated"][row] = after.terminated_B
        self._buffer.rows["truncated"][row] = after.truncated_B
        self._keep(ended)

    def _keep(self, ended: list[Episode]) -> None:
        buffer = self._buffer
        for episode in ended:
            buffer.episodes[episode.copy].append(episode)
            player = self._demonstrators.player(episode.copy, episode.number)
            if player is not None:
                buffer.demonstrators[episode.copy].append(player)


def _read_rows(
    directory: Path, job: Job, copy: int, mark: EpisodeMark, stop: int
) -> dict[str, NDArray[np.float32]]:
    """Return what is staged of a trajectory's unfinished episode."""
    from pipelines.artifacts.schema import DATA
    from pipelines.artifacts.zarr_stores import open_staged

    if mark.start == stop:
        return {}
    path = trajectory_path(job.task.name, job.trajectories[copy])
    group = open_staged(directory / DATA, path)
    names = ("observation", "action", "demonstrator_action")
    return {name: np.asarray(group[name][mark.start : stop]) for name in names}  # type: ignore[index]


def check_finite(job: Job, buffer: ShardBuffer) -> None:
    """Check the numbers of a full shard.

    Raises:
        VintixError: One is not finite, or a discrete action is none of the task's.
    """
    begin, end = job.shard_range(buffer.shard)
    for name in ("observation", "demonstrator_action", "action", "reward"):
        values = buffer.rows[name][: end - begin]
        acts, expected = "action" in name, "finite numbers"
        if values.dtype.kind == "f":
            # A sum is finite only where all terms are, and needs no array of flags.
            if np.isfinite(values.sum(dtype=np.float64)):
                continue
            good = np.isfinite(values)
        else:
            good = (values >= 0) & (values < job.task.actions.width)
            expected = str(job.task.actions)
        bad = np.argwhere(~good)
        if len(bad):
            row, copy = int(bad[0][0]), int(bad[0][1])
            raise VintixError(
                f"{name} is not " + ("finite" if values.dtype.kind == "f" else "one of the task's"),
                where=job.where(copy, begin + row),
                expected=expected,
                found=values[row, copy].tolist(),
                fix="measure the demonstrator again: vintix demonstrators --evaluate"
                if acts
                else "scale what the environment returns: it has to fit into a float32",
            )
