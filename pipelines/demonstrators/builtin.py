"""Demonstrators that need no training by who uses them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipelines.demonstrators.experts import expert_policy, has_expert
from pipelines.policies.base import PolicySpec

if TYPE_CHECKING:
    from pipelines.domains.base import Domain, Options
    from pipelines.policies.phases import TaskPhases
    from pipelines.tasks.spec import TaskSpec

# Diagonal state costs (positions, velocities) by environment; angles weigh most because they end
# the episode. Control costs 0.1.
_PENDULUM_COSTS: dict[str, tuple[str, tuple[float, ...]]] = {
    "InvertedPendulum-v5": ("identity", (1, 10, 0.1, 0.1)),
    "InvertedDoublePendulum-v5": ("double_pendulum", (1, 100, 100, 1, 1, 1)),
}
_CONTROL_COST = 0.1
_REACHER = "Reacher-v5"


def has_builtin(task: TaskSpec, domain: Domain) -> bool:
    """Tell whether `builtin_policy` gives one, without loading weights or an environment."""
    if has_expert(task) or domain.demonstrator(task) is not None:
        return True
    if domain.name == "mujoco":
        return task.env_id in _PENDULUM_COSTS or task.env_id == _REACHER
    return domain.name == "metaworld" and script_of(task) is not None


def builtin_policy(
    task: TaskSpec, domain: Domain, options: Options, *, trained: bool = True
) -> PolicySpec | None:
    """Return the demonstrator of a task that comes with the package, or None.

    A trained expert (`pipelines.demonstrators.experts`) comes first, being there only where it
    is better than what follows; then the domain's own; then linear-quadratic regulators for both
    pendulums (linearised on the task's own physics), inverse kinematics for Reacher, and for
    Meta-World the better, as measured, of tuned phases (`pipelines.policies.phases`) and the stock
    script.

    Args:
        task: The task, or a variation of one.
        domain: Its domain.
        options: Values of all options of the domain.
        trained: Whether trained experts count.
    """
    expert = expert_policy(task) if trained else None
    if expert is not None:
        return expert
    own = domain.demonstrator(task)
    if own is not None:
        return own
    if domain.name == "mujoco" and task.env_id in _PENDULUM_COSTS:
        return _regulator(task, domain, options)
    if domain.name == "mujoco" and task.env_id == _REACHER:
        from pipelines.policies.reacher import ReacherConfig

        return PolicySpec(kind="reacher", config=ReacherConfig().model_dump())
    if domain.name == "metaworld":
        sees_goal = options.get("goal", "hidden") == "demonstrator"
        return phases_of(task, measured_better=True, sees_goal=sees_goal) or script_of(task)
    return None


def base_policy(task: TaskSpec, options: Options) -> PolicySpec | None:
    """Return `builtin_policy` of a task, and for a variation that of its base task.

    Changed physics has no demonstrator of its own (paper, Appendix A.2.1).
    """
    from pipelines.domains.registry import domain_of, full_catalogue

    base = full_catalogue().get(task.variation_of) if task.variation_of else task
    return builtin_policy(base, domain_of(base), options)


def _regulator(task: TaskSpec, domain: Domain, options: Options) -> PolicySpec:
    from pipelines.demonstrators.lqr import lqr_gain
    from pipelines.domains.checked import make_env

    features, costs = _PENDULUM_COSTS[task.env_id]
    env = make_env(domain, task, options)
    try:
        # Values set at run time, such as a variation's gravity, are in the model after a reset.
        env.reset(seed=0)
        simulator: Any = env.unwrapped
        gain_AS = lqr_gain(
            simulator.model, simulator.init_qpos, simulator.frame_skip, costs, _CONTROL_COST
        )
    finally:
        env.close()
    return PolicySpec(
        kind="state_feedback",
        config={"features": features},
        # The solver's last digits depend on the linear algebra library; a demonstrator's do not.
        arrays={"gain": gain_AS.round(9)},
    )


def script_of(task: TaskSpec) -> PolicySpec | None:
    """Return the stock script of a Meta-World task, fed the mean goal; None for another task."""
    from pipelines.policies.metaworld_script import mean_goals

    goal = mean_goals().get(task.env_id)
    if goal is None:
        return None
    return PolicySpec(kind="metaworld_script", config={"script": task.env_id, "goal": list(goal)})


def phases_of(
    task: TaskSpec, *, measured_better: bool = False, sees_goal: bool = False
) -> PolicySpec | None:
    """Return the tuned phases of a Meta-World task, or None.

    Args:
        task: The task.
        measured_better: Only where they were measured to beat the stock script.
        sees_goal: Whether they are to aim at the episode's own goal, which the domain's option
            ``goal=demonstrator`` shows to them.
    """
    from pipelines.policies.phases import metaworld_phases

    tuned = metaworld_phases().get(task.env_id)
    if tuned is None or (measured_better and not tuned.better):
        return None
    return phases_spec(tuned, task, sees_goal=sees_goal)


def phases_spec(tuned: TaskPhases, task: TaskSpec, *, sees_goal: bool = False) -> PolicySpec:
    """Return a task's phases as a policy, with the task's mean goal where they need it."""
    from pipelines.policies.metaworld_script import mean_goals

    config = tuned.config(mean_goals()[task.env_id], sees_goal=sees_goal)
    told = config.model_dump(mode="json", exclude_none=True)
    if not config.sees_goal:
        # As policies were written down before there was the choice.
        del told["sees_goal"]
    return PolicySpec(kind="phases", config=told)
