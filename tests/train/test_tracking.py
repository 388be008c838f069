"""Trackers get each step of the log once, and one that is not installed is exit 5."""

from __future__ import annotations

import signal
import sys
import time
import types

import pytest

from pipelines.errors import MissingDependencyError
from pipelines.signals import StopSignal
from pipelines.train.metrics import MetricsLog
from pipelines.train.tracking import flatten, open_tracker

from .support import small_config
from .test_stage import metrics, start, train, wait_for_steps


class Runs(types.ModuleType):
    """What the stand-ins of two trackers share: runs that go on, each with its rows by name."""

    def __init__(self):
        super().__init__("tracker")
        self.rows, self.config, self.finished = {}, {}, 0

    def open(self, run, config):
        self.current, self.config[run] = self.rows.setdefault(run, []), config
        return self

    def expected(self):
        return self.current[-1][0] + 1 if self.current else 0

    def log(self, data, step):
        assert "step" not in data, "a name that trackio keeps for itself"
        self.current.append((step, data))

    def finish(self):
        self.finished += 1


class Wandb(Runs):
    """Knows a run by its id, and takes no step twice, with a warning for each.

    With the documented arguments of `wandb.init`, and `Run.step`.
    """

    def init(self, *, project, name, id, resume, dir, config):
        assert (project, resume, name) == ("vintix", "allow", id)
        return self.open(id, config)

    step = property(Runs.expected)

    def log(self, data, step):
        assert step >= self.step, "steps must be monotonically increasing"
        super().log(data, step)


class Trackio(Runs):
    """Knows a run by its name, and takes any step; what it expects next is private."""

    def init(self, project, name, *, resume, config):
        assert (project, resume) == ("vintix", "allow")
        return self.open(name, config)

    _next_step = property(Runs.expected)


class Silent(Trackio):
    """Some other version, which does not tell what it has."""

    _next_step = None


RUNS = {"wandb": Wandb, "trackio": Trackio}


class Crash(StopSignal):
    """The run breaks off in its n-th step, without a checkpoint of it."""

    def __init__(self, steps):
        super().__init__()
        self._left = steps

    @property
    def requested(self):
        self._left -= 1
        if not self._left:
            raise RuntimeError("crashed")
        return False


def held_once(rows, artifact):
    """Whether a tracker has each step of the log, once, in order, with its numbers."""
    log = metrics(artifact)
    assert [step for step, _ in rows] == [row["step"] for row in log]
    for (_, values), row in zip(rows, log, strict=True):
        assert values["loss"] == pytest.approx(row["loss"], rel=1e-6)
    return True


@pytest.mark.parametrize("kind", RUNS)
def test_a_run_is_sent_step_by_step(kind, monkeypatch, workspace):
    module = RUNS[kind]()
    monkeypatch.setitem(sys.modules, kind, module)
    artifact = train(workspace, small_config(track=kind, steps=4)).artifact
    ((run, rows),) = module.rows.items()
    assert run.startswith("toys-tiny-")
    assert held_once(rows, artifact)
    for (_, values), row in zip(rows, metrics(artifact), strict=True):
        assert values["domains/toys"] == row["domains"]["toys"]
    assert module.finished == 1
    assert module.config[run]["steps"] == 4
    # Where numbers are sent does not change what is trained.
    assert train(workspace, small_config(steps=4)).up_to_date
    # The next version of the name is another run.
    train(workspace, small_config(track=kind, steps=4, seed=1))
    assert [len(each) for each in module.rows.values()] == [4, 4]


@pytest.mark.parametrize(
    ("kind", "stand_in", "lost"),
    [
        *[(kind, stand_in, lost) for kind, stand_in in RUNS.items() for lost in (0, 9)],
        ("trackio", Silent, 0),
    ],
)
def test_a_resumed_run_has_each_step_once(kind, stand_in, lost, monkeypatch, workspace):
    """Steps made again are not sent again; those that a kill kept from being sent are."""
    module = stand_in()
    monkeypatch.setitem(sys.modules, kind, module)
    config = small_config(track=kind, steps=12)
    with pytest.raises(RuntimeError, match="crashed"):
        train(workspace, config, Crash(11))
    ((_, rows),) = module.rows.items()
    assert len(rows) >= 9, "the checkpoint is of step 8"
    del rows[len(rows) - lost :]
    artifact = train(workspace, config).artifact
    ((_, rows),) = module.rows.items()
    assert held_once(rows, artifact)


@pytest.mark.process
@pytest.mark.parametrize("end", ["crash", pytest.param("kill", marks=pytest.mark.slow)])
def test_an_interrupted_run_has_each_step_once_in_tensorboard(end, workspace):
    """A crash leaves steps beyond the checkpoint in the files; a kill leaves those before it."""
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    # A kill has to come before the last step, on a slow machine too.
    steps = {"crash": 24, "kill": 80}[end]
    config = small_config(track="tensorboard", steps=steps, checkpoint_every=8)
    if end == "crash":
        with pytest.raises(RuntimeError, match="crashed"):
            train(workspace, config, Crash(15))
    else:
        process = start(workspace, config)
        wait_for_steps(workspace, process, 12)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        # TensorBoard reads files in the order of the seconds that they were begun in.
        time.sleep(1.1)
    artifact = train(workspace, config).artifact
    (run,) = (workspace.root / "tracking").iterdir()
    assert len(list(run.iterdir())) == 2, "both runs have written"
    assert held_once(scalars(run, "loss"), artifact)


@pytest.mark.parametrize("kind", ["tensorboard", "wandb", "trackio"])
def test_a_missing_tracker_is_told_before_anything_is_trained(kind, monkeypatch, workspace):
    monkeypatch.setitem(sys.modules, kind, None)
    with pytest.raises(MissingDependencyError) as caught:
        train(workspace, small_config(track=kind))
    assert caught.value.exit_code == 5
    assert caught.value.fix == "pip install 'vintix[tracking]'"
    assert workspace.all_names("checkpoints") == []


def scalars(run, name):
    """Return the steps that TensorBoard shows of a curve, each with its number by name."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run))
    events.Reload()
    return [(one.step, {name: one.value}) for one in events.Scalars(name)]


def test_tensorboard_gets_scalars_and_keeps_what_was_flushed(tmp_path):
    """A checkpoint follows a flush: what is killed after it has these steps for good."""
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    with MetricsLog(tmp_path / "metrics.jsonl", steps=0) as log:
        tracker = open_tracker(
            "tensorboard", log, run="run", directory=tmp_path, config={}, facts={}
        )
        tracker.log({"step": 3, "loss": 0.5, "domains": {"toys": 0.25}})
        tracker.flush()
        assert scalars(tmp_path / "run", "loss") == [(3, {"loss": 0.5})]
        assert scalars(tmp_path / "run", "domains/toys") == [(3, {"domains/toys": 0.25})]
        tracker.close()


def test_numbers_are_named_by_their_path():
    row = {"step": 1, "domains": {"a": 0.5, "b": {"c": 2}}, "note": "text"}
    assert flatten(row) == {"step": 1.0, "domains/a": 0.5, "domains/b/c": 2.0}
