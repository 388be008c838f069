"""Tasks that a process registers for itself: environments of a user's own, without a package.

They are known in the process that registered them. A worker process knows them where the module
that registers them is imported there too, as Python does with the main script of a spawned process.
Artifacts hold their names and no code; whoever plays them again registers them again.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipelines.domains.base import Domain, Options
from pipelines.errors import ConfigError, UsageError
from pipelines.policies.base import Policy, PolicyBuilder, PolicySpec
from pipelines.tasks.spec import TaskSpec

if TYPE_CHECKING:
    import gymnasium
    import numpy as np
    from numpy.typing import NDArray

    from pipelines.actions import ActionSpec

NAME = "registered"
"""The name of their domain."""

PROBE_STEPS = 100
"""Steps of its first episode by which a demonstrator is recognised."""

Make = Callable[..., "gymnasium.Env[Any, Any]"]
Act = Callable[["NDArray[np.float32]"], Any]


@dataclass(frozen=True)
class Registration:
    """A registered task.

    Attributes:
        make: Makes its environment; one of an id is given a render mode, too.
        named: Whether it was given as an id of Gymnasium.
        demonstrator: From an observation (O,) to an action; None where there is none.
    """

    task: TaskSpec
    make: Make
    named: bool
    demonstrator: Act | None

    @functools.cached_property
    def actions_digest(self) -> str:
        """SHA-256 of what the demonstrator does at the beginning of the episode of seed 0."""
        import numpy as np

        from pipelines.domains.checked import make_env

        env = make_env(Registered(), self.task, {})
        digest = hashlib.sha256()
        policy = FunctionPolicy(self, self.task.actions)
        observation, _ = env.reset(seed=0)
        for _ in range(PROBE_STEPS):
            action = policy.act(observation[None])[0]
            digest.update(np.ascontiguousarray(action).tobytes())
            observation, _, terminated, truncated, _ = env.step(action)
            if terminated or truncated:
                break
        env.close()
        return digest.hexdigest()


TASKS: dict[str, Registration] = {}
"""The registered tasks of this process by name; `registry.register_task` adds to it."""


def registration_of(
    name: str,
    env: str | Callable[[], gymnasium.Env[Any, Any]],
    demonstrator: Act | None,
    fields: Mapping[str, Any],
) -> Registration:
    """Return a registration whose dimensions, actions and horizon its environment tells.

    Args:
        name: The task's name.
        env: An id of Gymnasium, or what returns an environment.
        demonstrator: From an observation (O,) to an action; None where there is none.

    Raises:
        ConfigError: The environment is none that the stages can use, or a field is wrong.
        gymnasium.error.Error: There is no such id.
    """
    import gymnasium

    from pipelines.domains.loop import actions_of_space, check_spaces

    # What the checker of Gymnasium looks at is checked for every environment here.
    make: Make = (
        functools.partial(gymnasium.make, env, disable_env_checker=True)
        if isinstance(env, str)
        else env
    )
    where = f"task {name}"
    made = make()
    try:
        if not isinstance(made, gymnasium.Env):
            raise ConfigError(
                "What makes the environment of a registered task makes none.",
                where=where,
                expected="a gymnasium.Env",
                found=type(made).__name__,
                fix="give register_task an id of Gymnasium, or a function that returns an Env",
            )
        check_spaces(made, where)
        space: Any = made.observation_space
        known = {
            "group": name,
            "horizon": made.spec.max_episode_steps if made.spec else None,
            **fields,
        }
        if known["horizon"] is None:
            raise ConfigError(
                "How long an episode of a registered task may be is not known.",
                where=where,
                expected="a number of steps",
                fix="give register_task a horizon, such as horizon=200",
            )
        task = TaskSpec(
            name=name,
            domain=NAME,
            observation_dim=space.shape[0],
            actions=actions_of_space(made.action_space),
            env_id=env if isinstance(env, str) else "",
            **known,
        )
    finally:
        close = getattr(made, "close", None)
        if close is not None:
            close()
    return Registration(task, make, isinstance(env, str), demonstrator)


def not_registered(where: str | None = None) -> UsageError:
    """Return the error of a registered task in a process that has not registered it."""
    return UsageError(
        "The task is one that a program registers for itself, and this process has not.",
        where=where,
        expected="vintix.register_task, called before the task is used",
        fix="call it at the top of your script or module, where worker processes come by it too, "
        "or pass workers=1; for the command line make a package of the task: docs/domains.md",
    )


class FunctionPolicy(Policy):
    """A function of a user's that is called with each observation.

    Args:
        registration: The task whose demonstrator it is.
        actions: The task's; numbers of a box are kept within its bounds.

    Raises:
        UsageError: The task is registered without a demonstrator.
    """

    def __init__(self, registration: Registration, actions: ActionSpec) -> None:
        if registration.demonstrator is None:
            raise UsageError(
                "The task is registered without a demonstrator here.",
                where=f"task {registration.task.name}",
                fix="give register_task the demonstrator that the artifact was made with",
            )
        self._function, self._actions = registration.demonstrator, actions
        self._where = f"task {registration.task.name}"

    def act(self, observation_BO: NDArray[np.float32]) -> NDArray[Any]:
        """Return the action for each observation."""
        import numpy as np

        from pipelines.actions import Box

        found = [np.asarray(self._function(observation_O)) for observation_O in observation_BO]
        for action in found:
            if action.shape != self._actions.row_shape:
                raise ConfigError(
                    "The demonstrator of a registered task returned something else than an action.",
                    where=self._where,
                    expected=f"an array of shape {self._actions.row_shape}",
                    found=f"shape {action.shape}",
                )
        action_BA = np.stack(found).astype(self._actions.row_dtype)
        if isinstance(self._actions, Box):
            return np.clip(action_BA, *self._actions.bounds)
        return action_BA


class Registered(Domain):
    """The domain of all tasks that this process has registered."""

    name = NAME

    def tasks(self) -> Sequence[TaskSpec]:
        """Return them, in the order in which they came."""
        return [each.task for each in TASKS.values()]

    def make_env(self, task: TaskSpec, options: Options) -> gymnasium.Env[Any, Any]:
        """Make the environment of one."""
        return _find(task.name).make()

    def make_rendered_env(
        self, task: TaskSpec, options: Options, size: tuple[int, int] = (640, 480)
    ) -> gymnasium.Env[Any, Any]:
        """Make one that draws; an id of Gymnasium is given the render mode as it is made."""
        found = _find(task.name)
        if found.named:
            return found.make(render_mode="rgb_array")
        return super().make_rendered_env(task, options, size)

    def policies(self) -> Mapping[str, PolicyBuilder]:
        """Return how a demonstrator is found again by its task."""
        return {NAME: _build}

    def demonstrator(self, task: TaskSpec) -> PolicySpec | None:
        """Return the task's function, by the task's name and by what it does."""
        found = _find(task.name)
        if found.demonstrator is None:
            return None
        return PolicySpec(NAME, {"task": task.name, "actions_sha256": found.actions_digest})

    def has_demonstrator(self, task: TaskSpec) -> bool:
        """Tell whether there is one."""
        return _find(task.name).demonstrator is not None


def _find(name: str) -> Registration:
    found = TASKS.get(name)
    if found is None:
        raise not_registered(f"task {name}")
    return found


def _build(spec: PolicySpec, actions: ActionSpec) -> Policy:
    found = _find(spec.config["task"])
    policy = FunctionPolicy(found, actions)
    if found.actions_digest != spec.config["actions_sha256"]:
        raise ConfigError(
            "The demonstrator of a registered task does not act as the one that was measured.",
            where=f"task {found.task.name}",
            expected=f"actions with SHA-256 {spec.config['actions_sha256']}",
            found=found.actions_digest,
            fix=f"measure it again: vintix.demonstrators(tasks=({found.task.name!r},))",
        )
    return policy
