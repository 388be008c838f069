"""The five egg tasks: observation, reward, ends, success and resets against the reference."""

from __future__ import annotations

import math
from typing import NamedTuple

import mujoco
import numpy as np
import pytest

from pipelines.domains.bidexhands.batch import HandsBatch
from pipelines.domains.registry import full_catalogue
from tests.domains.bidexhands.independent import (
    angle,
    entries,
    fresh,
    idle,
    left_over_xyzw,
    make,
    play,
    put,
    settle,
    wander,
    where,
)

Points = tuple[tuple[float, float, float], ...]


class Case(NamedTuple):
    """A task as section 3.1 of the facts has it."""

    env_id: str
    starts: Points
    goals: Points
    scale: float
    lowest: float
    noise: float
    hands_at: int
    success: float = 0.03


CASES = [
    Case("ShadowHandOver", ((0, -0.39, 0.54),), ((0, -0.64, 0.54),), 50, 0.2, 0.01, 374),
    Case("ShadowHandCatchUnderarm", ((0, -0.39, 0.54),), ((0, -0.79, 0.54),), 50, 0.1, 0.01, 398),
    Case(
        "ShadowHandTwoCatchUnderarm",
        ((0, -0.39, 0.54), (0, -0.78, 0.54)),
        ((0, -0.79, 0.54), (0, -0.38, 0.54)),
        50, 0.2, 0.01, 398, 0.06,
    ),
    Case("ShadowHandCatchOver2Underarm", ((0, 0.05, 1.0),), ((0, -0.4, 0.55),), 20, 0.3, 0, 398),
    Case(
        "ShadowHandCatchAbreast", ((-0.39, -0.55, 0.54),), ((-0.39, -1.15, 0.54),), 50, 0.2, 0, 398
    ),
]  # fmt: skip
EGGS = ("egg", "second-egg")
OVER2, ABREAST = "ShadowHandCatchOver2Underarm", "ShadowHandCatchAbreast"
TASKS = {task.env_id: task for task in full_catalogue().tasks if task.domain == "bidexhands"}

each = pytest.mark.parametrize("case", CASES, ids=lambda case: case.env_id)


def judge(batch: HandsBatch) -> tuple[float, bool, float]:
    settle(batch)
    action_BA = np.zeros((batch.size, batch.scene.model.nu))
    outcome = batch.task.outcome(batch.snapshot(), batch.goals, action_BA)
    return (
        float(outcome.reward_B[0]),
        bool(outcome.terminated_B[0]),
        float(outcome.success_B[0]),
    )


def lay(batch: HandsBatch, case: Case, offset: float, turn: float) -> None:
    """Put each egg at a distance from its goal and turned by an angle from its orientation."""
    for name, goal in zip(EGGS, case.goals, strict=False):
        about_x, result = np.array([math.cos(turn / 2), math.sin(turn / 2), 0, 0]), np.zeros(4)
        mujoco.mju_mulQuat(result, about_x, batch.goals[f"{name}-quaternion"][0])
        put(batch, name, [goal[0], goal[1], goal[2] + offset, *result])


@each
def test_the_eggs_part_of_the_observation_is_the_simulators_state(case: Case) -> None:
    """Protects layout, quaternion order, scales, and the goals' places after real steps."""
    batch, task = make(case.env_id), TASKS[case.env_id]
    observation_O = wander(batch, 20)[0]
    data = fresh(batch)
    expected: list[float] = []
    for name, goal in zip(EGGS, case.goals, strict=False):
        quaternion = batch.goals[f"{name}-quaternion"][0]
        left = left_over_xyzw(data.body(name).xquat, quaternion)
        expected += [*entries(batch, data, name), *goal, *quaternion[[1, 2, 3, 0]], *left]
    assert observation_O.shape == (task.observation_dim,)
    assert batch.scene.model.nu == task.action_dim
    np.testing.assert_allclose(observation_O[case.hands_at :], np.clip(expected, -5, 5), atol=2e-5)


@each
@pytest.mark.parametrize("offset", [0.0, 0.02, 0.1])
@pytest.mark.parametrize("turn", [0.0, 1.2, -3.0])
def test_reward_and_success(case: Case, offset: float, turn: float) -> None:
    """Protects ``exp(-0.2 (scale D + theta))``, its sum over eggs, and the distance of success."""
    batch = make(case.env_id)
    lay(batch, case, offset, turn)
    expected = len(case.goals) * math.exp(-0.2 * (case.scale * offset + abs(turn)))
    total = len(case.goals) * offset
    assert judge(batch) == (pytest.approx(expected, rel=1e-6), False, float(total < case.success))


@each
def test_a_dropped_egg_ends_the_episode(case: Case) -> None:
    """Protects the height of each task, for each egg."""
    for name in EGGS[: len(case.goals)]:
        for height, ended in ((case.lowest + 1e-3, False), (case.lowest - 1e-3, True)):
            batch = make(case.env_id)
            put(batch, name, [*where(batch, name)[:2], height, 1, 0, 0, 0])
            assert judge(batch)[1] is ended


@each
@pytest.mark.parametrize("prefix", ["right-", "left-"])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_hands_are_on_a_leash_in_two_tasks(case: Case, prefix: str, axis: int) -> None:
    """Protects the 10 cm about the reference's points, of the root or of the palm."""
    if case.env_id == "ShadowHandOver":
        assert "right-base" not in {
            make(case.env_id).scene.model.joint(number).name
            for number in range(make(case.env_id).scene.model.njnt)
        }
        return
    number = ("right-", "left-").index(prefix)
    centres = {
        OVER2: ((0, 0, 0.5), (0, -0.8, 0.5)),
        ABREAST: ((-0.3, -0.55, 0.5), (-0.3, -1.15, 0.5)),
    }.get(case.env_id)
    for offset in (0.09, 0.11, 0.3):
        batch = make(case.env_id)
        base, data = where(batch, f"{prefix}base"), fresh(batch)
        held = data.body(f"{prefix}{'palm' if case.env_id == ABREAST else 'mount'}").xpos
        aim = np.array(held if centres is None else centres[number], float)
        aim[axis] += offset
        put(batch, f"{prefix}base", [*(base[:3] + aim - held), *base[3:]])
        assert judge(batch)[1] is (centres is not None and offset > 0.1)


@each
def test_resets(case: Case) -> None:
    """Protects noise and its absence, what two eggs share, random turns and determinism."""
    size = 40
    batch = make(case.env_id, size, first_step="none")
    eggs = EGGS[: len(case.starts)]
    starts = np.array([[where(batch, name, row) for name in eggs] for row in range(size)])
    offsets = starts[..., :3] - np.array(case.starts)
    assert np.abs(offsets).max() <= case.noise + 1e-12
    assert np.abs(offsets).max() >= 0.8 * case.noise
    goals = np.stack([batch.goals[f"{name}-quaternion"] for name in eggs], axis=1)
    for number in range(len(eggs)):
        np.testing.assert_allclose(offsets[:, number], offsets[:, 0], atol=1e-12)
        np.testing.assert_array_equal(starts[:, number, 3:], starts[:, 0, 3:])
        np.testing.assert_array_equal(goals[:, number], goals[:, 0])
    for quaternions in (starts[:, 0, 3:], goals[:, 0]):
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
    again = make(case.env_id, size, first_step="none")
    wander(again, 3)
    again.reset(range(size), range(size))
    for row in range(size):
        np.testing.assert_array_equal(again.datas[row].qpos, batch.datas[row].qpos)


@each
def test_the_first_step_is_tiny_and_random_by_default(case: Case) -> None:
    """Protects the reference's reset, which steps once with actions within a hundredth."""
    batch, still = make(case.env_id), make(case.env_id, first_step="none")
    width = case.hands_at // 2
    actions = 20 if case.env_id == "ShadowHandOver" else 26
    observation_O = batch.reset([0], [7])[0]
    for side in (0, 1):
        last = observation_O[(side + 1) * width - actions : (side + 1) * width]
        assert 0.005 < np.abs(last).max() <= 0.01
        assert not still.reset([0], [7])[0][(side + 1) * width - actions : (side + 1) * width].any()
    assert batch.datas[0].time == pytest.approx(1 / 60)
    assert still.datas[0].time == 0.0


@pytest.mark.parametrize("case", CASES[:2], ids=lambda case: case.env_id)
def test_an_egg_stays_in_an_open_hand(case: Case) -> None:
    """Protects poses, sizes and contact: the egg lies in the first hand, flat and at rest."""
    batch = make(case.env_id)
    for side in (0, 1):
        batch.datas[0].qpos[batch.scene.qpos_2J[side]] = 0
    put(batch, "egg", [0, -0.37, 0.56, 1, 0, 0, 0])
    for _ in range(60):
        batch.step(idle(batch))
    egg = where(batch, "egg")
    assert math.dist(egg[:3], (0, -0.37, 0.56)) < 0.08
    assert egg[2] > 0.5


@each
def test_random_episodes_are_sound(case: Case) -> None:
    """Protects the scene's stability: a few episodes without a warning."""
    play(case.env_id, TASKS[case.env_id].horizon, episodes=3, size=3)


@pytest.mark.slow
@each
def test_a_hundred_random_episodes_are_sound(case: Case) -> None:
    """Protects the scene's stability in what three episodes do not meet."""
    play(case.env_id, TASKS[case.env_id].horizon, episodes=100, size=20)
