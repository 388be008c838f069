"""``vintix tasks NAME --render FILE.png``: pictures, and every way in which there is none."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.image import imread

INDUSTRIAL = "industrial-benchmark-50"


def colours(path) -> int:
    return len(np.unique(imread(path)[..., :3].reshape(-1, 3), axis=0))


@pytest.mark.parametrize("task", ["hopper", "reach", INDUSTRIAL])
def test_a_picture_is_a_function_of_the_seed(empty, task, request):
    """One task of each simulator: there is something to see, and it can be made again."""
    if task != INDUSTRIAL:
        request.getfixturevalue("opengl")
    words = ["tasks", task, "--size", "320x240", "--render-steps", "20", "--json", "--render"]
    documents = []
    for file, seed in (("a.png", 0), ("b.png", 0), ("c.png", 1)):
        done = empty.vintix(*words, file, "--seed", seed)
        assert done.code == 0, done.stderr
        # Not a word of the simulators, of OpenGL or of Matplotlib either.
        assert done.stderr == ""
        documents.append(done.document)
    a, b, c = (empty.directory / file for file in ("a.png", "b.png", "c.png"))
    assert imread(a).shape[:2] == (240, 320)
    assert colours(a) > 100
    assert a.read_bytes() == b.read_bytes()
    assert a.read_bytes() != c.read_bytes()
    picture = documents[2]["picture"]
    assert [each["name"] for each in documents[2]["tasks"]] == [task]
    assert picture["shows"] == f"{task} after 20 steps of its demonstrator"
    told = {key: picture[key] for key in ("path", "width", "height", "task", "policy", "steps")}
    assert told == {
        "path": "c.png",
        "width": 320,
        "height": 240,
        "task": task,
        "policy": "demonstrator",
        "steps": 20,
    }
    assert (picture["ended"], picture["seed"]) == (False, 1)
    assert isinstance(picture["episode_return"], float)


def test_for_people_two_lines(empty):
    (empty.directory / "new").mkdir()
    done = empty.vintix("tasks", "ib-50", "--render", "new/ib.png", "--render-steps", "3")
    assert (done.code, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "picture: new/ib.png",
        f"  {INDUSTRIAL} after 3 steps of its demonstrator, 640 x 480 pixels",
    ]
    assert (empty.directory / "new" / "ib.png").is_file()


def test_options_reach_the_environment(empty):
    """The reward that is drawn is another one."""
    files = []
    for reward in ("classic", "delta"):
        words = ["--render", f"{reward}.png", "--option", f"reward={reward}"]
        assert empty.vintix("tasks", "ib-50", *words).code == 0
        files.append((empty.directory / f"{reward}.png").read_bytes())
    assert files[0] != files[1]


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["no-such-task", "--render", "a.png"], 2, "no-such-task"),
        (["--render", "a.png"], 2, "a picture shows one task"),
        (["ib-0", "ib-50", "--render", "a.png"], 2, "a picture shows one task"),
        (["ib-50", "--render", "a.svg"], 2, "name it a.png"),
        (["ib-50", "--render", "a.png", "--size", "640"], 2, "WIDTHxHEIGHT"),
        (["ib-50", "--render", "a.png", "--size", "20x20"], 2, "160 to 4096"),
        (["ib-50", "--render", "a.png", "--render-steps", "-1"], 2, "--render-steps"),
        (["ib-50", "--render", "a.png", "--option", "gravity=2"], 2, "gravity"),
        (["ib-50", "--seed", "3"], 2, "--render FILE.png"),
        (["point-mass-north-east", "--render", "a.png"], 2, "docs/domains.md"),
        (["ib-50", "--render", "run.yaml/a.png"], 2, "a directory that exists"),
        (["ib-50", "--render", "new/a.png"], 2, "mkdir -p"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_drawn_says_why(empty, words, code, told):
    done = empty.vintix("tasks", *words)
    assert done.code == code, done.stderr
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert not list(empty.directory.glob("*.png"))


@pytest.mark.parametrize(
    "variables",
    [
        {"MUJOCO_GL": "disabled"},
        # No library of OpenGL can be loaded under this name, as where none is installed.
        {"MUJOCO_GL": "", "PYOPENGL_PLATFORM": "none", "DISPLAY": "", "WAYLAND_DISPLAY": ""},
    ],
    ids=" ".join,
)
def test_without_opengl_exit_code_5_and_what_to_install(empty, variables):
    for task in ("hopper", "reach"):
        done = empty.vintix("tasks", task, "--render", "a.png", variables=variables)
        assert done.code == 5, done.stderr
        assert "apt-get install libegl1" in done.stderr
        assert "Traceback" not in done.stderr
    done = empty.vintix("tasks", "ib-50", "--render", "a.png", variables=variables)
    assert done.code == 0, "its picture needs no OpenGL"
