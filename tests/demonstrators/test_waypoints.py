"""The search over way-points: it resumes, it improves, and says what is wrong with a script."""

from __future__ import annotations

import numpy as np
import pytest

from demonstrators.test_train import assert_killed_resumes
from pipelines.actions import Box
from pipelines.demonstrators.evaluate import Evaluator
from pipelines.demonstrators.train import train_policy
from pipelines.domains.bidexhands.hand import joint_names, joint_ranges, servo_joints
from pipelines.domains.registry import domain_of, full_catalogue, resolve_options
from pipelines.errors import ConfigError
from pipelines.learners.settings import TrainSettings
from pipelines.learners.waypoints import (
    SYNERGIES,
    Waypoint,
    WaypointCode,
    WaypointLearner,
    WaypointSettings,
)
from pipelines.policies.registry import build_policy

pytestmark = pytest.mark.simulator

START = [{"at": 0}, {"at": 30, "right": {"position": [0, 0, -0.1]}}]


def settings(total_steps=3000, segment_steps=1500, **hyperparameters):
    return TrainSettings(
        algorithm="waypoints",
        total_steps=total_steps,
        segment_steps=segment_steps,
        evaluation_episodes=2,
        hyperparameters={"start": START, "population": 4, "noise": [0, 0.3], **hyperparameters},
    )


def get(name="hand-push-block"):
    task = full_catalogue().get(name)
    domain = domain_of(task)
    return task, domain, resolve_options(domain, {})


def train(given, directory, advance=None):
    task, domain, options = get()
    with Evaluator(task, domain, options, seed=3) as evaluator:
        return train_policy(given, evaluator, options, directory, advance)


def test_a_resumed_search_equals_an_uninterrupted_one(tmp_path, monkeypatch):
    given = settings(1500, 750, noise=[0.3])
    assert_killed_resumes(
        lambda directory, advance: train(given, directory, advance), tmp_path, monkeypatch, 1000
    )


def test_segments_leave_no_trace():
    given = settings(noise=[0.3])
    one, many = (WaypointLearner(given, *get(), seed=0) for _ in range(2))
    one.learn(1200)
    many.learn(1)
    state = many.dump()
    again = WaypointLearner(given, *get(), seed=0)
    again.load(state)
    again.learn(1200)
    assert again.steps == one.steps
    for name, array in one.policy().arrays.items():
        assert np.array_equal(again.policy().arrays[name], array)


def test_the_search_improves_a_rough_script():
    """A hand that is to go down to its block gets nearer to it."""
    learner = WaypointLearner(settings(population=12, noise=[0], step=0.6), *get(), seed=1)
    task, domain, options = get()
    with Evaluator(task, domain, options, seed=3) as evaluator:
        before = evaluator.policy(learner.policy(), 2, "test").returns_E.mean()
        learner.learn(9000)
        after = evaluator.policy(learner.policy(), 2, "test").returns_E.mean()
    assert after > before + 20


def test_a_vector_holds_the_script_that_it_was_made_from():
    start = WaypointSettings(
        start=[
            {"at": 0},
            {
                "at": 25,
                "right": {"position": [0.1, -0.2, 0.3], "turn": [0, 0.4, 0]},
                "left": {"fingers": {"spread": 0.5, "thumb-curl": -0.3}},
            },
        ]
    ).start
    code = WaypointCode(start, fixed_base=False)
    times_CK, knots = code.decode(code.start_D[None])
    assert times_CK[0] == pytest.approx([0, 25])
    assert knots[0, 1, 0, :6] == pytest.approx([0.1, -0.2, 0.3, 0, 0.4, 0])
    servo = {joint_names()[j]: u for u, j in enumerate(servo_joints())}
    left_U = knots[0, 1, 1, 6:]
    assert left_U[servo["THJ0"]] == pytest.approx(-0.3)
    assert left_U[[servo[f"{f}J3"] for f in ("FF", "MF", "RF", "LF")]] == pytest.approx(
        [0.5, 0, -0.5, -0.5]
    )


def test_what_a_script_leaves_out_holds_the_joints_at_zero():
    code = WaypointCode((Waypoint(at=0),), fixed_base=True)
    action_U = code.decode(code.start_D[None])[1][0, 0, 0, 6:]
    low_J, high_J = joint_ranges()
    servos = servo_joints()
    angle_U = low_J[servos] + (action_U + 1) / 2 * (high_J - low_J)[servos]
    assert angle_U == pytest.approx(np.zeros(20), abs=1e-9)
    moved = {joint for joints in SYNERGIES.values() for joint in joints}
    assert moved == {joint_names()[j] for j in servos} - {"MFJ3"}


def test_fixed_bases_have_nothing_to_search_but_fingers():
    free = WaypointCode((Waypoint(at=0), Waypoint(at=9)), fixed_base=False)
    fixed = WaypointCode((Waypoint(at=0), Waypoint(at=9)), fixed_base=True)
    assert len(fixed.start_D) == 1 + 2 * 2 * 13
    assert len(free.start_D) == len(fixed.start_D) + 2 * 2 * 6
    learner = WaypointLearner(settings(), *get("hand-over"), seed=0)
    actions = Box.between(-np.ones(40, np.float32), np.ones(40, np.float32))
    policy = build_policy(learner.policy(), actions, get()[1].policies())
    assert policy.act(np.zeros((1, 398), np.float32)).shape == (1, 40)


def test_guidance_counts_in_the_search_alone():
    """With it candidates are ranked otherwise; what an environment returns stays the same."""
    plain, guided = (
        WaypointLearner(settings(guidance=weight, noise=[0]), *get("hand-over"), seed=0)
        for weight in (0.0, 50.0)
    )
    candidates_CD = plain._search.ask(np.random.default_rng(0))
    added_C = guided._play(candidates_CD, 0) - plain._play(candidates_CD, 0)
    # 74 steps, each with 50 exp(-4 D) of an egg that is 25 cm from its goal at the start.
    assert (added_C > 50 * 0.15 * 74 / 2).all() and (added_C < 50 * 74).all()


def test_a_rehearsal_is_one_episode_and_then_the_search_begins_again():
    """The same episode for all, without noise; afterwards around what was found, with half the
    step; and a search that resumes from within or after it is the same."""
    given = settings(population=6, rehearsal_steps=750, step=0.6)
    learner = WaypointLearner(given, *get(), seed=0)
    learner.learn(1)
    first = learner.steps
    # One short or whole episode a candidate.
    assert first <= 6 * 124 and learner._search.step != 0.3
    again = WaypointLearner(given, *get(), seed=0)
    again.load(learner.dump())
    for each in (learner, again):
        each.learn(750)
    assert learner._search.step == 0.3 and learner._search.generation == 0
    before = learner.steps
    for each in (learner, again):
        each.learn(before + 1)
    # Two episodes of each candidate now.
    assert learner.steps - before > 1.2 * first
    assert learner.steps == again.steps
    assert np.array_equal(learner.policy().arrays["knots"], again.policy().arrays["knots"])


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"start": []}, "at least 1"),
        ({"start": [{"at": 3}]}, "begin at step 0"),
        ({"start": [{"at": 0}, {"at": 0}]}, "after the one before"),
        ({"start": [{"at": 0, "right": {"fingers": {"toe": 1}}}]}, "toe"),
        ({"noise": [2]}, "share of noise"),
        ({"populatoin": 3}, "populatoin"),
    ],
)
def test_a_bad_script_is_named(given, named):
    with pytest.raises(ConfigError) as caught:
        WaypointLearner(settings(**given), *get(), seed=0)
    assert named in str(caught.value)
    assert "hyperparameters" in str(caught.value)


def test_a_task_without_hands_is_refused():
    with pytest.raises(ConfigError, match="moves two hands"):
        WaypointLearner(settings(), *get("hopper"), seed=0)


def test_normalisation_is_refused():
    given = settings().model_copy(update={"normalize_observations": True})
    with pytest.raises(ConfigError, match="normalize_observations left out"):
        WaypointLearner(given, *get(), seed=0)
