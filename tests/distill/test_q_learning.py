"""Tabular Q-learning and its learning histories of the dark room."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.artifacts.workspace import Workspace
from pipelines.demonstrators.config import DemonstratorsConfig
from pipelines.demonstrators.selection import select
from pipelines.distill.config import DistillConfig
from pipelines.distill.plan import resolve
from pipelines.distill.stage import run
from pipelines.domains.base import StepBatch
from pipelines.domains.registry import full_catalogue
from pipelines.errors import ConfigError
from pipelines.histories.reader import HistoryReader
from pipelines.learners.q_learning import QLearner
from pipelines.learners.settings import TrainSettings
from pipelines.reporter import NullReporter

FAST = {"learning_rate": 1.0, "discount": 0.8}


class Corridor:
    """Five cells; going right from the last one pays 1 and ends the episode. Even actions of the
    five go left, odd ones right. Two copies."""

    def __init__(self):
        self.cell_B, self.age_B = np.zeros((2, 2), np.int64)

    def seen(self):
        return np.eye(5, dtype=np.float32)[np.minimum(self.cell_B, 4)]

    def step(self, action_B):
        self.age_B += 1
        self.cell_B = np.where(action_B % 2, self.cell_B + 1, np.maximum(self.cell_B - 1, 0))
        done_B, late_B = self.cell_B == 5, self.age_B >= 30
        after = StepBatch(self.seen(), done_B.astype(np.float64), done_B, late_B, None)
        self.cell_B[done_B | late_B] = 0
        self.age_B[done_B | late_B] = 0
        return after


def trained(steps, **given):
    settings = TrainSettings(algorithm="q-learning", total_steps=steps, hyperparameters=given)
    generators = [np.random.default_rng(copy) for copy in range(2)]
    learner = QLearner(settings, full_catalogue().get("dark-room"), generators)
    corridor = Corridor()
    for _ in range(steps):
        learner.learn(corridor.step(learner.act(corridor.seen())))
    return learner


@pytest.mark.parametrize("trace", [0.0, 0.9])
def test_it_finds_the_best_values(trace):
    """Going right is worth 0.8 to the power of the steps that are left after it."""
    tables = trained(4000, discount=0.8, trace=trace, exploration_fraction=1.0).tables
    for cell in range(5):
        for table in tables:
            value_A = table.values[np.eye(5, dtype=np.float32)[cell].tobytes()]
            assert value_A[1::2] == pytest.approx([0.8 ** (4 - cell)] * 2, abs=1e-3)
            assert value_A[0::2] == pytest.approx([0.8 ** (5 - max(cell - 1, 0))] * 3, abs=1e-2)
    assert tables[0].values != tables[1].values


def test_a_trace_takes_a_reward_back_to_the_start_of_its_episode():
    """One success moves the first cell's value only with a trace."""
    # Until the first reward all values are 0, so that all actions are best ones.
    for trace, moved in ((0.0, False), (1.0, True)):
        settings = TrainSettings(
            algorithm="q-learning", hyperparameters={"trace": trace, "initial": 0.0}
        )
        generators = [np.random.default_rng(0)] * 2
        learner = QLearner(settings, full_catalogue().get("dark-room"), generators)
        corridor, paid = Corridor(), False
        while not paid:
            after = corridor.step(learner.act(corridor.seen()))
            learner.learn(after)
            paid = bool(after.reward_B[0])
        first = learner.tables[0].values[np.eye(5, dtype=np.float32)[0].tobytes()]
        assert (max(first) > 0) == moved


def test_actions_of_equal_value_are_drawn():
    """A learner that took the first of them would never leave the first cell."""
    tables = trained(400, initial=0.0, exploration=0.0).tables
    assert all(len(table.values) == 5 for table in tables)


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

    def test_a_history_does_not_depend_on_those_beside_it(self, tmp_path):
        found = []
        for count in (2, 5):
            config = self.config.model_copy(update={"trajectories": count, "steps": 100})
            reader = HistoryReader(
                run(config, Workspace(tmp_path / str(count)), NullReporter()).artifact
            )
            (block,) = reader.blocks("dark-room", 1, rows=100)
            found.append({name: np.array(rows) for name, rows in block.items()})
        assert all(np.array_equal(found[0][name], found[1][name]) for name in found[0])
        assert not found[0]["noise"].any()
        # The demonstrator, which sees the goal, is recorded and does not act.
        assert (found[0]["demonstrator_action"] != found[0]["action"]).mean() > 0.3

    def test_those_of_several_jobs_are_the_same(self, tmp_path, monkeypatch):
        short = self.config.model_copy(update={"trajectories": 4, "steps": 60})
        one = run(short, Workspace(tmp_path / "one"), NullReporter()).artifact
        monkeypatch.setattr("pipelines.distill.job.JOB_BYTES", 60 * 150 * 2)
        assert len(resolve(short, Workspace(tmp_path / "one")).tasks[0].jobs) > 1
        other = run(short, Workspace(tmp_path / "more"), NullReporter()).artifact
        for trajectory in range(4):
            rows = [
                next(HistoryReader(each).blocks("dark-room", trajectory, rows=60))
                for each in (one, other)
            ]
            assert all(np.array_equal(rows[0][name], rows[1][name]) for name in rows[0])


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
    given["train"] = {"algorithm": "q-learning", "segment_steps": 10}
    with pytest.raises(ConfigError, match="no segments"):
        run(DistillConfig(**given), workspace, NullReporter())
    given["train"] = {"algorithm": "thompson"}
    with pytest.raises(ConfigError, match="thompson does not fit"):
        run(DistillConfig(**given), workspace, NullReporter())
    config = DemonstratorsConfig(
        source="train", tasks=("dark-room",), train={"algorithm": "q-learning"}
    )
    with pytest.raises(ConfigError, match="history alone") as found:
        select(config, workspace)
    assert "--source learning-history" in found.value.fix
