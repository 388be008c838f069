"""The hand is the reference's: masses, joints, servos, coupling, pose, speed of its base."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest

from pipelines.domains.bidexhands.batch import HandsBatch, scene_of
from pipelines.domains.bidexhands.geometry import from_euler, rotate
from pipelines.domains.bidexhands.hand import (
    COUPLED,
    INERTIA,
    MASS,
    MOUNT,
    SERVOS,
    joint_names,
    joint_ranges,
    servo_joints,
)
from pipelines.domains.bidexhands.policy import base_speeds
from pipelines.domains.bidexhands.quirks import Quirks
from pipelines.domains.bidexhands.scene import PREFIXES
from pipelines.domains.bidexhands.tasks import make_task, task_classes

pytestmark = pytest.mark.simulator


@pytest.fixture(scope="module")
def scene():
    return scene_of(task_classes()["ShadowHandPushBlock"], Quirks())


def test_joints_are_in_the_order_of_the_reference():
    fingers = [f"{f}J{n}" for f in ("FF", "MF", "RF") for n in (3, 2, 1, 0)]
    little = [f"LFJ{n}" for n in (4, 3, 2, 1, 0)]
    thumb = [f"THJ{n}" for n in (4, 3, 2, 1, 0)]
    assert joint_names() == ("WRJ1", "WRJ0", *fingers, *little, *thumb)
    assert tuple(sorted(set(range(24)) - set(servo_joints()))) == COUPLED


def test_ranges_reach_the_model_in_radians(scene):
    """Read as degrees they would lock the fingers."""
    low_J, high_J = joint_ranges()
    for prefix in PREFIXES:
        for name, low, high in zip(joint_names(), low_J, high_J, strict=True):
            assert scene.model.joint(f"{prefix}{name}").range == pytest.approx([low, high])
    assert high_J[joint_names().index("FFJ2")] == 1.571


def test_masses_and_inertia_are_those_of_the_whole_hand(scene):
    model = scene.model
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    matrix = np.zeros((model.nv, model.nv))
    mujoco.mj_fullM(model, matrix, data.qM)
    for prefix in PREFIXES:
        assert model.body(f"{prefix}root").subtreemass == pytest.approx(MASS, abs=1e-3)
        first = scene.dof(f"{prefix}base")
        diagonal = np.diag(matrix)[first : first + 6]
        assert diagonal == pytest.approx([MASS] * 3 + [INERTIA] * 2 + [0.0115], rel=0.01)


def test_servos_have_the_stiffness_and_torque_of_the_reference(scene):
    model = scene.model
    expected = {
        "WRJ1": (5, 4.785), "WRJ0": (5, 2.175), "FFJ3": (1, 0.9), "LFJ1": (1, 0.7245),
        "THJ4": (1, 2.3722), "THJ0": (1, 0.81),
    }  # fmt: skip
    for name, (stiffness, torque) in expected.items():
        servo = model.actuator(f"right-{name}")
        assert servo.gainprm[0] == stiffness and servo.biasprm[1] == -stiffness
        assert servo.forcerange == pytest.approx([-torque, torque])
    assert model.nu == 2 * (6 + SERVOS)
    assert not model.dof_frictionloss.any()


def test_the_last_joint_of_a_finger_follows_the_one_before(scene):
    """The tendon keeps 0.00705 J0 - 0.00805 J1 within a thousandth."""
    batch = HandsBatch(make_task("ShadowHandPushBlock", Quirks()), 1, 200)
    batch.reset([0], [0])
    action = np.zeros((1, 52), np.float32)
    action[:, 2] = 1  # away from the table
    action[:, 6:26] = 1
    for _ in range(60):
        batch.step(action)
    angle_J = batch.snapshot().hands[0].joint_position_BJ[0]
    names = joint_names()
    for finger in ("FF", "MF", "RF"):
        first, second = angle_J[names.index(f"{finger}J1")], angle_J[names.index(f"{finger}J0")]
        assert first > 0.8
        assert abs(0.00705 * second - 0.00805 * first) < 0.0015


def test_with_no_rotation_fingers_point_to_minus_y_and_the_palm_up():
    """The geometry that the facts of the reference state for R_start = 1."""
    batch = HandsBatch(make_task("ShadowHandCatchUnderarm", Quirks(first_step="none")), 1, 10)
    data, model = batch.datas[0], batch.scene.model
    mujoco.mj_resetData(model, data)
    mujoco.mj_forward(model, data)
    mount = data.body("right-mount").xpos
    assert mount == pytest.approx([0, 0, 0.5], abs=1e-9)
    palm = data.body("right-palm").xpos - mount
    assert np.linalg.norm(palm) == pytest.approx(0.29, abs=0.001)
    tip = data.body("right-mfdistal").xpos - mount
    assert tip[1] < -0.45 and abs(tip[0]) < 0.02
    normal = rotate(np.array(data.body("right-palm").xquat), np.array([0.0, -1.0, 0.0]))
    assert normal == pytest.approx([0, 0, 1], abs=1e-3)
    assert np.array(data.body("left-mount").xpos) == pytest.approx([0, -1.15, 0.5], abs=1e-9)


def test_euler_angles_turn_about_x_then_y_then_z():
    x, y, z = 0.3, -0.4, 1.1

    def matrix(axis, angle):
        c, s = np.cos(angle), np.sin(angle)
        i, j = [(1, 2), (2, 0), (0, 1)][axis]
        made = np.eye(3)
        made[i, i] = made[j, j] = c
        made[i, j], made[j, i] = -s, s
        return made

    expected = matrix(2, z) @ matrix(1, y) @ matrix(0, x)
    found = np.zeros(9)
    mujoco.mju_quat2Mat(found, from_euler(x, y, z))
    assert found.reshape(3, 3) == pytest.approx(expected)
    mujoco.mju_quat2Mat(found, MOUNT)
    assert found.reshape(3, 3) == pytest.approx(matrix(0, np.pi / 2) @ matrix(2, np.pi))


@pytest.mark.parametrize("damping", [1.0, 4.5])
def test_a_base_moves_at_the_speed_that_its_damping_allows(damping):
    task = make_task("ShadowHandPushBlock", Quirks(base_damping=damping))
    batch = HandsBatch(task, 1, 100)
    batch.reset([0], [0])
    speed, turn_speed = base_speeds(type(task), damping)
    assert speed == pytest.approx(1666.67 * 0.5 / (100 * damping * 5.011), rel=1e-4)
    action = np.zeros((1, 52), np.float32)
    action[:, 2] = 1
    for _ in range(20):
        batch.step(action)
    velocity_B = batch.datas[0].qvel[batch.scene.dof("right-base") :][:3]
    assert velocity_B == pytest.approx([0, 0, speed], rel=0.02, abs=0.002)
    action[:] = 0
    action[:, 5] = 1  # about z, across the forearm
    for _ in range(20):
        batch.step(action)
    # A free joint's turn rate is in the axes of the body.
    turning = np.linalg.norm(batch.datas[0].qvel[batch.scene.dof("right-base") + 3 :][:3])
    assert turning == pytest.approx(turn_speed, rel=0.05)


def test_gravity_does_not_act_on_hands(scene):
    batch = HandsBatch(make_task("ShadowHandPushBlock", Quirks()), 1, 100)
    batch.reset([0], [0])
    before = batch.snapshot().hands[0].root_position_B3.copy()
    for _ in range(60):
        batch.step(np.zeros((1, 52), np.float32))
    after = batch.snapshot().hands[0].root_position_B3
    # Fingers swing to the middle of their ranges and push back a little.
    assert after == pytest.approx(before, abs=0.005)
