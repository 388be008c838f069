from __future__ import annotations

import numpy as np
import pytest

from pipelines.actions import Box
from pipelines.demonstrators.experts import builtin_policy, has_builtin
from pipelines.domains.registry import domain_of, resolve_options
from pipelines.errors import ConfigError
from pipelines.policies.base import PolicySpec
from pipelines.policies.metaworld_script import mean_goals, script_policy
from pipelines.policies.phases import metaworld_phases, read_phases, tuned_policy
from pipelines.policies.registry import build_policy
from pipelines.tasks.registry import catalogue

pytestmark = pytest.mark.simulator

FOUR = np.ones(4, np.float32)
FAR = {"distance": 0.0, "steps": 1000}


def phase(anchor="ccc", offset=(0.0, 0.0, 0.0), gripper=0.0, gain=1.0, **switch):
    return {"anchor": anchor, "offset": offset, "gripper": gripper, "gain": gain, **switch}


def build(*phases, **config):
    return build_policy(
        PolicySpec("phases", {"phases": phases, **config}), Box.between(-FOUR, FOUR)
    )


def observation(hand=(0, 0, 0), first=(0, 0, 0), second=(0, 0, 0), yaw=0.0):
    seen = np.zeros((1, 39), np.float32)
    seen[0, 7], seen[0, 10] = np.cos(yaw / 2), np.sin(yaw / 2)
    seen[0, 0:3], seen[0, 4:7], seen[0, 11:14] = hand, first, second
    return seen


@pytest.mark.parametrize(
    ("anchor", "expected"),
    [
        ("c", (0.2, 0.3, 0.4)),
        ("2", (0.5, 0.6, 0.7)),
        ("g", (0.1, 0.6, 0.2)),
        ("a", (0.0, 0.0, 0.0)),
        ("h", (0.05, 0.06, 0.07)),
        ("i", (0.2, 0.3, 0.4)),
    ],
)
def test_each_anchor_reads_its_place(anchor, expected):
    """The action is gain times (anchor + offset - hand), axis by axis."""
    hand, offset = np.array([0.05, 0.06, 0.07]), np.array([0.01, -0.02, 0.03])
    policy = build(phase(3 * anchor, offset.tolist(), -0.5, 1.5), goal=(0.1, 0.6, 0.2))
    action = policy.act(observation(hand, (0.2, 0.3, 0.4), (0.5, 0.6, 0.7)))
    assert action.dtype == np.float32
    np.testing.assert_allclose(action[0, :3], 1.5 * (expected + offset - hand), atol=1e-6)
    assert action[0, 3] == -0.5
    mixed = build(phase("a" + anchor + "c"), goal=(0.1, 0.6, 0.2))
    place = mixed.act(observation((0, 0, 0), (0.2, 0.3, 0.4), (0.5, 0.6, 0.7)))[0, :3]
    middle = 0.0 if anchor == "h" else expected[1]
    np.testing.assert_allclose(place, (0.0, middle, 0.4), atol=1e-6)


def test_offsets_turn_with_the_object():
    """A wrench that a reset has turned is grasped at the same place of its handle.

    The offset's x and y turn about the vertical by the object's yaw, z does not; a tilt changes
    neither, and phases without it keep their offsets.
    """
    turned = build(phase("ccc", (0.02, 0.1, 0.3), turned=True))
    kept = build(phase("ccc", (0.02, 0.1, 0.3)))
    for yaw, expected in (
        (0.0, (0.02, 0.1, 0.3)),
        (np.pi / 2, (-0.1, 0.02, 0.3)),
        (-2 * np.pi / 3, (-0.01 + 0.05 * 3**0.5, -0.05 - 0.01 * 3**0.5, 0.3)),
    ):
        seen = observation(yaw=yaw)
        np.testing.assert_allclose(turned.act(seen)[0, :3], expected, atol=1e-6)
        np.testing.assert_allclose(kept.act(seen)[0, :3], (0.02, 0.1, 0.3), atol=1e-6)
    tilted = observation()
    tilted[0, 7:11] = np.cos(0.1), np.sin(0.1), 0.0, 0.0
    np.testing.assert_allclose(turned.act(tilted)[0, :3], (0.02, 0.1, 0.3), atol=1e-6)


def test_actions_are_clipped_to_the_box():
    action = build(phase("aaa", (1, -1, 0), 1.0, 25.0)).act(observation())
    np.testing.assert_array_equal(action, [[1, -1, 0, 1]])


def test_a_phase_ends_by_distance_or_by_steps_and_several_may_end_at_once():
    grips = (-1.0, -0.5, 0.5, 1.0)
    policy = build(
        phase("ccc", (0, 0, 0), grips[0], distance=0.1, steps=1000),
        phase("ccc", (0, 0, 0), grips[1], distance=0.0, steps=2),
        phase("ccc", (0, 0, 0), grips[2], distance=0.3, steps=1000),
        phase("ccc", (0, 0, 0), grips[3]),
    )
    far, near = observation((0.2, 0, 0)), observation((0.05, 0, 0))
    found = [policy.act(each)[0, 3] for each in (far, far, near, far, far)]
    # Two steps in the second phase; then the third is within its distance at once.
    assert found == [grips[0], grips[0], grips[1], grips[1], grips[3]]
    assert policy.act(observation((9, 9, 9)))[0, 3] == grips[3]


def test_the_hand_is_latched_when_a_phase_begins():
    policy = build(phase("aaa", distance=0.0, steps=1), phase("hhh", (0, 0, 0.5)))
    policy.act(observation((0.9, 0.9, 0.9)))
    policy.act(observation((0.1, 0.2, 0.3)))
    action = policy.act(observation((0.0, 0.0, 0.0)))
    np.testing.assert_allclose(action[0, :3], (0.1, 0.2, 0.8), atol=1e-6)


def test_the_objects_start_is_what_the_second_observation_shows():
    """The first one may show it where the discarded draw of the reset had put it."""
    policy = build(phase("iii"))
    for first in ((0.9, 0.9, 0.9), (0.1, 0.2, 0.3), (0.5, 0.5, 0.5)):
        action = policy.act(observation((0, 0, 0), first))
    np.testing.assert_allclose(action[0, :3], (0.1, 0.2, 0.3), atol=1e-6)


def test_damping_aims_from_where_the_hand_will_be():
    """The action counts the hand's speed, from the stacked previous observation; what ends a phase
    does not."""
    damped = {"gain": 2.0, "damping": 4.0}
    policy = build(
        phase("aaa", (0.1, 0.2, 0.3), -1.0, distance=0.06, steps=1000, **damped),
        phase("aaa", (0.1, 0.2, 0.3), 1.0, gain=2.0),
    )
    seen = observation((0.05, 0.2, 0.2))
    seen[0, 18:21] = (0.04, 0.21, 0.2)
    action = policy.act(seen)[0]
    # Error (0.05, 0, 0.1) minus 4 steps of (0.01, -0.01, 0), times 2; the distance is 0.11 still.
    np.testing.assert_allclose(action, (0.02, 0.08, 0.2, -1.0), atol=1e-6)
    # Near enough by distance alone, and the next phase has no damping.
    seen[0, 0:3] = (0.05, 0.2, 0.29)
    np.testing.assert_allclose(policy.act(seen)[0], (0.1, 0.0, 0.02, 1.0), atol=1e-6)


def test_a_lost_object_is_fetched_again():
    policy = build(
        phase(gripper=-1.0, distance=0.05, steps=1000), phase("hhh", gripper=1.0), hold=1
    )
    held, lost = observation(), observation((0, 0, 0.2))
    assert policy.act(held)[0, 3] == 1.0
    action = policy.act(lost)
    assert action[0, 3] == -1.0 and action[0, 2] == pytest.approx(-0.2)
    assert policy.act(held)[0, 3] == 1.0
    without = build(phase(gripper=-1.0, distance=0.05, steps=1000), phase("hhh", gripper=1.0))
    assert [without.act(each)[0, 3] for each in (held, lost)] == [1.0, 1.0]


def test_copies_remember_on_their_own_and_forget_when_reset():
    """Bit for bit as one copy alone, with resets at different times: recorded bytes rest on it."""
    spec = tuned_policy("bin-picking-v3")
    generator = np.random.default_rng(0)
    seen_TBO = generator.uniform(-0.1, 0.1, (60, 5, 39)).astype(np.float32)
    resets = {0: range(5), 7: [1, 3], 30: [0], 31: [4, 1]}

    def run(copies):
        policy, found = build_policy(spec, Box.between(-FOUR, FOUR)), []
        for step, seen_BO in enumerate(seen_TBO):
            if step in resets:
                policy.reset([copies.index(i) for i in resets[step] if i in copies])
            found.append(policy.act(seen_BO[copies]))
        return np.stack(found, axis=1)

    together = run([0, 1, 2, 3, 4])
    for copy in range(5):
        assert run([copy])[0].tobytes() == together[copy].tobytes()
    assert not np.array_equal(together[1, 31:], run([2])[0, 31:])


def test_it_knows_no_more_than_the_recorded_observation():
    """The goal of the episode, shown or hidden, changes nothing."""
    for task in catalogue().select(domains=["metaworld"]):
        spec = tuned_policy(task.env_id)
        if spec is None:
            continue
        hidden = np.random.default_rng(0).uniform(-0.3, 0.6, (3, 39)).astype(np.float32)
        hidden[:, 36:] = 0
        shown = hidden.copy()
        shown[:, 36:] = 0.3
        actions = [
            build_policy(spec, Box.between(-FOUR, FOUR)).act(each) for each in (hidden, shown)
        ]
        np.testing.assert_array_equal(*actions)


def test_it_aims_at_the_goal_it_is_told_and_at_the_mean_one_where_it_is_told_none():
    """Row by row: one copy may be shown its goal while another is not."""
    told = build(phase("ggg"), goal=(0.1, 0.6, 0.2), sees_goal=True)
    seen = np.concatenate([observation(), observation()])
    seen[0, 36:] = (0.3, 0.5, 0.4)
    np.testing.assert_allclose(told.act(seen)[:, :3], [(0.3, 0.5, 0.4), (0.1, 0.6, 0.2)])


@pytest.mark.parametrize(
    "config",
    [
        {"phases": []},
        {"phases": [phase("xyz")]},
        {"phases": [phase("cc")]},
        {"phases": [phase("ggg")]},
        {"phases": [phase()], "hold": 1},
        {"phases": [phase(gain=0.0)]},
        {"phases": [phase(damping=0.0)]},
        {"phases": [phase(damping=float("inf"))]},
        {"phases": [phase(offset=(0, 0, float("nan")))]},
        {"phases": [phase(gripper=1.5)]},
        {"phases": [phase(steps=0)]},
        {"phases": [phase(speed=1)]},
    ],
)
def test_a_configuration_that_means_nothing_is_refused(config):
    with pytest.raises(ConfigError):
        build_policy(PolicySpec("phases", config), Box.between(-FOUR, FOUR))


def test_it_moves_four_actions_and_has_no_arrays():
    good = {"phases": [phase()]}
    with pytest.raises(ConfigError):
        build_policy(PolicySpec("phases", good), Box.between(-FOUR[:3], FOUR[:3]))
    with pytest.raises(ConfigError):
        build_policy(PolicySpec("phases", good, {"weight": FOUR}), Box.between(-FOUR, FOUR))


def test_the_stored_phases_belong_to_tasks_and_are_measured():
    tasks = {task.env_id for task in catalogue().select(domains=["metaworld"])}
    stored = metaworld_phases()
    assert len(stored) >= 34 and set(stored) <= tasks
    for name, each in stored.items():
        assert each.measured is not None and each.measured.episodes >= 50, name
        each.config(mean_goals()[name])


def test_what_has_no_damping_says_nothing_of_it():
    """The configuration in artifacts of tasks without damped phases stays what it was."""
    for task in catalogue().select(domains=["metaworld"]):
        spec, tuned = tuned_policy(task.env_id), metaworld_phases().get(task.env_id)
        if spec is None:
            continue
        found = [each.get("damping") for each in spec.config["phases"]]
        assert found == [each.damping for each in tuned.phases]
        assert all(
            ("damping" in raw) == (raw.get("damping") is not None) for raw in spec.config["phases"]
        )


def test_a_task_gets_the_better_of_its_two_controllers():
    kinds = {}
    for task in catalogue().select(domains=["metaworld"]):
        domain = domain_of(task)
        assert has_builtin(task, domain)
        spec = builtin_policy(task, domain, resolve_options(domain, {}))
        tuned = metaworld_phases().get(task.env_id)
        better = tuned is not None and tuned.measured.phases > tuned.measured.script
        assert spec == (tuned_policy(task.env_id) if better else script_policy(task.env_id))
        build_policy(spec, Box.between(-FOUR, FOUR))
        kinds.setdefault(spec.kind, []).append(task.name)
    assert set(kinds) == {"phases", "metaworld_script"}


def test_only_demonstrators_that_are_told_the_goal_aim_at_it():
    """Others keep the configuration that artifacts have of them."""
    task = catalogue().get("reach")
    domain = domain_of(task)
    plain, told = (
        builtin_policy(task, domain, resolve_options(domain, {"goal": goal}))
        for goal in ("hidden", "demonstrator")
    )
    assert "sees_goal" not in plain.config
    assert told.config == {**plain.config, "sees_goal": True}


def test_a_file_of_phases_with_a_mistake_names_the_place(tmp_path):
    path = tmp_path / "phases.yaml"
    path.write_text('reach-v3:\n  phases:\n    - {anchor: "ccx"}\n')
    with pytest.raises(ConfigError, match="reach-v3") as caught:
        read_phases(path)
    assert "phases.0" in str(caught.value.where)
