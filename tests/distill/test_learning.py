"""Real learning histories: what is recorded, resumed runs, and what does not fit together."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from pydantic import ValidationError

from distill.toy import refuse_commits
from pipelines.actions import Box
from pipelines.artifacts.verify import verify
from pipelines.distill.config import DistillConfig
from pipelines.distill.plan import plan, resolve
from pipelines.distill.stage import run
from pipelines.errors import ConfigError, StorageError, VintixError
from pipelines.histories.reader import HistoryReader
from pipelines.reporter import NullReporter
from pipelines.rows import HISTORY_ROWS, row_layout

pytestmark = pytest.mark.stage

TRAIN = {
    "ppo": {
        "algorithm": "ppo",
        # Rollouts of 24 steps and shards of 30: segments end inside shards and episodes.
        "segment_steps": 30,
        "normalize_observations": True,
        "normalize_rewards": True,
        "hyperparameters": {"n_steps": 24, "batch_size": 12, "n_epochs": 2, "net_arch": [8]},
    },
    "sac": {
        "algorithm": "sac",
        "segment_steps": 30,
        "hyperparameters": {
            "learning_starts": 20,
            "net_arch": [8],
            "batch_size": 8,
            "buffer_size": 50,
            "train_freq": 4,
        },
    },
    # An iteration plays two episodes, which go over several shards.
    "ars": {"algorithm": "ars", "segment_steps": 10, "hyperparameters": {"n_delta": 1}},
}
CONFIG = {
    "source": "learning-history",
    "tasks": ("toy-a",),
    "trajectories": 1,
    "steps": 100,
    "name": "h",
    "workers": 1,
}


def distill(workspace, algorithm="ppo", reporter=None, **changes):
    config = DistillConfig(**{**CONFIG, "train": TRAIN[algorithm], **changes})
    return run(config, workspace, reporter or NullReporter())


def rows_of(artifact, task="toy-a", trajectory=0):
    reader = HistoryReader(artifact)
    (block,) = reader.blocks(task, trajectory, rows=reader.rows(task, trajectory))
    return {name: np.array(values) for name, values in block.items()}


@pytest.mark.parametrize("algorithm", TRAIN)
def test_it_records_what_the_environment_saw(workspace, monkeypatch, algorithm):
    """Every step in its order, unnormalised, with the actions as executed, across all shards."""
    from vintix_toy import HIGH, HORIZON, LOW, ToyEnv

    seen: list[tuple] = []
    current = None
    original_step, original_reset = ToyEnv.step, ToyEnv.reset

    def reset(self, **keywords):
        nonlocal current
        current, info = original_reset(self, **keywords)
        return current, info

    def step(self, action):
        nonlocal current
        row = (current, action.copy())
        result = original_step(self, action)
        seen.append((*row, *result[1:4]))
        current = result[0]
        return result

    with monkeypatch.context() as patch:
        patch.setattr("pipelines.distill.stage.Collection.check_environments", lambda *a, **k: {})
        patch.setattr(ToyEnv, "step", step)
        patch.setattr(ToyEnv, "reset", reset)
        artifact = distill(workspace, algorithm).artifact
    rows = rows_of(artifact)
    assert len(seen) == 100 == len(rows["reward"])
    for index, name in enumerate(("observation", "action", "reward", "terminated", "truncated")):
        expected = np.array([row[index] for row in seen]).astype(rows[name].dtype)
        assert np.array_equal(rows[name], expected), name
    assert not rows["noise"].any()
    assert (rows["action"] >= LOW).all() and (rows["action"] <= HIGH).all()
    assert {name: (values.shape[1:], str(values.dtype)) for name, values in rows.items()} == (
        row_layout("histories", 3, Box(2))
    )
    episodes = HistoryReader(artifact).episodes("toy-a", 0)
    ends = episodes["episode_start"] + episodes["episode_length"]
    assert episodes["episode_start"].tolist() == [0, *ends[:-1]]
    assert ends[-1] == 100
    # No segment's end cuts an episode off: each one ends where the environment ended it.
    flagged = np.flatnonzero(rows["terminated"] | rows["truncated"]) + 1
    assert ends[episodes["complete"]].tolist() == flagged.tolist()
    assert (episodes["episode_length"][rows["truncated"][ends - 1]] == HORIZON).all()
    for start, end, total in zip(
        episodes["episode_start"], ends, episodes["episode_return"], strict=True
    ):
        assert total == pytest.approx(rows["reward"][start:end].sum(), abs=1e-4)


def test_the_demonstrators_action_at_what_the_learner_saw(shared):
    """The toy's demonstrator counts its steps: it has to forget at the start of an episode."""
    from vintix_toy import ToyPolicy

    artifact = distill(shared).artifact
    rows, policy = rows_of(artifact), ToyPolicy()
    starts = set(HistoryReader(artifact).episodes("toy-a", 0)["episode_start"].tolist())
    for step, observation_O in enumerate(rows["observation"]):
        if step in starts:
            policy.reset([0])
        expected_A = policy.act(observation_O[None])[0]
        assert np.array_equal(rows["demonstrator_action"][step], expected_A), step
    assert not np.array_equal(rows["demonstrator_action"], rows["action"])


def test_the_demonstrator_is_shown_what_the_domain_shows_it_alone(workspace, shared, monkeypatch):
    """As in noise distillation, and in a resumed run; the learner and the record see less."""
    from vintix_toy import ToyPolicy

    from pipelines.domains.checked import CheckedBatch

    plain = rows_of(distill(shared).artifact)
    monkeypatch.setattr(CheckedBatch, "demonstrator_view", lambda self, seen_BO: seen_BO + 0.5)
    with monkeypatch.context() as patch:
        refuse_commits(patch, 3)
        with pytest.raises(StorageError):
            distill(workspace, name="told")
    artifact = distill(workspace, name="told").artifact
    rows, policy = rows_of(artifact), ToyPolicy()
    assert np.array_equal(rows["observation"], plain["observation"])
    assert not np.array_equal(rows["demonstrator_action"], plain["demonstrator_action"])
    starts = set(HistoryReader(artifact).episodes("toy-a", 0)["episode_start"].tolist())
    for step, observation_O in enumerate(rows["observation"]):
        if step in starts:
            policy.reset([0])
        expected_A = policy.act(observation_O[None] + np.float32(0.5))[0]
        assert np.array_equal(rows["demonstrator_action"][step], expected_A), step


def test_episodes_end_at_the_horizon_whatever_the_environment_says(workspace, monkeypatch):
    from vintix_toy import HORIZON, ToyEnv

    original = ToyEnv.step

    def endless(self, action):
        observation, reward, _, _, info = original(self, action)
        return observation, reward, False, False, info

    monkeypatch.setattr(ToyEnv, "step", endless)
    noise = DistillConfig(tasks=("toy-a",), trajectories=1, steps=100, name="n", workers=1)
    for artifact in (distill(workspace).artifact, run(noise, workspace, NullReporter()).artifact):
        episodes = HistoryReader(artifact).episodes("toy-a", 0)
        assert episodes["episode_length"].tolist() == [HORIZON] * 4 + [100 - 4 * HORIZON]
        truncated = rows_of(artifact)["truncated"]
        assert np.flatnonzero(truncated).tolist() == [HORIZON * n - 1 for n in range(1, 5)]


def test_an_error_of_the_environment_is_no_matter_of_the_learning_rate(workspace, monkeypatch):
    from vintix_toy import ToyEnv

    def step(self, action):
        raise ValueError("the toy is out of order")

    monkeypatch.setattr("pipelines.distill.stage.Collection.check_environments", lambda *a, **k: {})
    monkeypatch.setattr(ToyEnv, "step", step)
    with pytest.raises(VintixError, match="the toy is out of order") as found:
        distill(workspace)
    assert "learning_rate" not in str(found.value)


def test_the_learner_goes_on_over_segments(workspace):
    """A segment that forgot its learner would act as an untrained one again."""
    rates = {"hyperparameters": {**TRAIN["ppo"]["hyperparameters"], "log_std_init": -20}}
    still = {**TRAIN["ppo"], **rates, "normalize_observations": False, "normalize_rewards": False}
    still["hyperparameters"]["learning_rate"] = 0.0
    rows = rows_of(distill(workspace, train=still).artifact)
    # Without noise and without learning, one network acts all along: equal inputs, equal outputs.
    again = rows_of(distill(workspace, train={**still, "segment_steps": 100}, name="g").artifact)
    assert np.allclose(rows["action"], again["action"], atol=1e-6)
    assert np.array_equal(rows["observation"][:24], again["observation"][:24])


def test_what_a_learner_looks_at_does_not_change_what_is_recorded(workspace, shared):
    whole = rows_of(distill(shared).artifact)
    looks = {**TRAIN["ppo"], "observation_prefix": 1}
    artifact = distill(workspace, train=looks, name="g").artifact
    rows = rows_of(artifact)
    assert rows["observation"].shape == whole["observation"].shape
    assert np.array_equal(rows["observation"][0], whole["observation"][0])
    assert not np.array_equal(rows["action"], whole["action"])
    assert HistoryReader(artifact).task("toy-a")["train"]["observation_prefix"] == 1


def test_trajectories_are_runs_of_their_own(workspace):
    artifact = distill(workspace, trajectories=2).artifact
    one, other = rows_of(artifact, trajectory=0), rows_of(artifact, trajectory=1)
    assert not np.array_equal(one["action"], other["action"])
    assert not np.array_equal(one["observation"][0], other["observation"][0])


def test_episodes_begin_as_in_noise_distillation(workspace, shared):
    """Both kinds of history of a task have the same first states, so that they can be compared."""
    real = HistoryReader(distill(shared).artifact)
    noise = DistillConfig(tasks=("toy-a",), trajectories=1, steps=100, name="n", workers=1)
    noisy = HistoryReader(run(noise, workspace, NullReporter()).artifact)
    starts = [reader.episodes("toy-a", 0)["episode_start"][:3] for reader in (real, noisy)]
    rows = [rows_of(reader.artifact)["observation"] for reader in (real, noisy)]
    assert np.array_equal(rows[0][starts[0]], rows[1][starts[1]])


def test_what_is_said_about_it(workspace):
    result = distill(workspace, trajectories=2, tasks=("toy-a", "toy-c"))
    artifact = result.artifact
    assert verify(artifact.path, deep=True) == []
    assert [parent.kind for parent in artifact.manifest.parents] == ["demonstrators"]
    assert {"stable-baselines3", "torch"} <= set(artifact.manifest.packages)
    for name in ("toy-a", "toy-c"):
        attributes = HistoryReader(artifact).task(name)
        assert attributes["source"] == "learning-history"
        assert attributes["schedule"] is None
        assert attributes["train"]["algorithm"] == "ppo"
        assert attributes["train"]["hyperparameters"]["n_steps"] == 24
        assert attributes["scores"]["measured"]["expert"] == -5.0
        assert HistoryReader(artifact).fields(name) == HISTORY_ROWS
    assert {each["task"] for each in result.report["tasks"]} == {"toy-a", "toy-c"}
    # State and transitions of the learner are not published.
    assert not any("scratch" in path for path in artifact.manifest.files)
    assert sorted(path.name for path in artifact.path.iterdir()) == ["data.zarr", "manifest.json"]


@pytest.mark.parametrize(
    ("algorithm", "failing"),
    # The environment's unit comes first, the task's last; ars fills two or more shards at once.
    [
        *(("ppo", 0), ("ppo", 3), ("sac", 3), ("ars", 5)),
        *(pytest.param(*each, marks=pytest.mark.slow) for each in (("ppo", 2), ("ppo", 5))),
        pytest.param("ars", 2, marks=pytest.mark.slow),
    ],
)
def test_resumed_after_a_failure(workspace, shared, monkeypatch, algorithm, failing):
    with monkeypatch.context() as patch:
        attempts = refuse_commits(patch, failing)
        with pytest.raises(StorageError):
            distill(workspace, algorithm)
    assert len(attempts) > failing
    steps = []
    with monkeypatch.context() as patch:
        from vintix_toy import ToyEnv

        patch.setattr(ToyEnv, "step", _counting(ToyEnv.step, steps))
        artifact = distill(workspace, algorithm).artifact
    assert artifact.digest == distill(shared, algorithm).artifact.digest
    if (algorithm, failing) == ("ppo", 3):
        # It goes on after two shards of 25; what it repeats is less than that, the reference
        # rollout of the fingerprint included.
        assert len(steps) < 100


def _counting(original, steps):
    def step(self, action):
        steps.append(1)
        return original(self, action)

    return step


@pytest.mark.slow
@pytest.mark.process
def test_workers_do_not_change_it(workspace, shared):
    one = distill(shared, trajectories=2).artifact.digest
    assert distill(workspace, trajectories=2, workers=2).artifact.digest == one


def test_an_environment_that_does_not_repeat_is_recorded_anew(workspace, monkeypatch):
    from vintix_toy import ToyEnv

    with monkeypatch.context() as patch:
        refuse_commits(patch, 2)
        with pytest.raises(StorageError):
            distill(workspace)
    step = ToyEnv.step

    def drifting(self, action):
        self.x = self.x + 1e-6
        return step(self, action)

    monkeypatch.setattr(ToyEnv, "step", drifting)
    reporter = NullReporter()
    distill(workspace, reporter=reporter)
    assert any("does not repeat" in each for each in reporter.warnings)


def test_a_number_that_is_not_finite_is_told(workspace, monkeypatch):
    from vintix_toy import ToyEnv

    original = ToyEnv.step

    def step(self, action):
        found = original(self, action)
        return (found[0], float("nan"), *found[2:])

    monkeypatch.setattr("pipelines.distill.stage.Collection.check_environments", lambda *a, **k: {})
    monkeypatch.setattr(ToyEnv, "step", step)
    with pytest.raises(VintixError, match="reward is not finite") as told:
        distill(workspace, train={**TRAIN["ppo"], "normalize_rewards": False})
    assert "learning_rate" not in str(told.value)


def test_the_plan(workspace):
    """The trajectories of a vectorised domain train one by one, slower than it simulates."""
    config = DistillConfig(**{**CONFIG, "tasks": ("toy-a", "toy-c"), "trajectories": 3})
    rows = plan(config, workspace).rows
    assert [row["schedule"] for row in rows] == ["none (ppo)", "none (ppo)"]
    assert [row["jobs"] for row in rows] == [3, 3]
    noise = DistillConfig(tasks=("toy-a",), trajectories=3, steps=100)
    assert rows[0]["seconds"] >= plan(noise, workspace).rows[0]["seconds"]
    assert set(rows[0]) == set(plan(noise, workspace).rows[0])
    found = resolve(config.model_copy(update={"name": None}), workspace)
    assert found.name == "toy-a-toy-c-learning-history"


def test_what_decides_the_artifact(workspace):
    """Other settings are other work; noise distillation is configured as it ever was."""

    def config_of(**changes):
        return resolve(DistillConfig(**{**CONFIG, **changes}), workspace).as_config()

    base = config_of()
    assert config_of(train={"evaluation_episodes": 9, "total_steps": 100}) == base
    assert config_of(train={"segment_steps": 50}) != base
    assert config_of(train={"hyperparameters": {"gamma": 0.9}}) != base
    noise = resolve(DistillConfig(tasks=("toy-a",), trajectories=1, steps=100), workspace)
    assert set(noise.as_config()["tasks"]["toy-a"]) == {
        "trajectories", "steps", "schedule", "options", "shard_rows", "block",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"schedule": "p=1,f=0"}, "without a schedule"),
        ({"shard_rows": 10}, "the learner's segments"),
        ({"train": {"environment_options": {"radius": 2}}}, "--option"),
        ({"source": "noise", "train": {"algorithm": "ppo"}}, "learning-history"),
        ({"source": "replay"}, "noise"),
    ],
)
def test_settings_that_do_not_go_together(changes, said):
    with pytest.raises(ValidationError, match=said):
        DistillConfig(**{**CONFIG, **changes})


@pytest.mark.parametrize(
    ("train", "said"),
    [
        ({"algorithm": "es"}, "es"),
        ({"total_steps": 99}, "total_steps"),
        ({"hyperparameters": {"speed": 3}}, "distill.train.hyperparameters"),
    ],
)
def test_trainings_that_have_no_history(workspace, train, said):
    with pytest.raises(ConfigError) as found:
        distill(workspace, train=copy.deepcopy(train))
    assert said in f"{found.value.where} {found.value}"


def test_a_search_is_refused_with_the_learners_that_fit_and_a_command(workspace):
    """Those of discrete actions fit no task of the toys."""
    with pytest.raises(ConfigError) as found:
        distill(workspace, train={"algorithm": "es"})
    assert found.value.expected == "ppo, trpo, sac, td3, tqc, crossq, ars"
    assert found.value.fix == "vintix distill --set distill.train.algorithm=ppo"
