"""Several processes train what one process trains, and end together however one of them ends.

They are real processes on the CPU, which talk through gloo, as `vintix train --device cpu
--processes 2` starts them.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from pipelines.artifacts.workspace import Workspace
from pipelines.errors import ConfigError, InterruptedRunError, LockedError
from pipelines.model.saved import load_model
from pipelines.reporter import NullReporter
from pipelines.train.metrics import read_metrics
from pipelines.train.stage import run

from .support import small_config
from .test_stage import StopAfter, durable_units, metrics, train

pytestmark = pytest.mark.process

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

#: Dropout would draw other numbers in other processes; everything else does not.
SETTINGS = {
    "steps": 8,
    "gradient_accumulation": 2,
    "clip_norm": 0.5,
    "checkpoint_every": 3,
    "random_map": True,
}


class Listener(NullReporter):
    """Remembers what it is told."""

    def __init__(self):
        super().__init__()
        self.messages, self.steps = [], 0.0

    def info(self, message):
        self.messages.append(message)

    def progress(self, label, total, unit="", done=0):
        listener = self
        listener.steps += done

        class Bar:
            def __enter__(self):
                return self

            def __exit__(self, *exc):
                return None

            def advance(self, amount=1, **fields):
                listener.steps += amount

        return Bar()


@pytest.fixture(scope="module")
def alone(template, tmp_path_factory):
    """One process, twice the windows a process."""
    root = tmp_path_factory.mktemp("alone") / "artifacts"
    shutil.copytree(template, root)
    return train(Workspace(root), small_config(**SETTINGS)).artifact


def assert_same_training(found, expected):
    """Losses to 1e-6, weights to the rounding of differently ordered sums."""
    rows, others = metrics(found), metrics(expected)
    for field in ("step", "tokens", "learning_rate"):
        assert [row[field] for row in rows] == [row[field] for row in others]
    for field in ("loss", "gradient_norm"):
        np.testing.assert_allclose(
            [row[field] for row in rows], [row[field] for row in others], rtol=1e-6
        )
    for row, other in zip(rows, others, strict=True):
        assert row["domains"] == pytest.approx(other["domains"], rel=1e-6)
    weights = dict(load_model(expected).model.named_parameters())
    for name, parameter in load_model(found).model.named_parameters():
        # A shift of all keys changes no attention: these biases have no gradient but rounding,
        # which Adam brings to the size of any other.
        tolerance = 1e-3 if name.endswith("k_norm.bias") else 1e-5
        np.testing.assert_allclose(
            parameter.detach(), weights[name].detach(), atol=tolerance, err_msg=name
        )
    np.testing.assert_array_equal(
        found.read("optimizer/updates"), expected.read("optimizer/updates")
    )


def test_two_processes_train_what_one_does(alone, workspace):
    """The same windows through the same maps, and the loss is the mean over the global batch."""
    listener = Listener()
    result = run(small_config(**SETTINGS, processes=2), workspace, listener)
    assert_same_training(result.artifact, alone)
    assert result.artifact.config == alone.config
    assert listener.steps == SETTINGS["steps"]
    assert any("2 processes" in message for message in listener.messages)
    # Some groups were in only some of the steps, or the comparison of updates says nothing.
    assert len(set(alone.read("optimizer/updates").tolist())) > 1
    again = train(workspace, small_config(**SETTINGS))
    assert again.up_to_date and again.artifact.digest == result.artifact.digest


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_processes(alone, workspace):
    with pytest.raises(InterruptedRunError):
        train(workspace, small_config(**SETTINGS), StopAfter(3))
    result = run(small_config(**SETTINGS, processes=2), workspace, NullReporter())
    assert_same_training(result.artifact, alone)
    assert [row["loss"] for row in metrics(result.artifact)[:3]] == [
        row["loss"] for row in metrics(alone)[:3]
    ]


@pytest.mark.slow
def test_sharded_parameters_train_the_same_and_resume(alone, workspace):
    """FSDP2 on gloo; the checkpoint of a sharded run serves one that is not, and the reverse."""
    with pytest.raises(InterruptedRunError):
        train(workspace, small_config(**SETTINGS), StopAfter(3))
    config = small_config(**SETTINGS, processes=2, shard=True)
    assert_same_training(run(config, workspace, NullReporter()).artifact, alone)


def command(workspace, *options):
    """The command line of `small_config` with two processes."""
    settings = small_config(steps=100_000, checkpoint_every=5).model_dump(mode="json")
    names = ("context", "steps", "batch_size", "checkpoint_every", "threads", "model")
    file = workspace.root / "run.yaml"
    file.write_text(json.dumps({"train": {name: settings[name] for name in names}}))
    return [
        sys.executable,
        "-m",
        "vintix_cli",
        "train",
        f"--config={file}",
        "--device=cpu",
        "--processes=2",
        f"--workspace={workspace.root}",
        *options,
    ]


def start(workspace, *options):
    return subprocess.Popen(
        command(workspace, *options),
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def staged_steps(workspace):
    logs = list(workspace.root.glob("checkpoints/*/.staging-*/log/metrics.jsonl"))
    return len(read_metrics(logs[0])) if logs else 0


def wait_for(condition, process):
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline and process.poll() is None:
        if condition():
            return
        time.sleep(0.05)
    process.kill()
    raise AssertionError(process.communicate())


def workers_of(process):
    """Processes that the launcher spawned, by their rank's order of start."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
            arguments = (path.parent / "cmdline").read_bytes()
        except (OSError, ValueError):
            continue
        if parent == process.pid and b"spawn_main" in arguments:
            found.append(int(path.parent.name))
    return sorted(found)


def staged(workspace):
    return next(workspace.root.glob("checkpoints/*/.staging-*"))


@pytest.mark.slow
def test_sigterm_to_the_launcher_checkpoints_and_exits_143(workspace):
    process = start(workspace)
    wait_for(lambda: staged_steps(workspace) >= 8, process)
    workers = workers_of(process)
    assert len(workers) == 2
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 143, told
    assert "run the same command again" in told and "Traceback" not in told
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)
    made = staged_steps(workspace)
    assert durable_units(staged(workspace))[-1] == f"checkpoint/{made:08d}"


@pytest.mark.slow
def test_a_killed_process_ends_the_others_and_the_next_run_goes_on(workspace):
    process = start(workspace)
    wait_for(lambda: staged_steps(workspace) >= 12, process)
    workers = workers_of(process)
    os.kill(workers[-1], signal.SIGKILL)
    _, told = process.communicate(timeout=180)
    assert process.returncode == 1, told
    assert "SIGKILL" in told and "run the same command again" in told
    assert "Traceback" not in told
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)
    kept = durable_units(staged(workspace))
    rows = read_metrics(staged(workspace) / "log/metrics.jsonl")
    process = start(workspace)
    before = int(kept[-1].removeprefix("checkpoint/"))
    wait_for(lambda: staged_steps(workspace) > len(rows) + 3, process)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=120)
    assert process.returncode == 130
    again = read_metrics(staged(workspace) / "log/metrics.jsonl")
    # Timings and all: the steps before the checkpoint were not made again, those after it were.
    assert again[:before] == rows[:before] and before >= 5
    assert [row["loss"] for row in again[: len(rows)]] == [
        row["loss"] for row in rows[: len(again)]
    ]
    assert [row["step"] for row in again] == list(range(1, len(again) + 1))


@pytest.mark.slow
def test_a_run_joins_the_processes_of_torchrun(alone, workspace):
    """The command as README has it; one of the processes speaks for all."""
    file = workspace.root / "run.json"
    settings = small_config(**SETTINGS).model_dump(mode="json", exclude_defaults=True)
    file.write_text(json.dumps({"train": settings}))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    program = workspace.root / "vintix.py"
    program.write_text("from vintix_cli.__main__ import main\n\nmain()\n")
    words = ["train", "--config", str(file), "--workspace", str(workspace.root), "--json"]
    done = subprocess.run(
        [*torchrun, str(program), *words],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    artifact = workspace.find("checkpoints")
    assert json.loads(done.stdout)["artifact"]["digest"] == artifact.digest
    assert_same_training(artifact, alone)


def test_an_error_in_a_process_has_its_own_exit_code(workspace):
    """The lock is rank 0's to take: what it finds reaches the caller as it is."""
    config = small_config(processes=2)
    path = workspace.root / "checkpoints/toys-tiny"
    with workspace.stage("checkpoints", "toys-tiny", config={}), pytest.raises(LockedError) as told:
        run(config, workspace, NullReporter())
    assert told.value.exit_code == 6
    assert str(path) in str(told.value)


def test_a_batch_that_cannot_be_dealt_out_is_refused_before_anything_starts(workspace):
    with pytest.raises(ConfigError, match="dealt out"):
        run(small_config(batch_size=3, processes=2), workspace, NullReporter())
