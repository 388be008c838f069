"""Pen, scissors and cup: observation, reward, end and success against independent numbers."""

from __future__ import annotations

import math

import mujoco
import numpy as np
import pytest

from domains.bidexhands.support import (
    HANDS,
    SIDES,
    Pose,
    angle,
    entries,
    fresh,
    idle,
    make_batch,
    point,
    wander,
)

pytestmark = pytest.mark.simulator

PEN, SCISSORS, CUP = "hand-pen", "hand-scissors", "hand-swing-cup"
# By the reference: body and offset of the right point, of the left point, and the free body. Those
# of the scissors' half are in the frame that turns with it, whose origin is the pivot.
POINTS = {
    PEN: (("cap", (0, 0, -0.1)), ("pen", (0, 0, 0.07)), "pen"),
    SCISSORS: (("scissors-half", (0.1, -0.2, 0)), ("scissors", (-0.1, -0.15, 0)), "scissors"),
    CUP: (("cup", (0.062, 0, 0)), ("cup", (-0.06, 0, 0)), "cup"),
}
BENT = {"J1": 0.8, "J2": 0.8, "J0": 0.9, "THJ4": 0.6, "THJ3": 0.4}


def targets(data: mujoco.MjData, name: str) -> tuple[np.ndarray, np.ndarray]:
    right, left, _ = POINTS[name]
    return point(data, *right), point(data, *left)


def reaches(pose: Pose, name: str) -> tuple[float, float]:
    right, left = targets(pose.data, name)
    return pose.reach("right", right), pose.reach("left", left)


def hold(pose: Pose, name: str) -> None:
    """Bring both hands to their points, fingers bent around them."""
    pose.bend(**BENT)
    for side, target in zip(SIDES, targets(pose.data, name), strict=True):
        pose.surround(side, target)


def withdraw(pose: Pose, name: str, side: str, value: float) -> None:
    """Hold with both hands, then move one away until its reach is a value."""
    hold(pose, name)
    pose.bring(side, targets(pose.data, name)[SIDES.index(side)], value)


@pytest.mark.parametrize("name", POINTS)
def test_the_things_part_of_the_observation_is_the_simulators_state(name: str) -> None:
    """Protects layout, order of points, quaternion order, scales and frames after real steps."""
    batch = make_batch(name)
    observation_O = wander(batch, 40)[0]
    data = fresh(batch)
    expected = np.concatenate([entries(data, POINTS[name][2]), *targets(data, name)])
    np.testing.assert_allclose(observation_O[HANDS:], np.clip(expected, -5, 5), atol=2e-5)


@pytest.mark.parametrize(
    ("name", "right", "left"),
    [
        # Where the closed pen's points are (facts 3.7), 0.17 m apart along y.
        (PEN, (0, 0.1, 0.61), (0, -0.07, 0.61)),
        # Left as in facts 3.8; right turned about the pivot by the closed angle from (.13, .10).
        (SCISSORS, (0.152, -0.031, 0.605), (0.15, -0.1, 0.605)),
        (CUP, (0, 0.062, 0.684), (0, -0.06, 0.684)),
    ],
)
def test_points_start_where_the_reference_has_them(name, right, left) -> None:
    """Protects the scene's own geometry, which the observation's test takes as given."""
    found = targets(Pose(name).data, name)
    np.testing.assert_allclose(found[0], right, atol=2e-3)
    np.testing.assert_allclose(found[1], left, atol=2e-3)


@pytest.mark.parametrize("gap", [0.0, 0.1, 0.2])
def test_reward_of_the_pen(gap: float) -> None:
    """Protects the exponentials, the gate at 0.75, ``5 l - 0.8`` and the threshold of success."""
    pose = Pose(PEN)
    pose.put("cap", gap)
    right, left = reaches(pose, PEN)
    assert right > 0.75
    assert left > 0.75
    far = math.exp(-10 * right) + math.exp(-10 * left)
    assert pose.judge() == (pytest.approx(far, abs=1e-9), False, float(0.17 + gap > 0.3))
    hold(pose, PEN)
    right, left = reaches(pose, PEN)
    assert max(right, left) < 0.75
    near = math.exp(-10 * right) + math.exp(-10 * left) + 5 * (0.17 + gap) - 0.8
    assert pose.judge() == (pytest.approx(near, abs=1e-9), False, float(0.17 + gap > 0.3))


@pytest.mark.parametrize("opened", [0.0, 0.2, 0.35, 0.9])
def test_reward_of_the_scissors(opened: float) -> None:
    """Protects ``2 - rF - lF``, the gate at 0.7, ``5 (0.59 + q)`` and the threshold of success."""
    pose = Pose(SCISSORS)
    pose.put("scissors-hinge", -0.59 + opened)
    # Both hands near enough for the reward, the right one too far for the gate.
    right_point, left_point = targets(pose.data, SCISSORS)
    pose.bend(**BENT)
    pose.surround("right", right_point, 0.15)
    pose.surround("left", left_point)
    right, left = reaches(pose, SCISSORS)
    assert 0.7 < right < 1.75
    success = float(opened > 0.29)
    assert pose.judge() == (pytest.approx(2 - right - left, abs=1e-9), False, success)
    hold(pose, SCISSORS)
    right, left = reaches(pose, SCISSORS)
    assert max(right, left) < 0.7
    near = 2 - right - left + 5 * opened
    assert pose.judge() == (pytest.approx(near, abs=1e-6), False, success)


@pytest.mark.parametrize("yaw", [math.pi / 2, math.pi, 1.5 * math.pi - 0.5, 1.5 * math.pi, 5.0])
def test_reward_of_the_cup(yaw: float) -> None:
    """Protects the goal at a yaw of 1.5 pi, the gate at 0.4, its term and success."""
    pose = Pose(CUP)
    turned = np.array([math.cos(yaw / 2), 0, 0, math.sin(yaw / 2)])
    pose.put("cup", [*pose.where("cup")[:3], *turned])
    theta = abs(yaw - 1.5 * math.pi)
    goal = np.array([math.cos(0.75 * math.pi), 0, 0, math.sin(0.75 * math.pi)])
    assert angle(turned, goal) == pytest.approx(theta, abs=1e-6)
    right, left = reaches(pose, CUP)
    assert max(right, left) > 0.4
    success = float(theta < 0.785)
    assert pose.judge() == (pytest.approx(-right - left, abs=1e-9), False, success)
    hold(pose, CUP)
    right, left = reaches(pose, CUP)
    assert max(right, left) < 0.4
    near = -right - left + 5 / (theta + 0.1) - 1
    assert pose.judge() == (pytest.approx(near, abs=1e-5), False, success)


@pytest.mark.parametrize(("name", "gate"), [(PEN, 0.75), (SCISSORS, 0.7), (CUP, 0.4)])
@pytest.mark.parametrize("side", SIDES)
def test_both_hands_have_to_be_near(name: str, gate: float, side: str) -> None:
    """Protects the place of each gate, for each hand by itself."""
    pose = Pose(name)
    if name == PEN:
        pose.put("cap", 0.1)
    elif name == SCISSORS:
        pose.put("scissors-hinge", -0.09)
    extra = {PEN: 5 * 0.27 - 0.8, SCISSORS: 5 * 0.5, CUP: 5 / (math.pi + 0.1) - 1}[name]
    for value, paid in ((gate - 0.004, extra), (gate + 0.004, 0.0)):
        withdraw(pose, name, side, value)
        right, left = reaches(pose, name)
        assert sorted((right, left))[1] == pytest.approx(value, abs=1e-6)
        expected = {
            PEN: math.exp(-10 * right) + math.exp(-10 * left),
            SCISSORS: 2 - right - left,
            CUP: -right - left,
        }[name] + paid
        assert pose.judge().reward == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize(("name", "limit"), [(PEN, 1.5), (SCISSORS, 1.75)])
@pytest.mark.parametrize("side", SIDES)
def test_a_hand_that_leaves_ends_the_episode(name: str, limit: float, side: str) -> None:
    """Protects the limits of rF and lF, each by itself, from both sides."""
    pose = Pose(name)
    for value, ended in ((limit - 0.004, False), (limit + 0.004, True)):
        withdraw(pose, name, side, value)
        assert pose.judge().over is ended


def test_only_a_fallen_cup_ends_its_episode() -> None:
    """Protects that the cup's task has no limit for the hands, and the height of 0.3 m."""
    pose = Pose(CUP)
    pose.shift("left", [1.0, 0, 0])
    assert pose.judge().over is False
    for height, ended in ((0.301, False), (0.299, True)):
        pose.put("cup", [0.4, 0, height])
        assert pose.judge().over is ended


def test_a_pens_cap_comes_off_by_a_pull_and_not_by_itself() -> None:
    """Protects the joint: it slides away from the pen, sticks, and ends at 0.492 m."""
    batch = make_batch(PEN)
    body = batch.datas[0].body("cap")
    axis = batch.datas[0].body("pen").xmat.reshape(3, 3)[:, 2]
    for force, moved in ((0.2, False), (2.0, True)):
        start = float(batch.snapshot().joints["cap"][0])
        for _ in range(30):
            body.xfrc_applied[:3] = -force * axis
            batch.datas[0].body("pen").xfrc_applied[:3] = force * axis
            batch.step(idle(batch))
        now = float(batch.snapshot().joints["cap"][0])
        assert (now - start > 0.05) is moved
        assert now <= 0.5


def test_a_torque_opens_the_scissors() -> None:
    """Protects axis and limits of the hinge: opening moves the right ring from the left one."""
    batch = make_batch(SCISSORS)
    apart = [math.dist(*targets(batch.datas[0], SCISSORS))]
    half = batch.datas[0].body("scissors-half")
    for _ in range(60):
        half.xfrc_applied[5] = 0.3
        batch.step(idle(batch))
    apart.append(math.dist(*targets(batch.datas[0], SCISSORS)))
    assert float(batch.snapshot().joints["scissors-hinge"][0]) == pytest.approx(0.4, abs=0.02)
    assert apart[0] < 0.08
    assert apart[1] > 0.2
