"""The batch and the environment against fake workers: what the stages rely on."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from domains.isaacgym.conftest import Fake, children, connect
from pipelines.domains.isaacgym import isaac_packages, make_isaac_batch, make_isaac_env, worker
from pipelines.domains.isaacgym.batch import IsaacGymBatch
from pipelines.domains.isaacgym.link import WORKER_FILE
from pipelines.errors import ConfigError
from pipelines.tasks.registry import catalogue

pytestmark = pytest.mark.process

TASK = catalogue().get("hand-push-block")
# Seeds of the fake: not divisible by 3, the episode lasts to the limit; 21 ends it after 13 steps.
LONG, SHORT = 1, 21


def actions(steps: int, size: int = 3, dims: int = 52) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (steps, size, dims)).astype(np.float32)


def play(batch: IsaacGymBatch, steps: int, first: list[int]) -> list[np.ndarray]:
    """Observations of some steps; the copies in `first` have been reset."""
    return [batch.step(row).observation_BO for row in actions(steps, batch.size)]


@pytest.mark.parametrize("share", [1, 2])
def test_a_reset_copy_leaves_the_others_where_they_were(fake: Fake, share: int):
    """The stages reset copies in mid-run: the others' episodes must not notice.

    The fake steps all copies at each step, as Isaac Gym does, so this fails without the worker's
    saving and putting back (share 2) and without a simulation a copy (share 1).
    """
    moves = actions(8)
    seen = {}
    for disturbed in (False, True):
        batch = IsaacGymBatch(TASK, 3, fake(), share)
        batch.reset([0, 1, 2], [LONG, LONG + 1, LONG + 3])
        for row in moves[:4]:
            batch.step(row)
        if disturbed:
            batch.reset([1], [5])
        seen[disturbed] = [batch.step(row).observation_BO for row in moves[4:]]
        batch.close()
    for calm, stirred in zip(seen[False], seen[True], strict=True):
        np.testing.assert_array_equal(calm[[0, 2]], stirred[[0, 2]])
        assert not np.array_equal(calm[1], stirred[1])


def test_an_episode_follows_from_its_seed_and_actions_alone(fake: Fake):
    """Resume replays episodes from their seeds: fresh or used, alone or among others."""
    moves = actions(5)
    runs = []
    for size, share, place in ((1, 1, 0), (3, 1, 2), (3, 3, 1)):
        batch = IsaacGymBatch(TASK, size, fake(), share)
        batch.reset(list(range(size)), [LONG + 3 * i for i in range(size)])
        batch.step(moves[0, :size])
        first = batch.reset([place], [77])[0]
        rest = []
        for row in moves:
            action = np.zeros((size, 52), np.float32)
            action[place] = row[0]
            result = batch.step(action)
            rest.append((result.observation_BO[place], result.reward_B[place]))
        runs.append((first, rest))
        batch.close()
    for first, rest in runs[1:]:
        np.testing.assert_array_equal(first, runs[0][0])
        for (observation, reward), (expected, paid) in zip(rest, runs[0][1], strict=True):
            np.testing.assert_array_equal(observation, expected)
            assert reward == paid


def test_seeds_make_different_episodes_and_the_order_of_copies_is_the_callers(fake: Fake):
    """Rows of a reset belong to the indices as given, over the borders of simulations too."""
    batch = IsaacGymBatch(TASK, 3, fake(), 2)
    straight = batch.reset([0, 1, 2], [4, 5, 7])
    crossed = batch.reset([2, 0, 1], [7, 4, 5])
    batch.close()
    np.testing.assert_array_equal(crossed, straight[[2, 0, 1]])
    assert len({row.tobytes() for row in straight}) == 3


def test_ends_are_told_apart(fake: Fake):
    """An end of the task is terminated; the limit, at one step less than the reference's, is not.

    The reset's own step is the first of the reference's episode, as in the authors' wrapper.
    """
    batch = IsaacGymBatch(TASK, 2, fake())
    batch.reset([0, 1], [SHORT, LONG])
    idle = np.zeros((2, 52), np.float32)
    ends = {}
    for step in range(1, TASK.horizon + 1):
        result = batch.step(idle)
        for copy in range(2):
            if result.terminated_B[copy] or result.truncated_B[copy]:
                ends.setdefault(copy, []).append((step, bool(result.terminated_B[copy])))
                assert bool(result.success_B[copy]) == bool(result.terminated_B[copy])
                if step < TASK.horizon:
                    batch.reset([copy], [LONG])
    batch.close()
    assert ends == {0: [(13, True)], 1: [(TASK.horizon, False)]}


def test_values_have_the_types_and_bounds_of_the_interface(fake: Fake):
    """Histories record them as they are."""
    batch = IsaacGymBatch(TASK, 2, fake())
    first = batch.reset([0, 1], [LONG, LONG])
    result = batch.step(np.ones((2, 52), np.float32))
    batch.close()
    assert first.dtype == result.observation_BO.dtype == np.float32
    assert first.shape == result.observation_BO.shape == (2, 428)
    assert np.abs(result.observation_BO).max() <= worker.CLIP
    assert result.reward_B.dtype == np.float64
    assert result.success_B is not None
    for flags in (result.terminated_B, result.truncated_B, result.success_B):
        assert flags.dtype == np.bool_


def test_the_table_of_the_worker_is_the_catalogues():
    """The worker imports nothing of the project, so its copy of the dims must not drift."""
    ours = {
        task.env_id: (task.observation_dim, task.action_dim, task.horizon + 1)
        for task in catalogue().select(domains=["bidexhands"])
    }
    assert ours == worker.TASKS


def test_the_environment_is_one_of_gymnasium(fake: Fake, monkeypatch: pytest.MonkeyPatch):
    """What a user makes by gymnasium.make passes Gymnasium's own checker."""
    monkeypatch.setenv("VINTIX_ISAACGYM", f"python:{sys.executable}")
    monkeypatch.setenv("VINTIX_ISAACGYM_ARGS", "--fake")
    monkeypatch.setenv("TMPDIR", "/tmp")
    env = make_isaac_env(catalogue().get("hand-over"), {})
    assert env.observation_space.shape == (398,) and env.action_space.shape == (40,)
    check_env(env, skip_render_check=True)
    env.close()


def test_fingerprints_get_the_versions_of_the_worker(fake: Fake, monkeypatch: pytest.MonkeyPatch):
    """Data of a fake, of another version or of another device is never taken for the same."""
    monkeypatch.setenv("VINTIX_ISAACGYM", f"python:{sys.executable}")
    monkeypatch.setenv("VINTIX_ISAACGYM_ARGS", "--fake")
    before = set(children())
    told = {"isaacgym": "fake", "bidexhands": "fake", "isaacgym-device": "cpu"}
    assert isaac_packages() == told
    batch = make_isaac_batch(TASK, 1, {"backend": "isaacgym"}, [0])
    assert batch.packages == told
    batch.close()
    assert set(children()) <= before


def test_a_share_that_is_no_number_of_copies_is_refused(fake: Fake):
    """Zero copies in a simulation would be a batch of nothing."""
    with pytest.raises(ConfigError):
        IsaacGymBatch(TASK, 1, fake(), 0)


def test_the_fake_needs_nothing_but_numpy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The user's Python 3.8 has neither this project nor its dependencies."""
    blocker = (
        "import sys, runpy\n"
        "class Only:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        top = name.partition('.')[0]\n"
        "        if top not in sys.stdlib_module_names and top != 'numpy':\n"
        "            raise ImportError('blocked: ' + name)\n"
        "import numpy\n"
        "sys.meta_path.insert(0, Only())\n"
        "sys.argv = ['worker', '--endpoint', 'unix:socket', '--fake']\n"
        f"runpy.run_path({str(WORKER_FILE)!r}, run_name='__main__')\n"
    )
    monkeypatch.chdir(tmp_path)
    token = "t" * 16
    process = subprocess.Popen(
        [sys.executable, "-c", blocker],
        env={"PATH": os.environ["PATH"], worker.TOKEN_VARIABLE: token},
        stderr=subprocess.PIPE,
    )
    with connect(process) as client:
        hello = {"token": token, "protocol": worker.PROTOCOL, "task": TASK.env_id, "num_envs": 2}
        requests = [
            worker.Frame(worker.HELLO, 1, {**hello, "device": "cpu"}),
            worker.Frame(worker.RESET, 2, {"ids": [0, 1], "seeds": [1, 2]}),
            worker.Frame(worker.STEP, 3, {}, {"action": np.zeros((2, 52), np.float32)}),
        ]
        for request in requests:
            client.sendall(worker.encode(request))
            reply = worker.read_frame(client, time.monotonic() + 20)
            assert reply is not None
            assert (reply.opcode, reply.sequence) == (request.opcode, request.sequence)
    stderr = process.communicate(timeout=10)[1]
    assert (process.returncode, stderr) == (0, b"")
