"""The hands' part of the observation, slice by slice, against MuJoCo's state.

Layout (Bi-DexHands, compute_full_state): per hand 0:24 joint positions, 24:48 velocities, 48:72
torques, 72:137 five last links, 137:167 five forces and torques; then, with a free base, its
position 3 and angles 3; then the action.
"""

from __future__ import annotations

import copy
import math

import mujoco
import numpy as np
import pytest

from domains.bidexhands.support import (
    FINGERS,
    FIXED_HANDS,
    HANDS,
    SIDES,
    entries,
    fresh,
    idle,
    make_batch,
    palm_point,
    point,
    put,
    wander,
    where,
)

pytestmark = pytest.mark.simulator

FREE_ROOT, FREE_PALM, FIXED = "hand-catch-underarm", "hand-pen", "hand-over"
ALL = (FREE_ROOT, FREE_PALM, FIXED)
WIDTH = {FREE_ROOT: HANDS // 2, FREE_PALM: HANDS // 2, FIXED: FIXED_HANDS // 2}
# Joints of the reference with their limits (facts, section 1), in its order.
JOINTS = (
    ("WRJ1", -0.489, 0.14), ("WRJ0", -0.698, 0.489),
    *((f"{f}J{j}", -0.349 if j == 3 else 0.0, 0.349 if j == 3 else 1.571)
      for f in ("FF", "MF", "RF") for j in (3, 2, 1, 0)),
    ("LFJ4", 0.0, 0.785), ("LFJ3", -0.349, 0.349),
    ("LFJ2", 0.0, 1.571), ("LFJ1", 0.0, 1.571), ("LFJ0", 0.0, 1.571),
    ("THJ4", -1.047, 1.047), ("THJ3", 0.0, 1.222), ("THJ2", -0.209, 0.209),
    ("THJ1", -0.524, 0.524), ("THJ0", -1.571, 0.0),
)  # fmt: skip
# Stiffness and largest torque of the servos (the same table); the others' joints have none.
SERVOS = {
    "WRJ1": (5, 4.785), "WRJ0": (5, 2.175), "LFJ4": (1, 0.9),
    **{f"{f}J{j}": (1, 0.7245 if j == 1 else 0.9)
       for f in ("FF", "MF", "RF", "LF") for j in (3, 2, 1)},
    "THJ4": (1, 2.3722), "THJ3": (1, 1.45), "THJ2": (1, 0.99), "THJ1": (1, 0.99),
    "THJ0": (1, 0.81),
}  # fmt: skip
each = pytest.mark.parametrize("name", ALL)


def hand_entries(name: str, observation_O: np.ndarray, side: str) -> np.ndarray:
    number = SIDES.index(side)
    return observation_O[number * WIDTH[name] : (number + 1) * WIDTH[name]]


def qpos(data: mujoco.MjData, side: str) -> np.ndarray:
    return np.array([data.joint(f"{side}-{joint}").qpos[0] for joint, *_ in JOINTS])


def qvel(data: mujoco.MjData, side: str) -> np.ndarray:
    return np.array([data.joint(f"{side}-{joint}").qvel[0] for joint, *_ in JOINTS])


@each
def test_joint_positions_and_velocities(name: str) -> None:
    """Protects 0:24, scaled to [-1, 1] by the limits, and 24:48, velocities times 0.2."""
    batch = make_batch(name, clip="off")
    observation_O = wander(batch, 15)[0]
    data = fresh(batch)
    for side in SIDES:
        seen = hand_entries(name, observation_O, side)
        angles = qpos(data, side)
        scaled = [
            -1 + 2 * (angle - low) / (high - low)
            for angle, (_, low, high) in zip(angles, JOINTS, strict=True)
        ]
        assert np.abs(scaled).max() > 0.1
        np.testing.assert_allclose(seen[:24], scaled, atol=1e-5)
        np.testing.assert_allclose(seen[24:48], 0.2 * qvel(data, side), atol=1e-4)


@each
def test_joint_torques(name: str) -> None:
    """Protects 48:72: ten times what servo, damping and limit exert on each joint.

    As in the package, servo and limit are those of the last substep, which led to the state, and
    the damping is that of the state.
    """
    batch = make_batch(name, clip="off")
    wander(batch, 15)
    model, generator = batch.scene.model, np.random.default_rng(3)
    action_A = generator.uniform(-1, 1, model.nu).astype(np.float32)
    # Beyond their limits, with servos that want to stay there, so that the limits push back.
    half = model.nu // 2
    for joint, angle, servo in (("right-FFJ2", -0.05, half - 17), ("left-THJ0", 0.05, -1)):
        put(batch.datas[0], joint, angle)
        action_A[servo] = np.sign(angle)
    before = copy.copy(batch.datas[0])
    before.ctrl[:] = batch.scene.centre_A + batch.scene.half_A * action_A
    for _ in range(batch.scene.substeps - 1):
        mujoco.mj_step(model, before)
    mujoco.mj_forward(model, before)
    observation_O = batch.step(action_A[None]).observation_BO[0]
    data = batch.datas[0]
    kind = mujoco.mjtConstraint.mjCNSTR_LIMIT_JOINT
    at_limits = before.efc_force * (before.efc_type == int(kind))
    limit_V = np.zeros(model.nv)
    mujoco.mj_mulJacTVec(model, before, limit_V, at_limits)
    assert np.abs(limit_V).max() > 0.01
    for side in SIDES:
        angles, expected = qpos(before, side), []
        end = (SIDES.index(side) + 1) * half
        aims = iter(action_A[end - 20 : end])
        for (joint_name, low, high), angle in zip(JOINTS, angles, strict=True):
            joint = model.joint(f"{side}-{joint_name}")
            dof = int(joint.dofadr[0])
            damping = 0.5 if joint_name.startswith("WR") else 0.1
            torque = limit_V[dof] - damping * data.qvel[dof]
            if joint_name in SERVOS:
                stiffness, most = SERVOS[joint_name]
                aim = low + (float(next(aims)) + 1) / 2 * (high - low)
                torque += float(np.clip(stiffness * (aim - angle), -most, most))
            expected.append(10 * torque)
        seen = hand_entries(name, observation_O, side)
        np.testing.assert_allclose(seen[48:72], expected, atol=2e-3)


@each
def test_last_links(name: str) -> None:
    """Protects 72:137: position, quaternion xyzw, velocity, turn rate of five last links."""
    batch = make_batch(name, clip="off")
    observation_O = wander(batch, 15)[0]
    data = fresh(batch)
    for side in SIDES:
        links = [f"{side}-{finger}distal" for finger in FINGERS]
        expected = np.concatenate([entries(data, link, turn_scale=1.0) for link in links])
        seen = hand_entries(name, observation_O, side)
        np.testing.assert_allclose(seen[72:137], expected, atol=1e-4)


@each
def test_forces_at_the_fingertips(name: str) -> None:
    """Protects 137:167: ten times force and torque, in the link's axes, without its weight.

    Known forces pull at the links' centres of mass until all is still; what the finger exerts on
    its last link is then the opposite.
    """
    batch = make_batch(name, clip="off")
    model, data = batch.scene.model, batch.datas[0]
    body = "pen" if name == FREE_PALM else "egg"
    put(data, body, [2.0, 0, 0.3, 1, 0, 0, 0])
    generator = np.random.default_rng(4)
    links = [model.body(f"{side}-{finger}distal").id for side in SIDES for finger in FINGERS]
    pulls = {link: 0.1 * generator.normal(size=3) for link in links}
    for link, pull in pulls.items():
        data.xfrc_applied[link, :3] = pull
    for _ in range(240):
        observation_O = batch.step(idle(batch)).observation_BO[0]
    for number, link in enumerate(links):
        force = -data.xmat[link].reshape(3, 3).T @ pulls[link]
        torque = np.cross(model.body_ipos[link], force)
        side, first = SIDES[number // 5], 137 + 6 * (number % 5)
        seen = hand_entries(name, observation_O, side)[first : first + 6]
        np.testing.assert_allclose(seen, [*(10 * force), *(10 * torque)], atol=0.03)


def test_a_finger_that_touches_nothing_feels_nothing() -> None:
    """Protects against the weight of a link in its force, which the reference's hands lack."""
    batch = make_batch(FREE_PALM)
    for _ in range(120):
        observation_O = batch.step(idle(batch)).observation_BO[0]
    for side in SIDES:
        assert np.abs(hand_entries(FREE_PALM, observation_O, side)[137:167]).max() < 0.02


@pytest.mark.parametrize("name", [FREE_ROOT, FREE_PALM])
@pytest.mark.parametrize("euler", ["positive", "signed"])
def test_place_and_angles_of_a_free_base(name: str, euler: str) -> None:
    """Protects 167:173: root or palm point, and angles of Rz Ry Rx without the file's rotation."""
    batch = make_batch(name, clip="off", euler=euler)
    observation_O = wander(batch, 15)[0]
    data = fresh(batch)
    # The hand's file turns its mount by Rx(pi / 2) Rz(pi): these are the columns of that matrix.
    mount = np.array([[-1.0, 0, 0], [0, 0, -1], [0, -1, 0]])
    for side in SIDES:
        seen = hand_entries(name, observation_O, side)
        root, palm = point(data, f"{side}-mount"), palm_point(data, side)
        place = root if name == FREE_ROOT else palm
        np.testing.assert_allclose(seen[167:170], place, atol=1e-5)
        (cx, cy, cz), (sx, sy, sz) = np.cos(seen[170:173]), np.sin(seen[170:173])
        about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
        about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
        about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
        actor = data.body(f"{side}-mount").xmat.reshape(3, 3) @ mount.T
        np.testing.assert_allclose(about_z @ about_y @ about_x, actor, atol=1e-5)
        low, high = (0, 2 * math.pi) if euler == "positive" else (-math.pi, math.pi)
        assert (seen[170:173] >= low).all()
        assert (seen[170:173] <= high).all()


def test_angles_begin_with_those_of_the_start() -> None:
    """Protects sign and range: (pi, 0, 1.57) of the hands over a table, cut to 5 where above."""
    observation_O = make_batch(FREE_PALM, first_step="none").reset([0], [0])[0]
    for side in SIDES:
        np.testing.assert_allclose(
            hand_entries(FREE_PALM, observation_O, side)[[170, 172]], [math.pi, 1.57], atol=1e-3
        )
    batch = make_batch(FREE_PALM)
    turned = [*where(batch.datas[0], "right-base")[:3], 0.5, -0.5, 0.5, 0.5]
    put(batch.datas[0], "right-base", turned)
    clipped_O = batch.step(idle(batch)).observation_BO[0]
    free = make_batch(FREE_PALM, clip="off")
    put(free.datas[0], "right-base", turned)
    free_O = free.step(idle(free)).observation_BO[0]
    np.testing.assert_allclose(clipped_O, np.clip(free_O, -5, 5), atol=1e-6)


@each
def test_actions_end_each_hands_block(name: str) -> None:
    """Protects the place of the last action and that it is the clipped one."""
    batch = make_batch(name)
    half = batch.scene.model.nu // 2
    action_A = np.linspace(-1.5, 1.5, 2 * half, dtype=np.float32)
    observation_O = batch.step(action_A[None]).observation_BO[0]
    for side in SIDES:
        first = SIDES.index(side) * half
        expected = np.clip(action_A[first : first + half], -1, 1)
        seen = hand_entries(name, observation_O, side)
        np.testing.assert_allclose(seen[WIDTH[name] - half :], expected, atol=1e-6)


@pytest.mark.parametrize("name", [FREE_ROOT, FREE_PALM])
def test_actions_of_a_base_come_first_and_push_along_the_worlds_axes(name: str) -> None:
    """Protects force and torque before the joints, right before left, and their directions."""
    for number, side in enumerate(SIDES):
        for axis in range(6):
            batch = make_batch(name, first_step="none")
            before, action_BA = fresh(batch), idle(batch)
            action_BA[0, 26 * number + axis] = 1.0
            for _ in range(10):
                batch.step(action_BA)
            after, other = fresh(batch), SIDES[1 - number]
            motion = entries(after, f"{side}-root", turn_scale=1.0)[7:]
            moved = motion[:3] if axis < 3 else motion[3:]
            assert int(np.argmax(np.abs(moved))) == axis % 3
            assert moved[axis % 3] > 0
            stayed = point(after, f"{other}-root") - point(before, f"{other}-root")
            assert np.abs(stayed).max() < 1e-3
