"""Way-points: where a hand is told to be, it goes; copies and sets do not disturb each other."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.actions import Box
from pipelines.domains.bidexhands.batch import HandsBatch
from pipelines.domains.bidexhands.geometry import about, angle_between, from_euler, multiply
from pipelines.domains.bidexhands.policy import (
    KIND,
    WIDTH,
    WaypointsConfig,
    WaypointsPolicy,
    base_quaternion,
    base_speeds,
    build_waypoints,
    quaternion_of,
    rotation_vector,
)
from pipelines.domains.bidexhands.quirks import Quirks
from pipelines.domains.bidexhands.tasks import make_task
from pipelines.errors import ConfigError
from pipelines.policies.base import PolicySpec
from pipelines.rng import stream

pytestmark = pytest.mark.simulator

BOUND = np.ones(52, np.float32)


def play(batch, policy, steps, noise=0.0):
    observation_BO = batch.reset(range(batch.size), range(batch.size))
    policy.reset(range(batch.size))
    generator = stream(0, "test")
    for _ in range(steps):
        action_BA = policy.act(observation_BO)
        drawn_BA = generator.uniform(-1, 1, action_BA.shape)
        mixed_BA = ((1 - noise) * action_BA + noise * drawn_BA).astype(np.float32)
        observation_BO = batch.step(mixed_BA).observation_BO
    return observation_BO


def config_of(task, count, **more):
    speed, turn_speed = base_speeds(type(task), task.quirks.base_damping)
    given = {"fixed_base": task.fixed_base, "anchors": (("start", "start"),) * count}
    return WaypointsConfig(**{**given, "speed": speed, "turn_speed": turn_speed, **more})


def test_rotation_vectors_and_quaternions_are_inverse():
    vector_N3 = np.random.default_rng(0).normal(0, 0.8, (50, 3))
    vector_N3[0] = 0
    assert rotation_vector(quaternion_of(vector_N3)) == pytest.approx(vector_N3, abs=1e-9)
    assert rotation_vector(-quaternion_of(vector_N3)) == pytest.approx(vector_N3, abs=1e-9)
    assert quaternion_of(np.array([0, 0.5, 0])) == pytest.approx(about(1, 0.5))


@pytest.mark.parametrize("stem", ["PushBlock", "CatchUnderarm"])
def test_the_orientation_of_a_base_is_read_from_the_observation(stem):
    """Also where the observation's own angles are cut off at 5."""
    task = make_task(f"ShadowHand{stem}", Quirks(base_damping=0.5))
    batch = HandsBatch(task, 4, 100)
    observation_BO = batch.reset(range(4), range(4))
    generator = np.random.default_rng(1)
    for _ in range(30):
        drawn_BA = generator.uniform(-1, 1, (4, 52)).astype(np.float32)
        observation_BO = batch.step(drawn_BA).observation_BO
    state = batch.snapshot()
    for side in (0, 1):
        read_B4 = base_quaternion(observation_BO[:, side * 199 : (side + 1) * 199].astype(float))
        true_B4 = state.hands[side].root_quaternion_B4
        assert angle_between(read_B4, true_B4) == pytest.approx(np.zeros(4), abs=0.01)
        started_4 = from_euler(*task.poses[side].euler)
        assert angle_between(true_B4, started_4).max() > 0.05


def test_bases_go_where_way_points_are_and_turn_as_told():
    task = make_task("ShadowHandPushBlock", Quirks())
    batch = HandsBatch(task, 1, 200)
    knots = np.zeros((3, 2, WIDTH))
    knots[1:, 0, :6] = [0.02, 0.1, 0.05, 0.0, 0.0, 0.06]
    knots[1:, 1, :6] = [-0.05, -0.1, 0.1, 0.0, 0.0, -0.06]
    policy = WaypointsPolicy(config_of(task, 3), np.array([[0, 40, 120]]), knots[None])
    batch.reset([0], [0])
    before = [hand.palm_point_B3[0].copy() for hand in batch.snapshot().hands]
    play(batch, policy, 120)
    for side, hand in enumerate(batch.snapshot().hands):
        assert hand.palm_point_B3[0] - before[side] == pytest.approx(knots[2, side, :3], abs=0.01)
        turned_4 = multiply(quaternion_of(knots[2, side, 3:6]), from_euler(*task.poses[side].euler))
        assert angle_between(hand.root_quaternion_B4[0], turned_4) < 0.02


class Idle:
    """Drives nothing."""

    def reset(self, indices):
        pass

    def act(self, observation_BO):
        return np.zeros((len(observation_BO), 52), np.float32)


def test_noise_moves_bases_away_for_a_moment_only():
    task = make_task("ShadowHandPushBlock", Quirks(base_damping=1))
    batch = HandsBatch(task, 6, 200)
    still = WaypointsPolicy(config_of(task, 2), np.array([[0, 10]]), np.zeros((1, 2, 2, WIDTH)))
    batch.reset(range(6), range(6))
    before_B3 = batch.snapshot().hands[0].root_position_B3.copy()
    moved = []
    for policy in (Idle(), still):
        play(batch, policy, 100, noise=0.5)
        moved_B3 = batch.snapshot().hands[0].root_position_B3 - before_B3
        moved.append(np.abs(moved_B3).mean())
    assert moved[1] < 0.5 * moved[0]


def test_way_points_relative_to_an_object_follow_it():
    task = make_task("ShadowHandPushBlock", Quirks())
    knots = np.zeros((1, 2, WIDTH))
    knots[0, :, 2] = 0.2
    config = config_of(task, 1, anchors=(("object", "point-2"),))
    policy = WaypointsPolicy(config, np.zeros((1, 1)), knots[None])
    batch = HandsBatch(task, 1, 200)
    play(batch, policy, 120)
    state = batch.snapshot()
    for side, name in enumerate(("right-block", "left-block")):
        above_3 = state.hands[side].palm_point_B3[0] - state.objects[name].position_B3[0]
        assert above_3 == pytest.approx([0, 0, 0.2], abs=0.01)


@pytest.mark.parametrize("lag", [None, 0.02])
def test_a_clock_with_a_lag_waits_for_the_bases(lag):
    """Noise slows a base down: its fingers close where it was to be, not on the way."""
    task = make_task("ShadowHandPushBlock", Quirks())
    batch = HandsBatch(task, 3, 400)
    knots = np.zeros((3, 2, WIDTH))
    knots[1:, 0, 0], knots[2, 0, 6:] = -0.2, 1.0
    config = config_of(task, 3, lag=lag, gain=20.0)
    policy = WaypointsPolicy(config, np.array([[0, 30, 31]]), knots[None])
    observation_BO = batch.reset(range(3), range(3))
    policy.reset(range(3))
    began_B = batch.snapshot().hands[0].palm_point_B3[:, 0].copy()
    generator, missing_B = stream(0, "test"), np.full(3, np.nan)
    for _ in range(150):
        action_BA = policy.act(observation_BO)
        closed_B = np.isnan(missing_B) & (action_BA[:, 6] > 0.99)
        here_B = batch.snapshot().hands[0].palm_point_B3[:, 0] - began_B
        missing_B[closed_B] = here_B[closed_B] + 0.2
        drawn_BA = generator.uniform(-1, 1, action_BA.shape)
        observation_BO = batch.step(
            (0.6 * action_BA + 0.4 * drawn_BA).astype(np.float32)
        ).observation_BO
    if lag is None:
        assert missing_B.min() > 0.06
    else:
        # From twice the lag on the clock stands.
        assert missing_B.max() < 2 * lag


def test_servos_move_in_a_straight_line_between_way_points():
    knots = np.zeros((2, 2, WIDTH))
    knots[1, :, 6:] = 0.8
    config = WaypointsConfig(fixed_base=True, anchors=(("start", "start"),) * 2)
    policy = WaypointsPolicy(config, np.array([[0, 8]]), knots[None])
    policy.reset([0])
    seen = [policy.act(np.zeros((1, 398), np.float32))[0, 0] for _ in range(12)]
    assert seen == pytest.approx([min(0.1 * step, 0.8) for step in range(12)], abs=1e-6)


def test_each_copy_follows_its_own_set_and_its_own_clock():
    sets, count = 3, 2
    knots = np.random.default_rng(0).uniform(-0.5, 0.5, (sets, count, 2, WIDTH))
    config = WaypointsConfig(fixed_base=True, anchors=(("start", "start"),) * count)
    times = np.array([[0, 5], [0, 9], [0, 2]])
    crowd = WaypointsPolicy(config, times, knots)
    crowd.use([0, 1, 2], [2, 0, 1])
    crowd.reset([0, 1, 2])
    blank_BO = np.zeros((3, 398), np.float32)
    for _ in range(3):
        crowd.act(blank_BO)
    crowd.reset([1])
    for late in range(4):
        among_BA = crowd.act(blank_BO)
        single = WaypointsPolicy(config, times[:1], knots[:1])
        single.reset([0])
        for _ in range(late + 1):
            alone_BA = single.act(blank_BO[:1])
        assert np.array_equal(among_BA[1], alone_BA[0])


def test_the_spec_builds_the_policy_and_bad_ones_are_named():
    config = WaypointsConfig(fixed_base=False, anchors=(("start", "object"),) * 2)
    arrays = {"times": np.array([0, 9]), "knots": np.zeros((2, 2, WIDTH), np.float32)}
    spec = PolicySpec(KIND, config.model_dump(mode="json"), arrays)
    policy = build_waypoints(spec, Box.between(-BOUND, BOUND))
    assert policy.act(np.zeros((2, 428), np.float32)).shape == (2, 52)
    with pytest.raises(ConfigError, match="does not fit the actions"):
        build_waypoints(spec, Box.between(-BOUND[:40], BOUND[:40]))
    with pytest.raises(ConfigError, match="another shape"):
        build_waypoints(
            PolicySpec(KIND, spec.config, {**arrays, "times": np.zeros(3)}),
            Box.between(-BOUND, BOUND),
        )
    with pytest.raises(ConfigError, match="unknown anchor"):
        build_waypoints(
            PolicySpec(KIND, {**spec.config, "anchors": [["moon", "start"]]}, arrays),
            Box.between(-BOUND, BOUND),
        )
