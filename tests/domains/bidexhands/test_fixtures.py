"""Switches and the bottle: what they observe, pay, end with and start from."""

from __future__ import annotations

import math

import numpy as np
import pytest

from domains.bidexhands.support import (
    HANDS,
    SIDES,
    Pose,
    draw,
    entries,
    fresh,
    make_batch,
    palm_point,
    point,
)

pytestmark = pytest.mark.simulator


def _rocker(side: str, angle: float) -> np.ndarray:
    """Return the point to press, from the reference's geometry and a hinge's angle alone."""
    y = 0.2 if side == "right" else -0.2
    hinge = np.array([0.0109, y + 0.0502, 0.65 + 0.0417])
    return hinge + np.array([0.02 * math.cos(angle), -0.05, 0.02 * math.sin(angle)])


CAP_GOAL = (0, 0, 0.15)
"""Where the cap is on the bottle."""


def test_the_switches_part_is_switch_then_right_then_left_point():
    """Protects each entry after the hands of hand-switch."""
    batch = make_batch("hand-switch")
    generator = np.random.default_rng(3)
    for _ in range(40):
        action = draw(batch, generator)
        action[0, [2, 28]] = -1.0
        seen = batch.step(action).observation_BO[0]
    data = fresh(batch)
    angles = {s: float(data.joint(f"{s}-hinge").qpos[0]) for s in SIDES}
    # Rz(0) Ry(1.57) Rx(pi) as a quaternion, x y z w: (cos, 0, -sin, 0) of half of 1.57.
    actor = [math.cos(0.785), 0, -math.sin(0.785), 0]
    expected = [0, 0.2, 0.65, *actor, *np.zeros(6), *_rocker("right", angles["right"]),
                *_rocker("left", angles["left"])]  # fmt: skip
    np.testing.assert_allclose(seen[HANDS:], expected, atol=1e-6)
    quaternion = np.array(seen[HANDS + 3 : HANDS + 7])
    assert quaternion @ quaternion == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("angles", [(0.0, 0.0), (0.5585, 0.1), (0.3, 0.5585)])
def test_switches_pay_the_formula(angles):
    """Protects the reward of hand-switch; the farther hand neither gates nor ends anything."""
    pose = Pose("hand-switch")
    points = {s: _rocker(s, a) for s, a in zip(SIDES, angles, strict=True)}
    for side, angle in zip(SIDES, angles, strict=True):
        pose.put(f"{side}-hinge", angle)
    pose.surround("right", points["right"], 0.05)
    pose.shift("left", [0.3, 0, 0.4])
    heights = sum(float(point[2]) for point in points.values())
    reaches = sum(pose.reach(side, points[side]) for side in points)
    assert reaches > 2.5
    assert pose.judge().reward == pytest.approx(2.0 - reaches + 50.0 * (1.4 - heights), abs=1e-9)
    assert not pose.judge().over


def test_switches_pay_a_number():
    """Protects the heights of the points: 0.7023 m when tipped, 0.6917 when pressed."""
    pose = Pose("hand-switch")
    rest = pose.judge().reward + sum(pose.reach(side, _rocker(side, 0.5585)) for side in SIDES)
    assert rest == pytest.approx(2.0 + 50 * (1.4 - 2 * 0.7023), abs=0.01)
    for side in SIDES:
        pose.put(f"{side}-hinge", 0.0)
    pressed = pose.judge().reward + sum(pose.reach(side, _rocker(side, 0.0)) for side in SIDES)
    assert pressed == pytest.approx(2.0 + 50 * (1.4 - 2 * 0.6917), abs=0.01)


@pytest.mark.parametrize(
    ("option", "angle", "success"),
    [("reference", 0.0, 0.0), ("reachable", 0.0, 1.0), ("reachable", 0.1, 0.0)],
)
def test_success_of_the_switches_is_an_option(option, angle, success):
    """Protects the reference's threshold, which nothing meets, and the one that can be met."""
    pose = Pose("hand-switch", switch_success=option)
    for side in SIDES:
        pose.put(f"{side}-hinge", angle)
    assert pose.judge().success == success


def test_rockers_rest_tipped_and_can_be_pressed():
    """Protects the rocker's weight, which tips it, and that a finger moves it and it comes back."""
    batch = make_batch("hand-switch")
    hinges = [batch.scene.qpos(f"{side}-hinge") for side in SIDES]
    up = np.zeros((1, 52), np.float32)
    up[0, [2, 28]] = 1.0
    for _ in range(60):
        batch.step(up)
    np.testing.assert_allclose(batch.datas[0].qpos[hinges], 0.5585, atol=0.005)
    batch.datas[0].qpos[hinges] = 0.05
    for _ in range(60):
        batch.step(up)
    np.testing.assert_allclose(batch.datas[0].qpos[hinges], 0.5585, atol=0.005)
    batch.reset([0], [0])
    # Straight fingers, forward by some 4 cm, then down.
    down = np.zeros((1, 52), np.float32)
    flexion = [9, 10, 12, 13, 15, 16, 19, 20]
    down[0, flexion] = down[0, [26 + joint for joint in flexion]] = -1.0
    lowest = np.full(2, 1.0)
    for step in range(60):
        down[0, [0, 26]] = -1.0 if step < 6 else 0.0
        down[0, [2, 28]] = 0.0 if step < 6 else -0.7
        batch.step(down)
        lowest = np.minimum(lowest, batch.datas[0].qpos[hinges])
    assert (lowest < 0.2).all()


@pytest.mark.parametrize(
    ("name", "joint", "load", "end"),
    [
        ("hand-switch", "right-hinge", -1.5, 0.0),
        ("hand-switch", "left-hinge", -1.5, 0.0),
        ("hand-bottle-cap", "cap-slide", 20.0, 0.064),
    ],
)
def test_light_parts_stop_where_they_end(name, joint, load, end):
    """Protects rewards from a search: a limit that gives way pays for pushing through it."""
    batch = make_batch(name)
    batch.reset([0], [0])
    data, address = batch.datas[0], batch.scene.qpos(joint)
    data.qpos[address] = end
    data.qfrc_applied[batch.scene.dof(joint)] = load
    away = np.zeros((1, 52), np.float32)
    away[0, [2, 28]] = 1.0
    for _ in range(20):
        batch.step(away)
    assert abs(data.qpos[address] - end) < 0.005


def test_the_bottles_part_is_bottle_then_places_of_bottle_and_cap():
    """Protects each entry after the hands of hand-bottle-cap."""
    batch = make_batch("hand-bottle-cap", clip="off")
    generator = np.random.default_rng(3)
    for _ in range(8):
        batch.datas[0].joint("cap-slide").qvel[:] = 0.3
        seen = batch.step(draw(batch, generator)).observation_BO[0]
    data = fresh(batch)
    out = float(data.joint("cap-slide").qpos[0])
    bottle = entries(data, "bottle")
    goal, link = point(data, "bottle", CAP_GOAL), point(data, "bottle", (-0.0075, -0.007, out))
    assert out > 0.01
    np.testing.assert_allclose(seen[HANDS:], [*bottle, *bottle[:3], *goal, *link], atol=1e-5)


@pytest.mark.parametrize("off", [0.02, 0.08])
@pytest.mark.parametrize("slide", [0.0, 0.04])
def test_the_bottle_pays_the_formula(off, slide):
    """Protects the reward of hand-bottle-cap on both sides of its gate."""
    pose = Pose("hand-bottle-cap")
    pose.put("cap-slide", slide)
    # A fist without the bent thumb, for five fingertips to be within 0.3 m in all.
    pose.bend(J2=0.5, J1=0.5, THJ4=0, THJ3=0, THJ0=0)
    top = pose.at("bottle", CAP_GOAL)
    pose.surround("right", top, off)
    near = pose.reach("right", top)
    assert (near <= 0.3) == (off == 0.02)
    held = np.linalg.norm(palm_point(pose.data, "left") - pose.at("bottle"))
    u = math.sqrt(0.0075**2 + 0.007**2 + slide**2)
    expected = 2.0 - near - held + (30.0 * u if near <= 0.3 else 0.0)
    assert pose.judge().reward == pytest.approx(expected, abs=1e-9)
    assert pose.judge().success == (slide == 0.04)


@pytest.mark.parametrize(("slide", "success"), [(0.027, 0.0), (0.029, 1.0)])
def test_the_cap_is_off_at_28_millimetres(slide, success):
    """Protects the threshold: 0.03 m between the frames of cap and bottle."""
    pose = Pose("hand-bottle-cap")
    pose.put("cap-slide", slide)
    pose.put("cap-turn", 1.0)
    assert pose.judge().success == success


def test_the_bottles_episode_ends_by_three_rules():
    """Protects the ends: cap too low, right palm too far, left palm off the bottle."""
    pose = Pose("hand-bottle-cap")
    assert not pose.judge().over
    away = palm_point(pose.data, "right") - pose.at("bottle", CAP_GOAL)
    apart = np.linalg.norm(away)
    for gap, ends in ((0.49, False), (0.51, True)):
        pose.shift("right", (gap - apart) * away / np.linalg.norm(away))
        apart = gap
        assert pose.judge().over == ends
    pose = Pose("hand-bottle-cap")
    away = palm_point(pose.data, "left") - pose.at("bottle")
    apart = np.linalg.norm(away)
    for gap, ends in ((0.19, False), (0.21, True)):
        pose.shift("left", (gap - apart) * away / np.linalg.norm(away))
        apart = gap
        assert pose.judge().over == ends
    pose = Pose("hand-bottle-cap")
    height = pose.at("bottle", CAP_GOAL)[2]
    for z, ends in ((0.501, False), (0.499, True)):
        # All of it moves, so that only the height is another.
        drop = height - z
        pose.put("bottle", pose.where("bottle")[:3] - [0, 0, drop])
        pose.shift("left", [0, 0, -drop])
        pose.shift("right", [0, 0, -drop])
        height = z
        assert pose.judge().over == ends


def test_the_bottle_starts_on_the_palm_and_a_closing_hand_keeps_it():
    """Protects the start from overlap, the friction, and the cap from coming off by itself."""
    start = Pose("hand-bottle-cap").data
    assert [contact.dist > -1e-3 for contact in start.contact[: start.ncon]] == [True]
    batch = make_batch("hand-bottle-cap", 4)
    for _ in range(60):
        done = batch.step(np.zeros((4, 52), np.float32))
        assert not done.terminated_B.any()
    for row in range(4):
        data = fresh(batch, row)
        assert math.dist(palm_point(data, "left"), point(data, "bottle")) < 0.07
        assert abs(data.joint("cap-slide").qpos[0]) < 0.002


@pytest.mark.parametrize("name", ["hand-switch", "hand-bottle-cap"])
def test_thumbs_are_bent_at_the_bottles_start_alone(name):
    """Protects the joints that hands start at."""
    pose = Pose(name)
    bent = {"THJ4": -1.04, "THJ3": 1.2, "THJ0": -1.57} if name == "hand-bottle-cap" else {}
    for joint in ("FFJ2", "THJ4", "THJ3", "THJ0"):
        for side in SIDES:
            assert pose.where(f"{side}-{joint}") == bent.get(joint, 0.0)
