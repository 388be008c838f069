"""The four door tasks: what they observe, pay, end with and start from."""

from __future__ import annotations

import math

import numpy as np
import pytest

from domains.bidexhands.support import (
    HANDS,
    SIDES,
    Pose,
    fresh,
    make_batch,
    wander,
)

pytestmark = pytest.mark.simulator

NAMES = (
    "hand-door-open-outward",
    "hand-door-open-inward",
    "hand-door-close-outward",
    "hand-door-close-inward",
)


def _handle(side: str, inward: bool, angle: float) -> np.ndarray:
    """Return where a handle is, from the reference's geometry and a hinge's angle alone."""
    sign = 1.0 if side == "right" else -1.0
    hinge = np.array([-0.0085, 0.4265 if side == "right" else -0.4204])
    x, y = (0.0315, 0.0365) if side == "right" else (0.034, -0.030)
    x, y = np.array([-x if inward else x, y]) - hinge
    c, s = math.cos(-sign * angle), math.sin(-sign * angle)
    x, y = hinge + np.array([c * x - s * y, s * x + c * y])
    # Half a turn about y makes (x, y, z) into (-x, y, -z).
    return np.array([-x, y, 0.7 + 0.017]) if inward else np.array([x, y, 0.7 - 0.017])


def _angles(data) -> tuple[float, float]:
    return tuple(float(data.joint(f"{side}-hinge").qpos[0]) for side in SIDES)


@pytest.mark.parametrize("name", NAMES)
def test_the_objects_part_is_door_then_left_then_right_handle(name):
    """Protects each entry after the hands, and the order of the handles: left first."""
    batch = make_batch(name)
    seen = wander(batch, 6, seed=3)[0]
    right, left = _angles(fresh(batch))
    inward = name.endswith("inward")
    turned = [0, 1, 0, 0] if inward else [0, 0, 0, 1]
    expected = np.concatenate(
        [[0, 0, 0.7], turned, np.zeros(6), _handle("left", inward, left),
         _handle("right", inward, right)]
    )  # fmt: skip
    np.testing.assert_allclose(seen[HANDS:], expected, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("near", ["neither", "right", "both"])
@pytest.mark.parametrize("angles", [(0.3, 0.7), (0.0, 0.0), (1.2, 1.5)])
def test_the_reward_is_the_formula(name, near, angles):
    """Protects the constant, the reaches, and the bonus that both hands have to be near for."""
    pose = Pose(name)
    inward, closes = name.endswith("inward"), "close" in name
    handles = {s: _handle(s, inward, a) for s, a in zip(SIDES, angles, strict=True)}
    for side, angle in zip(SIDES, angles, strict=True):
        pose.put(f"{side}-hinge", angle)
        is_near = near in (side, "both")
        pose.surround(side, handles[side], 0.01 if is_near else 0.1)
    right_reach, left_reach = (pose.reach(s, handles[s]) for s in handles)
    apart = abs(handles["right"][1] - handles["left"][1])
    assert (right_reach < 0.5, left_reach < 0.5) == (near != "neither", near == "both")
    assert max(right_reach, left_reach) < 0.75
    expected = (6.0 if name == "hand-door-close-outward" else 2.0) - right_reach - left_reach
    if near == "both":
        expected += 1.0 - 2.0 * apart if closes else 2.0 * apart
    assert pose.judge().reward == pytest.approx(expected, abs=1e-9)


def test_a_reward_in_numbers():
    """Protects the formula's test from a mistake that the two share: one case worked out."""
    pose = Pose("hand-door-open-outward")
    # Closed doors: handles 66.5 mm apart. All fingertips of a hand within 0.1 m: reach < 0.5.
    pose.surround("right", [0.0315, 0.0365, 0.683])
    pose.surround("left", [0.034, -0.03, 0.683])
    near = pose.judge().reward
    # 1 m up, every fingertip of the right hand is 1 m off, but for a few mm.
    pose.shift("right", [0, 0, 1.0])
    far = pose.judge().reward
    spread = 2.0 + 2 * 0.0665 - near
    assert 0.2 < spread < 1.0
    assert far == pytest.approx(2.0 - spread / 2 - 5.0, abs=0.03)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("side", SIDES)
def test_a_hand_too_far_from_its_handle_ends_the_episode(name, side):
    """Protects the limits of the reach: 3 for closing outward, else 1.5, of either hand."""
    pose = Pose(name)
    inward = name.endswith("inward")
    limit = 3.0 if name == "hand-door-close-outward" else 1.5
    for each in SIDES:
        pose.put(f"{each}-hinge", 0.5)
        pose.surround(each, _handle(each, inward, 0.5))
    assert not pose.judge().over
    target = _handle(side, inward, 0.5)
    while pose.reach(side, target) < limit:
        assert not pose.judge().over
        pose.shift(side, [0, 0, 0.01])
    assert pose.judge().over


@pytest.mark.parametrize("name", NAMES)
def test_success_is_handles_half_a_metre_apart_or_closer(name):
    """Protects the threshold and its direction."""
    pose = Pose(name)
    inward, closes = name.endswith("inward"), "close" in name
    for angle in np.linspace(0, 1.5, 16):
        pose.put("right-hinge", angle)
        pose.put("left-hinge", angle)
        apart = abs(_handle("right", inward, angle)[1] - _handle("left", inward, angle)[1])
        assert pose.judge().success == (apart < 0.5 if closes else apart > 0.5)


@pytest.mark.parametrize("name", NAMES)
def test_doors_start_closed_or_open(name):
    """Protects the hinges' angle and speed at the start."""
    pose = Pose(name)
    angle = 1.57 if "close" in name else 0.0
    assert _angles(pose.data) == (angle, angle)
    speeds = [pose.data.joint(f"{side}-hinge").qvel[0] for side in SIDES]
    np.testing.assert_array_equal(speeds, [angle, angle])


@pytest.mark.parametrize("name", NAMES)
def test_hands_and_doors_start_apart(name):
    """Protects the start from the overlap that bursts hands out of the reference's handles."""
    assert Pose(name).data.ncon == 0


@pytest.mark.parametrize(
    ("name", "spring", "low", "high"),
    [
        ("hand-door-open-outward", "stiff", -0.01, 0.01),
        ("hand-door-open-inward", "none", -0.01, 0.01),
        ("hand-door-close-outward", "stiff", -0.01, 0.05),
        ("hand-door-close-outward", "none", 1.4, 1.6),
        ("hand-door-close-inward", "none", 1.4, 1.6),
    ],
)
def test_doors_that_are_left_alone(name, spring, low, high):
    """Protects the spring, its option, and that closed doors stay closed."""
    batch = make_batch(name, door_spring=spring)
    # Out of the way of the panels: up and back.
    action = np.zeros((1, 52), np.float32)
    action[0, [0, 26]] = 1.0
    for _ in range(150):
        batch.step(action)
    for angle in _angles(batch.datas[0]):
        assert low < angle < high


def test_hands_push_outward_doors_open():
    """Protects contact of hands and panels, and which way the doors turn."""
    batch = make_batch("hand-door-open-outward")
    action = np.zeros((1, 52), np.float32)
    action[0, [0, 26]] = -1.0
    for _ in range(60):
        batch.step(action)
    assert min(_angles(batch.datas[0])) > 0.3
