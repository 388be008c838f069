"""Bounds of actions are those of the data, whatever maps they are seen through."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipelines.artifacts.workspace import Workspace
from pipelines.model.random_map import RandomMap
from pipelines.model.saved import load_model
from pipelines.reporter import NullReporter
from pipelines.rng import stream
from pipelines.train import bounds
from pipelines.train.bounds import action_bounds
from pipelines.train.data import select_tasks
from pipelines.train.loader import task_statistics
from pipelines.train.stage import run
from tests.train.support import SMALL_MODEL, MemoryData, small_config, write_dataset


def of(data, **options):
    return action_bounds(
        data, list(data.tasks.values()), "action", **{"random_map": False, **options}
    )


@pytest.fixture
def data():
    found = MemoryData()
    for (task, _), rows in found._rows.items():
        rows["action"][:, 0] *= 0.4 if task == "toy-a" else 0.2
    found._rows["toy-a", 0]["action"][599, 0] = -0.3999
    found._rows["toy-b", 1]["action"][0, 0] = np.float32(0.7)
    found._rows["gym-c", 0]["action"][:] = found._rows["gym-c", 1]["action"][:] = 0.3
    return found


def test_bounds_hold_for_all_tasks_of_a_group_and_are_round_numbers(data):
    low, high = of(data)["alpha"]
    assert low[0] == np.float32(-0.4) and high[0] == np.float32(0.7)
    assert -1.0 <= low[1] < 0 < high[1] <= 1.0
    assert [each.tolist() for each in of(data)["beta"]] == [[np.float32(0.3)]] * 2


def test_of_long_trajectories_evenly_spread_blocks_are_read(data, monkeypatch):
    """The first rows and the last ones among them."""
    read = []
    pieces = MemoryData.pieces

    def watch(self, task, trajectory, start, length, fields):
        read.append((task, trajectory, start, length))
        return pieces(self, task, trajectory, start, length, fields)

    monkeypatch.setattr(MemoryData, "pieces", watch)
    monkeypatch.setattr(bounds, "MOST_ROWS", 300)
    monkeypatch.setattr(bounds, "BLOCK_ROWS", 50)
    low, high = of(data)["alpha"]
    assert [one for one in read if one[:2] == ("toy-a", 0)] == [
        ("toy-a", 0, start, 50) for start in (0, 275, 550)
    ]
    assert low[0] == np.float32(-0.4) and high[0] == np.float32(0.7)


def test_bounds_under_random_maps_hold_for_every_map(data):
    low, high = of(data, random_map=True)["alpha"]
    most = np.full(2, -np.inf)
    for seed in range(200):
        for name in ("toy-a", "toy-b"):
            drawn = RandomMap.draw(
                task_statistics(data.tasks[name]), stream(seed, name), normalized=True
            )
            for trajectory in (0, 1):
                seen = drawn.action(data._rows[name, trajectory]["action"])
                assert (seen >= low).all() and (seen <= high).all()
                most = np.maximum(most, seen.max(axis=0))
    assert (most > 0.9 * high).all(), "they are no wider than the maps make them"


def test_a_checkpoint_keeps_the_bounds_that_it_was_trained_with(tmp_path):
    workspace = Workspace(tmp_path)
    write_dataset(workspace)
    config = small_config(steps=2, model={**SMALL_MODEL, "head": "bins"})
    artifact = run(config, workspace, NullReporter()).artifact
    saved = load_model(artifact)
    data = MemoryData()
    expected = action_bounds(data, select_tasks(data), "action", random_map=False)
    for group, dims in saved.config.groups.items():
        np.testing.assert_array_equal(np.float32(dims.action_bounds), expected[group])
        action = saved.model.head.of(group).act(torch.randn(50, 1, 32), None, None)[:, 0].numpy()
        assert (action >= expected[group][0]).all() and (action <= expected[group][1]).all()
    assert run(config, workspace, NullReporter()).up_to_date
