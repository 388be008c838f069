"""Tabular Q-learning and its learning histories of the dark room."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest

from distill.toy import refuse_commits
from pipelines.artifacts.arrays import from_npz
from pipelines.artifacts.workspace import Workspace
from pipelines.demonstrators.config import DemonstratorsConfig
from pipelines.demonstrators.selection import select
from pipelines.distill.config import DistillConfig
from pipelines.distill.stage import run
from pipelines.domains.registry import full_catalogue
from pipelines.errors import ConfigError, StorageError
from pipelines.histories.reader import HistoryReader
from pipelines.learners.q_learning import QLearner
from pipelines.learners.settings import TrainSettings
from pipelines.reporter import NullReporter

FAST = {"learning_rate": 1.0, "discount": 0.8}


class Corridor(gymnasium.Env):
    """Five cells; going right from the last one pays 1 and ends the episode. Five actions: even
    ones go left, odd ones right."""

    observation_space = gymnasium.spaces.Box(0, 1, (5,), np.float32)
    action_space = gymnasium.spaces.Discrete(5)

    def reset(self, *, seed=None, options=None):
        self.cell, self.age = 0, 0
        return np.eye(5, dtype=np.float32)[0], {}

    def step(self, action):
        self.age += 1
        self.cell = self.cell + 1 if action % 2 else max(self.cell - 1, 0)
        done = self.cell == 5
        seen_O = np.eye(5, dtype=np.float32)[min(self.cell, 4)]
        return seen_O, float(done), done, self.age >= 30, {}


def learner(steps=4000, seed=0, **given):
    settings = TrainSettings(algorithm="q-learning", total_steps=steps, hyperparameters=given)
    return QLearner(settings, full_catalogue().get("dark-room"), Corridor, seed)


@pytest.mark.parametrize("trace", [0.0, 0.9])
def test_it_finds_the_best_values(trace):
    """Going right is worth 0.8 to the power of the steps that are left after it."""
    found = learner(discount=0.8, trace=trace, exploration_fraction=1.0)
    found.learn(4000)
    state = from_npz(found.dump())
    cells = state["seen"].argmax(axis=1)
    for cell, value_A in zip(cells, state["values"], strict=True):
        assert value_A[1::2] == pytest.approx(0.8 ** (4 - cell), abs=1e-3)
        assert value_A[0::2] == pytest.approx(0.8 ** (5 - max(cell - 1, 0)), abs=1e-2)


def test_one_that_is_loaded_goes_on_as_the_one_that_was_dumped():
    first = learner()
    first.learn(100)
    dumped, states = first.dump(), []
    for _ in range(2):
        other = learner(seed=1)
        other.load(dumped)
        assert from_npz(other.dump()).keys() == from_npz(dumped).keys()
        assert all(
            np.array_equal(a, b)
            for a, b in zip(from_npz(other.dump()).values(), from_npz(dumped).values(), strict=True)
        )
        other.learn(200)
        states.append(from_npz(other.dump()))
    assert states[0]["steps"] == 200
    assert all(np.array_equal(states[0][name], states[1][name]) for name in states[0])


def test_actions_of_equal_value_are_drawn():
    """A learner that took the first of them would never leave the first cell."""
    found = learner(initial=0.0, exploration=0.0)
    found.learn(400)
    assert len(found._seen) == 5


@pytest.mark.stage
class TestHistories:
    config = DistillConfig(
        source="learning-history",
        tasks=("dark-room",),
        trajectories=8,
        steps=600,
        name="h",
        workers=1,
        train={"algorithm": "q-learning", "hyperparameters": FAST},
    )

    def test_the_returns_rise(self, tmp_path):
        artifact = run(self.config, Workspace(tmp_path), NullReporter()).artifact
        reader = HistoryReader(artifact)
        returns = np.stack(
            [reader.episodes("dark-room", each)["episode_return"] for each in range(8)]
        )
        assert returns.shape == (8, 30)
        assert returns[:, :3].mean() < 3 < 8 < returns[:, -5:].mean()
        assert reader.task("dark-room")["train"]["algorithm"] == "q-learning"

    def test_resumed_after_a_failure(self, tmp_path, monkeypatch):
        short = self.config.model_copy(
            update={
                "trajectories": 1,
                "steps": 100,
                "train": self.config.train.model_copy(update={"segment_steps": 30}),
            }
        )
        whole = run(short, Workspace(tmp_path / "whole"), NullReporter()).artifact
        workspace = Workspace(tmp_path / "broken")
        # The demonstrators' two units and the environment's come first.
        with monkeypatch.context() as patch:
            attempts = refuse_commits(patch, 5)
            with pytest.raises(StorageError):
                run(short, workspace, NullReporter())
        assert len(attempts) == 6
        steps = []
        with monkeypatch.context() as patch:
            step = QLearner._update
            patch.setattr(QLearner, "_update", lambda *given: (steps.append(1), step(*given)))
            artifact = run(short, workspace, NullReporter()).artifact
        assert 0 < len(steps) < 100
        assert artifact.digest == whole.digest


def test_what_it_does_not_learn(tmp_path):
    workspace = Workspace(tmp_path)
    given = {**TestHistories.config.model_dump(exclude_unset=True), "tasks": ("point-ring",)}
    with pytest.raises(ConfigError, match="q-learning does not fit"):
        run(DistillConfig(**given), workspace, NullReporter())
    given |= {"tasks": ("dark-room",), "train": {"algorithm": "q-learning"}}
    given["train"]["hyperparameters"] = {"speed": 1}
    with pytest.raises(ConfigError) as found:
        run(DistillConfig(**given), workspace, NullReporter())
    assert found.value.where == "distill.train.hyperparameters.speed"
    config = DemonstratorsConfig(
        source="train", tasks=("dark-room",), train={"algorithm": "q-learning"}
    )
    with pytest.raises(ConfigError, match="history alone") as found:
        select(config, workspace)
    assert "--source learning-history" in found.value.fix
