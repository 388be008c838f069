"""``--schedule auto|fitted|playable``: the pilot, what is recorded of it, and resuming."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from pipelines.demonstrators.reader import load_demonstrator
from pipelines.distill.config import DistillConfig
from pipelines.distill.pilot import LEVELS, PilotJob, run_pilot
from pipelines.distill.plan import plan
from pipelines.distill.response import Response, fit_levels, share_played
from pipelines.distill.schedule import noise_along
from pipelines.distill.stage import run
from pipelines.domains.registry import domain_of, full_catalogue
from pipelines.errors import StorageError, VintixError
from pipelines.histories.quality import history_quality
from pipelines.histories.reader import HistoryReader
from pipelines.policies.registry import build_policy
from pipelines.reporter import NullReporter
from pipelines.rng import derive_seed
from pipelines.tasks.schedule import schedule_from_json

from .toy import refuse_commits

pytestmark = pytest.mark.stage

STEPS = 90
CONFIG = {
    "tasks": ("toy-a", "toy-b"),
    "trajectories": 2,
    "steps": STEPS,
    "shard_rows": 60,
    "name": "h",
    "workers": 1,
}


def distill(workspace, **changes):
    return run(
        DistillConfig(**{**CONFIG, "pilot_episodes": 3, **changes}), workspace, NullReporter()
    )


def pilot(workspace, seed=0, task="toy-a", episodes=3):
    policy = load_demonstrator(workspace.find("demonstrators"), task).spec
    job = PilotJob(full_catalogue().get(task), {"radius": 0.5}, policy, seed, episodes)
    return run_pilot(job, lambda amount=1: None)


def test_the_pilot_measures_the_response(workspace):
    """Every level at least once; without noise, what the demonstrator alone gets."""
    found = pilot(workspace, episodes=4)
    assert set(LEVELS) <= set(found.levels_L.tolist())
    assert (np.diff(found.levels_L) > 0).all()
    assert (found.counts_L == 4).all()
    task = full_catalogue().get("toy-a")
    domain = domain_of(task)
    returns = []
    for episode in range(4):
        environment = domain.make_batch(task, 1, {"radius": 0.5}, [0])
        spec = load_demonstrator(workspace.find("demonstrators"), "toy-a").spec
        low_A, high_A = environment.actions.bounds
        policy = build_policy(spec, environment.actions, domain.policies())
        seed = derive_seed(0, "pilot", "toy-a", repr(0.0), "episode", episode)
        observation_BO, total, ended = environment.reset([0], [seed]), 0.0, False
        policy.reset([0])
        while not ended:
            step = environment.step(np.clip(policy.act(observation_BO), low_A, high_A))
            observation_BO, total = step.observation_BO, total + step.reward_B[0]
            ended = step.terminated_B[0] or step.truncated_B[0]
        returns.append(total)
    assert found.means_L[0] == pytest.approx(np.mean(returns), rel=1e-5)


def test_the_pilot_follows_from_the_seed(workspace):
    one, two, other = (pilot(workspace, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.means_L, two.means_L)
    assert not np.array_equal(one.at(np.array(LEVELS)), other.at(np.array(LEVELS)))


@pytest.mark.parametrize("fit", ["auto", "fitted"])
def test_the_history_records_the_pilot_and_follows_the_decay(shared, fit):
    artifact = distill(shared, schedule=fit).artifact
    reader = HistoryReader(artifact)
    assert artifact.config["tasks"]["toy-a"]["schedule"] == {"fit": fit, "episodes": 3}
    for name in reader.tasks():
        attributes = reader.task(name)
        found = attributes["pilot"]
        assert found["fit"] == fit
        assert found["schedule"] == attributes["schedule"]
        assert set(found["response"]) == {"noise", "return", "episodes", "length"}
        assert 0 <= found["predicted_r_squared_of_linear"] <= 1
        if fit == "auto":
            assert found["predicted_r_squared"] >= found["predicted_r_squared_of_linear"]
        expected = noise_along(STEPS, schedule_from_json(attributes["schedule"])).astype(np.float32)
        for k in range(2):
            (rows,) = reader.blocks(name, k, ("noise",), STEPS)
            np.testing.assert_array_equal(rows["noise"], expected)


def test_drawn_noise_that_a_pilot_found_is_recorded_and_used(shared):
    """One level an episode, none above the largest but pure noise; such a history is not judged."""
    reader = HistoryReader(distill(shared, schedule="playable").artifact)
    for name in reader.tasks():
        attributes = reader.task(name)
        found = attributes["pilot"]
        assert found["fit"] == "playable" and found["schedule"] == attributes["schedule"]
        drawn = schedule_from_json(attributes["schedule"])
        response = Response.from_json(found["response"])
        assert drawn == fit_levels(response)
        assert found["predicted_played"] == share_played(response, drawn)
        assert history_quality(reader, name).verdict == "unjudged"
        for k in range(2):
            (rows,) = reader.blocks(name, k, ("noise",), STEPS)
            starts = reader.episodes(name, k)["episode_start"]
            levels = [set(each.tolist()) for each in np.split(rows["noise"], starts[1:])]
            assert all(len(each) == 1 for each in levels)
            assert all(level <= np.float32(drawn.max) or level == 1 for (level,) in levels)


@pytest.mark.parametrize(
    ("fit", "failing"), [("auto", 2), ("fitted", 3), ("auto", 6), ("fitted", 13), ("playable", 3)]
)
def test_resumed_after_a_failure(workspace, shared, monkeypatch, fit, failing):
    """14 units: 2 environments, 2 pilots, 8 shards, 2 tasks; the bytes are those of one run."""
    reference = distill(shared, schedule=fit).artifact.digest
    with monkeypatch.context() as patch:
        refuse_commits(patch, failing)
        with pytest.raises(StorageError):
            distill(workspace, schedule=fit)
    assert distill(workspace, schedule=fit).artifact.digest == reference
    assert distill(workspace, schedule=fit).up_to_date


def test_a_staged_pilot_is_not_repeated(workspace, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("pipelines.distill.stage.Collection.collect", _no_room)
        with pytest.raises(StorageError):
            distill(workspace, schedule="auto")
    monkeypatch.setattr("pipelines.distill.stage.run_pilot", _no_room)
    assert distill(workspace, schedule="auto").artifact.reference == "h@v1"


def _no_room(*arguments):
    raise StorageError("no room")


@pytest.mark.process
def test_workers_do_not_matter(workspace, shared):
    one = distill(shared, schedule="fitted").artifact.digest
    assert distill(workspace, schedule="fitted", workers=2).artifact.digest == one


def test_a_return_that_is_no_number_is_told(workspace, monkeypatch):
    from vintix_toy import ToyEnv

    original = ToyEnv.step

    def step(self, action):
        observation, _, *rest = original(self, action)
        return (observation, float("nan"), *rest)

    monkeypatch.setattr(ToyEnv, "step", step)
    with pytest.raises(VintixError, match="reward is not finite"):
        pilot(workspace)


def test_without_a_pilot_nothing_of_it_is_recorded(workspace):
    """Histories made before there were pilots stay up to date."""
    artifact = distill(workspace).artifact
    assert artifact.config["tasks"]["toy-a"]["schedule"] == {"p": 1.5, "f": 0.2}
    assert "pilot" not in HistoryReader(artifact).task("toy-a")
    assert distill(workspace, pilot_episodes=5).up_to_date
    assert not distill(workspace, schedule="auto").up_to_date
    assert not distill(workspace, schedule="auto", pilot_episodes=4).up_to_date


def test_plan_and_config(workspace):
    found = plan(DistillConfig(**CONFIG, schedule="fitted"), workspace)
    assert {row["schedule"] for row in found.rows} == {"fitted"}
    assert any("pilot" in note for note in found.notes)
    with pytest.raises(ValidationError):
        DistillConfig(schedule="automatic")
    with pytest.raises(ValidationError):
        DistillConfig(schedule="auto", pilot_episodes=1)
