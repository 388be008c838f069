"""Blocks on a table: pushing, stacking, placing at a bucket."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.domains.bidexhands.stage import (
    HANDS,
    Stage,
    check_random_episodes,
    check_resets,
    entries,
    idle,
    make_batch,
    objects_after_steps,
)

NAMES = ("hand-push-block", "hand-block-stack", "hand-grasp-and-place")
LEFT_GOAL, RIGHT_GOAL = (-0.2, -0.2, 0.625), (-0.2, 0.2, 0.625)
UPPER, LOWER = (0, 0, 0.675), (0, 0, 0.625)


def test_push_block_observes_blocks_goals_and_padding() -> None:
    # A slice that is moved or that has another frame would make every checkpoint read nonsense.
    seen, model, data = objects_after_steps("hand-push-block")
    expected = [
        *entries(model, data, "right-block"),
        *data.body("right-block").xpos,
        *data.body("left-block").xpos,
        *LEFT_GOAL,
        *RIGHT_GOAL,
        *[0] * 5,
    ]
    assert len(seen) == 428 - HANDS
    np.testing.assert_allclose(seen, np.clip(expected, -5, 5), atol=2e-6)


def test_block_stack_observes_both_blocks_and_padding() -> None:
    # As above: 13 entries a block, the right one first, then four zeros.
    seen, model, data = objects_after_steps("hand-block-stack")
    right, left = entries(model, data, "right-block"), entries(model, data, "left-block")
    assert len(seen) == 428 - HANDS
    np.testing.assert_allclose(seen, np.clip([*right, *left, *[0] * 4], -5, 5), atol=2e-6)
    assert np.abs(right[10:]).max() > 0.01, "a block that does not turn tests nothing"


def test_grasp_and_place_observes_bucket_and_block() -> None:
    # As above: the bucket whole, then position and quaternion of the bucket and of the block.
    seen, model, data = objects_after_steps("hand-grasp-and-place")
    bucket, block = entries(model, data, "bucket"), entries(model, data, "block")
    assert len(seen) == 425 - HANDS
    expected = [*bucket, *bucket[:7], *block[:7]]
    np.testing.assert_allclose(seen, np.clip(expected, -5, 5), atol=2e-6)


@pytest.mark.parametrize("option", ["left", "own"])
def test_push_block_rewards_reach_and_goals(option: str) -> None:
    # The reference measures both blocks to the left goal; the switch gives each its own.
    stage = Stage("hand-push-block", push_block_goals=option)
    stage.put("right-block", (-0.1, 0.15, 0.625))
    stage.put("left-block", (0.05, -0.25, 0.7))
    stage.bring(0, stage.at("right-block"), 0.8)
    stage.bring(1, stage.at("left-block"), 1.1)
    goal = LEFT_GOAL if option == "left" else RIGHT_GOAL
    left = math.dist((0.05, -0.25, 0.7), LEFT_GOAL)
    right = math.dist((-0.1, 0.15, 0.625), goal)
    expected = (1.2 - 0.8) + (1.2 - 1.1) + 5 - 5 * left - 5 * right
    assert stage.outcome() == (pytest.approx(expected, abs=1e-9), False, 0.0)
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
    stage = Stage("hand-push-block")
    stage.put("right-block", (*right, 0.625))
    stage.put("left-block", (*left, 0.625))
    assert stage.outcome()[2] == success


def test_push_block_with_own_goals_succeeds_at_them() -> None:
    # The switch moves the success with the reward.
    stage = Stage("hand-push-block", push_block_goals="own")
    stage.put("right-block", (-0.2, 0.15, 0.625))
    stage.put("left-block", (-0.2, -0.2, 0.625))
    assert stage.outcome()[2] == 1.0


@pytest.mark.parametrize(
    ("name", "bodies", "limit"),
    [
        ("hand-push-block", ("right-block", "left-block"), 1.2),
        ("hand-block-stack", ("right-block", "left-block"), 0.75),
        ("hand-grasp-and-place", ("bucket", "block"), 1.5),
    ],
)
@pytest.mark.parametrize("side", [0, 1])
def test_a_hand_too_far_from_its_object_ends_the_episode(
    name: str, bodies: tuple[str, str], limit: float, side: int
) -> None:
    # Each hand by itself, at the task's own limit.
    stage = Stage(name)
    stage.curl(0.8)
    for hand in (0, 1):
        stage.bring(hand, stage.at(bodies[hand]), limit - 0.001)
    assert not stage.outcome()[1]
    stage.bring(side, stage.at(bodies[side]), limit + 0.001)
    assert stage.outcome()[1]


def stacked(height: float, right_reach: float, left_reach: float) -> Stage:
    """The left block at a height over the right one, which is 1 cm off, and hands near them."""
    stage = Stage("hand-block-stack")
    stage.curl(0.8)
    stage.put("right-block", (0.01, 0, 0.625))
    stage.put("left-block", (0, 0, height))
    stage.bring(0, stage.at("right-block"), right_reach)
    stage.bring(1, stage.at("left-block"), left_reach)
    return stage


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
    stage = stacked(height, *reaches)
    expected = 1.5 - reaches[0] - reaches[1] + extra + bonus
    assert stage.outcome() == (pytest.approx(expected, abs=1e-9), False, float(bonus > 1))


def test_block_stack_pays_no_bonus_while_the_lower_block_is_away() -> None:
    # Either block alone at its goal is no stack.
    stage = stacked(0.675, 0.45, 0.49)
    stage.put("right-block", (0.071, 0, 0.625))
    stage.bring(0, stage.at("right-block"), 0.45)
    expected = 1.5 - 0.45 - 0.49 + 2 * (0.24 - 0.071)
    assert stage.outcome() == (pytest.approx(expected, abs=1e-9), False, 0.0)


def test_grasp_and_place_rewards_three_distances() -> None:
    # Exponentials of both reaches and of the distance between bucket and block.
    stage = Stage("hand-grasp-and-place")
    stage.curl(0.8)
    stage.put("bucket", (0.02, 0.1, 0.653))
    stage.put("block", (0.02, -0.02, 0.613))
    stage.bring(0, stage.at("bucket"), 0.44)
    stage.bring(1, stage.at("block"), 0.5)
    apart = math.hypot(0.12, 0.04)
    expected = math.exp(-4.4) + math.exp(-5.0) + 2 * math.exp(-10 * apart)
    assert stage.outcome() == (pytest.approx(expected, abs=1e-9), False, 1.0)
    stage.put("block", (0.02, -0.11, 0.653))
    assert stage.outcome()[2] == 0.0


@pytest.mark.parametrize("name", NAMES)
def test_objects_rest_where_the_task_puts_them(name: str) -> None:
    # Nothing sinks into the table, pops out of it, or rocks on it.
    batch = make_batch(name, 1)
    batch.reset([0], [0])
    data = batch.datas[0]
    starts = {body: batch.scene.model.body(body).pos for body in batch.scene.tracked}
    for _ in range(60):
        batch.step(idle(batch))
    for body, start in starts.items():
        assert np.linalg.norm(data.body(body).xpos - start) < 0.002
        assert np.abs(data.joint(body).qvel).max() < 0.01
        assert data.body(body).xquat[0] > 0.9999


def test_a_bucket_holds_a_block() -> None:
    # It is open above and closed below: what is dropped into it stays there.
    stage = Stage("hand-grasp-and-place")
    batch = make_batch("hand-grasp-and-place", 1)
    batch.reset([0], [0])
    data = batch.datas[0]
    for side in (0, 1):
        data.joint(f"{('right-', 'left-')[side]}base").qpos[2] += 0.5
    data.joint("block").qpos[:3] = stage.at("bucket") + np.array([0, 0, 0.1])
    for _ in range(60):
        batch.step(idle(batch))
    apart = data.body("block").xpos - data.body("bucket").xpos
    assert np.hypot(*apart[:2]) < 0.03
    assert -0.04 < apart[2] < 0.0


@pytest.mark.parametrize("name", NAMES)
def test_resets_depend_on_nothing_but_the_seed(name: str) -> None:
    # Resume and parallel collection rely on it; these tasks have no noise at reset.
    check_resets(name)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("episodes", [3, pytest.param(100, marks=pytest.mark.slow)])
def test_random_episodes_stay_sane(name: str, episodes: int) -> None:
    # No warning of the simulator, no number that is not finite, no state that blows up.
    check_random_episodes(name, episodes)
