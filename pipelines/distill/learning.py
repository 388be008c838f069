"""Real learning histories: a learner that trains from scratch, recorded while it does.

The data of the original Algorithm Distillation (Laskin et al. 2022, arXiv:2210.14215), in the
layout of a noise-distilled history. What follows is of the learners of Stable-Baselines3; small
ones (`pipelines.learners.steps`) learn side by side, and are recorded as demonstrators are
(`pipelines.distill.collect`).

A run goes by segments, as the training of a demonstrator does: its learner is saved at the end
of each, and the next segment begins with it and with random streams keyed by the step that it
begins at, whether or not the run was interrupted. The episode in progress goes on; a resumed run
simulates it again from its seed with the recorded actions. Segments end where the learner does
(on-policy, after its rollout), shards after their number of rows: a segment fills at least one,
and carries what is left into the next.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.artifacts.row_arrays import balanced_rows
from pipelines.distill.job import RESUME_POINT, EpisodeMark, Job, Position
from pipelines.errors import ConfigError, VintixError
from pipelines.histories.layout import LEARNING_HISTORY, trajectory_path
from pipelines.learners.settings import (
    EPISODE_LEARNERS,
    HISTORY_LEARNERS,
    check_learner,
    history_learners,
    segment_length,
)
from pipelines.rng import derive_seed
from pipelines.rows import HISTORY_ROWS

if TYPE_CHECKING:
    import zarr
    from numpy.typing import NDArray

    from pipelines.distill.buffers import ShardWriter
    from pipelines.distill.config import DistillConfig
    from pipelines.distill.recorder import Recorder
    from pipelines.domains.base import BatchEnvironment
    from pipelines.learners.settings import TrainSettings
    from pipelines.policies.base import Policy
    from pipelines.reporter import Advance
    from pipelines.tasks.spec import TaskSpec


PACKAGES = ("sb3-contrib", "stable-baselines3", "torch")
"""Distributions whose versions are recorded with a learning history."""

_LEARNER, _TRANSITION, _CARRIED = "learner", "transition_", "carried_"
_SECTION = "distill.train"


def training_settings(config: DistillConfig, task: TaskSpec, steps: int) -> TrainSettings | None:
    """Return how the learner of a task trains; None for noise distillation.

    Args:
        steps: Steps of each trajectory, which is the length of the training.

    Raises:
        ConfigError: The learner has no history of this kind, its length is another one, or it does
            not learn actions of the task's kind.
    """
    if config.source != LEARNING_HISTORY:
        return None
    settings = config.train
    if settings.algorithm in EPISODE_LEARNERS:
        fitting = history_learners(task)
        raise ConfigError(
            f"{settings.algorithm}, a search over whole episodes, has no learning history: its "
            "many candidates, side by side, are no single trajectory of a learner",
            where=f"{_SECTION}.algorithm",
            expected=", ".join(fitting) or "another source",
            found=settings.algorithm,
            fix=f"vintix distill --set {_SECTION}.algorithm={fitting[0]}"
            if fitting
            else "vintix distill --source noise",
        )
    check_learner(settings, task, _SECTION)
    if settings.algorithm in HISTORY_LEARNERS and settings.segment_steps is not None:
        raise ConfigError(
            f"the learner {settings.algorithm} has no segments",
            where=f"{_SECTION}.segment_steps",
            expected="none: it is trained in one go",
            found=settings.segment_steps,
            fix="leave it out",
        )
    if "total_steps" in settings.model_fields_set and settings.total_steps != steps:
        raise ConfigError(
            "the length of a training is that of its trajectory",
            where=f"{_SECTION}.total_steps, task {task.name}",
            expected=f"{steps}, or no total_steps at all",
            found=settings.total_steps,
            fix=f"vintix distill --steps {settings.total_steps}",
        )
    return settings.model_copy(update={"total_steps": steps})


def training_rows(settings: TrainSettings) -> int:
    """Return the steps of a shard: a segment's, so that each shard ends near a resume point.

    Learners without segments have the whole trajectory in one.
    """
    if settings.algorithm in HISTORY_LEARNERS:
        return settings.total_steps
    return balanced_rows(settings.total_steps, segment_length(settings))


def record_training(
    job: Job,
    environment: BatchEnvironment,
    demonstrator: Policy,
    directory: Path,
    *,
    position: Position | None = None,
    progress: Advance = lambda amount=1: None,
) -> None:
    """Train from scratch, or go on, and record every step; each shard becomes a durable unit.

    Args:
        job: One trajectory, with its training.
        environment: One copy of the task, checked.
        demonstrator: Whose action is recorded beside the learner's.
        directory: The staging directory.
        position: Where to go on; None for the beginning.
        progress: Told of environment steps as they are done.

    Raises:
        ConfigError: A hyperparameter is unknown or not valid, or the environment does not fit.
        ReplayError: A resumed episode came out differently; the job must be begun again.
        StorageError: A shard could not be written; those before it are kept.
        VintixError: The training broke down, or a number is not finite.
    """
    from pipelines.distill.buffers import ShardWriter
    from pipelines.distill.recorder import Recorder
    from pipelines.learners.settings import one_thread

    settings = job.training
    if settings is None:
        raise ValueError("the job is of noise distillation")
    position = position or Position.start(job)
    shard, mark = position.shard, position.marks[0]
    if shard >= job.shards:
        return
    dumped, carried = _read_resume_point(job, directory, shard)
    first = _first_kept(job, shard, mark)
    recorder = Recorder(job, environment, demonstrator, mark, first, carried, progress)
    with one_thread(settings), ShardWriter(job, directory, position.durable) as writer:
        while shard < job.shards:
            shard, dumped = _train_segment(
                job, directory, settings, recorder, shard, dumped, writer
            )


def _train_segment(
    job: Job,
    directory: Path,
    settings: TrainSettings,
    recorder: Recorder,
    shard: int,
    dumped: bytes | None,
    writer: ShardWriter,
) -> tuple[int, bytes | None]:
    """Train until a shard is full, and make what was recorded durable.

    Returns:
        The next shard to fill, and the learner's state; None where the trajectory is complete.
    """
    from pipelines.distill.recorder import TrajectoryComplete
    from pipelines.learners.sb3 import Learner

    begin = recorder.total
    # Keyed by the step: the state is all that a segment takes from those before it.
    key = ("distill", job.task.name, job.trajectories[0], "learner", begin)
    seed = derive_seed(job.seed, *key)
    learner = Learner(settings, job.task, lambda: recorder, seed, _SECTION)
    try:
        if dumped is not None:
            learner.load(dumped)
            for transitions in _transitions(job, directory, shard):
                learner.load_transitions(transitions)
        recorder.resume()
        try:
            learner.learn(job.shard_range(shard)[1])
        except TrajectoryComplete:
            _write_shards(job, recorder, shard, job.shards, writer, None)
            return job.shards, None
        if learner.steps != recorder.total:
            raise VintixError(
                "the learner's count of steps is not that of its environment",
                where=f"task {job.task.name}, trajectory {job.trajectories[0]}",
                expected=recorder.total,
                found=learner.steps,
            )
        dumped = learner.dump()
        state = {_LEARNER: np.frombuffer(dumped, dtype=np.uint8)}
        for name, values in learner.dump_transitions(begin).items():
            state[_TRANSITION + name] = values
    finally:
        learner.close()
    following = recorder.total // job.shard_rows
    _write_shards(job, recorder, shard, following, writer, state)
    recorder.forget(_first_kept(job, following, recorder.mark))
    return following, dumped


def _write_shards(
    job: Job,
    recorder: Recorder,
    shard: int,
    stop: int,
    writer: ShardWriter,
    state: dict[str, NDArray[Any]] | None,
) -> None:
    """Write shards `shard` to `stop` - 1 and, with the last of them, what a resumed run needs."""
    from pipelines.distill.collect import check_finite

    for number in range(shard, stop):
        buffer = writer.begin(number)
        begin, end = job.shard_range(number)
        for name, rows in recorder.rows.items():
            recorded = rows[begin - recorder.first : end - recorder.first]
            buffer.rows[name][: end - begin, 0] = recorded
        buffer.marks = (recorder.mark,)
        if number == stop - 1:
            buffer.episodes = [recorder.take_episodes()]
            if state is not None:
                kept = _first_kept(job, stop, recorder.mark) - recorder.first
                carried = {
                    _CARRIED + name: rows[kept : recorder.filled]
                    for name, rows in recorder.rows.items()
                }
                buffer.data, buffer.scratch = {RESUME_POINT: True}, {**state, **carried}
        check_finite(job, buffer)
        writer.submit(buffer)
    # The next segment reads the transitions back.
    writer.wait()


def _first_kept(job: Job, shard: int, mark: EpisodeMark) -> int:
    """Return the first step that is still needed: of a shard to be filled, or to be replayed."""
    return min(job.shard_range(shard)[0], mark.start)


def _read_resume_point(
    job: Job, directory: Path, shard: int
) -> tuple[bytes | None, dict[str, NDArray[Any]]]:
    """Return the learner's state and the rows that go before a shard; nothing at the beginning."""
    if shard == 0:
        return None, {}
    group: Any = _scratch(job, directory, shard - 1)
    carried = {name: np.asarray(group[_CARRIED + name][...]) for name in HISTORY_ROWS}
    return np.asarray(group[_LEARNER][...]).tobytes(), carried


def _transitions(job: Job, directory: Path, shards: int) -> Iterator[dict[str, NDArray[Any]]]:
    """Yield the transitions of each segment so far, in order; none on-policy."""
    for shard in range(shards):
        group: Any = _scratch(job, directory, shard)
        names = [name for name in group.array_keys() if name.startswith(_TRANSITION)]
        if names:
            yield {name.removeprefix(_TRANSITION): np.asarray(group[name][...]) for name in names}


def _scratch(job: Job, directory: Path, shard: int) -> zarr.Group:
    from pipelines.artifacts.work import SCRATCH
    from pipelines.artifacts.zarr_stores import open_staged

    path = f"{trajectory_path(job.task.name, job.trajectories[0])}/{shard:05d}"
    return open_staged(directory / SCRATCH, path)
