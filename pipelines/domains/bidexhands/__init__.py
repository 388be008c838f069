"""Bi-DexHands (Chen et al. 2022): two Shadow hands, 20 tasks, on MuJoCo or on an Isaac Gym.

Paper: Table 4, Appendix A.2.3, Table 9. The reference runs on Isaac Gym, which is no longer
distributed; here its tasks are rebuilt on MuJoCo. `hand` has the hand as a table, `scene` builds a
model, `snapshot` reads its state, `observation` and `tasks` make observations and rewards of it,
`batch` and `environment` step it, `quirks` lists what is kept of the reference's oddities.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipelines.domains.base import BatchEnvironment, Domain, Options, OptionSpec
from pipelines.errors import MissingDependencyError

if TYPE_CHECKING:
    import gymnasium

    from pipelines.domains.bidexhands.tasks.base import HandTask
    from pipelines.policies.base import PolicyBuilder
    from pipelines.tasks.spec import TaskSpec


class BiDexHands(Domain):
    """The paper's 20 bimanual tasks (Table 4)."""

    name = "bidexhands"
    packages = ("gymnasium", "mujoco")
    steps_per_second = 1_500.0
    simulator_options = ("backend",)

    def tasks(self) -> Sequence[TaskSpec]:
        """Return the 20 tasks."""
        from pipelines.tasks.registry import catalogue

        return catalogue().select(domains=[self.name])

    def options(self) -> Sequence[OptionSpec]:
        """Return the backend, and a switch for each oddity of the reference."""
        from pipelines.domains.bidexhands.quirks import OPTIONS

        return OPTIONS

    def make_env(self, task: TaskSpec, options: Options) -> gymnasium.Env[Any, Any]:
        """Make a task.

        Raises:
            MissingDependencyError: MuJoCo is not installed, or Isaac Gym is asked for and not set
                up.
        """
        made = _hand_task(task, options)
        from pipelines.domains.bidexhands.environment import HandsEnv

        return HandsEnv(made, task.horizon)

    def make_batch(
        self, task: TaskSpec, size: int, options: Options, stream_seeds: Sequence[int]
    ) -> BatchEnvironment:
        """Make copies of a task; see `make_env`."""
        made = _hand_task(task, options)
        from pipelines.domains.bidexhands.batch import HandsBatch

        return HandsBatch(made, size, task.horizon)

    def policies(self) -> Mapping[str, PolicyBuilder]:
        """Return the kind ``hand_waypoints``."""
        from pipelines.domains.bidexhands.policy import KIND, build_waypoints

        return {KIND: build_waypoints}


def _hand_task(task: TaskSpec, options: Options) -> HandTask:
    try:
        import gymnasium  # noqa: F401
        import mujoco  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            "The MuJoCo simulator is not available.",
            where=f"task {task.name}",
            expected="the packages gymnasium and mujoco",
            found=error,
            fix="pip install gymnasium mujoco==3.3.0",
        ) from error
    from pipelines.domains.bidexhands.quirks import Quirks
    from pipelines.domains.bidexhands.tasks import make_task

    return make_task(task.env_id, Quirks.of(options))
