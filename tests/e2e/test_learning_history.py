"""Real learning histories through the real command: killed and resumed, packed, trained on."""

from __future__ import annotations

import os
import signal
import time

import pytest

from pipelines.artifacts.verify import verify
from pipelines.artifacts.workspace import Workspace

TASK, POINT = "inverted-pendulum", "point-mass-north-east"
WORDS = ["distill", "--task", TASK, "--workers", "1", "--config", "learn.yaml"]
SETTINGS = """
distill:
  source: learning-history
  trajectories: 1
  steps: 1500
  train:
    segment_steps: 250
    hyperparameters: {n_steps: 128, batch_size: 64, net_arch: [16]}
pack: {chunk_rows: 500}
"""


@pytest.fixture
def pendulum(empty):
    """A workspace with the demonstrator of the inverted pendulum, and a run file."""
    (empty.directory / "learn.yaml").write_text(SETTINGS)
    assert empty.vintix("demonstrators", "--task", TASK, "--quiet").code == 0
    return empty


def test_killed_and_resumed_then_packed_and_trained_on(pendulum):
    """The bytes are those of an uninterrupted run, and every reader takes the history."""
    done = pendulum.vintix(*WORDS, "--name", "whole", "--json")
    assert done.code == 0, done.stderr
    assert {"tasks", "steps", "demonstrators", "artifact", "up_to_date"} <= set(done.document)
    process = pendulum.start(*WORDS, "--name", "parts", "--quiet")
    staged = pendulum.workspace / "histories" / "parts"
    give_up = time.monotonic() + 240
    while not list(staged.glob(f".staging-*/progress/{TASK}%2F00000%2F00001.json")):
        assert process.poll() is None and time.monotonic() < give_up
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not list(staged.glob("v*"))
    assert pendulum.vintix(*WORDS, "--name", "parts", "--quiet").code == 0
    workspace = Workspace(pendulum.workspace)
    whole, parts = (workspace.find("histories", name) for name in ("whole", "parts"))
    assert parts.digest == whole.digest
    assert verify(parts.path, deep=True) == []
    again = pendulum.vintix(*WORDS, "--name", "parts")
    assert again.code == 0 and "up to date" in again.stdout

    report = pendulum.vintix("report", "histories", "parts", "--json").document
    assert report["tasks"][0]["schedule"] is None
    assert report["tasks"][0]["episodes"] > 0
    pack = ["pack", "--histories", "parts", "--config", "learn.yaml", "--name", "data"]
    refused = pendulum.vintix(*pack)
    assert refused.code == 3
    assert "distill.train" in refused.stderr and "--schedule" not in refused.stderr
    packed = pendulum.vintix(*pack, "--allow", TASK, "--json")
    assert packed.code == 0, packed.stderr
    small = [
        "--set", "train.context=64", "--set", "train.batch_size=1", "--steps", "1",
        "--set", "train.model={layers: 1, heads: 2, width: 32, feed_forward: 32, "
        "action_embedding: 15, observation_embedding: 15, reward_embedding: 2}",
    ]  # fmt: skip
    trained = pendulum.vintix("train", "--dataset", "data", *small, "--quiet")
    assert trained.code == 0, trained.stderr


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--schedule", "p=1,f=0"], 2, "without a schedule"),
        (["--schedule", "auto"], 2, "without a schedule"),
        (["--source", "replay"], 2, "learning-history"),
        (["--source", "noise"], 2, "train belongs to"),
        (["--set", "distill.train.algorithm=es"], 3, "episodes, has no learning history"),
        (["--set", "distill.train.total_steps=99"], 3, "--steps 99"),
        (["--set", "distill.train.hyperparameters.speed=3"], 3, "distill.train.hyperparameters"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_does_not_fit_together(shell, words, code, said):
    (shell.directory / "learn.yaml").write_text(SETTINGS)
    before = shell.digests()
    done = shell.vintix("distill", "--task", POINT, "--config", "learn.yaml", *words)
    assert done.code == code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert shell.digests() == before
