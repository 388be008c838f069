"""The pot that two hands lift, and the kettle at its bucket."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pipelines.domains.bidexhands.geometry import about, from_euler, multiply
from tests.domains.bidexhands.stage import (
    HANDS,
    Stage,
    along,
    check_random_episodes,
    check_resets,
    entries,
    idle,
    make_batch,
    objects_after_steps,
    palm_point,
)

NAMES = ("hand-lift-underarm", "hand-kettle")
POT_GOAL = (0, -0.6, 0.85)


def test_lift_observes_the_pot_and_its_handles() -> None:
    # A slice that is moved or that has another frame would make every checkpoint read nonsense.
    seen, model, data = objects_after_steps("hand-lift-underarm")
    pot = entries(model, data, "pot")
    right, left = along(data, "pot", (0, 0.15, 0.06)), along(data, "pot", (0, -0.15, 0.06))
    assert len(seen) == 417 - HANDS
    np.testing.assert_allclose(seen, np.clip([*pot, *right, *left], -5, 5), atol=2e-6)
    assert np.abs(pot[3:6]).max() > 0.001, "a pot that is not tilted tests nothing"


@pytest.mark.parametrize(("option", "height"), [("below", -0.1), ("opening", 0.045)])
def test_kettle_observes_the_kettle_its_handle_and_the_bucket(option: str, height: float) -> None:
    # As above; the switch moves the bucket's point from below it to its opening.
    seen, model, data = objects_after_steps("hand-kettle", kettle_target=option)
    kettle = entries(model, data, "kettle")
    handle, target = along(data, "kettle", (0.15, 0, 0)), along(data, "bucket", (0, 0, height))
    assert len(seen) == 417 - HANDS
    np.testing.assert_allclose(seen, np.clip([*kettle, *handle, *target], -5, 5), atol=2e-6)


def lifted(height: float, right: float, left: float) -> Stage:
    """The pot at a height, with palm points at distances of its handles."""
    stage = Stage("hand-lift-underarm")
    stage.put("pot", (0, -0.6, height))
    stage.bring_palm(0, (0, -0.45, height + 0.06), right)
    stage.bring_palm(1, (0, -0.75, height + 0.06), left)
    return stage


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
    stage = lifted(height, right, left)
    assert stage.outcome() == (pytest.approx(expected, abs=1e-9), False, success)


def test_lift_measures_the_handles_of_a_turned_pot() -> None:
    # The handles move with the pot.
    stage = lifted(0.7, 0.0, 0.0)
    turn = multiply(about(2, 0.3), about(0, 0.2))
    stage.put("pot", (0.03, -0.58, 0.72), turn)
    right = math.dist(palm_point(stage.data, 0), along(stage.data, "pot", (0, 0.15, 0.06)))
    left = math.dist(palm_point(stage.data, 1), along(stage.data, "pot", (0, -0.15, 0.06)))
    assert 0.02 < right < 0.08
    assert 0.02 < left < 0.08
    goal = math.dist((0.03, -0.58, 0.72), POT_GOAL)
    expected = 0.2 - right - left + 3 * (0.385 - goal)
    assert stage.outcome()[0] == pytest.approx(expected, abs=1e-9)


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
    assert lifted(height, right, left).outcome()[1] is over


def poured(
    right: float, left: float, bucket: tuple[float, float, float], option: str = "below"
) -> Stage:
    """The bucket somewhere, with fingers at distances of the kettle's handle and of its point."""
    stage = Stage("hand-kettle", kettle_target=option)
    stage.curl(0.8)
    stage.put("kettle", (0, 0, 0.5), about(2, np.pi / 2))
    stage.put("bucket", bucket)
    height = -0.1 if option == "below" else 0.045
    stage.bring(0, (0, 0.15, 0.5), right)
    stage.bring(1, np.array(bucket) + np.array([0, 0, height]), left)
    return stage


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
    stage = poured(right, left, bucket, option)
    assert stage.outcome() == (pytest.approx(expected, abs=1e-9), False, success)


def test_kettle_measures_points_of_a_tilted_kettle_and_bucket() -> None:
    # Handle, spout and target move with their bodies.
    stage = poured(0.5, 0.5, (0.05, -0.3, 0.6))
    stage.put("kettle", (0.02, 0.01, 0.52), from_euler(0.2, -0.3, 1.4))
    stage.put("bucket", (0.05, -0.3, 0.6), from_euler(-0.3, 0.1, 0))
    data = stage.data
    handle, spout = along(data, "kettle", (0.15, 0, 0)), along(data, "kettle", (-0.2, 0, 0.07))
    target = along(data, "bucket", (0, 0, -0.1))
    for side, point in ((0, handle), (1, target)):
        stage.bring(side, point, 0.6)
    expected = 1 - 1.2 + 0.5 - 2 * math.dist(target, spout)
    assert stage.outcome()[0] == pytest.approx(expected, abs=1e-9)


def test_kettle_ends_when_the_bucket_falls_and_never_for_a_hand() -> None:
    # The limit is on the bucket's point, which is 0.1 below the bucket.
    assert not poured(0.6, 0.6, (0, -0.3, 0.301)).outcome()[1]
    assert poured(0.6, 0.6, (0, -0.3, 0.299)).outcome()[1]
    assert not poured(3.0, 3.0, (0, -0.3, 0.5)).outcome()[1]


def test_vessels_rest_on_their_tables() -> None:
    # The pot stands where it starts; kettle and bucket drop by some centimetres, and stand.
    for name, heights in (
        ("hand-lift-underarm", {"pot": 0.465}),
        ("hand-kettle", {"kettle": 0.474, "bucket": 0.453}),
    ):
        batch = make_batch(name, 1)
        batch.reset([0], [0])
        data = batch.datas[0]
        start = {body: batch.scene.model.body(body) for body in heights}
        for _ in range(60):
            batch.step(idle(batch))
        for body, height in heights.items():
            x, y, z = data.body(body).xpos
            assert math.hypot(x - start[body].pos[0], y - start[body].pos[1]) < 0.001
            assert abs(z - height) < 0.002
            assert np.abs(data.joint(body).qvel).max() < 0.01
            assert abs(data.body(body).xquat @ start[body].quat) > 0.99999


def test_the_pot_weighs_and_turns_as_the_reference_says() -> None:
    # 3 kg of pot and 1 kg of lid, with the moments of inertia of their file.
    body = Stage("hand-lift-underarm").model.body("pot")
    assert body.mass[0] == 4.0
    assert sorted(body.inertia) == [0.4, 0.8, 0.8]


@pytest.mark.parametrize("name", NAMES)
def test_resets_depend_on_nothing_but_the_seed(name: str) -> None:
    # Resume and parallel collection rely on it; these tasks have no noise at reset.
    check_resets(name)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("episodes", [3, pytest.param(100, marks=pytest.mark.slow)])
def test_random_episodes_stay_sane(name: str, episodes: int) -> None:
    # No warning of the simulator, no number that is not finite, no state that blows up.
    check_random_episodes(name, episodes)
