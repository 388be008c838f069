"""The pot that two hands lift, and the kettle at its bucket."""

from __future__ import annotations

import math

import numpy as np
import pytest

from domains.bidexhands.support import (
    Pose,
    entries,
    objects_after_steps,
    palm_point,
    point,
)
from pipelines.domains.bidexhands.geometry import about, from_euler, multiply

pytestmark = pytest.mark.simulator

POT_GOAL = (0, -0.6, 0.85)


def test_lift_observes_the_pot_and_its_handles() -> None:
    # A slice that is moved or that has another frame would make every checkpoint read nonsense.
    seen, data = objects_after_steps("hand-lift-underarm")
    pot = entries(data, "pot")
    right, left = point(data, "pot", (0, 0.15, 0.06)), point(data, "pot", (0, -0.15, 0.06))
    np.testing.assert_allclose(seen, np.clip([*pot, *right, *left], -5, 5), atol=2e-6)
    assert np.abs(pot[3:6]).max() > 0.001, "a pot that is not tilted tests nothing"


@pytest.mark.parametrize(("option", "height"), [("below", -0.1), ("opening", 0.045)])
def test_kettle_observes_the_kettle_its_handle_and_the_bucket(option: str, height: float) -> None:
    # As above; the switch moves the bucket's point from below it to its opening.
    seen, data = objects_after_steps("hand-kettle", kettle_target=option)
    kettle = entries(data, "kettle")
    handle, target = point(data, "kettle", (0.15, 0, 0)), point(data, "bucket", (0, 0, height))
    np.testing.assert_allclose(seen, np.clip([*kettle, *handle, *target], -5, 5), atol=2e-6)


def lifted(height: float, right: float, left: float) -> Pose:
    """The pot at a height, with palm points at distances of its handles."""
    pose = Pose("hand-lift-underarm")
    pose.put("pot", (0, -0.6, height))
    pose.bring_palm("right", (0, -0.45, height + 0.06), right)
    pose.bring_palm("left", (0, -0.75, height + 0.06), left)
    return pose


@pytest.mark.parametrize(
    ("height", "right", "left", "expected", "success"),
    [
        # 0.2 - 0.05 - 0.07 + 3 (0.385 - 0.385): held, not lifted.
        (0.465, 0.05, 0.07, 0.08, 0.0),
        # 0.2 - 0.05 - 0.07 + 3 (0.385 - 0.04).
        (0.81, 0.05, 0.07, 1.115, 1.0),
        # As high, but each hand in turn is too far to hold it.
        (0.81, 0.05, 0.081, 0.069, 1.0),
        (0.81, 0.081, 0.05, 0.069, 1.0),
        (0.799, 0.05, 0.07, 1.082, 0.0),
    ],
)
def test_lift_rewards_palms_at_the_handles_and_height(
    height: float, right: float, left: float, expected: float, success: float
) -> None:
    # Both sides of the gate, and of the success, by hand-made sums.
    pose = lifted(height, right, left)
    assert pose.judge() == (pytest.approx(expected, abs=1e-9), False, success)


def test_lift_measures_the_handles_of_a_turned_pot() -> None:
    # The handles move with the pot.
    pose = lifted(0.7, 0.0, 0.0)
    turn = multiply(about(2, 0.3), about(0, 0.2))
    pose.put("pot", [0.03, -0.58, 0.72, *turn])
    right = math.dist(palm_point(pose.data, "right"), pose.at("pot", (0, 0.15, 0.06)))
    left = math.dist(palm_point(pose.data, "left"), pose.at("pot", (0, -0.15, 0.06)))
    assert 0.02 < right < 0.08
    assert 0.02 < left < 0.08
    goal = math.dist((0.03, -0.58, 0.72), POT_GOAL)
    expected = 0.2 - right - left + 3 * (0.385 - goal)
    assert pose.judge().reward == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("height", "right", "left", "over"),
    [
        (0.465, 0.199, 0.199, False),
        (0.465, 0.201, 0.0, True),
        (0.465, 0.0, 0.201, True),
        (0.301, 0.0, 0.0, False),
        (0.299, 0.0, 0.0, True),
    ],
)
def test_lift_ends_when_a_hand_leaves_or_the_pot_falls(
    height: float, right: float, left: float, over: bool
) -> None:
    # Each reason by itself, close to its limit.
    assert lifted(height, right, left).judge().over is over


def poured(
    right: float, left: float, bucket: tuple[float, float, float], option: str = "below"
) -> Pose:
    """The bucket somewhere, with fingers at distances of the kettle's handle and of its point."""
    pose = Pose("hand-kettle", kettle_target=option)
    pose.bend(J2=0.8)
    pose.put("kettle", [0, 0, 0.5, *about(2, np.pi / 2)])
    pose.put("bucket", bucket)
    height = -0.1 if option == "below" else 0.045
    pose.bring("right", (0, 0.15, 0.5), right)
    pose.bring("left", np.array(bucket) + np.array([0, 0, height]), left)
    return pose


@pytest.mark.parametrize(
    ("right", "left", "bucket", "option", "expected", "success"),
    [
        # The spout is at (0, -0.2, 0.57), the bucket's point 0.1 below its frame.
        (0.6, 0.69, (0, -0.2, 0.63), "below", 1 - 1.29 + 0.5 - 0.08, 1.0),
        (0.6, 0.69, (0, -0.3, 0.67), "below", 1 - 1.29 + 0.5 - 0.2, 0.0),
        # A hand that is too far loses what pouring earns, and would have cost.
        (0.71, 0.6, (0, -0.2, 0.63), "below", 1 - 1.31, 1.0),
        (0.6, 0.71, (0, -0.2, 0.63), "below", 1 - 1.31, 1.0),
        (0.71, 0.6, (0, -0.8, 0.67), "below", 1 - 1.31, 0.0),
        (0.6, 0.69, (0, -0.8, 0.67), "below", 1 - 1.29 + 0.5 - 1.2, 0.0),
        # At its opening, 0.045 above the frame.
        (0.6, 0.69, (0, -0.2, 0.485), "opening", 1 - 1.29 + 0.5 - 0.08, 1.0),
        (0.6, 0.69, (0, -0.2, 0.63), "opening", 1 - 1.29 + 0.5 - 0.21, 0.0),
    ],
)
def test_kettle_rewards_reach_and_the_spout_at_the_bucket(
    right: float,
    left: float,
    bucket: tuple[float, float, float],
    option: str,
    expected: float,
    success: float,
) -> None:
    # Both sides of the gate and both targets, by hand-made sums.
    pose = poured(right, left, bucket, option)
    assert pose.judge() == (pytest.approx(expected, abs=1e-9), False, success)


def test_kettle_measures_points_of_a_tilted_kettle_and_bucket() -> None:
    # Handle, spout and target move with their bodies.
    pose = poured(0.5, 0.5, (0.05, -0.3, 0.6))
    pose.put("kettle", [0.02, 0.01, 0.52, *from_euler(0.2, -0.3, 1.4)])
    pose.put("bucket", [0.05, -0.3, 0.6, *from_euler(-0.3, 0.1, 0)])
    data = pose.data
    handle, spout = point(data, "kettle", (0.15, 0, 0)), point(data, "kettle", (-0.2, 0, 0.07))
    target = point(data, "bucket", (0, 0, -0.1))
    for side, target_3 in (("right", handle), ("left", target)):
        pose.bring(side, target_3, 0.6)
    expected = 1 - 1.2 + 0.5 - 2 * math.dist(target, spout)
    assert pose.judge().reward == pytest.approx(expected, abs=1e-9)


def test_kettle_ends_when_the_bucket_falls_and_never_for_a_hand() -> None:
    # The limit is on the bucket's point, which is 0.1 below the bucket.
    assert not poured(0.6, 0.6, (0, -0.3, 0.301)).judge().over
    assert poured(0.6, 0.6, (0, -0.3, 0.299)).judge().over
    assert not poured(3.0, 3.0, (0, -0.3, 0.5)).judge().over


def test_the_pot_weighs_and_turns_as_the_reference_says() -> None:
    # 3 kg of pot and 1 kg of lid, with the moments of inertia of their file.
    body = Pose("hand-lift-underarm").data.model.body("pot")
    assert body.mass[0] == 4.0
    assert sorted(body.inertia) == [0.4, 0.8, 0.8]
