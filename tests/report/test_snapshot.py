"""Environments that draw play the same episodes as those that do not, and show what is played."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
import pytest

from pipelines.domains.base import Domain, Options
from pipelines.domains.registry import domain_of, full_catalogue, resolve_options
from pipelines.errors import UsageError
from pipelines.report.snapshot import frame, take_snapshot
from pipelines.tasks.spec import TaskSpec

pytestmark = pytest.mark.simulator

INDUSTRIAL = "industrial-benchmark-50"


def both(name: str, size: tuple[int, int] = (160, 160)) -> tuple[Any, Any]:
    """Return a task's environment, and the one that draws."""
    task = full_catalogue().get(name)
    domain = domain_of(task)
    options = resolve_options(domain, {})
    return domain.make_env(task, options), domain.make_rendered_env(task, options, size)


@pytest.mark.parametrize("name", ["hopper", "hopper-gravity-1.1", "pusher", "drawer-open"])
def test_drawing_changes_nothing(opengl: str, name: str) -> None:
    """Cameras and lamps are in the same model as the physics."""
    plain, drawing = both(name)
    try:
        random = np.random.default_rng(0)
        seen = [plain.reset(seed=3)[0]], [drawing.reset(seed=3)[0]]
        for _ in range(8):
            action = random.uniform(plain.action_space.low, plain.action_space.high)
            for env, observations in zip((plain, drawing), seen, strict=True):
                observations.append(env.step(action.astype(np.float32))[0])
            assert frame(drawing, name).shape == (160, 160, 3)
        np.testing.assert_array_equal(*seen)
    finally:
        drawing.close()


def test_drawing_changes_nothing_of_the_industrial_benchmark() -> None:
    plain, drawing = both(INDUSTRIAL, (320, 240))
    np.testing.assert_array_equal(plain.reset(seed=3)[0], drawing.reset(seed=3)[0])
    for value in (-1.0, 0.0, 1.0):
        action = np.full(3, value, np.float32)
        assert frame(drawing, INDUSTRIAL).shape == (240, 320, 3)
        np.testing.assert_array_equal(plain.step(action)[0], drawing.step(action)[0])


def test_frames_follow_what_happens() -> None:
    """Also the first of an episode, and that of a second one, which knows nothing of the first."""
    _, drawing = both(INDUSTRIAL, (320, 240))
    with pytest.raises(gymnasium.error.ResetNeeded):
        drawing.render()
    drawing.reset(seed=3)
    first = frame(drawing, INDUSTRIAL)
    drawing.step(np.ones(3, np.float32))
    assert (frame(drawing, INDUSTRIAL) != first).any()
    drawing.reset(seed=3)
    np.testing.assert_array_equal(frame(drawing, INDUSTRIAL), first)


def test_a_body_that_runs_away_stays_in_the_picture(opengl: str) -> None:
    """Gymnasium's own free camera stays behind."""
    _, drawing = both("half-cheetah")
    try:
        drawing.reset(seed=0)
        simulator = drawing.unwrapped
        bodies = []
        for distance in (0.0, 4.0):
            simulator.set_state(simulator.init_qpos, simulator.init_qvel)
            position = simulator.data.qpos.copy()
            position[0] = distance
            simulator.set_state(position, simulator.init_qvel)
            shown = frame(drawing, "half-cheetah").astype(int)
            # The body is the only thing that is orange; floor and sky are grey, green or blue.
            bodies.append(int((shown[..., 0] > shown[..., 2] + 40).sum()))
        assert bodies[0] > 300
        assert abs(bodies[1] - bodies[0]) < 0.3 * bodies[0]
    finally:
        drawing.close()


@pytest.mark.parametrize("name", ["hand-door-close-inward", "hand-catch-abreast"])
def test_the_hands_fill_a_picture_without_specks(opengl: str, name: str) -> None:
    """A floor with black specks and hands that are too small to be seen tell nothing."""
    _, drawing = both(name, (480, 360))
    try:
        drawing.reset(seed=0)
        shown = frame(drawing, name).astype(float)
    finally:
        drawing.close()
    coloured = np.ptp(shown, axis=2) > 25
    columns = np.flatnonzero(coloured.sum(axis=0) > 3)
    assert columns[-1] - columns[0] > 0.7 * shown.shape[1]
    grey = np.where(coloured, np.nan, shown.mean(axis=2))
    around = np.lib.stride_tricks.sliding_window_view(grey, (5, 5)).reshape(*grey[4:, 4:].shape, 25)
    middle = around[..., 12]
    floor = ~np.isnan(around).any(axis=-1)
    alone = (around < middle[..., None] + 20).sum(axis=-1) <= 3
    specks = floor & alone & (np.median(around, axis=-1) - middle > 60)
    assert specks.sum() < 20


def test_a_snapshot_ends_with_its_episode() -> None:
    """Its number of steps is what was played, not what was asked for."""
    task = full_catalogue().get(INDUSTRIAL)
    taken = take_snapshot(task, steps=1000, size=(320, 240))
    assert (taken.steps, taken.ended, taken.policy) == (250, True, "demonstrator")
    assert taken.size == (320, 240)
    assert taken.caption.endswith("after 250 steps of its demonstrator, where the episode ended")
    assert -500 < taken.episode_return < -250
    start = take_snapshot(task, steps=0, size=(320, 240))
    assert (start.steps, start.ended, start.episode_return) == (0, False, 0.0)
    assert start.caption == f"{INDUSTRIAL} at the start of an episode"


class Painted(gymnasium.Env[Any, Any]):
    """An environment of somebody's, with a picture as its author thinks of one."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012
    picture: Any = np.zeros((4, 5, 3), np.uint8)

    def __init__(self) -> None:
        self.observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
        self.action_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> Any:
        return np.zeros(2, np.float32), 0.0, False, False, {}

    def render(self) -> Any:
        return self.picture if self.render_mode == "rgb_array" else None


class Painting(Domain):
    """A plugin that says nothing of pictures."""

    name = "painting"

    def tasks(self) -> Sequence[TaskSpec]:
        return ()

    def make_env(self, task: TaskSpec, options: Options) -> Painted:
        return Painted()


def test_a_plugin_needs_nothing_but_a_render_mode() -> None:
    task = full_catalogue().get(INDUSTRIAL)
    env = Painting().make_rendered_env(task, {})
    assert frame(env, "x").shape == (4, 5, 3)


@pytest.mark.parametrize("picture", [None, np.zeros((4, 5)), "a picture"], ids=str)
def test_what_is_no_picture_is_told(picture: Any) -> None:
    env = Painting().make_rendered_env(full_catalogue().get(INDUSTRIAL), {})
    env.picture = picture
    with pytest.raises(UsageError, match="gives no picture"):
        frame(env, "task x")
