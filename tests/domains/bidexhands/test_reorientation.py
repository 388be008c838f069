"""Re-orientation: observation, reward, goals that change, ends and resets."""

from __future__ import annotations

import math
from typing import Any

import mujoco
import numpy as np
import pytest

from domains.bidexhands.support import (
    FIXED_HANDS,
    Pose,
    angle,
    entries,
    fresh,
    idle,
    left_over_xyzw,
    make_batch,
    put,
    wander,
    where,
)

pytestmark = pytest.mark.simulator

NAME = "hand-reorientation"
CUBES = ("cube", "second-cube")
TARGETS = np.array([[0, -0.39, 0.56], [0, -0.76, 0.56]])
GOAL = "goal-quaternion"


def turned(by: float, quaternion: np.ndarray) -> np.ndarray:
    """Return an orientation turned by an angle about the world's z axis."""
    w, x, y, z = quaternion
    c, s = math.cos(by / 2), math.sin(by / 2)
    return np.array([c * w - s * z, c * x - s * y, c * y + s * x, c * z + s * w])


def lay(
    data: mujoco.MjData, goal: np.ndarray, offsets: list[np.ndarray], angles: list[float]
) -> None:
    """Put the cubes at offsets from their targets, turned by angles from the goal."""
    for name, target, offset, by in zip(CUBES, TARGETS, offsets, angles, strict=True):
        put(data, name, [*(target + offset), *turned(by, goal)])


def laid(offsets: list[np.ndarray], angles: list[float], **options: Any) -> Pose:
    """The task with its cubes at offsets from their targets, turned by angles from the goal."""
    pose = Pose(NAME, **options)
    lay(pose.data, pose.goals[GOAL][0], offsets, angles)
    return pose


def test_the_cubes_part_of_the_observation_is_the_simulators_state() -> None:
    """Protects layout, quaternion order, scales, and the goals' places after real steps."""
    batch = make_batch(NAME)
    observation_O = wander(batch, 30)[0]
    data, goal = fresh(batch), batch.goals[GOAL][0]
    expected: list[float] = []
    for name, target in zip(CUBES, TARGETS, strict=True):
        left = left_over_xyzw(data.body(name).xquat, goal)
        expected += [*entries(data, name), *target, *goal[[1, 2, 3, 0]], *left]
    np.testing.assert_allclose(observation_O[FIXED_HANDS:], np.clip(expected, -5, 5), atol=2e-5)


@pytest.mark.parametrize("angles", [(0.5, 1.5), (3.0, 0.11), (0.05, 0.7)])
@pytest.mark.parametrize("action", [0.0, 0.5])
def test_reward_without_a_goal_reached(angles: tuple[float, float], action: float) -> None:
    """Protects both cubes' terms and the penalty; the first cube alone reaches no goal."""
    pose = laid([np.array([0.03, 0, 0.04]), np.array([0, -0.1, 0])], list(angles))
    expected = -10 * (0.05 + 0.1) + sum(1 / (by + 0.1) for by in angles) - 0.0002 * 40 * action**2
    assert pose.judge(action) == (pytest.approx(expected, abs=1e-6), False, 0.0)


@pytest.mark.parametrize(
    ("goal", "angles", "reached"),
    [
        ("second", (2.0, 0.09), True),
        ("second", (0.09, 0.11), False),
        ("both", (2.0, 0.09), False),
        ("both", (0.09, 0.11), False),
        ("both", (0.09, 0.09), True),
    ],
)
def test_the_bonus_is_for_the_second_cube_or_for_both(goal, angles, reached) -> None:
    """Protects the 500, the tolerance of 0.1 rad and the reference's oddity with its switch."""
    pose = laid([np.zeros(3)] * 2, list(angles), reorientation_goal=goal)
    expected = sum(1 / (by + 0.1) for by in angles) + 500 * reached
    assert pose.judge() == (pytest.approx(expected, abs=1e-6), False, float(reached))


@pytest.mark.parametrize("number", [0, 1])
def test_a_fallen_cube_ends_the_episode(number: int) -> None:
    """Protects the height of 0.2 m, for each cube."""
    for height, ended in ((0.201, False), (0.199, True)):
        offsets = [np.zeros(3), np.zeros(3)]
        offsets[number] = np.array([0.5, 0, height - 0.56])
        assert laid(offsets, [1.0, 1.0]).judge().over is ended


def test_a_reached_goal_is_replaced_for_the_next_step_and_only_there() -> None:
    """Protects that a step pays and shows the old goal, and the next one shows the new."""
    batch = make_batch(NAME, 3)
    before = {name: value.copy() for name, value in batch.goals.items()}[GOAL]
    high = np.array([0, 0, 0.5])
    for row, by in enumerate((1.5, 0.0, 1.5)):
        lay(batch.datas[row], before[row], [high, high], [1.5, by])
    action_BA = idle(batch)
    step = batch.step(action_BA)
    assert step.success_B is not None
    assert step.success_B.tolist() == [False, True, False]
    assert step.reward_B[1] > 490 > max(step.reward_B[0], step.reward_B[2])
    np.testing.assert_allclose(step.observation_BO[:, 390:394], before[:, [1, 2, 3, 0]], atol=1e-6)
    np.testing.assert_allclose(step.observation_BO[:, 414:418], before[:, [1, 2, 3, 0]], atol=1e-6)
    now = batch.goals[GOAL]
    np.testing.assert_array_equal(now[[0, 2]], before[[0, 2]])
    assert angle(now[1], before[1]) > 0.1
    marker = batch.scene.mocap("second-cube-goal")
    np.testing.assert_allclose(batch.datas[1].mocap_quat[marker], now[1])
    step = batch.step(action_BA)
    np.testing.assert_allclose(step.observation_BO[:, 390:394], now[:, [1, 2, 3, 0]], atol=1e-6)
    assert abs(step.reward_B[1]) < 50
    assert step.success_B is not None
    assert not step.success_B.any()


def test_new_goals_come_from_the_copys_own_episode() -> None:
    """Protects that a goal does not depend on the copies beside it nor on their goals."""
    goals = []
    for size in (1, 4):
        batch = make_batch(NAME, size)
        for _ in range(3):
            for row in range(size):
                if row in (0, 2):
                    goal_4 = batch.goals[GOAL][row]
                    lay(batch.datas[row], goal_4, [np.array([0, 0, 0.5])] * 2, [1.5, 0.0])
            batch.step(idle(batch))
        goals.append(batch.goals[GOAL][0])
    np.testing.assert_array_equal(goals[0], goals[1])


def test_cubes_and_goals_start_with_noise() -> None:
    """Protects noise, what the cubes share, and the form of orientations."""
    size = 60
    batch = make_batch(NAME, size, first_step="none")
    starts = np.array([[where(batch.datas[row], name) for name in CUBES] for row in range(size)])
    offsets = starts[:, :, :3] - (TARGETS + np.array([0, 0, 0.04]))
    np.testing.assert_allclose(offsets[:, 0], offsets[:, 1], atol=1e-12)
    assert 0.008 < np.abs(offsets).max() <= 0.01
    np.testing.assert_array_equal(starts[:, 0, 3:], starts[:, 1, 3:])
    for quaternions in (starts[:, 0, 3:], batch.goals[GOAL]):
        # Rx(a) Ry(b) is (ca cb, sa cb, ca sb, sa sb): products of outer terms are equal.
        w, x, y, z = quaternions.T
        np.testing.assert_allclose(w * z, x * y, atol=1e-12)
        assert len(np.unique(quaternions.round(6), axis=0)) == size


def test_cubes_come_to_lie_in_the_hands() -> None:
    """Protects poses and sizes: cubes dropped flat on open hands stay there."""
    batch = make_batch(NAME)
    for name, target in zip(CUBES, TARGETS, strict=True):
        put(batch.datas[0], name, [*target, 1, 0, 0, 0])
    curl = idle(batch)
    for _ in range(120):
        batch.step(curl)
    for name, target in zip(CUBES, TARGETS, strict=True):
        assert math.dist(where(batch.datas[0], name)[:3], target) < 0.06
