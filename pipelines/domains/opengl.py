"""Off-screen OpenGL for MuJoCo's scenes: on a GPU where there is one, in software elsewhere.

MuJoCo draws through one of three backends, named by the variable ``MUJOCO_GL``. Its own choice, a
hidden window, does not work on machines without a display, which are most of those that run this.
Whether a backend works is found out in a process of its own: a failed attempt leaves PyOpenGL
bound to libraries that do not work, and a driver may take the process with it.
"""

from __future__ import annotations

import functools
import os
import platform
import subprocess
import sys

from pipelines.errors import MissingDependencyError

VARIABLE = "MUJOCO_GL"
#: EGL draws with or without a GPU and OSMesa always in software; both need no display.
HEADLESS = ("egl", "osmesa")
#: Draws in a hidden window.
WINDOW = "glfw"

_PYOPENGL = "PYOPENGL_PLATFORM"
_CHOOSE = ("", "enable", "enabled", "on", "true", "1")
_PROBE = """
import mujoco
from mujoco.gl_context import GLContext
context = GLContext(32, 32)
context.make_current()
mujoco.MjrContext(mujoco.MjModel.from_xml_string("<mujoco/>"), mujoco.mjtFontScale.mjFONTSCALE_100)
context.free()
"""
_PROBE_SECONDS = 120


def prepare_opengl() -> str:
    """Find a backend that works here and set ``MUJOCO_GL`` to it, for this process and its own.

    A backend that the variable already names is the only one that is tried. To be called before
    the first picture is drawn and, for ``mujoco.Renderer``, before ``mujoco`` is imported;
    Gymnasium's ``MujocoRenderer`` reads the variable as late as at its first picture.

    Returns:
        ``egl``, ``osmesa`` or ``glfw``.

    Raises:
        MissingDependencyError: No backend works, or not the one that the variable names, or the
            variable forbids drawing.
    """
    reasons = {}
    for name in _candidates():
        reasons[name] = _failure(name)
        if reasons[name] is None:
            os.environ[VARIABLE] = name
            return name
    asked = os.environ.get(VARIABLE)
    # PyOpenGL's own variable, which each backend sets for itself unless somebody has.
    bound = [name for name in (VARIABLE, _PYOPENGL) if os.environ.get(name)]
    raise MissingDependencyError(
        "MuJoCo cannot draw on this machine: no off-screen OpenGL.",
        where=f"{VARIABLE}={asked}" if asked else f"{VARIABLE} is not set",
        expected=" or ".join((*HEADLESS, WINDOW)),
        found="; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        or "a value that allows no drawing",
        fix=(f"unset {' '.join(bound)}, or " if bound else "")
        + "apt-get install libegl1 libopengl0 (needs no GPU), or libosmesa6",
    )


def _candidates() -> tuple[str, ...]:
    asked = os.environ.get(VARIABLE, "").lower().strip()
    if asked in (*HEADLESS, WINDOW):
        return (asked,)
    if asked == "glx":
        return (WINDOW,)
    if asked not in _CHOOSE:
        return ()
    if platform.system() != "Linux":
        return (WINDOW,)
    display = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    return (*HEADLESS, WINDOW) if display else HEADLESS


@functools.cache
def _failure(name: str) -> str | None:
    """Return why a backend does not work, in a line; None where it does."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROBE],
            check=False,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            env={**os.environ, VARIABLE: name},
            timeout=_PROBE_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return f"no answer in {_PROBE_SECONDS} s"
    if done.returncode == 0:
        return None
    # What the half-made objects of a failed attempt say when they are thrown away follows the
    # error itself, so the first line that looks like one is taken.
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.split(":")[0].endswith(("Error", "Exception"))]
    return (errors or lines[-1:] or [f"ended with code {done.returncode}"])[0]
