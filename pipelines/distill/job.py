"""A job of trajectories: what is collected together, and where a collection stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from pipelines.artifacts.row_arrays import balanced_rows
from pipelines.histories.layout import LEARNING_HISTORY, MODEL, shard_unit, trajectories_path
from pipelines.rng import Key, derive_seed, stream
from pipelines.rows import row_bytes

if TYPE_CHECKING:
    import numpy as np

    from pipelines.artifacts.work import StagedWork
    from pipelines.domains.base import BatchEnvironment
    from pipelines.learners.settings import TrainSettings
    from pipelines.tasks.schedule import Noise
    from pipelines.tasks.spec import TaskSpec

SHARD_BYTES = 64 << 20
"""Most bytes of one trajectory's shard, before compression."""

JOB_BYTES = 128 << 20
"""Most bytes of one shard over all trajectories of a job; a worker holds two of these."""

LEAST_TOGETHER = 64
"""Trajectories of a job that is made smaller to fit a shard: fewer would cost speed."""

RESUME_POINT = "rests"
"""Key in a shard's record: the learner whose history it is was written down after it."""


@dataclass(frozen=True, slots=True)
class TaskDecoys:
    """Whose demonstrators play in the histories of a task beside its own.

    Attributes:
        tasks: The tasks that a history draws from, in the catalogue's order.
    """

    tasks: tuple[str, ...]
    count: int

    def as_json(self) -> dict[str, Any]:
        """Return it as configurations and histories record it."""
        return {"tasks": list(self.tasks), "count": self.count}


@dataclass(frozen=True, slots=True)
class Job:
    """Trajectories of one task that are stepped together, as one batch.

    Which trajectories form a job follows from the configuration alone, never from scheduling:
    a batched matrix product may round differently in another batch size.

    Attributes:
        steps: Steps of each trajectory, T.
        shard_rows: Steps of a shard; the last one may be shorter.
        options: Values of all options of the domain.
        training: How the learner trains whose history the job is; None for noise distillation.
        part: Whether the job belongs to a part of a history, in which each trajectory has arrays of
            its own.
        decoys: Whose demonstrators play, too; None where nobody but the task's plays.
        checkpoint: Reference of the model that plays; None where demonstrators or learners do.
    """

    task: TaskSpec
    trajectories: tuple[int, ...]
    steps: int
    shard_rows: int
    schedule: Noise
    options: Mapping[str, Any]
    seed: int
    training: TrainSettings | None = None
    part: bool = False
    decoys: TaskDecoys | None = None
    checkpoint: str | None = None

    @property
    def origin(self) -> dict[str, Any]:
        """Who plays, as configurations and histories record it; empty for noise distillation."""
        if self.training is not None:
            return {"source": LEARNING_HISTORY, "train": self.training.result_json()}
        if self.checkpoint is not None:
            return {"source": MODEL, "checkpoint": self.checkpoint}
        return {}

    @property
    def together(self) -> bool:
        """Whether its trajectories are staged as one work item: several of one shard each.

        Thousands of short ones would else take longer to write than to simulate.
        """
        return self.shards == 1 and len(self.trajectories) > 1 and not self.part

    @property
    def shards(self) -> int:
        """Number of shards of each trajectory."""
        return -(-self.steps // self.shard_rows)

    @property
    def total_steps(self) -> int:
        """Environment steps over all trajectories."""
        return self.steps * len(self.trajectories)

    def shard_range(self, shard: int) -> tuple[int, int]:
        """Return the first step of a shard and the one after its last."""
        return shard * self.shard_rows, min((shard + 1) * self.shard_rows, self.steps)

    def make_environment(self) -> BatchEnvironment:
        """Make a copy of the task for each trajectory."""
        from pipelines.playing.environments import make_batch

        # For what an option fixes for a whole trajectory.
        seeds = [
            derive_seed(self.seed, "distill", self.task.name, trajectory, "stream")
            for trajectory in self.trajectories
        ]
        return make_batch(self.task, len(seeds), self.options, seeds)

    def episode_seed(self, copy: int, episode: int) -> int:
        """Return the seed of an episode of the trajectory at a place of the job."""
        return episode_seed(self.seed, self.task.name, self.trajectories[copy], episode)

    def stream(self, copy: int, *key: Key) -> np.random.Generator:
        """Return a generator of the trajectory at a place of the job, by what it is for."""
        trajectory = self.trajectories[copy]
        return stream(self.seed, "distill", self.task.name, trajectory, *key)

    def drawn_decoys(self, copy: int) -> list[int]:
        """Return which of the tasks of `decoys` play in the trajectory at a place of the job."""
        if self.decoys is None:
            return []
        among = len(self.decoys.tasks)
        found = self.stream(copy, "decoys").choice(among, self.decoys.count, replace=False)
        return [int(each) for each in found]

    def where(self, copy: int, step: int) -> str:
        """Return what an error says of a step of the trajectory at a place of the job."""
        return f"task {self.task.name}, trajectory {self.trajectories[copy]}, step {step}"

    @property
    def unit(self) -> str:
        """The unit of a job that is staged as one."""
        return trajectories_path(self.task.name, self.trajectories)

    def units(self) -> list[str]:
        """Return the units of all shards."""
        if self.together:
            return [self.unit]
        return [
            shard_unit(self.task.name, trajectory, shard)
            for trajectory in self.trajectories
            for shard in range(self.shards)
        ]


def episode_seed(seed: int, task: str, trajectory: int, episode: int) -> int:
    """Return the seed of an episode, by its number within a trajectory of a task."""
    return derive_seed(seed, "distill", task, trajectory, "episode", episode)


@dataclass(frozen=True, slots=True)
class EpisodeMark:
    """Which episode of a trajectory is in progress.

    Attributes:
        episode: Its number within the trajectory.
        start: Its first step.
        demonstrator: What its demonstrator knew when it began, as of
            `pipelines.distill.demonstrators`; None where that follows from the episode.
    """

    episode: int = 0
    start: int = 0
    demonstrator: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the mark as it is recorded."""
        known = {} if self.demonstrator is None else {"demonstrator": self.demonstrator}
        return {"episode": self.episode, "start": self.start, **known}


@dataclass(frozen=True, slots=True)
class Position:
    """Where the collection of a job goes on.

    Attributes:
        shard: First shard that some trajectory lacks.
        durable: Number of durable shards of each trajectory; those beyond `shard` are simulated
            again, for the sake of their neighbours, and not written again.
        marks: Episode in progress in each trajectory when `shard` begins.
    """

    shard: int
    durable: tuple[int, ...]
    marks: tuple[EpisodeMark, ...]

    @classmethod
    def start(cls, job: Job) -> Position:
        """Return the beginning."""
        count = len(job.trajectories)
        return cls(0, (0,) * count, (EpisodeMark(),) * count)


def find_position(staging: StagedWork, job: Job) -> Position:
    """Return where a job goes on after what is staged, and drop shards behind a gap.

    Shards are written in order, so a gap means that the disk lost one: what follows it would be
    swept away when the first shard of the trajectory makes its arrays anew.
    """
    if job.together:
        if not staging.done(job.unit):
            return Position.start(job)
        count = len(job.trajectories)
        return Position(1, (1,) * count, (EpisodeMark(),) * count)
    durable = []
    for trajectory in job.trajectories:
        unit = partial(shard_unit, job.task.name, trajectory)
        count = next((n for n in range(job.shards) if not staging.done(unit(n))), job.shards)
        for shard in range(count, job.shards):
            if staging.done(unit(shard)):
                staging.drop(unit(shard))
        # A learner is written down with the last shard that a segment fills; a segment that fills
        # several and was interrupted between them is recorded again.
        while (
            job.training
            and 0 < count < job.shards
            and not staging.data(unit(count - 1)).get(RESUME_POINT)
        ):
            count -= 1
            staging.drop(unit(count))
        durable.append(count)
    shard = min(durable)
    marks = tuple(
        EpisodeMark(**staging.data(shard_unit(job.task.name, trajectory, shard - 1))["next"])
        if shard
        else EpisodeMark()
        for trajectory in job.trajectories
    )
    return Position(shard, tuple(durable), marks)


def job_size(task: TaskSpec, steps: int, trajectories: int) -> int:
    """Return how many trajectories of a vectorised domain are stepped together.

    All of them, unless they are so many that one shard cannot hold them whole though it holds
    `LEAST_TOGETHER`: then as many as it does, so that they are staged together.
    """
    fitting = JOB_BYTES // (steps * row_bytes("histories", task.observation_dim, task.actions))
    if LEAST_TOGETHER <= fitting < trajectories:
        return balanced_rows(trajectories, fitting)
    return trajectories


def most_together(task: TaskSpec, steps: int, trajectories: int) -> int:
    """Return how many of so many trajectories of one shard each are collected as one job."""
    row = row_bytes("histories", task.observation_dim, task.actions)
    return balanced_rows(trajectories, max(1, JOB_BYTES // (steps * row)))


def shard_rows(task: TaskSpec, steps: int, size: int, most: int) -> int:
    """Return the steps of a shard, `most` at most, for `size` trajectories of so many steps."""
    row = row_bytes("histories", task.observation_dim, task.actions)
    by_bytes = min(SHARD_BYTES, JOB_BYTES // size) // row
    return balanced_rows(steps, max(1, min(most, by_bytes)))
