"""The stage end to end on a small artifact: it learns, resumes exactly, and publishes what it says.

Losses are compared bit for bit: they come from the log, whose numbers round-trip.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.artifacts.workspace import Workspace
from pipelines.errors import (
    ArtifactMissingError,
    ConfigError,
    InterruptedRunError,
    UsageError,
    VintixError,
)
from pipelines.model.normalization import TaskStatistics
from pipelines.model.saved import load_model
from pipelines.reporter import NullReporter
from pipelines.signals import StopSignal
from pipelines.stage import LONGEST_ESTIMATE
from pipelines.train.config import TrainConfig
from pipelines.train.metrics import read_metrics
from pipelines.train.stage import plan, run

from .support import (
    TASKS,
    MemoryData,
    ToyTask,
    learning_rate,
    small_config,
    statistics_of,
    write_dataset,
)

pytestmark = pytest.mark.stage

FLAT = ("loss", "domains", "learning_rate", "gradient_norm", "tokens", "step")


class StopAfter(StopSignal):
    """Behaves as if SIGTERM came during the n-th step."""

    def __init__(self, steps):
        super().__init__()
        self._left = steps

    @property
    def requested(self):
        self._left -= 1
        if self._left <= 0:
            self.number = int(signal.SIGTERM)
        return self.number is not None


def train(workspace, config, stop=None):
    return run(config, workspace, NullReporter(), stop=stop)


def metrics(artifact):
    return read_metrics(artifact.file("log/metrics.jsonl"))


def content(rows):
    return [{name: row[name] for name in FLAT} for row in rows]


def test_a_tiny_dataset_is_overfitted(workspace):
    """With one task a group the next action is a function of the observation: little loss stays."""
    config = small_config(
        tasks=["toy-a", "gym-c"], steps=300, learning_rate=3e-3, checkpoint_every=1000
    )
    result = train(workspace, config)
    losses = [row["loss"] for row in metrics(result.artifact)]
    assert np.mean(losses[:5]) > 0.2
    assert result.report["loss"] == pytest.approx(np.mean(losses[-50:]))
    assert result.report["loss"] < 0.01
    assert set(result.report["domains"]) == {"toys", "gyms"}


def test_interrupted_twice_equals_uninterrupted(workspace, new_workspace):
    """Stop after 5 steps, resume to 9, stop, resume: same losses, same digest, bit for bit."""
    config = small_config(steps=14, checkpoint_every=4, clip_norm=0.5, gradient_accumulation=2)
    for steps in (5, 4):
        with pytest.raises(InterruptedRunError) as caught:
            train(workspace, config, StopAfter(steps))
        assert caught.value.exit_code == 143
    resumed = train(workspace, config)
    other = new_workspace("other")
    whole = train(other, config)
    assert content(metrics(resumed.artifact)) == content(metrics(whole.artifact))
    assert resumed.artifact.digest == whole.artifact.digest
    assert [row["step"] for row in metrics(resumed.artifact)] == list(range(1, 15))


def test_resume_with_another_checkpoint_interval_is_the_same_run(workspace, new_workspace):
    """What does not change the result may change between two runs of one artifact."""
    with pytest.raises(InterruptedRunError):
        train(workspace, small_config(checkpoint_every=3), StopAfter(5))
    resumed = train(workspace, small_config(checkpoint_every=100))
    other = new_workspace("other")
    assert resumed.artifact.digest == train(other, small_config()).artifact.digest


@pytest.mark.parametrize("part", [{"residual_dropout": 0.2}, {"head": "flow"}])
def test_random_numbers_of_the_model_resume_exactly(workspace, new_workspace, part):
    """Dropout's and a loss's are keyed by the step, and leave the caller's alone."""
    config = small_config(model={**small_config().model, **part})
    torch.manual_seed(5)
    with pytest.raises(InterruptedRunError):
        train(workspace, config, StopAfter(6))
    assert torch.initial_seed() == 5
    resumed = train(workspace, config)
    other = new_workspace("other")
    assert resumed.artifact.digest == train(other, config).artifact.digest


def test_random_maps_resume_exactly_and_the_checkpoint_tells_of_them(workspace, new_workspace):
    """Maps follow from the step, as windows do, with any number of threads that load ahead."""
    config = small_config(random_map=True)
    with pytest.raises(InterruptedRunError):
        train(workspace, config, StopAfter(6))
    resumed = train(workspace, config)
    other = new_workspace("other")
    whole = train(other, small_config(random_map=True, loader_threads=3))
    assert resumed.artifact.digest == whole.artifact.digest
    assert resumed.artifact.manifest.name == "toys-tiny-map"
    assert resumed.artifact.config["random_map"] is resumed.report["random_map"] is True
    assert load_model(resumed.artifact).random_map
    assert any("random maps" in note for note in plan(config, workspace).notes)
    plain = train(workspace, small_config())
    assert not load_model(plain.artifact).random_map
    assert content(metrics(plain.artifact)) != content(metrics(resumed.artifact))


_PROGRAM = """
import sys
from pathlib import Path
from pipelines.artifacts.workspace import Workspace
from pipelines.reporter import NullReporter
from pipelines.train.config import TrainConfig
from pipelines.train.stage import run
run(TrainConfig.model_validate_json(sys.argv[2]), Workspace(Path(sys.argv[1])), NullReporter())
"""


def start(workspace, config):
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, str(workspace.root), config.model_dump_json()],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )


def durable_units(staged):
    return sorted(json.loads(path.read_bytes())["unit"] for path in staged.glob("progress/*.json"))


def wait_for_steps(workspace, process, steps):
    """Wait until the run that goes on has logged so many steps."""
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and process.poll() is None:
        logs = list(workspace.root.glob("checkpoints/*/.staging-*/log/metrics.jsonl"))
        if logs and len(read_metrics(logs[0])) >= steps:
            return
        time.sleep(0.01)
    raise AssertionError(f"no {steps} steps: {process.poll()}")


@pytest.mark.slow
@pytest.mark.process
def test_killed_twice_equals_uninterrupted(workspace, new_workspace):
    """kill -9 in the middle, twice; the third run ends with the uninterrupted run's digest."""
    config = small_config(steps=150, checkpoint_every=7)
    for steps in (20, 60):
        process = start(workspace, config)
        wait_for_steps(workspace, process, steps)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    resumed = train(workspace, config)
    other = new_workspace("other")
    whole = train(other, config)
    assert content(metrics(resumed.artifact)) == content(metrics(whole.artifact))
    assert resumed.artifact.digest == whole.artifact.digest


def test_only_the_last_two_checkpoints_are_kept_and_none_is_published(workspace):
    """The one of the interruption, and one that a busy writer may have put off by a few steps."""
    with pytest.raises(InterruptedRunError):
        train(workspace, small_config(steps=40, checkpoint_every=3), StopAfter(14))
    staged = next(workspace.root.glob("checkpoints/*/.staging-*"))
    units = durable_units(staged)
    assert len(units) == 2 and units[1] == "checkpoint/00000014"
    assert "checkpoint/00000003" <= units[0] < "checkpoint/00000014"
    weights = [path for path in (staged / "scratch").rglob("c/*") if path.is_file()]
    found = {path.relative_to(staged / "scratch/checkpoint").parts[0] for path in weights}
    assert found == {unit.removeprefix("checkpoint/") for unit in units}
    artifact = train(workspace, small_config(steps=40, checkpoint_every=3)).artifact
    assert not [path for path in artifact.manifest.files if "scratch" in path]
    assert sorted({path.split("/")[1] for path in artifact.manifest.files}) == [
        "metrics.jsonl",
        "model",
        "optimizer",
        "zarr.json",
    ]


def test_the_same_command_again_is_up_to_date(workspace):
    first, second = (train(workspace, small_config()) for _ in range(2))
    assert not first.up_to_date and second.up_to_date
    assert second.report == first.report
    assert train(workspace, small_config(seed=1)).artifact.manifest.version == 2


def test_what_is_saved_is_what_was_trained(workspace):
    """Weights, statistics and metadata come back; the model is ready to predict."""
    tasks = (*TASKS, ToyTask(name="unseen", split="validation"))
    write_dataset(workspace, "mixed", tasks)
    result = train(workspace, small_config(dataset="mixed"))
    saved = load_model(result.artifact)
    assert (saved.step, saved.method, saved.masks_rewards) == (12, "ad", False)
    assert not saved.model.training
    assert {name: task.trained for name, task in saved.tasks.items()} == {
        "toy-a": True,
        "toy-b": True,
        "gym-c": True,
        "unseen": False,
    }
    for task in tasks:
        given = {name: one.astype(np.float32) for name, one in statistics_of(task).items()}
        expected = TaskStatistics(**given, reward_scale=task.reward_scale)
        kept = saved.task(task.name).statistics
        for name, values in vars(expected).items():
            np.testing.assert_array_equal(getattr(kept, name), values)
    assert saved.task("gym-c").options == {"backend": "toy"}
    assert saved.task("gym-c").task["horizon"] == 20
    with pytest.raises(UsageError, match="does not know"):
        saved.task("nobody")
    manifest = result.artifact.manifest
    assert set(manifest.fingerprints) == {"toy-a", "toy-b", "gym-c"}
    assert "torch" in manifest.packages
    assert manifest.config["threads"] == 1 and manifest.config["device"] == "cpu"
    assert result.report["parameters"] == sum(one.numel() for one in saved.model.parameters())
    moments = result.artifact.read("optimizer/exp_avg")
    assert moments.shape == (result.report["parameters"],) and moments.any()


def test_predictions_of_a_reward_masked_model_do_not_depend_on_rewards(workspace, tmp_path):
    """Trained on data that differs in nothing but its rewards, it is the same model."""
    other = Workspace(tmp_path / "other")
    scaled = tuple(
        ToyTask(**{**vars(task), "reward_scale": 10.0 * task.reward_scale}) for task in TASKS
    )
    write_dataset(other, tasks=scaled)

    def weights(where, method):
        result = train(where, small_config(method=method))
        saved = load_model(result.artifact)
        assert saved.masks_rewards == (method == "ad-no-reward")
        return torch.cat([one.detach().reshape(-1) for one in saved.model.parameters()])

    assert torch.equal(weights(workspace, "ad-no-reward"), weights(other, "ad-no-reward"))
    assert not torch.equal(weights(workspace, "ad"), weights(other, "ad"))


def test_expert_distillation_trains_on_the_noise_free_end(workspace, monkeypatch):
    """Every row that is read for a batch has noise 0."""
    from pipelines.methods.windows import Subsequence

    seen = []
    pieces = Subsequence.pieces

    def watch(self, data, start, length, fields):
        found = list(pieces(self, data, start, length, ("noise",)))
        seen.append(max(float(np.abs(piece["noise"]).max()) for piece in found))
        return pieces(self, data, start, length, fields)

    monkeypatch.setattr(Subsequence, "pieces", watch)
    train(workspace, small_config(method="ed"))
    assert len(seen) == 12 * 4 and not any(seen)
    seen.clear()
    train(workspace, small_config(method="ad"))
    assert any(seen)


def test_the_log_tells_the_schedule_and_the_rate(workspace):
    config = small_config(steps=12, warmup_fraction=0.25)
    rows = metrics(train(workspace, config).artifact)
    assert [row["learning_rate"] for row in rows] == [
        learning_rate(step, config) for step in range(12)
    ]
    assert [row["tokens"] for row in rows] == [128 * step for step in range(1, 13)]
    seconds = [row["seconds"] for row in rows]
    assert seconds == sorted(seconds) and all(row["tokens_per_second"] > 0 for row in rows)


def test_timings_do_not_touch_the_digest(workspace, new_workspace):
    other = new_workspace("other")
    one, two = (train(where, small_config()).artifact for where in (workspace, other))
    assert one.digest == two.digest
    assert "seconds" not in json.dumps(one.manifest.summary)


def test_a_selection_of_tasks_by_alias_or_domain(workspace):
    result = train(workspace, small_config(tasks=["toy-b-alias"], name="one"))
    assert result.artifact.config["tasks"] == ["toy-b"]
    result = train(workspace, small_config(domains=["gyms"], name="one"))
    assert result.artifact.config["tasks"] == ["gym-c"]
    with pytest.raises(UsageError, match="the dataset holds no task"):
        train(workspace, small_config(tasks=["hopper"]))
    with pytest.raises(UsageError, match="the dataset holds no domain"):
        train(workspace, small_config(domains=["mujoco"]))


def test_errors_name_the_task_and_the_fix(workspace):
    with pytest.raises(ConfigError) as caught:
        train(workspace, small_config(context=600))
    assert "task gym-c, trajectory 0" in str(caught.value)
    assert "--context 599" in str(caught.value)
    with pytest.raises(ConfigError, match="embeddings"):
        train(workspace, small_config(model={"width": 48}))
    with pytest.raises(ArtifactMissingError):
        train(workspace, small_config(dataset="nowhere"))
    write_dataset(workspace, "held-out", [ToyTask(split="validation")])
    with pytest.raises(ConfigError, match="no training task") as caught:
        train(workspace, small_config(dataset="held-out"))
    assert "pack.allow_validation=true" in caught.value.fix
    # What pack was told to allow is trained on.
    write_dataset(workspace, "allowed", [ToyTask(split="validation", allowed=True)])
    saved = load_model(train(workspace, small_config(dataset="allowed", steps=2)).artifact)
    assert saved.tasks["toy-a"].trained


def test_a_diverging_run_says_so_and_publishes_nothing(workspace):
    config = small_config(learning_rate=1e30, clip_norm=0.0, warmup_fraction=0.0, steps=30)
    with pytest.raises(VintixError, match="diverged"):
        train(workspace, config)
    assert workspace.names("checkpoints") == []


def test_threads_are_restored(workspace):
    before = torch.get_num_threads()
    train(workspace, small_config(threads=before + 1, steps=2))
    assert torch.get_num_threads() == before


def test_the_plan_counts_what_a_run_has(workspace):
    """Parameters by part add up to the run's, and nothing is written."""
    planned = plan(small_config(), workspace)
    assert workspace.names("checkpoints") == []
    assert [row["part"] for row in planned.rows] == ["encoders", "transformer", "heads"]
    result = train(workspace, small_config())
    assert planned.totals["parameters"] == result.report["parameters"]
    assert sum(row["parameters"] for row in planned.rows) == result.report["parameters"]
    assert planned.totals["tokens"] == result.report["tokens"] == 12 * 4 * 32
    assert planned.totals["estimated_seconds"] > 0


def test_the_plan_of_the_paper_needs_no_dataset(tmp_path):
    """Table 2's parameters with v4's dims; the catalogue's own beside them, with the preset."""
    pytest.importorskip("pipelines.domains.registry")
    planned = plan(TrainConfig(preset="paper", device="cpu"), Workspace(tmp_path))
    assert planned.totals["parameters"] == 332_110_477
    assert any("332,100,768" in note for note in planned.notes)
    assert any(note.startswith("preset paper: 332,110,477 parameters") for note in planned.notes)
    # A CPU would take centuries, which is no estimate.
    assert planned.totals["estimated_seconds"] > LONGEST_ESTIMATE
    assert any("GPU-hours" in note for note in planned.notes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"processes": 3}, "dealt out evenly"),
        ({"shard": True}, "nothing to split"),
        ({"validation_fraction": 0.5, "tasks": ["alone"]}, "set aside"),
        ({"fidelity": "release", "batch_size": 100}, "smaller than a micro-batch"),
    ],
)
def test_a_plan_refuses_what_the_run_would(tmp_path, changes, words):
    workspace = Workspace(tmp_path)
    write_dataset(workspace, tasks=(*TASKS, ToyTask(name="alone", rows=(600,))))
    config = small_config(**changes)
    for stage in (plan, train):
        with pytest.raises(ConfigError, match=words):
            stage(config, workspace) if stage is plan else train(workspace, config)
    if "tasks" not in changes and "fidelity" not in changes:
        # Nor does a plan without a dataset promise it.
        with pytest.raises(ConfigError, match=words):
            plan(config, Workspace(tmp_path / "empty"))


def test_tasks_that_are_named_and_held_out_are_warned_of(tmp_path):
    workspace, told = Workspace(tmp_path), NullReporter()
    unseen = ToyTask(name="unseen", split="validation")
    write_dataset(workspace, tasks=(*TASKS, unseen))
    config = small_config(tasks=["toy-a", "Unseen_Alias"], steps=1)
    result = run(config, workspace, told)
    assert result.artifact.config["tasks"] == ["toy-a"]
    (warning,) = (each for each in told.warnings if "unseen" in each)
    assert "--set pack.allow_validation=true" in warning
    assert warning in plan(config, workspace).notes
    # Without a name there is nothing to be told of.
    run(small_config(domains=["toys"], steps=1), workspace, told)
    assert len([each for each in told.warnings if "unseen" in each]) == 1


def test_a_run_of_one_step_moves_the_model(workspace):
    (row,) = metrics(train(workspace, small_config(steps=1)).artifact)
    assert row["learning_rate"] == small_config().learning_rate


def test_a_plan_refuses_a_checkpoint_that_is_not_there(workspace, tmp_path):
    """With a dataset and without; only a missing dataset is planned from the catalogue."""
    for place in (workspace, Workspace(tmp_path / "empty")):
        with pytest.raises(ArtifactMissingError, match="no checkpoints artifact 'nowhere'"):
            plan(small_config(init="nowhere"), place)
    planned = plan(TrainConfig(init="packaged", device="cpu"), Workspace(tmp_path / "empty"))
    (start,) = (note for note in planned.notes if note.startswith("first weights"))
    assert start.startswith("first weights those of packaged@v")
    # The packaged model was trained by another method than the default.
    assert start.endswith(
        "they were trained by dpt, and go on by ad: --method dpt would keep to it"
    )
    planned = plan(TrainConfig(init="packaged", method="dpt", device="cpu"), Workspace(tmp_path))
    assert not any("would keep to it" in note for note in planned.notes)


def test_a_dataset_in_memory_has_the_readers_interface(workspace):
    """The loader's tests run on a stand-in: it gives the rows that the reader gives."""
    from pipelines.datasets.reader import DatasetReader

    reader, memory = DatasetReader(workspace.find("datasets")), MemoryData()
    assert set(reader.tasks) == set(memory.tasks)
    for name, task in memory.tasks.items():
        real = reader.tasks[name]
        for attribute in ("group", "observation_dim", "actions", "reward_scale", "rows"):
            assert getattr(real, attribute) == getattr(task, attribute)
        for statistic, values in task.statistics.items():
            np.testing.assert_array_equal(real.statistics[statistic], values)
        expected, found = (data.window(name, 1, 250, 40) for data in (memory, reader))
        assert set(expected) == set(found)
        for field, values in expected.items():
            np.testing.assert_array_equal(found[field], values)
        np.testing.assert_array_equal(
            reader.episode_starts(name, 0), memory.episode_starts(name, 0)
        )
