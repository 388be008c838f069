"""The five egg tasks: observation, reward, ends, success and resets against the reference."""

from __future__ import annotations

import math
from typing import NamedTuple

import mujoco
import numpy as np
import pytest

from domains.bidexhands.support import (
    FIXED_HANDS,
    HANDS,
    SIDES,
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

Points = tuple[tuple[float, float, float], ...]


class Case(NamedTuple):
    """A task as section 3.1 of the facts has it."""

    name: str
    starts: Points
    goals: Points
    scale: float
    lowest: float
    noise: float
    hands_at: int
    success: float = 0.03


CASES = [
    Case("hand-over", ((0, -0.39, 0.54),), ((0, -0.64, 0.54),), 50, 0.2, 0.01, FIXED_HANDS),
    Case("hand-catch-underarm", ((0, -0.39, 0.54),), ((0, -0.79, 0.54),), 50, 0.1, 0.01, HANDS),
    Case(
        "hand-two-catch-underarm",
        ((0, -0.39, 0.54), (0, -0.78, 0.54)),
        ((0, -0.79, 0.54), (0, -0.38, 0.54)),
        50, 0.2, 0.01, HANDS, 0.06,
    ),
    Case("hand-catch-over-2-underarm", ((0, 0.05, 1.0),), ((0, -0.4, 0.55),), 20, 0.3, 0, HANDS),
    Case(
        "hand-catch-abreast", ((-0.39, -0.55, 0.54),), ((-0.39, -1.15, 0.54),), 50, 0.2, 0, HANDS
    ),
]  # fmt: skip
EGGS = ("egg", "second-egg")
OVER2, ABREAST = "hand-catch-over-2-underarm", "hand-catch-abreast"

each = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def laid(case: Case, offset: float, turn: float) -> Pose:
    """The task with each egg at a distance from its goal and turned from its orientation."""
    pose = Pose(case.name)
    for name, goal in zip(EGGS, case.goals, strict=False):
        about_x, result = np.array([math.cos(turn / 2), math.sin(turn / 2), 0, 0]), np.zeros(4)
        mujoco.mju_mulQuat(result, about_x, pose.goals["goal-quaternion"][0])
        pose.put(name, [goal[0], goal[1], goal[2] + offset, *result])
    return pose


@each
def test_the_eggs_part_of_the_observation_is_the_simulators_state(case: Case) -> None:
    """Protects layout, quaternion order, scales, and the goals' places after real steps."""
    batch = make_batch(case.name)
    observation_O = wander(batch, 20)[0]
    data = fresh(batch)
    expected: list[float] = []
    for name, goal in zip(EGGS, case.goals, strict=False):
        quaternion = batch.goals["goal-quaternion"][0]
        left = left_over_xyzw(data.body(name).xquat, quaternion)
        expected += [*entries(data, name), *goal, *quaternion[[1, 2, 3, 0]], *left]
    np.testing.assert_allclose(observation_O[case.hands_at :], np.clip(expected, -5, 5), atol=2e-5)


@each
@pytest.mark.parametrize("offset", [0.0, 0.02, 0.1])
@pytest.mark.parametrize("turn", [0.0, 1.2, -3.0])
def test_reward_and_success(case: Case, offset: float, turn: float) -> None:
    """Protects ``exp(-0.2 (scale D + theta))``, its sum over eggs, and the distance of success."""
    expected = len(case.goals) * math.exp(-0.2 * (case.scale * offset + abs(turn)))
    total = len(case.goals) * offset
    success = float(total < case.success)
    judgement = laid(case, offset, turn).judge()
    assert judgement == (pytest.approx(expected, rel=1e-6), False, success)


@each
def test_a_dropped_egg_ends_the_episode(case: Case) -> None:
    """Protects the height of each task, for each egg."""
    for name in EGGS[: len(case.goals)]:
        for height, ended in ((case.lowest + 1e-3, False), (case.lowest - 1e-3, True)):
            pose = Pose(case.name)
            pose.put(name, [*pose.where(name)[:2], height])
            assert pose.judge().over is ended


@each
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_hands_have_to_stay_near_in_two_tasks(case: Case, side: str, axis: int) -> None:
    """Protects the 10 cm about the reference's points, of the root or of the palm."""
    if case.name == "hand-over":
        model = Pose(case.name).data.model
        joints = {model.joint(number).name for number in range(model.njnt)}
        assert f"{side}-WRJ0" in joints and f"{side}-base" not in joints
        return
    number = SIDES.index(side)
    centres = {
        OVER2: ((0, 0, 0.5), (0, -0.8, 0.5)),
        ABREAST: ((-0.3, -0.55, 0.5), (-0.3, -1.15, 0.5)),
    }.get(case.name)
    for offset in (0.09, 0.11, 0.3):
        pose = Pose(case.name)
        held = pose.at(f"{side}-{'palm' if case.name == ABREAST else 'mount'}")
        aim = np.array(held if centres is None else centres[number], float)
        aim[axis] += offset
        pose.shift(side, aim - held)
        assert pose.judge().over is (centres is not None and offset > 0.1)


@each
def test_eggs_goals_and_fingers_start_with_noise(case: Case) -> None:
    """Protects noise and its absence, what two eggs share, and random turns."""
    size = 40
    batch = make_batch(case.name, size, first_step="none")
    eggs = EGGS[: len(case.starts)]
    starts = np.array([[where(batch.datas[row], name) for name in eggs] for row in range(size)])
    offsets = starts[..., :3] - np.array(case.starts)
    assert np.abs(offsets).max() <= case.noise + 1e-12
    assert np.abs(offsets).max() >= 0.8 * case.noise
    for number in range(len(eggs)):
        np.testing.assert_allclose(offsets[:, number], offsets[:, 0], atol=1e-12)
        np.testing.assert_array_equal(starts[:, number, 3:], starts[:, 0, 3:])
    for quaternions in (starts[:, 0, 3:], batch.goals["goal-quaternion"]):
        # Rx(a) Ry(b) is (ca cb, sa cb, ca sb, sa sb): products of outer terms are equal.
        w, x, y, z = quaternions.T
        np.testing.assert_allclose(w * z, x * y, atol=1e-12)
        assert len(np.unique(quaternions.round(6), axis=0)) == size
        assert angle(quaternions[0], quaternions[1]) > 0.01
    model = batch.scene.model
    joints = [
        np.array([batch.datas[row].qpos[batch.scene.qpos_2J[side]] for row in range(size)])
        for side in (0, 1)
    ]
    np.testing.assert_array_equal(joints[0], joints[1])
    names = [model.joint(number).name for number in range(model.njnt)]
    for column, address in enumerate(batch.scene.qpos_2J[0]):
        number = list(model.jnt_qposadr).index(address)
        assert names[number].startswith("right-")
        low, high = model.jnt_range[number]
        values = joints[0][:, column]
        if case.noise:
            # 0.2 (low + (high - low) u), u in [-1, 1]
            bounds = 0.2 * (low - (high - low)), 0.2 * high
            assert bounds[0] <= values.min() <= values.max() <= bounds[1]
            assert values.max() - values.min() > 0.7 * (bounds[1] - bounds[0])
        else:
            assert not values.any()


@pytest.mark.parametrize("case", CASES[:2], ids=lambda case: case.name)
def test_an_egg_stays_in_an_open_hand(case: Case) -> None:
    """Protects poses, sizes and contact: the egg lies in the first hand, flat and at rest."""
    batch = make_batch(case.name)
    data = batch.datas[0]
    for side in (0, 1):
        data.qpos[batch.scene.qpos_2J[side]] = 0
    # In the hollow of the palm: an egg that is put a centimetre towards the fingers rolls away.
    place = np.array([0, -0.393, 0.54])
    put(data, "egg", [*place[:2], 0.55, 1, 0, 0, 0])
    for _ in range(60):
        batch.step(idle(batch))
    assert math.dist(where(data, "egg")[:3], place) < 0.02
    assert np.abs(data.joint("egg").qvel).max() < 0.05
