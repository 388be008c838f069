"""Tasks in which only reward tells the goal (docs/hidden-goal.md).

The goal of a copy is drawn from its stream seed, kept for all its episodes and never observed. The
tasks are beside those of the paper and belong to none of its tables. `batch` says what the
families have in common; they are `point`, `grid`, `bandit` and `simulated`. `policy` has the
demonstrators.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from importlib import resources
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from pipelines.domains.base import BatchEnvironment, Domain, Options, OptionSpec
from pipelines.domains.goals import KNOWLEDGE

if TYPE_CHECKING:
    import gymnasium
    import numpy as np

    from pipelines.domains.hidden_goal.batch import HiddenGoalBatch
    from pipelines.policies.base import PolicyBuilder, PolicySpec, RewardPolicy
    from pipelines.tasks.spec import TaskSpec

TASKS = "tasks.yaml"
_FAMILIES = {
    "point-dense": "point:DensePoints",
    "point-ring": "point:RingPoints",
    "dark-room": "grid:DarkRoom",
    "dark-key-to-door": "grid:DarkKeyToDoor",
    "bernoulli-bandit": "bandit:BernoulliBandit",
    "contextual-bandit": "bandit:ContextualBandit",
    "reacher-hidden": "simulated:HiddenReacher",
    "half-cheetah-velocity": "simulated:CheetahVelocity",
    "ant-direction": "simulated:AntDirection",
}
"""Module and class of each family."""


SIMULATED = {
    "reacher-hidden": 20_000.0,
    "half-cheetah-velocity": 12_000.0,
    "ant-direction": 2_500.0,
}
"""Families that MuJoCo simulates, and their steps a second; the others are NumPy alone."""


class HiddenGoal(Domain):
    """The domain plugin."""

    name = "hidden-goal"
    packages = ("numpy",)
    vectorized = True
    steps_per_second = 300_000.0
    startup_seconds = 0.01
    picture_steps = 20
    selected_by_default = False
    fixes_goals = True

    def tasks(self) -> Sequence[TaskSpec]:
        """Return the tasks of ``tasks.yaml``."""
        return _tasks()

    def rate_of(self, task: TaskSpec) -> float:
        """Return the steps a second of a task: bodies are much slower than points."""
        return SIMULATED.get(task.simulator["family"], self.steps_per_second)

    def options(self) -> Sequence[OptionSpec]:
        """Return ``goal`` and ``goals``."""
        return (
            OptionSpec(
                "goal",
                "demonstrator",
                "who is shown the goal: nobody (hidden), everybody (visible), or demonstrators, "
                "who while histories are collected may be shown another one (decoy, belief)",
                choices=("hidden", "visible", *KNOWLEDGE),
            ),
            OptionSpec(
                "goals",
                "training",
                "which goals are drawn: those of training, the fifth that is held out, or all",
                choices=("training", "held-out", "all"),
            ),
        )

    def make_env(self, task: TaskSpec, options: Options) -> gymnasium.Env[Any, Any]:
        """Make one task; each reset draws a goal from the episode's seed.

        With ``env.unwrapped.fix_goal(seed)`` all episodes have one.
        """
        from pipelines.domains.hidden_goal.batch import HiddenGoalEnv

        return HiddenGoalEnv(self._batch(task, options, [0]), task.name)

    def make_rendered_env(
        self, task: TaskSpec, options: Options, size: tuple[int, int] = (640, 480)
    ) -> gymnasium.Env[Any, Any]:
        """Make a task that draws its episode and the goal; see `Domain.make_rendered_env`."""
        from pipelines.domains.hidden_goal.batch import HiddenGoalEnv

        if task.simulator["family"] in SIMULATED:
            from pipelines.domains.opengl import prepare_opengl

            prepare_opengl()
        return HiddenGoalEnv(self._batch(task, options, [0], size), task.name, "rgb_array")

    def make_batch(
        self, task: TaskSpec, size: int, options: Options, stream_seeds: Sequence[int]
    ) -> BatchEnvironment:
        """Make copies of a task, whose goals are drawn from the stream seeds."""
        from pipelines.domains.hidden_goal.batch import BatchGoals

        batch = self._batch(task, options, stream_seeds)
        if options.get("goal") in KNOWLEDGE:
            batch.hidden_goals = BatchGoals(batch, options["goal"])
        return batch

    def _batch(
        self,
        task: TaskSpec,
        options: Options,
        stream_seeds: Sequence[int],
        picture_size: tuple[int, int] | None = None,
    ) -> HiddenGoalBatch:
        from gymnasium.error import DependencyNotInstalled

        from pipelines.domains.hidden_goal.batch import Setting

        family = resolve_name(f"{__name__}.{_FAMILIES[task.simulator['family']]}")
        setting = Setting(
            stream_seeds=stream_seeds,
            horizon=task.horizon,
            goals=options["goals"],
            visible=options["goal"] == "visible",
            picture_size=picture_size,
        )
        arms = {"arms": task.simulator["arms"]} if "arms" in task.simulator else {}
        try:
            batch: HiddenGoalBatch = family(setting, **arms)
        except DependencyNotInstalled as error:
            from pipelines.domains.mujoco import missing_mujoco

            raise missing_mujoco(task, error) from error
        return batch

    def begin_stream(self, env: gymnasium.Env[Any, Any], options: Options, seed: int) -> None:
        """Fix the goal; see `Domain.begin_stream`."""
        made: Any = env.unwrapped
        made.fix_goal(seed)

    def policies(self) -> Mapping[str, PolicyBuilder]:
        """Return the demonstrators."""
        from pipelines.domains.hidden_goal import policy

        return {
            policy.POINT: policy.build_to_goal,
            policy.CELL: policy.build_to_cell,
            policy.ARM: policy.build_best_arm,
        }

    def demonstrator(self, task: TaskSpec) -> PolicySpec | None:
        """Return the policy that does the best thing for the goal that it is shown, or None.

        For Reacher it is that of the domain mujoco; the other bodies have none.
        """
        from pipelines.policies.base import PolicySpec

        kind = task.simulator.get("demonstrator")
        return None if kind is None else PolicySpec(kind)

    def reward_policies(self, task: TaskSpec) -> tuple[str, ...]:
        """Return ``thompson`` and ``ucb`` for bandits."""
        from pipelines.domains.hidden_goal.reward_policies import REWARD_POLICIES

        return tuple(REWARD_POLICIES.get(task.simulator["family"], ()))

    def reward_policy(
        self, task: TaskSpec, name: str, generators: Sequence[np.random.Generator]
    ) -> RewardPolicy:
        """Make one of them; see `Domain.reward_policy`."""
        from pipelines.domains.hidden_goal.reward_policies import REWARD_POLICIES

        return REWARD_POLICIES[task.simulator["family"]][name](task.actions.width, generators)


@functools.cache
def _tasks() -> tuple[TaskSpec, ...]:
    from pipelines.tasks.loader import parse_domain

    text = (resources.files(__name__) / TASKS).read_text(encoding="utf-8")
    return parse_domain(text, f"hidden_goal/{TASKS}")
