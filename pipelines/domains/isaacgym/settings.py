"""Where Isaac Gym is and how long it may take: ``VINTIX_ISAACGYM`` and its companions.

They belong to the machine, not to a run's configuration: what changes a result (the device and the
versions) is reported by the worker and goes into fingerprints.
"""

from __future__ import annotations

import math
import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from pipelines.domains.isaacgym.worker import TOKEN_VARIABLE
from pipelines.errors import MissingDependencyError, UsageError, VintixError

LAUNCH = "VINTIX_ISAACGYM"
DEVICE = "VINTIX_ISAACGYM_DEVICE"
STARTUP_SECONDS = "VINTIX_ISAACGYM_STARTUP_SECONDS"
STEP_SECONDS = "VINTIX_ISAACGYM_STEP_SECONDS"
ARGUMENTS = "VINTIX_ISAACGYM_ARGS"
PAGE = "docs/isaac-gym.md"
FORMS = "python:/path/to/python3.8, conda:ENV, docker:IMAGE, podman:IMAGE or connect:HOST:PORT"


class IsaacGymError(VintixError):
    """The simulator behind a worker failed, is of another version, or does not answer."""

    exit_code = 5


@dataclass(frozen=True)
class IsaacGymSettings:
    """How workers are started and waited for.

    Attributes:
        kind: ``python``, ``conda``, ``docker``, ``podman`` or ``connect``.
        target: Path of the interpreter, name of the environment or image, or ``HOST:PORT``.
        device: ``cpu`` or ``cuda:<index>``. The authors of the paper simulated on the processor,
            one copy to a simulation, which is also what is fast for one copy: the default.
        startup_seconds: Until a worker has made its simulation. Isaac Gym compiles an extension of
            torch when it is imported for the first time.
        step_seconds: Until a worker has answered a step or a reset.
        token: What ``connect`` presents; workers that are started here get one of their own.
    """

    kind: str
    target: str
    device: str = "cpu"
    startup_seconds: float = 300.0
    step_seconds: float = 60.0
    arguments: tuple[str, ...] = ()
    token: str = ""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> IsaacGymSettings:
        """Read the settings from environment variables, by default from ``os.environ``.

        Raises:
            MissingDependencyError: ``VINTIX_ISAACGYM`` is not set, or ``connect`` has no token.
            UsageError: A variable has no valid value.
        """
        variables = os.environ if environment is None else environment
        launch = variables.get(LAUNCH, "")
        if not launch:
            raise MissingDependencyError(
                "The backend isaacgym needs to be told where Isaac Gym is.",
                where=f"environment variable {LAUNCH}",
                expected=FORMS,
                found="not set",
                fix=f"export {LAUNCH}=conda:bidexhands after setting it up as {PAGE} says, or use "
                "--backend mujoco, which needs nothing",
            )
        kind, _, target = launch.partition(":")
        if kind not in ("python", "conda", "docker", "podman", "connect") or not target:
            raise _rejected(LAUNCH, FORMS, launch)
        if kind == "connect" and not re.fullmatch(r"[^:]+:\d{1,5}", target):
            raise _rejected(LAUNCH, "connect:HOST:PORT", launch)
        device = variables.get(DEVICE) or cls.device
        if not re.fullmatch(r"cpu|cuda:\d+", device):
            raise _rejected(DEVICE, "cpu or cuda:<index>", device)
        token = variables.get(TOKEN_VARIABLE, "")
        if kind == "connect" and not token:
            raise MissingDependencyError(
                "A worker that runs already answers only to its token.",
                where=f"environment variable {TOKEN_VARIABLE}",
                expected="the token that the worker was started with",
                found="not set",
                fix=f"export {TOKEN_VARIABLE} with the same value on both sides; see {PAGE}",
            )
        try:
            arguments = tuple(shlex.split(variables.get(ARGUMENTS, "")))
        except ValueError as error:
            raise _rejected(ARGUMENTS, "words as in a shell", error) from error
        return cls(
            kind=kind,
            target=target,
            device=device,
            startup_seconds=_seconds(variables, STARTUP_SECONDS, cls.startup_seconds),
            step_seconds=_seconds(variables, STEP_SECONDS, cls.step_seconds),
            arguments=arguments,
            token=token,
        )


def _seconds(variables: Mapping[str, str], name: str, default: float) -> float:
    text = variables.get(name) or str(default)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < 1e6:
        raise _rejected(name, "seconds, more than 0", text)
    return value


def _rejected(name: str, expected: str, found: object) -> UsageError:
    return UsageError(
        f"{name} has no valid value.",
        where=f"environment variable {name}",
        expected=expected,
        found=repr(found) if isinstance(found, str) else found,
        fix=f"see {PAGE}",
    )
