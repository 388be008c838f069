"""Switches and the bottle: what they observe, pay, end with and start from."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.domains.bidexhands.by_hand import (
    OBJECTS,
    Pose,
    batch_of,
    body_twist,
    copy_of,
    palm,
    play,
    reach,
)

NAMES = ("hand-switch", "hand-bottle-cap")


def _rocker(side: str, angle: float) -> np.ndarray:
    """Return the point to press, from the reference's geometry and a hinge's angle alone."""
    y = 0.2 if side == "right" else -0.2
    hinge = np.array([0.0109, y + 0.0502, 0.65 + 0.0417])
    return hinge + np.array([0.02 * math.cos(angle), -0.05, 0.02 * math.sin(angle)])


def _cap_goal(model, data) -> np.ndarray:
    body = model.body("bottle").id
    point: np.ndarray = data.xpos[body] + data.xmat[body].reshape(3, 3) @ [0, 0, 0.15]
    return point


def _cap_link(model, data, slide: float) -> np.ndarray:
    body = model.body("bottle").id
    point: np.ndarray = data.xpos[body] + data.xmat[body].reshape(3, 3) @ [-0.0075, -0.007, slide]
    return point


def test_the_switches_part_is_switch_then_right_then_left_point():
    """Protects each entry after the hands of hand-switch."""
    batch = batch_of("hand-switch")
    batch.reset([0], [3])
    generator = np.random.default_rng(3)
    for _ in range(40):
        action = generator.uniform(-1, 1, (1, 52)).astype(np.float32)
        action[0, [2, 28]] = -1.0
        seen = batch.step(action).observation_BO[0]
    data = copy_of(batch)
    angles = {s: float(data.qpos[batch.scene.qpos(f"{s}-hinge")]) for s in ("right", "left")}
    # Rz(0) Ry(1.57) Rx(pi) as a quaternion, x y z w: (cos, 0, -sin, 0) of half of 1.57.
    actor = [math.cos(0.785), 0, -math.sin(0.785), 0]
    expected = [0, 0.2, 0.65, *actor, *np.zeros(6), *_rocker("right", angles["right"]),
                *_rocker("left", angles["left"])]  # fmt: skip
    np.testing.assert_allclose(seen[OBJECTS:], expected, atol=1e-6)
    quaternion = np.array(seen[OBJECTS + 3 : OBJECTS + 7])
    assert quaternion @ quaternion == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("angles", [(0.0, 0.0), (0.5585, 0.1), (0.3, 0.5585)])
def test_switches_pay_the_formula(angles):
    """Protects the reward of hand-switch; the farther hand neither gates nor ends anything."""
    pose = Pose("ShadowHandSwitch")
    points = {s: _rocker(s, a) for s, a in zip(("right", "left"), angles, strict=True)}
    for side, angle in zip(("right", "left"), angles, strict=True):
        pose.set(f"{side}-hinge", angle)
    pose.reach_for("right", points["right"], 0.05)
    pose.move("left", [0.3, 0, 0.4])
    heights = sum(float(point[2]) for point in points.values())
    reaches = sum(reach(pose.model, pose.data, side, points[side]) for side in points)
    assert reaches > 2.5
    assert pose.reward() == pytest.approx(2.0 - reaches + 50.0 * (1.4 - heights), abs=1e-9)
    assert not pose.outcome().terminated_B[0]


def test_switches_pay_a_number():
    """Protects the heights of the points: 0.7023 m when tipped, 0.6917 when pressed."""
    pose = Pose("ShadowHandSwitch")
    rest = pose.reward() + sum(
        reach(pose.model, pose.data, side, _rocker(side, 0.5585)) for side in ("right", "left")
    )
    assert rest == pytest.approx(2.0 + 50 * (1.4 - 2 * 0.7023), abs=0.01)
    for side in ("right", "left"):
        pose.set(f"{side}-hinge", 0.0)
    pressed = pose.reward() + sum(
        reach(pose.model, pose.data, side, _rocker(side, 0.0)) for side in ("right", "left")
    )
    assert pressed == pytest.approx(2.0 + 50 * (1.4 - 2 * 0.6917), abs=0.01)


@pytest.mark.parametrize(
    ("option", "angle", "success"),
    [("reference", 0.0, 0.0), ("reachable", 0.0, 1.0), ("reachable", 0.1, 0.0)],
)
def test_success_of_the_switches_is_an_option(option, angle, success):
    """Protects the reference's threshold, which nothing meets, and the one that can be met."""
    pose = Pose("ShadowHandSwitch", switch_success=option)
    for side in ("right", "left"):
        pose.set(f"{side}-hinge", angle)
    assert pose.outcome().success_B[0] == success


def test_rockers_rest_tipped_and_can_be_pressed():
    """Protects the rocker's weight, which tips it, and that a finger moves it and it comes back."""
    batch = batch_of("hand-switch")
    batch.reset([0], [0])
    hinges = [batch.scene.qpos(f"{side}-hinge") for side in ("right", "left")]
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
    batch = batch_of(name)
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
    batch = batch_of("hand-bottle-cap", clip="off")
    batch.reset([0], [3])
    generator = np.random.default_rng(3)
    slide = batch.scene.qpos("cap-slide")
    for _ in range(8):
        batch.datas[0].qvel[batch.scene.dof("cap-slide")] = 0.3
        seen = batch.step(generator.uniform(-1, 1, (1, 52)).astype(np.float32)).observation_BO[0]
    data, model = copy_of(batch), batch.scene.model
    body, out = model.body("bottle").id, float(data.qpos[slide])
    twist = body_twist(model, data, "bottle") * ([1] * 3 + [0.2] * 3)
    where = data.xpos[body]
    expected = np.concatenate(
        [where, data.xquat[body][[1, 2, 3, 0]], twist, where, _cap_goal(model, data),
         _cap_link(model, data, out)]
    )  # fmt: skip
    assert out > 0.01
    np.testing.assert_allclose(seen[OBJECTS:], expected, atol=1e-5)


@pytest.mark.parametrize("off", [0.02, 0.08])
@pytest.mark.parametrize("slide", [0.0, 0.04])
def test_the_bottle_pays_the_formula(off, slide):
    """Protects the reward of hand-bottle-cap on both sides of its gate."""
    pose = Pose("ShadowHandBottleCap")
    pose.set("cap-slide", slide)
    # A fist, for five fingertips to be within 0.3 m in all.
    for finger in ("FF", "MF", "RF", "LF"):
        for joint in ("J2", "J1"):
            pose.set(f"right-{finger}{joint}", 0.5)
    model, data = pose.model, pose.data
    top = _cap_goal(model, data)
    pose.reach_for("right", top, off)
    near = reach(model, data, "right", top)
    assert (near <= 0.3) == (off == 0.02)
    held = np.linalg.norm(palm(model, data, "left") - data.xpos[model.body("bottle").id])
    u = math.sqrt(0.0075**2 + 0.007**2 + slide**2)
    expected = 2.0 - near - held + (30.0 * u if near <= 0.3 else 0.0)
    assert pose.reward() == pytest.approx(expected, abs=1e-9)
    assert pose.outcome().success_B[0] == (slide == 0.04)


@pytest.mark.parametrize(("slide", "success"), [(0.027, 0.0), (0.029, 1.0)])
def test_the_cap_is_off_at_28_millimetres(slide, success):
    """Protects the threshold: 0.03 m between the frames of cap and bottle."""
    pose = Pose("ShadowHandBottleCap")
    pose.set("cap-slide", slide)
    pose.set("cap-turn", 1.0)
    assert pose.outcome().success_B[0] == success


def test_the_bottles_episode_ends_by_three_rules():
    """Protects the ends: cap too low, right palm too far, left palm off the bottle."""
    pose = Pose("ShadowHandBottleCap")
    model, data = pose.model, pose.data
    assert not pose.outcome().terminated_B[0]
    away = palm(model, data, "right") - _cap_goal(model, data)
    away /= np.linalg.norm(away)
    apart = np.linalg.norm(palm(model, data, "right") - _cap_goal(model, data))
    for gap, ends in ((0.49, False), (0.51, True)):
        pose.move("right", (gap - apart) * away)
        apart = gap
        assert bool(pose.outcome().terminated_B[0]) == ends
    pose = Pose("ShadowHandBottleCap")
    model, data = pose.model, pose.data
    away = palm(model, data, "left") - data.xpos[model.body("bottle").id]
    apart = np.linalg.norm(away)
    for gap, ends in ((0.19, False), (0.21, True)):
        pose.move("left", (gap - apart) * away / np.linalg.norm(away))
        apart = gap
        assert bool(pose.outcome().terminated_B[0]) == ends
    pose = Pose("ShadowHandBottleCap")
    start = pose.scene.qpos("bottle")
    height = _cap_goal(pose.model, pose.data)[2]
    for z, ends in ((0.501, False), (0.499, True)):
        # All of it moves, so that only the height is another.
        drop = height - z
        pose.set("bottle", pose.data.qpos[start])
        pose.data.qpos[start + 2] -= drop
        pose.move("left", [0, 0, -drop])
        pose.move("right", [0, 0, -drop])
        height = z
        assert bool(pose.outcome().terminated_B[0]) == ends


def test_the_bottle_starts_on_the_palm_and_a_closing_hand_keeps_it():
    """Protects the start from overlap, the friction, and the cap from coming off by itself."""
    batch = batch_of("hand-bottle-cap", first_step="none")
    batch.reset([0], [0])
    start = batch.datas[0]
    assert [contact.dist > -1e-3 for contact in start.contact[: start.ncon]] == [True]
    batch = batch_of("hand-bottle-cap", 4)
    batch.reset(range(4), range(4))
    slide = batch.scene.qpos("cap-slide")
    for _ in range(60):
        done = batch.step(np.zeros((4, 52), np.float32))
        assert not done.terminated_B.any()
    for row in range(4):
        data = copy_of(batch, row)
        held = palm(batch.scene.model, data, "left")
        assert np.linalg.norm(held - data.xpos[batch.scene.model.body("bottle").id]) < 0.07
        assert abs(data.qpos[slide]) < 0.002


@pytest.mark.parametrize("name", NAMES)
def test_resets_depend_on_no_seed_but_for_the_tiny_action(name):
    """Protects the deterministic start, and the thumbs that are bent at it."""
    batch = batch_of(name, first_step="none")
    np.testing.assert_array_equal(batch.reset([0], [1]), batch.reset([0], [2]))
    bent = {"THJ4": -1.04, "THJ3": 1.2, "THJ0": -1.57} if name == "hand-bottle-cap" else {}
    for joint in ("FFJ2", "THJ4", "THJ3", "THJ0"):
        for side in ("right", "left"):
            at = batch.scene.qpos(f"{side}-{joint}")
            assert batch.datas[0].qpos[at] == bent.get(joint, 0.0)
    batch = batch_of(name)
    np.testing.assert_array_equal(batch.reset([0], [1]), batch.reset([0], [1]))


@pytest.mark.parametrize("name", NAMES)
def test_random_episodes_hold(name):
    """Protects from scenes that blow up."""
    play(batch_of(name, 3), 3, seed=10)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_hundred_random_episodes_hold(name):
    """Protects from scenes that blow up now and then."""
    play(batch_of(name, 20), 100, seed=100)
