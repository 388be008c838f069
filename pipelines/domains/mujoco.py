"""The 11 MuJoCo tasks of Gymnasium (v5), with gravity and viscosity that can be changed.

Both are set in the compiled model at run time. A rollout is then the same to the last bit as one of
a model with the value written in its XML, and a reset does not undo it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pipelines.domains.base import Domain, Options, OptionSpec
from pipelines.errors import MissingDependencyError, UsageError

if TYPE_CHECKING:
    import gymnasium

    from pipelines.policies.base import PolicySpec
    from pipelines.tasks.registry import Catalogue
    from pipelines.tasks.spec import TaskSpec

# Diagonal state costs (positions, velocities) by environment; angles weigh most because they end
# the episode.
_PENDULUM_COSTS: dict[str, tuple[str, tuple[float, ...]]] = {
    "InvertedPendulum-v5": ("identity", (1, 10, 0.1, 0.1)),
    "InvertedDoublePendulum-v5": ("double_pendulum", (1, 100, 100, 1, 1, 1)),
}
_CONTROL_COST = 0.1
_REACHER = "Reacher-v5"

DEFAULT = "default"
"""Value of an option that leaves the task as it is."""


def parse_gravity(value: Any) -> str:
    """Bring a gravity to its recorded form, a factor on the task's default vector.

    Args:
        value: A factor >= 0, as a number or as text with or without a trailing ``x`` (``1.1``,
            ``"1.1x"``), or ``default``.

    Returns:
        ``"1.1x"``, or ``"default"``.

    Raises:
        ValueError: It is no such factor; says what is expected.
    """
    expected = "a factor >= 0 on the default gravity, such as 1.1 or 1.1x, or default"
    number, _ = _split(value, expected)
    return DEFAULT if number is None else _factor(number)


def parse_viscosity(value: Any) -> str | float:
    """Bring a viscosity of the surrounding medium to its recorded form.

    Args:
        value: The viscosity in kg / (m s), >= 0; with a trailing ``x`` a factor on the task's
            default (which is 0 for all tasks but Swimmer, whose is 0.1); or ``default``.

    Returns:
        The value as a number, a factor as ``"2x"``, or ``"default"``.

    Raises:
        ValueError: It is neither; says what is expected.
    """
    expected = "a viscosity >= 0 such as 0.05, a factor on the default such as 2x, or default"
    number, is_factor = _split(value, expected)
    if number is None:
        return DEFAULT
    return _factor(number) if is_factor else number


#: The camera that goes along with the bodies that move away; the other models do not have it, and
#: are seen by a free one (metres and degrees) in place of Gymnasium's, which stand far off.
_TRACKING = "track"
_CAMERAS: Mapping[str, Mapping[str, Any]] = {
    "InvertedPendulum-v5": {"lookat": (0, 0, 0.25), "distance": 2.3, "elevation": -10.0},
    "InvertedDoublePendulum-v5": {"lookat": (0, 0, 0.5), "distance": 3.2, "elevation": -10.0},
    "Pusher-v5": {
        "lookat": (0.3, -0.2, -0.15),
        "distance": 1.8,
        "azimuth": 225.0,
        "elevation": -35,
    },
    "Reacher-v5": {"lookat": (0, 0, 0), "distance": 0.75, "elevation": -60.0},
}
#: What these have in place of lamps, which is a part of the picture alone.
_HEADLIGHT = {"ambient": 0.35, "diffuse": 0.6}

#: Steps a second of the bodies that are much slower than the others.
_SLOW = {"Ant-v5": 2_000.0, "Humanoid-v5": 1_500.0, "HumanoidStandup-v5": 1_500.0}

_PARSERS = {"gravity": parse_gravity, "viscosity": parse_viscosity}


class MuJoCo(Domain):
    """Gymnasium's 11 MuJoCo bodies and the paper's 44 variations of them (Appendix A.2.1)."""

    name = "mujoco"
    packages = ("gymnasium", "mujoco")
    steps_per_second = 8_000.0
    startup_seconds = 0.01
    changes = ("gravity", "viscosity")
    histories_figure, returns_figure = "Figure 13", "Figure 18"

    def rate_of(self, task: TaskSpec) -> float:
        """Return the steps a second of a task: bodies with many joints are slower."""
        return _SLOW.get(str(task.env_id), self.steps_per_second)

    def options(self) -> Sequence[OptionSpec]:
        """Return ``gravity`` and ``viscosity``."""
        gravity = "a factor on the task's gravity, such as 1.1 or 1.1x"
        viscosity = "the viscosity of the medium, such as 0.05; with a trailing x a factor"
        return (
            OptionSpec("gravity", DEFAULT, gravity, parse=parse_gravity),
            OptionSpec("viscosity", DEFAULT, viscosity, parse=parse_viscosity),
        )

    def make_env(self, task: TaskSpec, options: Options) -> gymnasium.Env[Any, Any]:
        """Make a task; an option that is not ``default`` wins over what a variation changes."""
        return self._make(task, options, {})

    def make_rendered_env(
        self, task: TaskSpec, options: Options, size: tuple[int, int] = (640, 480)
    ) -> gymnasium.Env[Any, Any]:
        """Make a task seen by its body's own camera; see `Domain.make_rendered_env`."""
        from pipelines.domains.opengl import prepare_opengl

        prepare_opengl()
        made = self._make(task, options, viewed(size))
        place_camera(made, task.env_id)
        return made

    def has_demonstrator(self, task: TaskSpec) -> bool:
        """Tell whether the task is one of the pendulums, or Reacher."""
        return task.env_id in _PENDULUM_COSTS or task.env_id == _REACHER

    def demonstrator(self, task: TaskSpec) -> PolicySpec | None:
        """Return `demonstrator_under` the default options."""
        return self.demonstrator_under(task, {})

    def demonstrator_under(self, task: TaskSpec, options: Options) -> PolicySpec | None:
        """Return linear-quadratic regulators for both pendulums, inverse kinematics for Reacher.

        The pendulums are linearised on the task's own physics.
        """
        from pipelines.policies.base import PolicySpec

        if task.env_id == _REACHER:
            from pipelines.policies.reacher import ReacherConfig

            return PolicySpec(kind="reacher", config=ReacherConfig().model_dump())
        if task.env_id not in _PENDULUM_COSTS:
            return None
        from pipelines.policies.lqr import lqr_gain

        features, costs = _PENDULUM_COSTS[task.env_id]
        env = self.make_env(task, options)
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
            # The last digits depend on the linear algebra library; a demonstrator's do not.
            arrays={"gain": gain_AS.round(9)},
        )

    def changed(
        self,
        tasks: Sequence[TaskSpec],
        values: Mapping[str, float],
        catalogue: Catalogue,
        *,
        chosen: bool,
    ) -> list[TaskSpec]:
        """Return the tasks with a factor on gravity, a viscosity, or both; see `Domain.changed`."""
        change: dict[str, float | str] = {
            name: _factor(value) if name == "gravity" else value for name, value in values.items()
        }
        suffix = "-".join(f"{name}-{value:g}" for name, value in values.items())
        return [_variation(task, change, suffix, catalogue) for task in tasks]

    def _make(
        self, task: TaskSpec, options: Options, view: Mapping[str, Any]
    ) -> gymnasium.Env[Any, Any]:
        changes = physics(task, options)
        try:
            from gymnasium.error import DependencyNotInstalled
            from gymnasium.wrappers import TimeLimit
        except ImportError as error:
            raise missing_mujoco(task, error) from error
        try:
            env = make_changed(task.env_id, changes, view)
        except DependencyNotInstalled as error:
            raise missing_mujoco(task, error) from error
        return TimeLimit(env, task.horizon)


def _variation(
    base: TaskSpec, change: Mapping[str, float | str], suffix: str, catalogue: Catalogue
) -> TaskSpec:
    if base.variation_of is not None:
        raise UsageError(
            f"task {base.name!r} is a variation already",
            where="--gravity, --viscosity",
            expected=f"its base task {base.variation_of!r}",
            found=base.name,
            fix=f"vintix rollout --task {base.variation_of}",
        )
    known = [spec for spec in catalogue.variations if spec.variation_of == base.name]
    for spec in known:
        if dict(spec.variation or {}) == dict(change):
            return spec
    # A body on which every listed gravity does nothing has none that this factor could change.
    reasons = {
        spec.inert_reason
        for spec in known
        if set(spec.variation or {}) == set(change) == {"gravity"}
    }
    return replace(
        base,
        name=f"{base.name}-{suffix}",
        aliases=(),
        split="validation",
        variation_of=base.name,
        variation=change,
        inert_reason=reasons.pop() if len(reasons) == 1 else None,
    )


def make_changed(
    env_id: str, changes: Mapping[str, str | float], view: Mapping[str, Any]
) -> gymnasium.Env[Any, Any]:
    """Make an environment of Gymnasium with changed physics, which its copies have, too.

    Args:
        changes: From `physics`.
        view: Further arguments of its class, about its pictures.
    """
    # Without the checks that `gymnasium.make` wraps around it, a few per cent of the time.
    env: Any = _class_of(env_id)(**view)
    env.made_by = (make_changed, (env_id, dict(changes), dict(view)))
    _apply(env.model.opt, changes)
    made: gymnasium.Env[Any, Any] = env
    return made


@functools.cache
def _class_of(env_id: str) -> type[Any]:
    import gymnasium
    from gymnasium.envs.registration import load_env_creator

    from pipelines.domains.remade import RemadeWhenCopied

    base: Any = load_env_creator(str(gymnasium.spec(env_id).entry_point))
    return type(base.__name__, (RemadeWhenCopied, base), {"__module__": __name__})


def viewed(size: tuple[int, int]) -> dict[str, Any]:
    """Return the arguments of a class of Gymnasium that have it draw pictures of a size."""
    view = {"camera_name": _TRACKING, "width": size[0], "height": size[1]}
    return {"render_mode": "rgb_array", **view}


def place_camera(env: gymnasium.Env[Any, Any], env_id: str) -> None:
    """Place the camera of an environment that is `viewed`, and light the scene, where needed."""
    made: Any = env.unwrapped
    if camera := _CAMERAS.get(env_id):
        made.mujoco_renderer.default_cam_config = camera_config(camera)
        for name, brightness in _HEADLIGHT.items():
            getattr(made.model.vis.headlight, name)[:] = brightness


def camera_config(camera: Mapping[str, Any]) -> dict[str, Any]:
    """Return a free camera as Gymnasium's renderer takes it: points as arrays."""
    import numpy as np

    return {
        name: np.array(value, dtype=float) if isinstance(value, tuple) else value
        for name, value in camera.items()
    }


def physics(task: TaskSpec, options: Options) -> dict[str, str | float]:
    """Return what differs from the model's own physics, in recorded form.

    Args:
        task: A task or a variation.
        options: Options of the domain; those left out are ``default``.

    Returns:
        Values of ``gravity`` and ``viscosity``, without those that stay as they are.

    Raises:
        UsageError: A value is not allowed.
    """
    changes: dict[str, str | float] = {}
    for source in (task.variation or {}, options):
        for name, value in source.items():
            parsed = _parse(task, name, value)
            if parsed != DEFAULT:
                changes[name] = parsed
    return changes


def _parse(task: TaskSpec, name: str, value: Any) -> str | float:
    if name not in _PARSERS:
        raise UsageError(
            f"MuJoCo tasks have no option {name!r}.",
            where=f"task {task.name}",
            expected=" or ".join(_PARSERS),
            found=name,
            fix=f"leave the option {name} out, or choose {' or '.join(_PARSERS)}",
        )
    try:
        return _PARSERS[name](value)
    except ValueError as error:
        raise UsageError(
            f"The {name} of a MuJoCo task cannot be {value!r}.",
            where=f"task {task.name}",
            expected=error,
            found=value,
            fix=f"leave the {name} out, or give another value",
        ) from error


def _apply(opt: Any, changes: Mapping[str, str | float]) -> None:
    for name, value in changes.items():
        if isinstance(value, str):
            setattr(opt, name, getattr(opt, name) * float(value.removesuffix("x")))
        else:
            setattr(opt, name, value)


def missing_mujoco(task: TaskSpec, error: Exception) -> MissingDependencyError:
    """Return the error of a task whose simulator is not installed."""
    return MissingDependencyError(
        "The MuJoCo simulator is not available.",
        where=f"task {task.name}",
        expected="the packages gymnasium and mujoco",
        found=error,
        fix="pip install gymnasium mujoco==3.3.0",
    )


def _split(value: Any, expected: str) -> tuple[float | None, bool]:
    """Return a number and whether it is a factor; no number for ``default``."""
    text = str(value).strip().casefold()
    if text == DEFAULT:
        return None, False
    try:
        number = float(text.removesuffix("x"))
    except ValueError:
        raise ValueError(expected) from None
    if isinstance(value, bool) or not math.isfinite(number) or number < 0:
        raise ValueError(expected)
    # Minus zero is zero, and is not to make a configuration of its own.
    return number + 0.0, text.endswith("x")


def _factor(number: float) -> str:
    return f"{int(number) if number.is_integer() else number}x"
