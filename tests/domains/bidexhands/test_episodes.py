"""Episodes of all tasks: how they start, that what lies stays, that random play is sound."""

from __future__ import annotations

import math

import numpy as np
import pytest

from domains.bidexhands.support import (
    FIXED_HANDS,
    HANDS,
    NAMES,
    angle,
    check_episodes,
    draw,
    idle,
    make_batch,
    point,
)
from pipelines.domains.registry import full_catalogue

pytestmark = pytest.mark.simulator

NOISY = {
    "hand-over",
    "hand-catch-underarm",
    "hand-two-catch-underarm",
    "hand-catch-over-2-underarm",
    "hand-catch-abreast",
    "hand-reorientation",
}
each = pytest.mark.parametrize("name", NAMES)


@each
def test_starts_depend_on_nothing_but_the_seed(name: str) -> None:
    """Protects resume and parallel collection, and which tasks have noise at their start.

    Also in a copy that was played before, beside another one. Without the tiny random action,
    seeds decide about the noise alone, which most tasks have none of.
    """
    used, unused = make_batch(name, 2), make_batch(name, 2)
    used.reset([0, 1], [5, 6])
    generator = np.random.default_rng(0)
    for _ in range(20):
        used.step(draw(used, generator))
    np.testing.assert_array_equal(used.reset([1], [3]), unused.reset([0], [3]))
    for key in ("qpos", "qvel", "mocap_pos", "mocap_quat"):
        played, new = getattr(used.datas[1], key), getattr(unused.datas[0], key)
        np.testing.assert_array_equal(played, new)
    for key in used.goals.keys() | unused.goals.keys():
        np.testing.assert_array_equal(used.goals[key][1], unused.goals[key][0])
    assert not np.array_equal(unused.reset([1], [4]), unused.reset([0], [3]))
    still = make_batch(name, 2, first_step="none")
    first_O, second_O = still.reset([0, 1], [1, 2])
    assert np.array_equal(first_O, second_O) is (name not in NOISY)
    for key in ("qpos", "qvel"):
        first, second = (getattr(data, key) for data in still.datas)
        assert np.array_equal(first, second) is (name not in NOISY or key == "qvel")


@each
def test_the_first_observation_is_one_step_into_the_episode(name: str) -> None:
    """Protects the reference's reset, which makes a step with a tiny random action."""
    free = full_catalogue().get(name).action_dim == 52
    width, actions = (HANDS // 2, 26) if free else (FIXED_HANDS // 2, 20)
    batch, still = make_batch(name), make_batch(name, first_step="none")
    observation_O, without_O = batch.reset([0], [7])[0], still.reset([0], [7])[0]
    for end in (width, 2 * width):
        assert 0.005 < np.abs(observation_O[end - actions : end]).max() <= 0.01
        assert not without_O[end - actions : end].any()
    assert not np.array_equal(observation_O[:24], without_O[:24])
    assert batch.datas[0].time == pytest.approx(1 / 60)
    assert still.datas[0].time == 0.0


@pytest.mark.parametrize(
    ("name", "heights"),
    [
        ("hand-push-block", {"right-block": 0.625, "left-block": 0.625}),
        ("hand-block-stack", {"right-block": 0.625, "left-block": 0.625}),
        ("hand-grasp-and-place", {"bucket": 0.653, "block": 0.625}),
        ("hand-lift-underarm", {"pot": 0.465}),
        # These two drop by some centimetres first.
        ("hand-kettle", {"kettle": 0.474, "bucket": 0.453}),
        ("hand-pen", {"pen": 0.6115, "cap": 0.6115}),
        ("hand-scissors", {"scissors": 0.605, "scissors-half": 0.605}),
        ("hand-swing-cup", {"cup": 0.684}),
    ],
)
def test_objects_rest_where_the_task_puts_them(name: str, heights: dict[str, float]) -> None:
    """Protects against overlaps, gaps and rolling: nothing sinks in, pops out, rocks or rolls."""
    batch = make_batch(name)
    data = batch.datas[0]
    starts = {body: (point(data, body), data.body(body).xquat.copy()) for body in heights}
    for _ in range(60):
        batch.step(idle(batch))
    for body, (start, turn) in starts.items():
        place = point(data, body)
        assert math.dist(place[:2], start[:2]) < 0.001
        assert abs(place[2] - heights[body]) < 0.002
        assert angle(data.body(body).xquat, turn) < 0.009
    for body in batch.scene.tracked:
        assert np.abs(data.joint(body).qvel).max() < 0.01


@each
@pytest.mark.parametrize(
    ("episodes", "size"), [(3, 3), pytest.param(100, 20, marks=pytest.mark.slow)]
)
def test_random_episodes_are_sound(name: str, episodes: int, size: int) -> None:
    """Protects scenes from blowing up: often, and in a hundred episodes now and then."""
    check_episodes(name, episodes, size)
