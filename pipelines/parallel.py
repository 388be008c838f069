"""Runs jobs in spawned worker processes, with results in job order and progress on the way.

Or on the nodes of a cluster: `pipelines.cluster` does the same there.

Workers are spawned, not forked; each computes with one thread, so that results do not depend on
how many there are; and none outlives the process that started it, however that ends.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as wait_for_connections
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from pipelines.artifacts.files import failure_of
from pipelines.errors import VintixError
from pipelines.hardware import available_cores
from pipelines.signals import StopSignal, signals_for_parent_blocked

if TYPE_CHECKING:
    from multiprocessing.queues import SimpleQueue
    from pathlib import Path

    from pipelines.reporter import Advance, Progress, Reporter

Job = TypeVar("Job")
Result = TypeVar("Result")

THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
"""Variables by which numerical libraries are told how many threads to use."""

REPORT_SECONDS = 0.2
"""How often progress is told."""

_progress_queue: SimpleQueue[float] | None = None


class WorkerError(VintixError):
    """An unexpected exception of a job, as text: not every exception survives being sent."""


@dataclass(frozen=True, slots=True)
class Outcome(Generic[Result]):
    """What became of one job.

    Attributes:
        value: What the function returned; None where it raised.
        error: What it raised: a `VintixError` as it was, anything else as a `WorkerError`.
        trace: Traceback of the error, for ``--debug``; empty where there is none.
    """

    value: Result | None = None
    error: VintixError | None = None
    trace: str = ""


class WorkerPool:
    """Where the jobs of several `run_parallel` calls run: in the same processes, or on a cluster.

    Processes are started by the first call that needs more than one, and end with the pool.

    Args:
        workers: Processes to use, 0 for one on each core. On a cluster, most jobs at a time, 0 for
            any number.
        cluster: A directory that all nodes of a Ray cluster share, to run the jobs there; a job
            whose node dies is run again. None for this machine.
    """

    def __init__(self, workers: int = 0, cluster: Path | None = None) -> None:
        self.workers, self.cluster = workers, cluster
        self._executor: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *details: object) -> None:
        self.close(at_once=kind is not None)

    def processes(self) -> tuple[ProcessPoolExecutor, SimpleQueue[float]]:
        """Return the processes, which are started with their first jobs, and their progress."""
        if self._executor is None:
            context = multiprocessing.get_context("spawn")
            self._queue: SimpleQueue[float] = context.SimpleQueue()
            self._stop_reader, self._stop_writer = context.Pipe(duplex=False)
            self._executor = ProcessPoolExecutor(
                self.workers or available_cores(),
                mp_context=context,
                initializer=_start_worker,
                initargs=(self._queue, self._stop_reader),
            )
        return self._executor, self._queue

    def close(self, *, at_once: bool) -> None:
        """End the processes, those that are busy only if `at_once`."""
        if self._executor is None:
            return
        # Closing the pipe is what ends the workers that are still busy.
        if at_once:
            self._stop_writer.close()
        self._executor.shutdown(wait=True, cancel_futures=True)
        self._stop_writer.close()
        self._stop_reader.close()
        self._queue.close()
        self._executor = None


def run_parallel(
    function: Callable[[Job, Advance], Result],
    jobs: Sequence[Job],
    workers: int | WorkerPool,
    reporter: Reporter,
    *,
    label: str,
    total: float,
    unit: str = "",
    on_done: Callable[[int, Outcome[Result]], None] | None = None,
) -> list[Outcome[Result]]:
    """Call a function on every job.

    A job that raises does not stop the others. On SIGINT, SIGTERM or SIGUSR1, and on an exception
    out of `on_done`, the workers end at once; what jobs have made durable by then is for the
    caller to find again.

    Args:
        function: A function of a module, called with a job and an `Advance`.
        jobs: Its arguments; picklable like its results.
        workers: Processes to use, 0 for one on each core, or a pool of them that further calls
            share. With one worker, or one job, everything runs in this process.
        reporter: Shows the progress.
        label: What the progress is labelled.
        total: The sum of what the jobs will have advanced by.
        unit: What is counted.
        on_done: Called in this process with a job's index and outcome as soon as it is known.

    Returns:
        An outcome for each job, in their order.

    Raises:
        InterruptedRunError: One of the signals came.
        MissingDependencyError: Ray is not installed, or no cluster answers.
        ConfigError: A node of the cluster does not see the directory.
    """
    shared = isinstance(workers, WorkerPool)
    pool = workers if isinstance(workers, WorkerPool) else WorkerPool(workers)
    with reporter.progress(label, total, unit) as progress, StopSignal() as stop:
        if pool.cluster is not None:
            from pipelines.cluster import run_on_ray

            return run_on_ray(function, jobs, pool.workers, pool.cluster, progress, stop, on_done)
        if min(pool.workers or available_cores(), len(jobs)) <= 1:
            return _run_here(function, jobs, progress, stop, on_done)
        finished = False
        try:
            outcomes = _run_spawned(function, jobs, pool, progress, stop, on_done)
            finished = True
        finally:
            if not (finished and shared):
                pool.close(at_once=not finished)
        return outcomes


def _run_here(
    function: Callable[[Job, Advance], Result],
    jobs: Sequence[Job],
    progress: Progress,
    stop: StopSignal,
    on_done: Callable[[int, Outcome[Result]], None] | None,
) -> list[Outcome[Result]]:
    def advance(amount: float = 1) -> None:
        stop.raise_if_requested()
        progress.advance(amount)

    outcomes = []
    for index, job in enumerate(jobs):
        stop.raise_if_requested()
        outcomes.append(attempt(function, job, advance))
        if on_done is not None:
            on_done(index, outcomes[-1])
    stop.raise_if_requested()
    return outcomes


def _run_spawned(
    function: Callable[[Job, Advance], Result],
    jobs: Sequence[Job],
    pool: WorkerPool,
    progress: Progress,
    stop: StopSignal,
    on_done: Callable[[int, Outcome[Result]], None] | None,
) -> list[Outcome[Result]]:
    outcomes: dict[int, Outcome[Result]] = {}
    executor, queue = pool.processes()
    with starting_workers():
        futures = {
            executor.submit(_run_job, function, job): index for index, job in enumerate(jobs)
        }
    pending: set[Future[Outcome[Result]]] = set(futures)
    broken = False
    while pending:
        done, pending = wait(pending, REPORT_SECONDS, FIRST_COMPLETED)
        stop.raise_if_requested()
        _drain(queue, progress)
        for future in sorted(done, key=futures.__getitem__):
            index = futures[future]
            broken |= isinstance(future.exception(), BrokenProcessPool)
            outcomes[index] = _outcome_of(future)
            if on_done is not None:
                on_done(index, outcomes[index])
    _drain(queue, progress)
    if broken:
        # The next jobs get other processes.
        pool.close(at_once=True)
    return [outcomes[index] for index in range(len(jobs))]


def attempt(
    function: Callable[[Job, Advance], Result], job: Job, advance: Advance
) -> Outcome[Result]:
    """Call a function on a job and return what became of it; only an interruption is raised."""
    try:
        return Outcome(value=function(job, advance))
    except VintixError as error:
        return Outcome(error=error, trace=traceback.format_exc())
    except Exception as error:
        trace = traceback.format_exc()
        failed = failure_of(error) or WorkerError(
            f"{type(error).__name__}: {error}", fix="run again with --debug to see where"
        )
        # The traceback itself cannot leave a worker process; its text travels with the error.
        failed.add_note(trace)
        return Outcome(error=failed, trace=trace)


def _run_job(function: Callable[[Job, Advance], Result], job: Job) -> Outcome[Result]:
    advance = ThrottledAdvance(_send_progress)
    try:
        return attempt(function, job, advance)
    finally:
        advance.flush()


def _outcome_of(future: Future[Outcome[Result]]) -> Outcome[Result]:
    try:
        return future.result()
    except BrokenProcessPool:
        return Outcome(
            error=WorkerError(
                "a worker process ended before its job was done",
                expected="a worker that finishes",
                found="killed, out of memory, or crashed in a simulator",
                fix="run the same command again, with fewer --workers if memory is short",
            )
        )
    except Exception as error:
        return Outcome(error=WorkerError(f"{type(error).__name__}: {error}"))


class ThrottledAdvance:
    """Adds up what a job reports and sends it on a few times a second.

    Args:
        send: Takes a sum on to where it is shown.
    """

    def __init__(self, send: Callable[[float], object]) -> None:
        self._send = send
        self._waiting = 0.0
        self._sent_at = time.monotonic()

    def __call__(self, amount: float = 1) -> None:
        """Add to the sum."""
        self._waiting += amount
        if time.monotonic() - self._sent_at >= REPORT_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Send what is waiting."""
        if self._waiting:
            self._send(self._waiting)
        self._waiting = 0.0
        self._sent_at = time.monotonic()


def _send_progress(amount: float) -> None:
    if _progress_queue is not None:
        _progress_queue.put(amount)


def _drain(queue: SimpleQueue[float], progress: Progress) -> None:
    while not queue.empty():
        progress.advance(queue.get())


@contextmanager
def starting_workers() -> Iterator[None]:
    """Let processes that are started meanwhile compute with one thread, and leave Ctrl-C to us.

    Numerical libraries read these variables when they are loaded, which in a spawned process may
    be before any code of ours runs.
    """
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        with signals_for_parent_blocked():
            yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _start_worker(queue: SimpleQueue[float], stop: Connection) -> None:
    global _progress_queue  # noqa: PLW0603 - the worker's own, set once before its first job
    _progress_queue = queue
    threading.Thread(target=_exit_with_parent, args=(stop,), daemon=True).start()


def _exit_with_parent(stop: Connection) -> None:
    parent = multiprocessing.parent_process()
    watched: list[Any] = [stop] if parent is None else [stop, parent.sentinel]
    wait_for_connections(watched)
    os._exit(1)
