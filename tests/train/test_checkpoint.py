"""Checkpoints are written beside training: bounded, in order, and their errors are heard."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipelines.artifacts.workspace import Workspace
from pipelines.errors import StorageError
from pipelines.train.checkpoint import (
    CheckpointWriter,
    checkpoints,
    kept,
    take_snapshot,
)
from pipelines.train.loop import make_optimizer

from .support import load_checkpoint, small_config
from .test_optimizer import make_model


@pytest.fixture
def staging(tmp_path):
    with Workspace(tmp_path).stage("checkpoints", "x", config={}) as opened:
        yield opened


@pytest.fixture
def made():
    model = make_model()
    return model, make_optimizer(model, small_config())


class Gate:
    """Holds the writer's thread until it is opened."""

    def __init__(self):
        self._open = threading.Event()

    def __call__(self):
        assert self._open.wait(60)

    def open(self):
        self._open.set()


def test_training_goes_on_while_a_checkpoint_is_written(staging, made):
    """What is changed meanwhile is not in it: the thread has a copy."""
    model, optimizer = made
    before = [one.detach().clone() for one in model.parameters()]
    gate = Gate()
    with CheckpointWriter(staging) as writer:
        writer.save(model, optimizer, 3, before=gate)
        assert writer.busy and checkpoints(staging) == []
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(1.0)
        writer.check()
        assert writer.busy
        gate.open()
    assert checkpoints(staging) == [3]
    assert load_checkpoint(staging, model, optimizer)[0] == 3
    assert all(torch.equal(one, old) for one, old in zip(model.parameters(), before, strict=True))


def test_one_is_written_at_a_time(staging, made):
    model, optimizer = made
    gate = Gate()
    with CheckpointWriter(staging) as writer:
        writer.save(model, optimizer, 1, before=gate)
        threading.Timer(0.2, gate.open).start()
        seen = []
        writer.save(model, optimizer, 2, before=lambda: seen.append(checkpoints(staging)))
    assert seen == [[1]]
    assert checkpoints(staging) == [1, 2]


def _fail():
    raise StorageError("the disk is full")


def test_an_error_surfaces_at_the_next_step(staging, made):
    """And the checkpoint before is as it was."""
    model, optimizer = made
    with CheckpointWriter(staging) as writer:
        writer.save(model, optimizer, 1)
        writer.wait()
        writer.save(model, optimizer, 2, before=_fail)
        while writer.busy:
            time.sleep(0.01)
        with pytest.raises(StorageError, match="full"):
            writer.check()
        writer.check()
    assert checkpoints(staging) == [1]


def test_leaving_waits_and_tells(staging, made):
    model, optimizer = made
    with pytest.raises(StorageError, match="full"), CheckpointWriter(staging) as writer:
        writer.save(model, optimizer, 1, before=_fail)
    with pytest.raises(KeyError, match="first"), CheckpointWriter(staging) as writer:
        writer.save(model, optimizer, 1, before=_fail)
        raise KeyError("first")


def test_the_newest_and_every_nth_are_kept(staging, made):
    model, optimizer = made
    with CheckpointWriter(staging, keep_last=2, keep_every=10) as writer:
        for step in range(3, 40, 3):
            writer.save(model, optimizer, step)
    assert checkpoints(staging) == [12, 21, 30, 36, 39]


@given(
    st.lists(st.integers(1, 500), unique=True, max_size=40).map(sorted),
    st.integers(1, 5),
    st.integers(0, 60),
)
def test_dropping_as_they_come_keeps_what_dropping_at_the_end_would(steps, last, every):
    """The newest are there, one for each interval that was reached, and nothing else."""
    present = []
    for step in steps:
        present = sorted(kept([*present, step], last, every))
    assert set(steps[-last:]) <= set(present)
    firsts = {}
    for step in steps:
        if every and step >= every:
            firsts.setdefault(step // every, step)
    assert set(firsts.values()) <= set(present)
    assert set(present) == set(steps[-last:]) | set(firsts.values())


def test_a_snapshot_uses_its_room_again(made):
    model, optimizer = made
    first = take_snapshot(model, optimizer)
    again = take_snapshot(model, optimizer, first)
    assert again is first
    sizes = sum(one.numel() for one in model.parameters())
    assert first.weights_N.shape == first.exp_avg_N.shape == (sizes,)
    assert not np.any(first.exp_avg_N) and not np.any(first.updates_P)
