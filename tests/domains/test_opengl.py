"""Finding what MuJoCo draws with: the variable rules, and failures are told with their fix."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from pipelines.domains import opengl as module
from pipelines.domains.opengl import HEADLESS, VARIABLE, WINDOW, prepare_opengl
from pipelines.errors import MissingDependencyError

pytestmark = pytest.mark.simulator


@pytest.fixture
def probes(monkeypatch: pytest.MonkeyPatch) -> dict[str, str | None]:
    """Backends and why they fail (None where they work), in place of trying them."""
    found: dict[str, str | None] = {"egl": None, "osmesa": None, "glfw": None}
    monkeypatch.setattr(module, "_failure", found.__getitem__)
    monkeypatch.setattr(module.platform, "system", lambda: "Linux")
    for name in (VARIABLE, "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.setenv(name, "")
    return found


def test_the_first_that_works_is_set(probes: dict[str, str | None]) -> None:
    """MuJoCo and Gymnasium read the variable, so finding a backend without setting it is idle."""
    probes["egl"] = "no device"
    assert prepare_opengl() == "osmesa"
    assert os.environ[VARIABLE] == "osmesa"


def test_a_window_is_tried_where_there_is_a_display(
    probes: dict[str, str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    probes["egl"] = probes["osmesa"] = "no library"
    with pytest.raises(MissingDependencyError):
        prepare_opengl()
    monkeypatch.setenv("DISPLAY", ":0")
    assert prepare_opengl() == WINDOW


@pytest.mark.parametrize(
    ("asked", "used"), [("osmesa", "osmesa"), ("EGL ", "egl"), ("glx", "glfw"), ("on", "egl")]
)
def test_the_variable_rules(
    probes: dict[str, str | None], monkeypatch: pytest.MonkeyPatch, asked: str, used: str
) -> None:
    monkeypatch.setenv(VARIABLE, asked)
    assert prepare_opengl() == used
    # Gymnasium knows lower-case names alone.
    assert os.environ[VARIABLE] == used


def test_what_the_variable_names_is_not_replaced(
    probes: dict[str, str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody who asks for the GPU's driver is not to get pictures from another, unnoticed."""
    probes["osmesa"] = "ImportError: no OSMesa"
    monkeypatch.setenv(VARIABLE, "osmesa")
    with pytest.raises(MissingDependencyError) as caught:
        prepare_opengl()
    assert caught.value.where == "MUJOCO_GL=osmesa"
    assert caught.value.found == "osmesa: ImportError: no OSMesa"
    assert "unset MUJOCO_GL" in str(caught.value.fix)


@pytest.mark.parametrize("asked", ["disabled", "0", "vulkan"])
def test_a_variable_that_forbids_drawing(
    probes: dict[str, str | None], monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    monkeypatch.setenv(VARIABLE, asked)
    with pytest.raises(MissingDependencyError, match=r"no off-screen OpenGL") as caught:
        prepare_opengl()
    assert caught.value.exit_code == 5
    assert "apt-get install" in str(caught.value.fix)
    assert os.environ[VARIABLE] == asked


@pytest.mark.process
def test_a_failed_attempt_is_told_in_a_line_and_leaves_this_process_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each attempt is made in another process, for real: PyOpenGL cannot be bound a second time."""
    monkeypatch.setenv("PYOPENGL_PLATFORM", "nothing-of-the-kind")
    module._failure.cache_clear()
    reason = module._failure("egl")
    module._failure.cache_clear()
    assert reason is not None
    assert "PYOPENGL_PLATFORM" in reason
    assert "\n" not in reason
    assert os.environ["PYOPENGL_PLATFORM"] == "nothing-of-the-kind"


@pytest.mark.process
def test_what_it_finds_draws(opengl: str) -> None:
    """In a fresh process, by MuJoCo's own renderer: what `prepare_opengl` sets is what it takes."""
    assert opengl in (*HEADLESS, WINDOW)
    code = (
        "from pipelines.domains.opengl import prepare_opengl\n"
        "prepare_opengl()\n"
        "import mujoco\n"
        "model = mujoco.MjModel.from_xml_string("
        '\'<mujoco><worldbody><light pos="0 0 3"/><geom size=".2" rgba="1 0 0 1"/>'
        "</worldbody></mujoco>')\n"
        "data = mujoco.MjData(model)\n"
        "mujoco.mj_forward(model, data)\n"
        "with mujoco.Renderer(model, 60, 80) as renderer:\n"
        "    renderer.update_scene(data)\n"
        "    print(int((renderer.render()[..., 0] > 100).sum()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=300
    )
    assert int(done.stdout) > 50
