"""The search that tunes Meta-World phases (runs/phases_tuning.py)."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from pipelines.demonstrators.evaluate import Evaluator
from pipelines.domains.registry import domain_of, resolve_options
from pipelines.policies.metaworld_script import script_policy
from pipelines.policies.phases import Phase, TaskPhases, metaworld_phases, read_phases
from pipelines.tasks.registry import catalogue

sys.path.insert(0, str(Path(__file__).parents[2] / "runs"))

import phases_tuning as tuning
from phases_tuning import (
    StoredResets,
    TuneSettings,
    decode,
    encode,
    measure,
    race,
    tune,
    write_phases,
)

pytestmark = pytest.mark.simulator


def task_of(name):
    return next(task for task in catalogue().select(domains=["metaworld"]) if task.name == name)


def test_phases_come_back_from_their_vector():
    for name, tuned in metaworld_phases().items():
        found = decode(encode(tuned), tuned)
        expected = tuned.model_copy(update={"measured": None})
        # Unused fields of the last phase are defaults in both.
        assert found == expected, name


def test_a_vector_beyond_what_a_phase_may_be_is_bounded():
    tuned = next(iter(metaworld_phases().values()))
    for value in (-60.0, 60.0):
        decode(np.full(len(encode(tuned)), value), tuned)


def test_the_race_spends_less_on_the_worse_half():
    """The worse half plays the first resets only, and stays behind whatever the rest would say."""
    played = []

    def score(candidate, reset):
        played.append((candidate, reset))
        # Candidate 5 would win on the later resets; 1 overtakes 0 there.
        early, late = [5, 4, 3, 2, 1, 0], [0, 9, 0, 0, 0, 99]
        return float((early if reset < 12 else late)[candidate])

    order, best = race(score, 6, [10, 11, 12, 13], 2)
    assert order == [1, 0, 2, 3, 4, 5]
    assert best == (4 + 4 + 9 + 9) / 4
    assert sorted(played) == sorted(
        [(c, r) for c in range(6) for r in (10, 11)] + [(c, r) for c in range(4) for r in (12, 13)]
    )


@pytest.mark.parametrize("name", ["push-back", "window-open", "stick-pull", "lever-pull"])
def test_a_stored_reset_is_the_reset(name):
    """Bit for bit, from a used environment and in any order; push-back and its like keep views
    into the simulator among their attributes."""
    task = task_of(name)
    domain = domain_of(task)
    seeds = [3, 1, 2]
    used, fresh = (domain.make_env(task, resolve_options(domain, {})) for _ in range(2))
    stored = StoredResets(used, seeds)
    generator = np.random.default_rng(0)
    for index in (1, 0, 1, 2):
        expected, _ = fresh.reset(seed=seeds[index])
        np.testing.assert_array_equal(stored.restore(index), expected)
        for _ in range(task.horizon if index == 2 else 40):
            action = generator.uniform(-1, 1, 4).astype(np.float32)
            found, expected = used.step(action), fresh.step(action)
            np.testing.assert_array_equal(found[0], expected[0])
            assert found[1:4] == expected[1:4]
            assert found[4]["success"] == expected[4]["success"]
    used.close()
    fresh.close()


class FakeResets:
    """Scores a policy by how near its first action is to one that depends on the reset a bit."""

    def __len__(self):
        return 8

    def play(self, policy, index):
        policy.reset([0])
        action = policy.act(np.zeros((1, 39), np.float32))[0]
        return -float(np.abs(action - np.array([0.5, -0.2, 0.3 + index / 100, 0.8])).sum())


START = TaskPhases(
    phases=(
        Phase(anchor="aaa", offset=(0, 0, 0), gripper=0, gain=5, distance=0, steps=50),
        Phase(anchor="aaa", offset=(0, 0, 0), gripper=0, gain=5),
    )
)


def test_tuning_improves_on_its_start_and_a_resumed_search_is_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(tuning, "stored_resets", lambda *_: FakeResets())
    task = task_of("reach")
    lines = []

    def go(directory, generations):
        settings = TuneSettings(pool=8, generations=generations, seconds=1000)
        return tune(task, [START], settings, directory, lines.append)

    whole = go(tmp_path / "a", 30)
    assert whole.pool_best > whole.pool_start + 1.5
    assert len(whole.curve) == 30 and lines
    go(tmp_path / "b", 11)
    assert go(tmp_path / "b", 30) == whole
    # Time is counted over all runs: there is none left.
    spent = TuneSettings(pool=8, seconds=0.0)
    assert tune(task, [START], spent, tmp_path / "b").curve == whole.curve


def test_tuning_begins_at_the_best_start_and_never_ends_below_it(tmp_path, monkeypatch):
    monkeypatch.setattr(tuning, "stored_resets", lambda *_: FakeResets())
    good = START.model_copy(
        update={
            "phases": (
                START.phases[0].model_copy(update={"offset": (0.1, -0.04, 0.067), "gripper": 0.8}),
                START.phases[1],
            )
        }
    )
    found = tune(task_of("reach"), [START, good], TuneSettings(pool=8, generations=1), tmp_path)
    assert found.pool_start > -0.1
    assert found.pool_best >= found.pool_start


def test_phases_come_back_from_their_file(tmp_path):
    """Anchors such as 222 stay texts; damping is kept, also of a last phase."""
    stored = dict(metaworld_phases())
    assert any(phase.anchor == "222" for each in stored.values() for phase in each.phases)
    assert any(each.phases[-1].damping for each in stored.values())
    write_phases(tmp_path / "phases.yaml", stored, "# a comment")
    assert read_phases(tmp_path / "phases.yaml") == stored


def test_a_measurement_is_the_evaluators():
    """Both controllers play the same episodes; a script's known return is taken over."""
    task = task_of("drawer-close")
    domain = domain_of(task)
    tuned = metaworld_phases()[task.env_id].model_copy(update={"measured": None})
    measured = measure(task, tuned, seed=3, episodes=2)
    with Evaluator(task, domain, resolve_options(domain, {}), 3) as evaluator:
        script = evaluator.policy(script_policy(task.env_id), 2).returns_E.mean()
    assert measured.measured.script == round(float(script), 2)
    assert measured.measured.phases > 500 > measured.measured.script
    known = measured.measured.model_copy(update={"script": 7.0})
    again = measure(task, measured.model_copy(update={"measured": known}), seed=3, episodes=2)
    assert again.measured == known
