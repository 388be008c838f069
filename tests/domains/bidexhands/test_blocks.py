"""Blocks on a table: pushing, stacking, placing at a bucket."""

from __future__ import annotations

import math

import numpy as np
import pytest

from domains.bidexhands.support import (
    SIDES,
    Pose,
    entries,
    idle,
    make_batch,
    objects_after_steps,
    point,
    put,
    where,
)

pytestmark = pytest.mark.simulator

LEFT_GOAL, RIGHT_GOAL = (-0.2, -0.2, 0.625), (-0.2, 0.2, 0.625)
UPPER, LOWER = (0, 0, 0.675), (0, 0, 0.625)


def test_push_block_observes_blocks_goals_and_padding() -> None:
    # A slice that is moved or that has another frame would make every checkpoint read nonsense.
    seen, data = objects_after_steps("hand-push-block")
    expected = [
        *entries(data, "right-block"),
        *data.body("right-block").xpos,
        *data.body("left-block").xpos,
        *LEFT_GOAL,
        *RIGHT_GOAL,
        *[0] * 5,
    ]
    np.testing.assert_allclose(seen, np.clip(expected, -5, 5), atol=2e-6)


def test_block_stack_observes_both_blocks_and_padding() -> None:
    # As above: 13 entries a block, the right one first, then four zeros.
    seen, data = objects_after_steps("hand-block-stack")
    right, left = entries(data, "right-block"), entries(data, "left-block")
    np.testing.assert_allclose(seen, np.clip([*right, *left, *[0] * 4], -5, 5), atol=2e-6)
    assert np.abs(right[10:]).max() > 0.01, "a block that does not turn tests nothing"


def test_grasp_and_place_observes_bucket_and_block() -> None:
    # As above: the bucket whole, then position and quaternion of the bucket and of the block.
    seen, data = objects_after_steps("hand-grasp-and-place")
    bucket, block = entries(data, "bucket"), entries(data, "block")
    expected = [*bucket, *bucket[:7], *block[:7]]
    np.testing.assert_allclose(seen, np.clip(expected, -5, 5), atol=2e-6)


@pytest.mark.parametrize("option", ["left", "own"])
def test_push_block_rewards_reach_and_goals(option: str) -> None:
    # The reference measures both blocks to the left goal; the switch gives each its own.
    pose = Pose("hand-push-block", push_block_goals=option)
    pose.put("right-block", (-0.1, 0.15, 0.625))
    pose.put("left-block", (0.05, -0.25, 0.7))
    pose.bring("right", pose.at("right-block"), 0.8)
    pose.bring("left", pose.at("left-block"), 1.1)
    goal = LEFT_GOAL if option == "left" else RIGHT_GOAL
    left = math.dist((0.05, -0.25, 0.7), LEFT_GOAL)
    right = math.dist((-0.1, 0.15, 0.625), goal)
    expected = (1.2 - 0.8) + (1.2 - 1.1) + 5 - 5 * left - 5 * right
    assert pose.judge() == (pytest.approx(expected, abs=1e-9), False, 0.0)
    assert right == pytest.approx(0.36401 if option == "left" else 0.11180, abs=1e-5)


@pytest.mark.parametrize(
    ("right", "left", "success"),
    [
        ((0, 0.2), (-0.11, -0.2), 0.5),
        ((-0.2, -0.11), (-0.2, -0.2), 1.0),
        ((-0.2, 0.2), (-0.2, -0.2), 0.5),
        ((-0.2, -0.2), (-0.09, -0.2), 0.0),
    ],
)
def test_push_block_succeeds_by_halves(
    right: tuple[float, float], left: tuple[float, float], success: float
) -> None:
    # Half for the left block at the left goal, all when the right one is there too (the
    # reference's oddity); nothing for the right one alone.
    pose = Pose("hand-push-block")
    pose.put("right-block", (*right, 0.625))
    pose.put("left-block", (*left, 0.625))
    assert pose.judge().success == success


def test_push_block_with_own_goals_succeeds_at_them() -> None:
    # The switch moves the success with the reward.
    pose = Pose("hand-push-block", push_block_goals="own")
    pose.put("right-block", (-0.2, 0.15, 0.625))
    pose.put("left-block", (-0.2, -0.2, 0.625))
    assert pose.judge().success == 1.0


@pytest.mark.parametrize(
    ("name", "bodies", "limit"),
    [
        ("hand-push-block", ("right-block", "left-block"), 1.2),
        ("hand-block-stack", ("right-block", "left-block"), 0.75),
        ("hand-grasp-and-place", ("bucket", "block"), 1.5),
    ],
)
@pytest.mark.parametrize("side", SIDES)
def test_a_hand_too_far_from_its_object_ends_the_episode(
    name: str, bodies: tuple[str, str], limit: float, side: str
) -> None:
    # Each hand by itself, at the task's own limit.
    pose = Pose(name)
    pose.bend(J2=0.8)
    objects = dict(zip(SIDES, bodies, strict=True))
    for hand in SIDES:
        pose.bring(hand, pose.at(objects[hand]), limit - 0.001)
    assert not pose.judge().over
    pose.bring(side, pose.at(objects[side]), limit + 0.001)
    assert pose.judge().over


def stacked(height: float, right_reach: float, left_reach: float) -> Pose:
    """The left block at a height over the right one, which is 1 cm off, and hands near them."""
    pose = Pose("hand-block-stack")
    pose.bend(J2=0.8)
    pose.put("right-block", (0.01, 0, 0.625))
    pose.put("left-block", (0, 0, height))
    pose.bring("right", pose.at("right-block"), right_reach)
    pose.bring("left", pose.at("left-block"), left_reach)
    return pose


@pytest.mark.parametrize(
    ("height", "reaches", "extra", "bonus"),
    [
        # Exactly on top: the whole bonus of 50 * 0.05, and 2 (0.24 - 0 - 0.01) for near hands.
        (0.675, (0.45, 0.49), 0.46, 2.5),
        # 2 cm too high.
        (0.695, (0.45, 0.49), 0.42, 1.5),
        # As high, with one hand away: what nearness earns is lost, the bonus is not.
        (0.695, (0.45, 0.51), 0.0, 1.5),
        (0.695, (0.51, 0.45), 0.0, 1.5),
        # 6 cm off is still within 7 cm, where the bonus is a penalty.
        (0.735, (0.45, 0.49), 0.34, -0.5),
        # 8 cm off is too far.
        (0.755, (0.45, 0.49), 0.30, 0.0),
    ],
)
def test_block_stack_rewards_reach_goals_and_the_stack(
    height: float, reaches: tuple[float, float], extra: float, bonus: float
) -> None:
    # Both gates of the reward, on both sides; success is a bonus of more than 1.
    pose = stacked(height, *reaches)
    expected = 1.5 - reaches[0] - reaches[1] + extra + bonus
    assert pose.judge() == (pytest.approx(expected, abs=1e-9), False, float(bonus > 1))


def test_block_stack_pays_no_bonus_while_the_lower_block_is_away() -> None:
    # Either block alone at its goal is no stack.
    pose = stacked(0.675, 0.45, 0.49)
    pose.put("right-block", (0.071, 0, 0.625))
    pose.bring("right", pose.at("right-block"), 0.45)
    expected = 1.5 - 0.45 - 0.49 + 2 * (0.24 - 0.071)
    assert pose.judge() == (pytest.approx(expected, abs=1e-9), False, 0.0)


def test_grasp_and_place_rewards_three_distances() -> None:
    # Exponentials of both reaches and of the distance between bucket and block.
    pose = Pose("hand-grasp-and-place")
    pose.bend(J2=0.8)
    pose.put("bucket", (0.02, 0.1, 0.653))
    pose.put("block", (0.02, -0.02, 0.613))
    pose.bring("right", pose.at("bucket"), 0.44)
    pose.bring("left", pose.at("block"), 0.5)
    apart = math.hypot(0.12, 0.04)
    expected = math.exp(-4.4) + math.exp(-5.0) + 2 * math.exp(-10 * apart)
    assert pose.judge() == (pytest.approx(expected, abs=1e-9), False, 1.0)
    pose.put("block", (0.02, -0.11, 0.653))
    assert pose.judge().success == 0.0


def test_a_bucket_holds_a_block() -> None:
    # It is open above and closed below: what is dropped into it stays there.
    batch = make_batch("hand-grasp-and-place")
    data = batch.datas[0]
    for side in SIDES:
        put(data, f"{side}-base", where(data, f"{side}-base")[:3] + np.array([0, 0, 0.5]))
    put(data, "block", point(data, "bucket", (0, 0, 0.1)))
    for _ in range(60):
        batch.step(idle(batch))
    apart = data.body("block").xpos - data.body("bucket").xpos
    assert np.hypot(*apart[:2]) < 0.03
    assert -0.04 < apart[2] < 0.0
