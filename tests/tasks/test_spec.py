"""One task: what it refuses, how it travels, what it prints."""

from __future__ import annotations

import dataclasses
import json
import math
import pickle

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pipelines.actions import Box, Discrete, actions_of
from pipelines.errors import ConfigError
from pipelines.tasks.registry import catalogue
from pipelines.tasks.schedule import Schedule
from pipelines.tasks.spec import ScoreReference, TaskSpec, score_of

MINIMAL = {
    "name": "gridworld",
    "domain": "mine",
    "group": "mine",
    "observation_dim": 4,
    "action_dim": 2,
    "horizon": 50,
}
RETURNS = st.floats(-1e6, 1e6)
# The noise of Hopper as it was fitted: runs/schedule_fits.py.
PROGRESS = [
    *(0.0, 0.02375, 0.0475, 0.095, 0.19, 0.3325, 0.475, 0.6175, 0.76),
    *(0.855, 0.9025, 0.92625, 0.95),
]
NOISE = [
    *(1.0, 0.7689, 0.6974, 0.4973, 0.2552, 0.1902, 0.1411, 0.0916, 0.0634),
    *(0.0369, 0.0215, 0.0121, 0.0),
]


def test_a_plugin_needs_six_fields():
    spec = TaskSpec(**MINIMAL)
    assert spec.env_id == "gridworld"
    assert (spec.split, spec.reward_scale, spec.episode_sparsity) == ("train", 1.0, 1)
    assert spec.schedule == Schedule(1, 0.1)
    assert spec.timesteps == 1_000_000
    assert spec.episodes == 20_000  # of full length, as nobody has measured them


def test_discrete_actions_are_said_in_place_of_a_dimension():
    rest = {name: value for name, value in MINIMAL.items() if name != "action_dim"}
    spec = TaskSpec(**rest, actions=Discrete(5))
    assert (spec.actions, spec.action_dim) == (Discrete(5), 5)
    printed = json.loads(json.dumps(spec.as_json()))
    assert actions_of(printed) == spec.actions and printed["action_dim"] == 5
    assert pickle.loads(pickle.dumps(spec)) == spec != TaskSpec(**rest, actions=Discrete(4))
    box = TaskSpec(**MINIMAL)
    assert box.actions == Box(2) and "actions" not in box.as_json()
    for wrong in ({"actions": 5}, {"actions": Discrete(5), "action_dim": 4}, {}):
        with pytest.raises(ConfigError, match="action"):
            TaskSpec(**rest, **wrong)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "with.dot"),
        ("name", "with/slash"),
        ("name", ""),
        ("group", "with.dot"),
        ("domain", "with space"),
        ("aliases", "not-a-sequence"),
        ("aliases", ("with space",)),
        ("aliases", ("",)),
        ("split", "test"),
        ("observation_dim", 0),
        ("observation_dim", 4.0),
        ("action_dim", -1),
        ("horizon", 0),
        ("horizon", True),
        ("trajectories", 0),
        ("trajectory_length", 0),
        ("episode_sparsity", 0),
        ("observation_dim_v4", 0),
        ("reward_scale", 0.0),
        ("reward_scale", math.nan),
        ("mean_episode_length", 51),
        ("mean_episode_length", 0.5),
        ("variation", {"wind": 2}),
        ("variation_of", "gridworld"),
        ("inert_reason", "no wind indoors"),
    ],
)
def test_fields_out_of_range_are_refused_by_name(field, value):
    with pytest.raises(ConfigError, match=field.split("_of")[0]) as caught:
        TaskSpec(**{**MINIMAL, field: value})
    assert "domain 'mine'" in caught.value.where or field in ("domain", "name")


@pytest.mark.parametrize(("p", "f"), [(0, 0.1), (-1, 0.1), (math.inf, 0.1), (1, 1.0), (1, -0.1)])
def test_schedule_range(p, f):
    with pytest.raises(ConfigError):
        Schedule(p, f)


@pytest.mark.parametrize(("random", "expert"), [(1, 1), (math.nan, 1), (0, math.inf)])
def test_scores_that_cannot_normalise(random, expert):
    with pytest.raises(ConfigError):
        ScoreReference(random=random, expert=expert)


@given(RETURNS, RETURNS, st.floats(-10, 10))
def test_normalize_inverts_its_definition(random, expert, score):
    """random + score (expert - random) has that score; random is 0 and the expert 1 exactly."""
    assume(abs(expert - random) > 1e-3)
    reference = ScoreReference(random=random, expert=expert)
    assert reference.normalize(random) == 0
    assert reference.normalize(expert) == 1
    value = random + score * (expert - random)
    # Rounding of the value itself, at the size of the scores, over their distance.
    error = 1e-15 * 20 * (abs(random) + abs(expert)) / abs(expert - random)
    assert reference.normalize(value) == pytest.approx(score, abs=1e-9 + error)


def test_normalize_takes_arrays():
    reference = ScoreReference(random=-100, expert=300)
    np.testing.assert_allclose(
        reference.normalize(np.array([[-100.0, 100.0], [300.0, 500.0]])), [[0, 0.5], [1, 1.5]]
    )


def test_a_task_reaches_a_spawned_worker_whole():
    """Workers are spawned; the specification is sent to them."""
    for spec in (catalogue().get("industrial-benchmark-50"), catalogue().get("ant-gravity-1.1")):
        copy = pickle.loads(pickle.dumps(spec))
        assert copy == spec and hash(copy) == hash(spec)
        assert copy.scores["paper"] == spec.scores["paper"]


def test_a_task_cannot_be_changed():
    """The catalogue is cached and shared; nobody may edit it in place."""
    spec = catalogue().get("hopper")
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.horizon = 5
    with pytest.raises(TypeError):
        spec.scores["measured"] = spec.scores["paper"]
    with pytest.raises(TypeError):
        spec.simulator["gravity"] = 0


def test_simulator_parameters_of_the_industrial_benchmark():
    spec = catalogue().get("ib-50")
    assert spec.simulator == {"setpoint": 50}
    assert spec.env_id == "IndustrialBenchmark-p50"


def test_json_of_a_task_is_frozen():
    """Scripts rely on these fields; adding to the end is allowed, anything else breaks them."""
    hopper = catalogue().get("hopper")
    document = json.loads(json.dumps(hopper.as_json()))
    assert document == {
        "name": "hopper",
        "aliases": ["Hopper", "Hopper-v4", "Hopper-v5", "mujoco/hopper"],
        "domain": "mujoco",
        "split": "train",
        "group": "mujoco-hopper",
        "observation_dim": 11,
        "action_dim": 3,
        "horizon": 1000,
        "reward_scale": 0.1,
        "env_id": "Hopper-v5",
        "variation_of": None,
        "episode_sparsity": 2,
        "trajectories": 10,
        "trajectory_length": 1_000_000,
        "schedule": {"p": 0.5623, "f": 0.05},
        "scores": {
            "paper": {
                "random": 16.2,
                "expert": 3237.8,
                "random_std": 8.4,
                "expert_std": 707.8,
            },
            "release": {
                "random": 21.7,
                "expert": 2350,
                "random_std": None,
                "expert_std": None,
            },
        },
        "inert": False,
        "noise_curve": {"progress": PROGRESS, "noise": NOISE},
    }


def test_json_of_every_task_has_the_same_fields():
    fields = list(catalogue().get("hopper").as_json())
    for spec in (*catalogue().tasks, *catalogue().variations):
        document = json.loads(json.dumps(spec.as_json(), allow_nan=False))
        assert list(document) == fields
        assert (document["variation_of"] is None) == (spec in catalogue().tasks)
    assert catalogue().get("swimmer-viscosity-0.1").as_json()["inert"] is True


def test_references_are_never_mixed() -> None:
    scores = {
        "paper": {"random": 0.0, "expert": 10.0},
        "measured": {"random": {"mean": 1.0, "std": 2.0}, "expert": {"mean": 5.0}},
        "flat": {"random": 1.0, "expert": 1.0},
    }
    assert score_of(scores, "paper") == ScoreReference(random=0.0, expert=10.0)
    assert score_of(scores, "measured") == ScoreReference(random=1.0, expert=5.0)
    assert score_of(scores, "release") is None
    assert score_of(scores, "flat") is None
