"""Bi-DexHands on a user's own Isaac Gym: the backend ``isaacgym`` (docs/isaac-gym.md).

Isaac Gym ends at Python 3.8, so a `worker` runs inside the user's own environment or container and
serves steps over a socket; `link` starts it and speaks to it, `batch` makes it look like any other
simulator. Nothing here imports Isaac Gym.

It has been tested against the worker's ``--fake`` mode, never against Isaac Gym itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import gymnasium

    from pipelines.domains.base import Options
    from pipelines.domains.isaacgym.batch import IsaacGymBatch
    from pipelines.tasks.spec import TaskSpec


def make_isaac_batch(
    task: TaskSpec, size: int, options: Options, stream_seeds: Sequence[int] = ()
) -> IsaacGymBatch:
    """Make copies of a task to be stepped together, as `Domain.make_batch` does.

    Args:
        options: ``copies_per_simulation`` is read, default 1; see `batch`.
        stream_seeds: Not used: nothing is fixed over a trajectory.

    Raises:
        MissingDependencyError: ``VINTIX_ISAACGYM`` is not set, or Isaac Gym is not there.
        IsaacGymError: The worker failed.
    """
    from pipelines.domains.isaacgym.batch import IsaacGymBatch
    from pipelines.domains.isaacgym.settings import IsaacGymSettings

    copies = int(options.get("copies_per_simulation", 1))
    return IsaacGymBatch(task, size, IsaacGymSettings.from_environment(), copies)


def make_isaac_env(task: TaskSpec, options: Options) -> gymnasium.Env[Any, Any]:
    """Make a plain Gymnasium environment, as `Domain.make_env` does; see `make_isaac_batch`."""
    from pipelines.domains.isaacgym.batch import IsaacGymEnv

    env = IsaacGymEnv(make_isaac_batch(task, 1, options))
    env.made_by = (make_isaac_env, (task, dict(options)))
    return env


def isaac_packages() -> dict[str, str]:
    """Return the versions of ``isaacgym`` and ``bidexhands`` and the device, for fingerprints.

    A worker is started for it, without a simulation; raises as `make_isaac_batch`. Where a batch is
    at hand, its ``packages`` say the same for nothing.
    """
    from pipelines.domains.isaacgym.batch import packages_of
    from pipelines.domains.isaacgym.link import Worker
    from pipelines.domains.isaacgym.settings import IsaacGymSettings

    settings = IsaacGymSettings.from_environment()
    worker = Worker(settings)
    try:
        worker.greet(None, 0)
        return packages_of(worker.greeting(), settings)
    finally:
        worker.stop()
