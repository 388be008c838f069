"""The 50 Meta-World tasks (v3) under the protocol of JAT and the paper; see `sawyer`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipelines.domains.base import BatchEnvironment, Domain, Options, OptionSpec
from pipelines.domains.goals import KNOWLEDGE, knowledge_of
from pipelines.errors import MissingDependencyError

if TYPE_CHECKING:
    import gymnasium

    from pipelines.domains.goals import HiddenGoals
    from pipelines.policies.base import PolicySpec
    from pipelines.tasks.spec import TaskSpec


#: Where pictures are seen from, in metres and degrees: from the side, a little behind the robot,
#: whose tasks have their fronts towards it. The package's own cameras stand askew (``corner3``),
#: or see the backs.
CAMERA = {"lookat": (0.05, 0.62, 0.17), "distance": 1.3, "azimuth": 160.0, "elevation": -30.0}


class MetaWorld(Domain):
    """Meta-World's 50 manipulation tasks: 100 steps, v2 reward, a fresh and hidden goal."""

    name = "metaworld"
    packages = ("gymnasium", "metaworld", "mujoco")
    steps_per_second = 2_500.0
    # Nearly all of it compiles the model.
    startup_seconds = 0.25
    histories_figure, returns_figure = "Figures 9 and 10", "Figures 14 and 15"

    def options(self) -> Sequence[OptionSpec]:
        """Return ``goal`` and ``goal_reset``."""
        return (
            OptionSpec(
                "goal",
                "hidden",
                "whether the last three observation entries show the goal or are zeros; "
                "demonstrator: zeros, but demonstrators see it; decoy, belief: the same, but while "
                "histories are collected demonstrators are shown another one",
                choices=("hidden", "visible", *KNOWLEDGE),
            ),
            OptionSpec(
                "goal_reset",
                "episode",
                "whether goal and objects are drawn anew for each episode, or once a trajectory",
                choices=("episode", "trajectory"),
            ),
        )

    def make_env(self, task: TaskSpec, options: Options) -> gymnasium.Env[Any, Any]:
        """Make a task.

        With ``goal_reset=trajectory`` the goal is drawn at each seeded reset and kept by the
        unseeded ones that follow.
        """
        return self._make(task, options, {})

    def make_rendered_env(
        self, task: TaskSpec, options: Options, size: tuple[int, int] = (640, 480)
    ) -> gymnasium.Env[Any, Any]:
        """Make a task seen from `CAMERA`; see `Domain.make_rendered_env`.

        The green dot is the goal, which pictures show also where the observation hides it.
        """
        from pipelines.domains.mujoco import camera_config
        from pipelines.domains.opengl import prepare_opengl

        prepare_opengl()
        view = {"render_mode": "rgb_array", "width": size[0], "height": size[1]}
        made: Any = self._make(task, options, view)
        made.mujoco_renderer.default_cam_config = camera_config(CAMERA)
        env: gymnasium.Env[Any, Any] = made
        return env

    def _make(
        self, task: TaskSpec, options: Options, view: Mapping[str, Any]
    ) -> gymnasium.Env[Any, Any]:
        env: gymnasium.Env[Any, Any] = _sawyer(task).make_sawyer(
            task.env_id,
            task.horizon,
            goal_visible=options.get("goal") == "visible",
            goal_fixed=options.get("goal_reset") == "trajectory",
            view=view,
        )
        return env

    def make_batch(
        self, task: TaskSpec, size: int, options: Options, stream_seeds: Sequence[int]
    ) -> BatchEnvironment:
        """Make copies of a task.

        With ``goal_reset=trajectory`` the goal of a copy is drawn from its stream seed, and its
        episodes, whatever their seeds, are about the same goal and objects.
        """
        envs = [self.make_env(task, options) for _ in range(size)]
        for env, seed in zip(envs, stream_seeds, strict=True):
            self.begin_stream(env, options, seed)
        from pipelines.domains.loop import LoopBatch

        batch = LoopBatch(envs)
        batch.hidden_goals = self._goals(task, envs, options)
        return batch

    def hidden_goals(self, task: TaskSpec, options: Options) -> HiddenGoals | None:
        """Return goals of no environment: all tasks have the same kind."""
        return self._goals(task, [], options)

    def _goals(
        self, task: TaskSpec, envs: Sequence[gymnasium.Env[Any, Any]], options: Options
    ) -> HiddenGoals | None:
        if (knowledge := knowledge_of(options)) is None:
            return None
        kept = options.get("goal_reset") == "trajectory"
        goals: HiddenGoals = _sawyer(task).SawyerGoals(envs, knowledge, kept=kept)
        return goals

    def begin_stream(self, env: gymnasium.Env[Any, Any], options: Options, seed: int) -> None:
        """Fix the goal with ``goal_reset=trajectory``; see `Domain.begin_stream`."""
        if options.get("goal_reset") == "trajectory":
            made: Any = env.unwrapped
            made.fix_goal(seed)

    def has_demonstrator(self, task: TaskSpec) -> bool:
        """Tell whether the package has a script for the task."""
        from pipelines.policies.metaworld_script import mean_goals

        return task.env_id in mean_goals()

    def demonstrator(self, task: TaskSpec) -> PolicySpec | None:
        """Return tuned phases or the stock script, whichever was measured to be better."""
        return self.demonstrator_under(task, {})

    def demonstrator_under(self, task: TaskSpec, options: Options) -> PolicySpec | None:
        """Return the `demonstrator`; its phases aim at the goal where demonstrators see it."""
        from pipelines.policies.metaworld_script import script_policy
        from pipelines.policies.phases import tuned_policy

        sees_goal = options.get("goal") in KNOWLEDGE
        tuned = tuned_policy(task.env_id, measured_better=True, sees_goal=sees_goal)
        return tuned or script_policy(task.env_id)

    def copies_are_separate(self, options: Options) -> bool:
        """Tell whether worker processes may hold the copies: not where demonstrators see more."""
        return options.get("goal") not in KNOWLEDGE


def _sawyer(task: TaskSpec) -> Any:
    """Return the module with the simulator."""
    try:
        from pipelines.domains import sawyer
    except ImportError as error:
        raise MissingDependencyError(
            "The Meta-World simulator is not available.",
            where=f"task {task.name}",
            expected="the packages metaworld 3.1.1 and mujoco 3.3.0",
            found=error,
            fix="pip install metaworld==3.1.1",
        ) from error
    return sawyer
