"""The worker's code for Isaac Gym, on a stand-in of isaacgym and bidexhands.

It shows that the code does what it means to do with the reference's interface as it was read, not
that Isaac Gym behaves like the stand-in.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from domains.isaacgym.conftest import connect
from pipelines.domains.isaacgym import worker
from pipelines.domains.isaacgym.link import WORKER_FILE

pytestmark = pytest.mark.process

STAND_IN = Path(__file__).with_name("standin")
Make = Any


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Make sessions that simulate on the stand-in; the process is left as it was."""
    monkeypatch.chdir(STAND_IN)
    monkeypatch.syspath_prepend(str(STAND_IN))
    monkeypatch.setattr(np, "float", float, raising=False)
    monkeypatch.setattr(sys, "_standin_torch_first", True, raising=False)

    def session(copies: int) -> worker.Session:
        for name in [name for name in sys.modules if name.split(".")[0] == "bidexhands"]:
            monkeypatch.delitem(sys.modules, name)
        made = worker.Session(None, False, ("", 0))  # type: ignore[arg-type]
        hello = {"protocol": worker.PROTOCOL, "task": "ShadowHandPushBlock", "num_envs": copies}
        told = made._hello(worker.Frame(worker.HELLO, 1, {**hello, "device": "cpu"}))[0]
        assert (told["observation_dim"], told["max_episode_length"]) == (428, 125)
        return made

    yield session
    for name in [name for name in sys.modules if name.split(".")[0] in ("isaacgym", "bidexhands")]:
        del sys.modules[name]


def reset(session: worker.Session, ids: list[int], seeds: list[int]) -> np.ndarray:
    frame = worker.Frame(worker.RESET, 1, {"ids": ids, "seeds": seeds})
    return session._reset(frame)[1]["observation"]


def step(session: worker.Session, action: np.ndarray) -> dict[str, np.ndarray]:
    return session._step(worker.Frame(worker.STEP, 1, {}, {"action": action}))[1]


def moves(steps: int, copies: int) -> np.ndarray:
    return np.random.default_rng(1).uniform(-0.3, 0.3, (steps, copies, 52)).astype(np.float32)


def test_a_reset_in_a_shared_simulation_puts_the_others_back(make: Make):
    """Though the step of the reset moves them, and the task's reset puts their objects back."""
    action = moves(9, 3)
    seen = {}
    for disturbed in (False, True):
        session = make(3)
        reset(session, [0, 1, 2], [1, 2, 3])
        for row in action[:4]:
            step(session, row)
        if disturbed:
            reset(session, [1], [9])
        seen[disturbed] = [step(session, row) for row in action[4:]]
    for calm, stirred in zip(seen[False], seen[True], strict=True):
        for name, value in calm.items():
            np.testing.assert_array_equal(value[[0, 2]], stirred[name][[0, 2]], err_msg=name)
        assert not np.array_equal(calm["observation"][1], stirred["observation"][1])


def test_an_episode_follows_from_its_seed_whoever_is_beside_it(make: Make):
    """Draws are a copy's own: of the reset, of goals in mid-episode, of the tiny action."""
    action = moves(12, 1)
    runs = []
    for copies, place in ((1, 0), (4, 2)):
        session = make(copies)
        reset(session, list(range(copies)), list(range(copies)))
        step(session, moves(1, copies)[0])
        episode = [reset(session, [place], [77])[0]]
        for row in action:
            everyone = np.zeros((copies, 52), np.float32)
            everyone[place] = row[0]
            episode.append(step(session, everyone)["observation"][place])
        runs.append(np.stack(episode))
    np.testing.assert_array_equal(runs[0], runs[1])
    assert len(np.unique(runs[0][:, 49])) > 2, "goals are drawn in mid-episode"


def test_the_first_observation_is_after_one_tiny_step(make: Make):
    """As the reference's own reset: bodies are where the new episode has them, actions are tiny."""
    session = make(2)
    reset(session, [0, 1], [1, 2])
    for row in moves(3, 2):
        step(session, row)
    first = reset(session, [1], [5])[0]
    # The stand-in's body is the sum of a root and of a joint, and moves in a step only.
    np.testing.assert_allclose(first[45], first[0] + first[39], rtol=1e-6)
    assert 0 < np.abs(first[60:112]).max() <= worker.TINY_ACTION
    np.testing.assert_array_equal(first, reset(session, [1], [5])[0])


def test_the_limit_is_told_apart_and_the_reset_counts_as_a_step(make: Make):
    """The reference has one flag for both ends; its episode of 125 has 124 steps to record."""
    session = make(1)
    reset(session, [0], [1])
    idle = np.zeros((1, 52), np.float32)
    for _ in range(123):
        result = step(session, idle)
        assert not result["terminated"][0] and not result["truncated"][0]
    result = step(session, idle)
    assert result["truncated"][0] and not result["terminated"][0] and result["success"][0] == 0
    with pytest.raises(worker.RequestError, match="reset first"):
        step(session, idle)
    reset(session, [0], [1])
    ends = []
    for _ in range(60):
        result = step(session, np.ones((1, 52), np.float32))
        ends.append((bool(result["terminated"][0]), bool(result["truncated"][0])))
        if any(ends[-1]):
            break
    assert ends[-1] == (True, False) and result["success"][0] == 1


def test_the_process_imports_in_order_and_prints_to_stderr(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Isaac Gym refuses to be imported after torch, and prints where results would go."""
    monkeypatch.chdir(tmp_path)
    token = "t" * 16
    process = subprocess.Popen(
        [sys.executable, str(WORKER_FILE), "--endpoint", "unix:socket"],
        env={**os.environ, worker.TOKEN_VARIABLE: token, "PYTHONPATH": str(STAND_IN)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with connect(process) as client:
        hello = {"token": token, "protocol": worker.PROTOCOL, "task": "ShadowHandPushBlock"}
        requests = [
            worker.Frame(worker.HELLO, 1, {**hello, "num_envs": 1, "device": "cpu"}),
            worker.Frame(worker.RESET, 2, {"ids": [0], "seeds": [1]}),
            worker.Frame(worker.STEP, 3, {}, {"action": np.zeros((1, 52), np.float32)}),
        ]
        for request in requests:
            client.sendall(worker.encode(request))
            reply = worker.read_frame(client, time.monotonic() + 60)
            assert reply is not None and reply.opcode == request.opcode, reply and reply.fields
    stdout, stderr = process.communicate(timeout=10)
    assert stdout == b"" and b"Isaac Gym prints" in stderr
    assert process.returncode == 0
