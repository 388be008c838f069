"""What goes wrong with a worker, and what the user is told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from domains.isaacgym.conftest import TOKEN, Fake, Server, children
from pipelines.domains.isaacgym import worker
from pipelines.domains.isaacgym.batch import IsaacGymBatch
from pipelines.domains.isaacgym.link import WORKER_FILE, Worker, launch_command
from pipelines.domains.isaacgym.settings import IsaacGymError, IsaacGymSettings
from pipelines.errors import MissingDependencyError, UsageError, VintixError
from pipelines.tasks.registry import catalogue

pytestmark = pytest.mark.process

TASK = catalogue().get("hand-push-block")
IDLE = np.zeros((2, 52), np.float32)


@pytest.fixture(autouse=True)
def no_child_is_left(tmp_path: Path):
    """Whatever happened to a worker, neither its process nor its directory stays."""
    before = set(children())
    yield
    assert set(children()) <= before
    assert not list(tmp_path.glob("vintix-isaacgym-*"))


def run_until_lost(batch: IsaacGymBatch, steps: int = 10) -> VintixError:
    batch.reset([0, 1], [1, 2])
    with pytest.raises(VintixError) as caught:
        for _ in range(steps):
            batch.step(IDLE)
    return caught.value


@pytest.mark.parametrize("fault", ["die-after=3", "truncate-frame-after=3", "oversize-after=3"])
def test_a_lost_step_is_an_error_and_a_reset_begins_anew(fake: Fake, fault: str):
    """Half an answer is none; the rest of the run may go on from a reset, in a new worker."""
    batch = IsaacGymBatch(TASK, 2, fake(fault))
    error = run_until_lost(batch)
    assert error.exit_code == 5 and "lost" in error.message
    assert None in batch._workers
    with pytest.raises(IsaacGymError, match="have to be reset"):
        batch.step(IDLE)
    batch.reset([0, 1], [1, 2])
    batch.step(IDLE)
    batch.close()


def test_a_worker_killed_in_mid_run_is_named_with_its_last_words(fake: Fake):
    """Isaac Gym dies of its own now and then; what it said is the only trace."""
    batch = IsaacGymBatch(TASK, 2, fake())
    batch.reset([0, 1], [1, 2])
    batch.step(IDLE)
    victim = batch._workers[1]
    assert victim is not None and victim.pid is not None
    os.kill(victim.pid, signal.SIGKILL)
    with pytest.raises(IsaacGymError) as caught:
        batch.step(IDLE)
    assert "exit status -9" in str(caught.value.found)
    # The copy that was not killed has made a step that nobody saw: it has to be reset as well.
    with pytest.raises(IsaacGymError, match="have to be reset"):
        batch.reset([1], [2])
        batch.step(IDLE)
    first = batch.reset([0, 1], [1, 2])
    again = IsaacGymBatch(TASK, 2, fake())
    np.testing.assert_array_equal(first, again.reset([0, 1], [1, 2]))
    again.close()
    batch.close()


def test_a_step_that_takes_too_long_ends_the_worker(fake: Fake):
    """A hung simulator must not hang the run."""
    batch = IsaacGymBatch(TASK, 2, fake("hang-after=2", step_seconds=0.5), 2)
    error = run_until_lost(batch)
    assert "in time" in error.message and "VINTIX_ISAACGYM_STEP_SECONDS" in str(error.fix)
    batch.close()


def test_a_start_that_takes_too_long_ends_the_worker(fake: Fake):
    """Neither must one that never gets ready."""
    began = time.monotonic()
    with pytest.raises(IsaacGymError, match="start in time") as caught:
        IsaacGymBatch(TASK, 2, fake("hang-start=1", startup_seconds=1.0))
    assert "VINTIX_ISAACGYM_STARTUP_SECONDS" in str(caught.value.fix)
    assert time.monotonic() - began < 8


def test_a_worker_of_another_version_is_refused(fake: Fake):
    """An old worker in a container's image must not be guessed at."""
    with pytest.raises(IsaacGymError, match="another version") as caught:
        IsaacGymBatch(TASK, 1, fake("protocol=99"))
    assert caught.value.found == "protocol 99"


def test_without_isaac_gym_the_worker_says_what_is_missing(fake: Fake):
    """The likeliest mistake: the interpreter named is not the one with Isaac Gym."""
    with pytest.raises(MissingDependencyError) as caught:
        IsaacGymBatch(TASK, 1, fake(arguments=()))
    assert caught.value.exit_code == 5
    assert "No module named 'isaacgym'" in str(caught.value.found)


def test_a_program_that_cannot_be_run_or_ends_at_once_is_named(fake: Fake):
    """Both ways of a wrong VINTIX_ISAACGYM."""
    with pytest.raises(MissingDependencyError, match="cannot be started"):
        IsaacGymBatch(TASK, 1, fake(target="/nowhere/python3.8"))
    with pytest.raises(IsaacGymError, match="before it listened") as caught:
        IsaacGymBatch(TASK, 1, fake(arguments=("--no-such-option",)))
    assert "--no-such-option" in str(caught.value.found)


def test_a_running_server_gives_each_copy_a_process_and_only_for_the_token(server: Server):
    """connect:HOST:PORT, with the right token and with another one."""
    target = f"127.0.0.1:{server[1]}"
    batch = IsaacGymBatch(TASK, 2, IsaacGymSettings("connect", target, token=TOKEN))
    batch.reset([0, 1], [1, 2])
    assert batch.step(IDLE).observation_BO.shape == (2, 428)
    batch.close()
    with pytest.raises(IsaacGymError, match="refused the token"):
        IsaacGymBatch(TASK, 1, IsaacGymSettings("connect", target, token="f" * 16))


def test_a_client_without_the_token_gets_no_simulation(fake: Fake):
    """Another user of the machine may reach the socket of a container, but not use it."""
    launched = Worker(fake())
    launched._token = "wrong"
    launched.greet(TASK.env_id, 1)
    with pytest.raises(IsaacGymError, match="refused the token"):
        launched.greeting()


def test_a_worker_leaves_when_its_client_is_killed(fake: Fake, tmp_path: Path):
    """kill -9 of a run must not leave simulators behind on the machine."""
    code = (
        "import os, signal\n"
        "from pipelines.domains.isaacgym.batch import IsaacGymBatch\n"
        "from pipelines.domains.isaacgym.settings import IsaacGymSettings\n"
        "from pipelines.tasks.registry import catalogue\n"
        f"settings = IsaacGymSettings('python', {sys.executable!r}, arguments=('--fake',))\n"
        "batch = IsaacGymBatch(catalogue().get('hand-push-block'), 2, settings)\n"
        "print(*[each.pid for each in batch._workers], flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    root = str(WORKER_FILE.parents[3])
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": root, "TMPDIR": str(tmp_path)},
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    pids = [int(word) for word in done.stdout.split()]
    assert len(pids) == 2
    deadline = time.monotonic() + 10
    while any(_runs_worker(pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _runs_worker(pid: int) -> bool:
    try:
        return b"worker.py" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def test_a_batch_that_nobody_closes_takes_its_workers_with_it(fake: Fake):
    """A stage that fails drops its batch without a word."""
    batch = IsaacGymBatch(TASK, 1, fake())
    held = batch._workers[0]
    assert held is not None and held.pid in children()
    pid = held.pid
    del batch
    assert pid not in children()


def session() -> worker.Session:
    """The worker's side of a conversation, in this process."""
    made = worker.Session(None, True, ("", 0))  # type: ignore[arg-type]
    hello = {"protocol": worker.PROTOCOL, "task": TASK.env_id, "num_envs": 2, "device": "cpu"}
    made._hello(worker.Frame(worker.HELLO, 1, hello))
    return made


@pytest.mark.parametrize(
    "fields, match",
    [
        ({"ids": [0, 0], "seeds": [1, 2]}, "twice"),
        ({"ids": [2], "seeds": [1]}, "RESET needs"),
        ({"ids": [0], "seeds": [-1]}, "RESET needs"),
        ({"ids": [0], "seeds": []}, "RESET needs"),
        ({"ids": [0.0], "seeds": [1]}, "RESET needs"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(fields: dict, match: str):
    """The worker checks what it is asked before it touches the simulation."""
    with pytest.raises(worker.RequestError, match=match):
        session()._reset(worker.Frame(worker.RESET, 2, fields))


@pytest.mark.parametrize("action", [None, IDLE[:1], IDLE.astype(np.uint8)])
def test_actions_of_another_form_are_refused(action: np.ndarray | None):
    """Nor does it step with anything but one row of float32 a copy."""
    made = session()
    made._reset(worker.Frame(worker.RESET, 2, {"ids": [0, 1], "seeds": [1, 2]}))
    arrays = {} if action is None else {"action": action}
    with pytest.raises(worker.RequestError, match="STEP needs"):
        made._step(worker.Frame(worker.STEP, 3, {}, arrays))


def test_a_step_before_a_reset_is_refused_and_told(fake: Fake):
    """Finished copies reset themselves in the reference; here that would be a lost episode."""
    launched = Worker(fake())
    launched.greet(TASK.env_id, 2)
    launched.greeting()
    launched.send(worker.STEP, None, {"action": IDLE})
    with pytest.raises(IsaacGymError) as caught:
        launched.receive()
    assert "reset first" in str(caught.value.found)


@pytest.mark.parametrize(
    "variables, error, match",
    [
        ({}, MissingDependencyError, "VINTIX_ISAACGYM"),
        ({"VINTIX_ISAACGYM": "isaac"}, UsageError, "python:/path"),
        ({"VINTIX_ISAACGYM": "connect:there"}, UsageError, "HOST:PORT"),
        ({"VINTIX_ISAACGYM": "connect:a:1"}, MissingDependencyError, "TOKEN"),
        ({"VINTIX_ISAACGYM": "conda:x", "VINTIX_ISAACGYM_DEVICE": "gpu"}, UsageError, "cuda"),
        ({"VINTIX_ISAACGYM": "conda:x", "VINTIX_ISAACGYM_STEP_SECONDS": "0"}, UsageError, "sec"),
        ({"VINTIX_ISAACGYM": "conda:x", "VINTIX_ISAACGYM_ARGS": "'"}, UsageError, "shell"),
    ],
)
def test_settings_that_cannot_be_are_named(variables: dict, error: type, match: str):
    """Nobody finds out by a hanging start that a variable was misspelt."""
    with pytest.raises(error, match=match):
        IsaacGymSettings.from_environment(variables)


def test_commands_hold_no_token_and_containers_no_network():
    """Lists of processes are public; and nothing in a container needs a network."""
    directory = Path("/run/user/1/vintix")
    for kind in ("python", "conda", "docker", "podman"):
        settings = IsaacGymSettings.from_environment(
            {"VINTIX_ISAACGYM": f"{kind}:there", "VINTIX_ISAACGYM_DEVICE": "cuda:0"}
        )
        command = launch_command(settings, directory, "name")
        assert not any(f"{worker.TOKEN_VARIABLE}=" in word for word in command)
        assert "there" in command and "--watch-stdin" in command
        if kind in ("docker", "podman"):
            assert command[command.index("--network") + 1] == "none"
            assert any("gpu" in word for word in command)


def test_a_worker_does_not_listen_beyond_this_machine_unless_told():
    """A simulator open to the network is for those who ask for it."""
    with pytest.raises(ValueError, match="--allow-remote"):
        worker.listen("tcp:0.0.0.0:0", False)
    worker.listen("tcp:0.0.0.0:0", True).close()
    refused = subprocess.run(
        [sys.executable, str(WORKER_FILE), "--endpoint", "tcp:127.0.0.1:0", "--fake"],
        env={**os.environ, worker.TOKEN_VARIABLE: "short"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 2 and worker.TOKEN_VARIABLE in refused.stderr


LAUNCHER = """#!{python}
import os, subprocess, sys
words = sys.argv[1:]
if words[0] == "kill":
    sys.exit()
command = words[words.index("python") :]
variables = os.environ
if os.path.basename(sys.argv[0]) != "conda":
    after = {{flag: [b for a, b in zip(words, words[1:]) if a == flag] for flag in ("-v", "-e")}}
    for mount in after["-v"]:
        host, inside = mount.split(":")[:2]
        command = [word.replace(inside, host) for word in command]
    variables = {{"PATH": os.environ["PATH"]}}
    for entry in after["-e"]:
        name, _, value = entry.partition("=")
        variables[name] = value or os.environ[name]
sys.exit(subprocess.run([{python!r}] + command[1:], env=variables).returncode)
"""


@pytest.mark.parametrize("kind", ["conda", "docker", "podman"])
def test_a_worker_behind_another_program_works_and_leaves(
    fake: Fake, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """conda and containers put a process in between; mounts and variables must fit together.

    The program here does what the command line asks of the real one: it maps the mounted paths, and
    passes on the variables that are named, and no other.
    """
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / kind
    program.write_text(LAUNCHER.format(python=sys.executable))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    batch = IsaacGymBatch(TASK, 1, fake("hang-after=2", kind=kind, target="there", step_seconds=1))
    batch.reset([0], [1])
    batch.step(IDLE[:1])
    held = batch._workers[0]
    assert held is not None and held.pid is not None
    inner = int(Path(f"/proc/{held.pid}/task/{held.pid}/children").read_text())
    assert _runs_worker(inner)
    with pytest.raises(IsaacGymError, match="in time"):
        batch.step(IDLE[:1])
    deadline = time.monotonic() + 10
    while _runs_worker(inner):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    batch.close()
