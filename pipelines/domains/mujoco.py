"""The 11 MuJoCo tasks of Gymnasium (v5), with gravity and viscosity that can be changed.

Both are set in the compiled model at run time. A rollout is then the same to the last bit as one of
a model with the value written in its XML, and a reset does not undo it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipelines.domains.base import Domain, Options, OptionSpec
from pipelines.errors import MissingDependencyError, UsageError

if TYPE_CHECKING:
    import gymnasium

    from pipelines.tasks.spec import TaskSpec

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
    if _is_default(value):
        return DEFAULT
    number, _ = _split(value, expected)
    return _factor(number)


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
    if _is_default(value):
        return DEFAULT
    number, is_factor = _split(value, expected)
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

_PARSERS = {"gravity": parse_gravity, "viscosity": parse_viscosity}


class MuJoCo(Domain):
    """Gymnasium's 11 MuJoCo bodies and the paper's 44 variations of them (Appendix A.2.1)."""

    name = "mujoco"
    packages = ("gymnasium", "mujoco")
    steps_per_second = 8_000.0
    startup_seconds = 0.01

    def tasks(self) -> Sequence[TaskSpec]:
        """Return the 11 tasks."""
        from pipelines.tasks.registry import catalogue

        return catalogue().select(domains=[self.name])

    def options(self) -> Sequence[OptionSpec]:
        """Return ``gravity`` and ``viscosity``."""
        return (
            OptionSpec(
                "gravity",
                DEFAULT,
                "a factor on the task's gravity, such as 1.1 or 1.1x",
                parse=parse_gravity,
            ),
            OptionSpec(
                "viscosity",
                DEFAULT,
                "the viscosity of the medium, such as 0.05; with a trailing x a factor",
                parse=parse_viscosity,
            ),
        )

    def make_env(self, task: TaskSpec, options: Options) -> gymnasium.Env[Any, Any]:
        """Make a task; an option that is not ``default`` wins over what a variation changes.

        Raises:
            MissingDependencyError: Gymnasium or MuJoCo is not installed.
            UsageError: An option has a value that is not allowed.
        """
        return self._make(task, options, {})

    def make_rendered_env(
        self, task: TaskSpec, options: Options, size: tuple[int, int] = (640, 480)
    ) -> gymnasium.Env[Any, Any]:
        """Make a task seen by its body's own camera; see `Domain.make_rendered_env`."""
        from pipelines.scenes.opengl import prepare_opengl

        prepare_opengl()
        made: Any = self._make(
            task,
            options,
            {
                "render_mode": "rgb_array",
                "camera_name": _TRACKING,
                "width": size[0],
                "height": size[1],
            },
        )
        if camera := _CAMERAS.get(task.env_id):
            made.unwrapped.mujoco_renderer.default_cam_config = camera_config(camera)
            for name, brightness in _HEADLIGHT.items():
                getattr(made.unwrapped.model.vis.headlight, name)[:] = brightness
        env: gymnasium.Env[Any, Any] = made
        return env

    def _make(
        self, task: TaskSpec, options: Options, view: Mapping[str, Any]
    ) -> gymnasium.Env[Any, Any]:
        changes = physics(task, options)
        try:
            from gymnasium.error import DependencyNotInstalled
            from gymnasium.wrappers import TimeLimit
        except ImportError as error:
            raise _missing(task, error) from error
        try:
            env = make_changed(task.env_id, changes, view)
        except DependencyNotInstalled as error:
            raise _missing(task, error) from error
        return TimeLimit(env, task.horizon)


def make_changed(
    env_id: str, changes: Mapping[str, str | float], view: Mapping[str, Any]
) -> gymnasium.Env[Any, Any]:
    """Make an environment of Gymnasium with changed physics, which its copies have, too.

    Args:
        env_id: Its id.
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
        )
    try:
        return _PARSERS[name](value)
    except ValueError as error:
        raise UsageError(
            f"The {name} of a MuJoCo task cannot be {value!r}.",
            where=f"task {task.name}",
            expected=error,
            found=value,
        ) from error


def _apply(opt: Any, changes: Mapping[str, str | float]) -> None:
    for name, value in changes.items():
        if isinstance(value, str):
            setattr(opt, name, getattr(opt, name) * float(value.removesuffix("x")))
        else:
            setattr(opt, name, value)


def _missing(task: TaskSpec, error: Exception) -> MissingDependencyError:
    return MissingDependencyError(
        "The MuJoCo simulator is not available.",
        where=f"task {task.name}",
        expected="the packages gymnasium and mujoco",
        found=error,
        fix="pip install gymnasium mujoco==3.3.0",
    )


def _is_default(value: Any) -> bool:
    return isinstance(value, str) and value.strip().casefold() == DEFAULT


def _split(value: Any, expected: str) -> tuple[float, bool]:
    text = str(value).strip().casefold()
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
