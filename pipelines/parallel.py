"""Runs jobs in spawned worker processes, with results in job order and progress on the way.

Or on the nodes of a Ray cluster, whose pool is `pipelines.cluster.RayCluster`.

Workers are spawned, not forked; each computes with one thread, so that results do not depend on
how many there are; and none outlives the process that started it, however that ends.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import dataclass
from importlib.machinery import PathFinder
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as wait_for_connections
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

import pipelines
from pipelines.artifacts.files import failure_of
from pipelines.errors import VintixError
from pipelines.hardware import available_cores
from pipelines.signals import StopSignal, signals_for_parent_blocked

if TYPE_CHECKING:
    from multiprocessing.queues import SimpleQueue

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
"""How often progress is reported."""

_progress_queue: SimpleQueue[float] | None = None


class WorkerError(VintixError):
    """An unexpected exception of a job, as text: not every exception survives being sent."""


@dataclass(frozen=True, slots=True)
class Outcome(Generic[Result]):
    """What became of one job.

    Attributes:
        value: What the function returned; None where it raised.
        error: What it raised: a `VintixError` as it was, anything else as a `WorkerError`.
    """

    value: Result | None = None
    error: VintixError | None = None


class Pool(ABC):
    """Where the jobs of several `run_parallel` calls run.

    Attributes:
        workers: Most jobs at a time, 0 for as many as there is room for.
        remote: Whether jobs run on other machines than this one.
    """

    workers: int
    remote = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *details: object) -> None:
        self.close(at_once=kind is not None)

    @abstractmethod
    def run(
        self,
        function: Callable[[Job, Advance], Result],
        jobs: Sequence[Job],
        progress: Progress,
        stop: StopSignal,
    ) -> Generator[tuple[int, Outcome[Result]], None, None]:
        """Yield index and outcome of each job when it is known; closed early, it ends the others.

        Raises:
            InterruptedRunError: A signal came.
        """

    def close(self, *, at_once: bool) -> None:
        """End the processes, those that are busy only if `at_once`."""
        return


class WorkerPool(Pool):
    """Processes of this machine, started by the first call that needs more than one.

    Args:
        workers: Processes to use, 0 for one on each core. With one worker, or one job, everything
            runs in this process.
    """

    def __init__(self, workers: int = 0) -> None:
        self.workers = workers
        self._executor: ProcessPoolExecutor | None = None

    def run(
        self,
        function: Callable[[Job, Advance], Result],
        jobs: Sequence[Job],
        progress: Progress,
        stop: StopSignal,
    ) -> Generator[tuple[int, Outcome[Result]], None, None]:
        """Yield index and outcome of each job; see `Pool.run`."""
        if min(self.workers or available_cores(), len(jobs)) <= 1:
            yield from _run_here(function, jobs, progress, stop)
            return
        finished = broken = False
        try:
            executor = self._start()
            with starting_workers():
                futures = {_submit(executor, function, job): n for n, job in enumerate(jobs)}
            pending: set[Future[Outcome[Result]]] = set(futures)
            while pending:
                done, pending = wait(pending, REPORT_SECONDS, FIRST_COMPLETED)
                stop.raise_if_requested()
                _drain(self._queue, progress)
                for future in sorted(done, key=futures.__getitem__):
                    broken |= isinstance(future.exception(), BrokenProcessPool)
                    yield futures[future], _outcome_of(future)
            _drain(self._queue, progress)
            finished = True
        finally:
            # After a broken pool, the next jobs get other processes.
            if broken or not finished:
                self.close(at_once=True)

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

    def _start(self) -> ProcessPoolExecutor:
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
        return self._executor


def run_parallel(
    function: Callable[[Job, Advance], Result],
    jobs: Sequence[Job],
    workers: int | Pool,
    reporter: Reporter,
    *,
    label: str,
    total: float,
    unit: str = "",
    on_done: Callable[[int, Outcome[Result]], None] = lambda index, outcome: None,
) -> list[Outcome[Result]]:
    """Call a function on every job.

    A job that raises does not stop the others. On SIGINT, SIGTERM or SIGUSR1, and on an exception
    out of `on_done`, the workers end at once; what jobs have made durable by then is for the
    caller to find again.

    Args:
        function: A function of a module, called with a job and an `Advance`.
        jobs: Its arguments; picklable like its results.
        workers: Number of processes, as of `WorkerPool`; or a pool that further calls share.
        total: The sum of what the jobs will have advanced by.
        on_done: Called in this process with a job's index and outcome as soon as it is known.

    Returns:
        An outcome for each job, in their order.

    Raises:
        InterruptedRunError: One of the signals came.
        MissingDependencyError, ConfigError: The pool is of a cluster that cannot be used.
    """
    outcomes: dict[int, Outcome[Result]] = {}
    pool = workers if isinstance(workers, Pool) else WorkerPool(workers)
    with reporter.progress(label, total, unit) as progress, StopSignal() as stop:
        try:
            with closing(pool.run(function, jobs, progress, stop)) as finished:
                for index, outcome in finished:
                    outcomes[index] = outcome
                    on_done(index, outcome)
        finally:
            if pool is not workers:
                pool.close(at_once=False)
    return [outcomes[index] for index in range(len(jobs))]


def _run_here(
    function: Callable[[Job, Advance], Result],
    jobs: Sequence[Job],
    progress: Progress,
    stop: StopSignal,
) -> Iterator[tuple[int, Outcome[Result]]]:
    def advance(amount: float = 1) -> None:
        stop.raise_if_requested()
        progress.advance(amount)

    for index, job in enumerate(jobs):
        stop.raise_if_requested()
        yield index, attempt(function, job, advance)
    stop.raise_if_requested()


def attempt(
    function: Callable[[Job, Advance], Result], job: Job, advance: Advance
) -> Outcome[Result]:
    """Call a function on a job and return what became of it; only an interruption is raised."""
    try:
        return Outcome(value=function(job, advance))
    except VintixError as error:
        return Outcome(error=error)
    except Exception as error:
        failed = failure_of(error) or WorkerError(
            f"{type(error).__name__}: {error}", fix="run again with --debug to see where"
        )
        # The traceback itself cannot leave a worker process; its text travels with the error.
        failed.add_note(traceback.format_exc())
        return Outcome(error=failed)


def _run_job(function: Callable[[Job, Advance], Result], job: Job) -> Outcome[Result]:
    advance = ThrottledAdvance(_send_progress)
    try:
        return attempt(function, job, advance)
    finally:
        advance.flush()


def _submit(
    executor: ProcessPoolExecutor, function: Callable[[Job, Advance], Result], job: Job
) -> Future[Outcome[Result]]:
    """Return the future of a job, which has failed where a worker has died before it was sent."""
    try:
        return executor.submit(_run_job, function, job)
    except BrokenProcessPool as error:
        failed: Future[Outcome[Result]] = Future()
        failed.set_exception(error)
        return failed


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
    """Let processes that start in this context use one thread, and leave Ctrl-C to this one.

    Numerical libraries read these variables when they are loaded, which in a spawned process may
    be before any code of ours runs.
    """
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))
    # They are given this path, and a folder of the user's may come first by our package's name.
    path = sys.path[:]
    found = PathFinder.find_spec("pipelines")
    if found is None or found.origin != pipelines.__file__:
        sys.path.insert(0, str(Path(__file__).parents[1]))
    try:
        with signals_for_parent_blocked():
            yield
    finally:
        sys.path[:] = path
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
