"""A fingerprint is the same twice, and tells what is different."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from pipelines.domains.registry import domain_of, full_catalogue, resolve_options
from pipelines.playing.fingerprint import compare_fingerprints, fingerprint

pytestmark = pytest.mark.simulator


def make(name: str, **options: Any) -> dict[str, Any]:
    task = full_catalogue().get(name)
    return fingerprint(task, resolve_options(domain_of(task), options))


@pytest.mark.parametrize("name", ["hopper", "reach", "industrial-benchmark-50"])
def test_a_fingerprint_is_json_and_the_same_twice(name: str) -> None:
    first = make(name)
    task = full_catalogue().get(name)
    assert (first["observation_dim"], first["action_dim"]) == (
        task.observation_dim,
        task.action_dim,
    )
    assert len(first["rollout"]["observations"]) == 9
    assert len(first["rollout"]["rewards"]) == 8
    assert first["packages"]
    again = json.loads(json.dumps(make(name)))
    assert again == first
    assert compare_fingerprints(first, again) == []


def test_a_rollout_stops_where_its_episode_does() -> None:
    rollout = make("inverted-double-pendulum")["rollout"]
    assert len(rollout["observations"]) == len(rollout["rewards"]) + 1


@pytest.mark.parametrize("option", [{"gravity": 1.1}, {"viscosity": 0.05}])
@pytest.mark.parametrize("name", ["hopper", "inverted-pendulum"])
def test_a_change_of_the_physics_is_seen_in_the_rollout(name: str, option: dict[str, Any]) -> None:
    differences = compare_fingerprints(make(name), make(name, **option))
    assert any("option" in line for line in differences)
    assert any("rollout" in line for line in differences)


def test_numbers_within_the_tolerance_are_no_difference() -> None:
    recorded = make("hopper")
    now = copy.deepcopy(recorded)
    now["rollout"]["observations"][5][3] += 1e-7
    assert compare_fingerprints(recorded, now) == []
    now["rollout"]["observations"][5][3] += 0.01
    (line,) = compare_fingerprints(recorded, now)
    assert "step 5, entry 3" in line


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"env_id": "Hopper-v6"}, "environment id"),
        ({"observation_dim": 12}, "observation dimension"),
        ({"action_dim": 4}, "action dimension"),
        ({"packages": {"mujoco": "9.9"}}, "version of mujoco is 9.9"),
        ({"rollout": {"observations": [], "rewards": []}}, "0 observations"),
        ({"rollout": {}}, "0 rewards"),
    ],
)
def test_each_kind_of_difference_is_told_in_words(change: dict[str, Any], words: str) -> None:
    recorded = make("hopper")
    assert any(words in line for line in compare_fingerprints(recorded, {**recorded, **change}))


def test_not_a_number_is_a_difference() -> None:
    recorded = make("hopper")
    now = copy.deepcopy(recorded)
    now["rollout"]["rewards"][2] = float("nan")
    assert any("step 2" in line for line in compare_fingerprints(recorded, now))
