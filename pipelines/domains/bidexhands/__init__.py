"""Bi-DexHands (Chen et al. 2022): two Shadow hands, 20 tasks, on MuJoCo or on an Isaac Gym.

Paper: Table 4, Appendix A.2.3, Table 9. The reference runs on Isaac Gym, which is no longer
distributed; here its tasks are rebuilt on MuJoCo. `hand` has the hand as a table, `scene` builds a
model, `snapshot` reads its state and observes the hands, `tasks` have observations and rewards of
objects, `batch` steps it, `quirks` lists what is kept of the reference's oddities.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pipelines.domains.base import BatchEnvironment, Domain, Options, OptionSpec
from pipelines.domains.bidexhands.quirks import OPTIONS, Quirks
from pipelines.errors import UsageError

if TYPE_CHECKING:
    import gymnasium

    from pipelines.domains.bidexhands.tasks.base import HandTask
    from pipelines.policies.base import PolicyBuilder
    from pipelines.tasks.spec import TaskSpec


class BiDexHands(Domain):
    """The paper's 20 bimanual tasks (Table 4)."""

    name = "bidexhands"
    packages = ("gymnasium", "mujoco")
    steps_per_second = 2_000.0
    # Observations, rewards and the demonstrators' kinematics are computed for all copies at once:
    # ten of them make three times the steps of one.
    batched = True
    simulator_options = ("backend",)
    histories_figure, returns_figure = "Figure 11", "Figure 16"

    def options(self) -> Sequence[OptionSpec]:
        """Return the backend, and a switch for each oddity of the reference."""
        return OPTIONS

    def make_env(self, task: TaskSpec, options: Options) -> gymnasium.Env[Any, Any]:
        """Make a task.

        Raises:
            MissingDependencyError: MuJoCo is not installed, or Isaac Gym is asked for and not set
                up.
            UsageError: The reference is asked, on Isaac Gym, not to be itself.
        """
        if _on_isaac_gym(task, options):
            from pipelines.domains.isaacgym import make_isaac_env

            return make_isaac_env(task, options)
        return _hands_env(task, options)

    def copies_are_separate(self, options: Options) -> bool:
        """Return whether copies are simulated in this process; Isaac Gym's are not."""
        return options.get("backend") != "isaacgym"

    def make_rendered_env(
        self, task: TaskSpec, options: Options, size: tuple[int, int] = (640, 480)
    ) -> gymnasium.Env[Any, Any]:
        """Make a task that draws itself, on MuJoCo alone; see `Domain.make_rendered_env`."""
        if _on_isaac_gym(task, options):
            raise UsageError(
                "Pictures are drawn with MuJoCo.",
                where=f"task {task.name}",
                expected="--backend mujoco",
                found="isaacgym",
            )
        from pipelines.domains.opengl import prepare_opengl

        prepare_opengl()
        return _hands_env(task, options, "rgb_array", size)

    def make_batch(
        self, task: TaskSpec, size: int, options: Options, stream_seeds: Sequence[int]
    ) -> BatchEnvironment:
        """Make copies of a task; see `make_env`."""
        if _on_isaac_gym(task, options):
            from pipelines.domains.isaacgym import make_isaac_batch

            return make_isaac_batch(task, size, options, stream_seeds)
        made = _hand_task(task, options)
        from pipelines.domains.bidexhands.batch import HandsBatch

        return HandsBatch(made, size, task.horizon)

    def policies(self) -> Mapping[str, PolicyBuilder]:
        """Return the kind ``hand_waypoints``."""
        from pipelines.domains.bidexhands.policy import KIND, build_waypoints

        return {KIND: build_waypoints}


def _on_isaac_gym(task: TaskSpec, options: Options) -> bool:
    """Tell whether the backend is Isaac Gym; there, the reference is as it is."""
    if options.get("backend") != "isaacgym":
        return False
    for name, default in asdict(Quirks()).items():
        if options.get(name, default) != default:
            raise UsageError(
                f"Option {name} changes the tasks on MuJoCo; on Isaac Gym they are the "
                "reference's own.",
                where=f"task {task.name}",
                expected=f"{name}={default}",
                found=f"{name}={options[name]}",
                fix=f"leave --option {name} out, or --backend mujoco",
            )
    return True


def _hands_env(task: TaskSpec, options: Options, *view: Any) -> gymnasium.Env[Any, Any]:
    made = _hand_task(task, options)
    from pipelines.domains.bidexhands.batch import HandsEnv

    return HandsEnv(made, task.horizon, *view)


def _hand_task(task: TaskSpec, options: Options) -> HandTask:
    try:
        import gymnasium  # noqa: F401
        import mujoco  # noqa: F401
    except ImportError as error:
        from pipelines.domains.mujoco import missing_mujoco

        raise missing_mujoco(task, error) from error
    from pipelines.domains.bidexhands.tasks import make_task

    return make_task(task.env_id, Quirks.of(options))
