from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor

import pytest

from pipelines.errors import InterruptedRunError, UsageError
from pipelines.hardware import available_cores
from pipelines.parallel import WorkerError, WorkerPool, run_parallel
from pipelines.reporter import NullReporter

pytestmark = pytest.mark.process


class Counting(NullReporter):
    """Adds up the progress."""

    def __init__(self):
        super().__init__()
        self.count = 0.0

    def progress(self, label, total, unit=""):
        self.total = total
        return self

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        return None

    def advance(self, amount=1, **fields):
        self.count += amount


class AwkwardError(Exception):
    def __init__(self, one, two):
        super().__init__(one, two)
        self.lock = threading.Lock()


def work(job, advance):
    for _ in range(10):
        advance(0.5)
    if job == "wait":
        time.sleep(0.3)
    if job == "usage":
        raise UsageError("no", where="here", fix="do it")
    if job == "awkward":
        raise AwkwardError(1, 2)
    if job == "die":
        os._exit(9)
    if job == "threads":
        return os.environ["OMP_NUM_THREADS"], os.environ["OPENBLAS_NUM_THREADS"]
    return job, os.getpid()


def run(jobs, workers, **more):
    reporter = Counting()
    outcomes = run_parallel(work, jobs, workers, reporter, label="x", total=5 * len(jobs), **more)
    return outcomes, reporter


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_job_order_with_all_progress(workers):
    jobs = ["wait", 1, 2, 3, 4]
    seen = []
    outcomes, reporter = run(jobs, workers, on_done=lambda index, outcome: seen.append(index))
    assert [outcome.value[0] for outcome in outcomes] == jobs
    assert sorted(seen) == [0, 1, 2, 3, 4]
    assert reporter.count == reporter.total == 25


def test_one_worker_stays_in_this_process_and_more_do_not():
    assert {outcome.value[1] for outcome in run([1, 2, 3], 1)[0]} == {os.getpid()}
    assert {outcome.value[1] for outcome in run([1], 8)[0]} == {os.getpid()}
    assert os.getpid() not in {outcome.value[1] for outcome in run([1, 2, 3], 2)[0]}


@pytest.mark.parametrize("workers", [1, 2])
def test_a_failing_job_leaves_the_others_alone(workers):
    """Also with an exception that cannot be pickled, which would break a bare executor."""
    outcomes, _ = run([1, "usage", "awkward", 2], workers)
    assert [outcome.value and outcome.value[0] for outcome in outcomes] == [1, None, None, 2]
    assert isinstance(outcomes[1].error, UsageError)
    assert (outcomes[1].error.where, outcomes[1].error.fix) == ("here", "do it")
    assert isinstance(outcomes[2].error, WorkerError)
    assert "AwkwardError" in outcomes[2].error.message
    assert "raise AwkwardError" in outcomes[2].error.__notes__[0]


def test_a_pool_keeps_its_processes_from_call_to_call():
    """Also after a failing job; a process that dies takes the others along, and new ones come."""
    with WorkerPool(2) as pool:
        first = {outcome.value[1] for outcome in run(["wait", "wait"], pool)[0]}
        run([1, "usage"], pool)
        assert {outcome.value[1] for outcome in run(["wait", "wait"], pool)[0]} == first
        assert len(first) == 2 and os.getpid() not in first
        run(["die", 1], pool)
        outcomes, reporter = run(["wait", "wait", 1], pool)
        assert not {outcome.value[1] for outcome in outcomes} & first
        assert reporter.count == 15


def test_a_worker_that_dies_while_jobs_are_sent_is_an_error_of_each(monkeypatch):
    """The executor then refuses further jobs; that must not end the command."""
    submit = ProcessPoolExecutor.submit

    def late(executor, function, *args):
        if args[1] == "after":
            while not executor._broken:
                time.sleep(0.01)
        return submit(executor, function, *args)

    monkeypatch.setattr(ProcessPoolExecutor, "submit", late)
    with WorkerPool(2) as pool:
        outcomes, _ = run(["die", "after", "after"], pool)
        assert [type(outcome.error) for outcome in outcomes] == [WorkerError] * 3
        assert [outcome.value[0] for outcome in run([1, 2], pool)[0]] == [1, 2]


def test_a_worker_that_dies_is_an_error_of_its_job():
    outcomes, _ = run(["die", 1], 2)
    assert isinstance(outcomes[0].error, WorkerError)
    assert "ended" in outcomes[0].error.message


def test_workers_compute_with_one_thread_and_the_parent_is_as_it_was(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    outcomes, _ = run(["threads", "threads"], 2)
    assert [outcome.value for outcome in outcomes] == [("1", "1")] * 2
    assert os.environ["OMP_NUM_THREADS"] == "3"
    assert "OPENBLAS_NUM_THREADS" not in os.environ


def test_no_jobs_no_outcomes():
    assert run([], 4)[0] == []
    assert available_cores() >= 1


def sleep_long(job, advance):
    for _ in range(600):
        time.sleep(0.1)
        advance()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_signal_ends_the_run_at_once(workers):
    timer = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    started = time.monotonic()
    with pytest.raises(InterruptedRunError) as caught:
        run_parallel(sleep_long, [1, 2], workers, NullReporter(), label="x", total=1)
    assert time.monotonic() - started < 15
    assert caught.value.exit_code == 143


def signalled(job, advance):
    """What reaches the whole group, and what one process alone is told."""
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGUSR1)
    if job == "told":
        raise InterruptedRunError("told to stop", signal_number=15)
    return job


def test_workers_leave_signals_of_the_group_to_their_parent():
    outcomes = run_parallel(signalled, [1, 2], 2, NullReporter(), label="x", total=1)
    assert [outcome.value for outcome in outcomes] == [1, 2]


def test_an_interruption_of_a_worker_is_one_of_the_run():
    with pytest.raises(InterruptedRunError) as caught:
        run_parallel(signalled, [1, "told"], 2, NullReporter(), label="x", total=1)
    assert caught.value.exit_code == 143


def test_an_exception_of_the_caller_ends_the_workers():
    def refuse(index, outcome):
        raise RuntimeError("enough")

    started = time.monotonic()
    with pytest.raises(RuntimeError, match="enough"):
        run_parallel(
            first_is_quick, [0, 1, 2], 2, NullReporter(), label="x", total=1, on_done=refuse
        )
    assert time.monotonic() - started < 15


def first_is_quick(job, advance):
    if job:
        sleep_long(job, advance)


_PARENT = """
import sys, time
sys.path.insert(0, {tests!r})
from pipelines.parallel import run_parallel
from pipelines.reporter import NullReporter
import test_parallel
if __name__ == "__main__":
    run_parallel(test_parallel.tell_pid, [{out!r} + "/a", {out!r} + "/b"], 2,
                 NullReporter(), label="x", total=1)
"""


def tell_pid(path, advance):
    from pathlib import Path

    Path(path).write_text(str(os.getpid()))
    sleep_long(path, advance)


def test_workers_do_not_outlive_a_parent_that_is_killed(tmp_path):
    from pathlib import Path

    program = tmp_path / "parent.py"
    program.write_text(_PARENT.format(tests=str(Path(__file__).parent), out=str(tmp_path)))
    root = Path(__file__).parent.parent
    parent = subprocess.Popen(
        [sys.executable, str(program)], env={**os.environ, "PYTHONPATH": str(root)}
    )
    try:
        paths = [tmp_path / "a", tmp_path / "b"]
        wait_until(lambda: all(path.is_file() and path.read_text() for path in paths))
        workers = [int(path.read_text()) for path in paths]
    finally:
        parent.kill()
        parent.wait()
    wait_until(lambda: not any(alive(worker) for worker in workers))


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A child of nobody that has ended and was not waited for counts as ended.
    with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
        return file.read().rpartition(")")[2].split()[0] != "Z"


def wait_until(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)
