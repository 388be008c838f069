"""Environments of a user's own become tasks, without a package."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import gymnasium
import numpy as np
import pytest

import vintix
from pipelines.domains import registered, registry
from pipelines.errors import ConfigError, UsageError, VintixError

PAGE = Path(__file__).parents[1] / "docs" / "library.md"
LENGTHS = {"horizon": 8, "trajectories": 2, "trajectory_length": 40}


class Line(gymnasium.Env):
    """A place on a line; the reward is its negative distance to 0."""

    metadata: ClassVar = {"render_modes": ["rgb_array"]}

    def __init__(self, render_mode: str | None = None, discrete: bool = False) -> None:
        self.render_mode, self.discrete = render_mode, discrete
        self.observation_space = gymnasium.spaces.Box(-2, 2, (1,), np.float64)
        box = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(3) if discrete else box

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = self.np_random.uniform(-1, 1, 1)
        return self.place, {}

    def step(self, action):
        move = (action - 1) if self.discrete else action
        self.place = np.clip(self.place + 0.3 * move, -2, 2)
        return self.place, -abs(float(self.place[0])), False, False, {}

    def render(self):
        return np.full((4, 6, 3), 7, np.uint8)


def towards_zero(place):
    return -3 * place


@pytest.fixture(autouse=True)
def nothing_registered() -> Iterator[None]:
    registered.TASKS.clear()
    registry._discover.cache_clear()
    yield
    registered.TASKS.clear()
    registry._discover.cache_clear()


def test_a_class_is_made_and_distilled(tmp_path):
    """Its histories hold what the environment gave and the demonstrator did, kept in bounds."""
    vintix.register_task("line", Line, demonstrator=towards_zero, **LENGTHS)
    env = vintix.make("line")
    assert env.reset(seed=3)[0].dtype == np.float32
    ends = [env.step(np.zeros(1, np.float32))[3] for _ in range(8)]
    assert ends == [False] * 7 + [True]
    done = vintix.distill(tasks=("line",), workspace=tmp_path, workers=1)
    from pipelines.histories.reader import HistoryReader

    reader = HistoryReader(done.artifact)
    (rows,) = reader.blocks("line", 0, ("observation", "demonstrator_action"), rows=40)
    wanted = np.clip(-3 * rows["observation"], -1, 1)
    np.testing.assert_allclose(rows["demonstrator_action"], wanted, atol=1e-6)
    assert np.abs(wanted).max() == 1
    again = vintix.distill(tasks=("line",), workspace=tmp_path, workers=1)
    assert again.up_to_date


def test_an_id_brings_its_horizon_and_its_pictures(tmp_path):
    gymnasium.register("vintix-tests/Line-v0", Line, max_episode_steps=5)
    try:
        act = {"demonstrator": lambda place: int(place[0] < 0) * 2}
        for name, kwargs in (("box", {}), ("steps", {"discrete": True})):
            gymnasium.registry["vintix-tests/Line-v0"].kwargs = kwargs
            vintix.register_task(name, "vintix-tests/Line-v0", **(act if kwargs else {}))
        task = registry.full_catalogue().get("steps")
        assert (task.horizon, str(task.actions)) == (5, "3 discrete actions")
        done = vintix.demonstrators(tasks=("steps",), workspace=tmp_path, episodes=20, workers=1)
        (row,) = done.report["tasks"]
        assert row["expert"]["mean"] > row["random"]["mean"]
        domain = registry.find_domain("registered")
        from pipelines.domains.checked import make_rendered_env

        env = make_rendered_env(domain, task, {}, (6, 4))
        env.reset(seed=0)
        assert env.render().shape == (4, 6, 3)
    finally:
        del gymnasium.registry["vintix-tests/Line-v0"]


def test_another_demonstrator_is_measured_anew_and_never_taken_for_the_first(tmp_path):
    """What is recorded under one expert's scores is that expert's."""
    vintix.register_task("line", Line, demonstrator=towards_zero, **LENGTHS)
    choice = {"tasks": ("line",), "workspace": tmp_path, "workers": 1}
    assert not vintix.demonstrators(**choice).up_to_date
    assert vintix.demonstrators(**choice).up_to_date
    vintix.register_task("line", Line, demonstrator=lambda place: -place, **LENGTHS)
    with pytest.raises(VintixError) as caught:
        vintix.distill(**choice)
    assert "does not act as the one that was measured" in str(
        caught.value.__cause__ or caught.value
    )
    assert not vintix.demonstrators(**choice).up_to_date
    assert not vintix.distill(**choice).up_to_date


def test_a_refused_task_leaves_what_was_there():
    """A name of another domain, or a group of other dimensions, is an error of that call alone."""
    vintix.register_task("line", Line, horizon=9)
    with pytest.raises(ConfigError, match="hopper"):
        vintix.register_task("hopper", Line, horizon=9)
    with pytest.raises(ConfigError, match="group"):
        vintix.register_task("line", lambda: Line(discrete=True), horizon=3, group="mujoco-hopper")
    assert registry.full_catalogue().get("line").horizon == 9
    assert registry.full_catalogue().get("hopper").domain == "mujoco"
    vintix.register_task("line", Line, horizon=4)
    assert registry.full_catalogue().get("line").horizon == 4


@pytest.mark.parametrize(
    ("env", "fields", "told"),
    [
        (Line, {}, "horizon=200"),
        (lambda: 3, {"horizon": 5}, "int"),
        ("CliffWalking-v1", {}, "observation space"),
        (Line, {"horizon": 5, "split": "test"}, "split"),
    ],
)
def test_what_cannot_be_a_task_is_told(env, fields, told):
    with pytest.raises(ConfigError, match=told):
        vintix.register_task("mine", env, **fields)


def test_an_action_of_another_shape_is_told(tmp_path):
    vintix.register_task("line", Line, demonstrator=lambda place: 1.0, **LENGTHS)
    with pytest.raises(ConfigError, match="something else than an action") as caught:
        vintix.demonstrators(tasks=("line",), workspace=tmp_path, workers=1)
    assert caught.value.where == "task line"


def test_a_process_that_has_not_registered_it_says_so(tmp_path):
    vintix.register_task("line", Line, demonstrator=towards_zero, **LENGTHS)
    task = registry.full_catalogue().get("line")
    vintix.demonstrators(tasks=("line",), workspace=tmp_path, workers=1)
    registered.TASKS.clear()
    registry._discover.cache_clear()
    with pytest.raises(UsageError, match="this process has not") as caught:
        registry.domain_of(task)
    assert "workers=1" in str(caught.value)
    vintix.register_task("other", Line, horizon=5)
    with pytest.raises(UsageError, match="this process has not"):
        registry.domain_of(task).make_env(task, {})


@pytest.mark.process
def test_the_program_of_the_page_runs(tmp_path):
    """All stages but a long training, with worker processes that import the program anew."""
    (program,) = (
        block
        for block in re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.M | re.S)
        if "register_task" in block
    )
    (tmp_path / "own_task.py").write_text(program)
    done = subprocess.run(
        [sys.executable, "own_task.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "histories/slider/v1" in done.stdout
