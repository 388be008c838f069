"""Every task as a plain Gymnasium environment: ``gymnasium.make("vintix/hopper", gravity=1.1)``.

Gymnasium 1.0 gave up plugins, so that ids have to be registered by an import, as for any other
package. ``import pipelines.domains.gym`` does it, and so does the id itself when it names the
module: ``gymnasium.make("pipelines.domains.gym:vintix/hopper")``. An `EnvSpec`, as data sets keep
it, names the module that makes it and needs neither. Registering reads the catalogue and imports
no simulator.
"""

from __future__ import annotations

from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec

from pipelines.domains.base import Options
from pipelines.domains.checked import make_env
from pipelines.domains.registry import domain_of, full_catalogue, resolve_options
from pipelines.tasks.spec import TaskSpec

NAMESPACE = "vintix"


def register() -> None:
    """Register ``vintix/<task>`` for all tasks and variations; again is of no consequence.

    Keyword arguments of `gymnasium.make` are the options of the task's domain. An episode ends at
    the horizon by itself; the limit is in Gymnasium's spec for those who look it up there.
    """
    known = full_catalogue()
    for task in (*known.tasks, *known.variations):
        spec = environment_spec(task, {})
        if spec.id not in gymnasium.registry:
            gymnasium.register(
                spec.id,
                entry_point=spec.entry_point,
                max_episode_steps=spec.max_episode_steps,
                kwargs=spec.kwargs,
            )


def environment_spec(task: TaskSpec, options: Options) -> EnvSpec:
    """Return what `gymnasium.make` needs to make a task, in a process that has imported nothing."""
    return EnvSpec(
        f"{NAMESPACE}/{task.name}",
        entry_point=f"{__name__}:make",
        max_episode_steps=task.horizon,
        kwargs={**options, "task": task.name},
    )


def make(task: str, render_mode: str | None = None, **options: Any) -> gymnasium.Env[Any, Any]:
    """Make a task's environment as the stages run it: seeds, limits, float32 observations.

    Args:
        task: A task's name or alias.
        render_mode: Of Gymnasium; a mode that the simulator does not have is left out, since
            Stable-Baselines3 asks for ``rgb_array`` whatever it makes.

    Raises:
        UsageError: The task, an option or its value is not known.
        MissingDependencyError: The simulator is not there.
    """
    spec = full_catalogue().get(task)
    domain = domain_of(spec)
    env = make_env(domain, spec, resolve_options(domain, options))
    if render_mode in env.metadata.get("render_modes", ()):
        env.unwrapped.render_mode = render_mode
    return env


register()
