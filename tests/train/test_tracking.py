"""Trackers get the numbers of the log, and one that is not installed is exit 5."""

from __future__ import annotations

import sys
import types

import pytest

from pipelines.artifacts.workspace import Workspace
from pipelines.errors import MissingDependencyError
from pipelines.train.tracking import flatten, open_tracker

from .support import small_config, write_dataset
from .test_stage import metrics, train


class FakeRuns(types.ModuleType):
    """A stand-in with the interface that wandb and trackio share."""

    def __init__(self, name):
        super().__init__(name)
        self.options, self.rows, self.finished = [], [], 0

    def init(self, **options):
        self.options.append(options)
        return self

    def log(self, values, step):
        self.rows.append((step, values))

    def finish(self):
        self.finished += 1


@pytest.mark.parametrize("kind", ["wandb", "trackio"])
def test_a_run_is_sent_step_by_step(kind, monkeypatch, tmp_path):
    module = FakeRuns(kind)
    monkeypatch.setitem(sys.modules, kind, module)
    workspace = Workspace(tmp_path)
    write_dataset(workspace)
    artifact = train(workspace, small_config(track=kind, steps=4)).artifact
    rows = metrics(artifact)
    assert [step for step, _ in module.rows] == [1, 2, 3, 4]
    for (_, values), row in zip(module.rows, rows, strict=True):
        assert values["loss"] == row["loss"]
        assert values["domains/toys"] == row["domains"]["toys"]
    assert module.finished == 1
    assert module.options[0]["name"] == "toys-tiny"
    assert module.options[0]["config"]["steps"] == 4
    # Where numbers are sent does not change what is trained.
    assert train(workspace, small_config(steps=4)).up_to_date


@pytest.mark.parametrize("kind", ["tensorboard", "wandb", "trackio"])
def test_a_missing_tracker_is_told_before_anything_is_trained(kind, monkeypatch, tmp_path):
    name = {"tensorboard": "torch.utils.tensorboard"}.get(kind, kind)
    monkeypatch.setitem(sys.modules, name, None)
    workspace = Workspace(tmp_path)
    write_dataset(workspace)
    with pytest.raises(MissingDependencyError) as caught:
        train(workspace, small_config(track=kind))
    assert caught.value.exit_code == 5
    assert caught.value.fix == "pip install 'vintix[tracking]'"
    assert workspace.all_names("checkpoints") == []


def test_tensorboard_gets_scalars(tmp_path):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    tracker = open_tracker("tensorboard", name="run", directory=tmp_path, config={})
    tracker.log({"step": 3, "loss": 0.5, "domains": {"toys": 0.25}})
    tracker.close()
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "run"))
    events.Reload()
    assert set(events.Tags()["scalars"]) == {"loss", "domains/toys"}
    assert [(one.step, one.value) for one in events.Scalars("loss")] == [(3, 0.5)]


def test_numbers_are_named_by_their_path():
    row = {"step": 1, "domains": {"a": 0.5, "b": {"c": 2}}, "note": "text"}
    assert flatten(row) == {"step": 1.0, "domains/a": 0.5, "domains/b/c": 2.0}
