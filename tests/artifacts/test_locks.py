"""One writer a name: who holds it, who is turned away, and that the dead hold nothing."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipelines.artifacts.locks import LOCK, OWNER, NameLock
from pipelines.artifacts.staging import Staging
from pipelines.artifacts.workspace import Workspace
from pipelines.errors import LockedError, StorageError

from .helpers import CONFIG, FileSystem, run_tiny, write_item

_HOLDER = """
import sys, time
from pathlib import Path
from pipelines.artifacts.workspace import Workspace
with Workspace(Path(sys.argv[1])).stage("histories", "tiny", config={"holder": 1}):
    print("held", flush=True)
    time.sleep(600)
"""


@contextmanager
def _other_process(root):
    """Hold the lock of the name in another process."""
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(root)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    try:
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.process
def test_second_process_is_turned_away_and_told_by_whom(tmp_path):
    """Exit code 6; host, process and start of the holder. A killed holder holds nothing."""
    with _other_process(tmp_path) as holder:
        with pytest.raises(LockedError) as caught:
            run_tiny(tmp_path)
        error = caught.value
        assert error.exit_code == 6
        assert error.where == str(tmp_path / "histories" / "tiny")
        owner = json.loads((tmp_path / "histories" / "tiny" / OWNER).read_bytes())
        for part in (f"process {holder.pid}", socket.gethostname(), owner["started"]):
            assert part in str(error)
        assert "--name" in (error.fix or "")
        # Another name is another lock.
        assert run_tiny(tmp_path, "other").reference == "other@v1"
        assert f"process {holder.pid}" in NameLock(tmp_path / "histories/tiny").holder()
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        assert (tmp_path / "histories" / "tiny" / OWNER).exists()
        assert NameLock(tmp_path / "histories/tiny").holder() is None
        assert run_tiny(tmp_path).reference == "tiny@v1"


def test_one_process_is_turned_away_by_itself(tmp_path):
    """Two stagings of one name in one program would write one directory."""
    workspace = Workspace(tmp_path)
    with (
        workspace.stage("histories", "tiny", config=CONFIG),
        pytest.raises(LockedError, match=f"process {os.getpid()}"),
    ):
        workspace.stage("histories", "tiny", config=CONFIG).__enter__()


def test_lock_is_given_back_whatever_happens(tmp_path):
    workspace = Workspace(tmp_path)
    with pytest.raises(ZeroDivisionError), workspace.stage("histories", "tiny", config=CONFIG):
        raise ZeroDivisionError
    assert run_tiny(tmp_path).reference == "tiny@v1"
    assert not (tmp_path / "histories" / "tiny" / OWNER).exists()


def test_lock_is_given_back_when_opening_fails(tmp_path, monkeypatch):
    def fails(self):
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(Staging, "_open", fails)
        with pytest.raises(ZeroDivisionError):
            run_tiny(tmp_path)
    assert run_tiny(tmp_path).reference == "tiny@v1"


@pytest.mark.parametrize("part", [LOCK, OWNER])
def test_refused_lock_is_a_storage_error(tmp_path, part):
    """And does not stay taken."""
    system = FileSystem(
        tmp_path,
        lambda: OSError(errno.ENOSPC, "No space left on device"),
        lambda number, name, path: name == "open" and part in path,
    )
    with system.installed(), pytest.raises(StorageError) as caught:
        run_tiny(tmp_path)
    assert part in (caught.value.where or "")
    assert run_tiny(tmp_path).reference == "tiny@v1"


def test_lock_seen_for_a_moment_is_waited_for(tmp_path):
    """`artifacts ls` and `gc` look at locks by taking them; that turns nobody away."""
    with Workspace(tmp_path).stage("histories", "tiny", config=CONFIG) as staging:
        write_item(staging, "toy/00000/00000")
    other = NameLock(tmp_path / "histories" / "tiny")
    other.acquire()
    timer = threading.Timer(0.1, lambda: None)
    # The lock belongs to this thread: it is given back here, while another one waits for it.
    result = []
    waiting = threading.Thread(target=lambda: result.append(run_tiny(tmp_path).reference))
    waiting.start()
    timer.start()
    timer.join()
    other.release()
    waiting.join()
    assert result == ["tiny@v1"]


@pytest.mark.process
def test_stale_name_of_the_dead_is_not_given(tmp_path):
    """Between taking the lock and writing one's name, the file still names the last owner."""
    base = tmp_path / "histories" / "tiny"
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        dead.wait()
    stale = {"host": socket.gethostname(), "pid": dead.pid, "started": "2026-01-01"}
    with NameLock(base):
        (base / OWNER).write_text(json.dumps(stale))
        assert NameLock(base).holder() == "a process that has not said who it is"
        (base / OWNER).write_text(json.dumps({**stale, "host": "elsewhere"}))
        assert "on elsewhere" in NameLock(base).holder()
        (base / OWNER).write_text("{")
        assert NameLock(base).holder() == "a process that has not said who it is"


def test_looking_at_a_lock_leaves_nothing_behind(tmp_path):
    assert NameLock(tmp_path / "nothing").holder() is None
    assert list(tmp_path.iterdir()) == []
