"""Runs the jobs of `pipelines.parallel.run_parallel` on the nodes of a Ray cluster.

Ray places the jobs, one processor each, and gives those of a node that died to another. Results
go to a directory that all nodes share; that they do is checked before the first job, and by each
job again: a node that joined later, or lost the directory, would write where nobody looks.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pipelines.artifacts import files
from pipelines.dependencies import load_extra
from pipelines.errors import ConfigError, MissingDependencyError, StorageError
from pipelines.parallel import (
    REPORT_SECONDS,
    THREADS,
    Outcome,
    Pool,
    ThrottledAdvance,
    WorkerError,
    attempt,
)
from pipelines.signals import STOP_SIGNALS, handlers_kept

if TYPE_CHECKING:
    from collections.abc import Generator

    from pipelines.reporter import Advance, Progress
    from pipelines.signals import StopSignal

Job = TypeVar("Job")
Result = TypeVar("Result")

RETRIES = 3
"""Times that a job is given to another process after its node or its process died."""

PATIENCE_SECONDS = 10.0
"""How long a file may take to be seen from another node."""

_ANSWER_SECONDS = 120.0
_CANCEL_SECONDS = 15.0


class RayCluster(Pool):
    """The cluster of ``RAY_ADDRESS``, or one that runs on this machine, or that is started on it.

    A connection that is open already is used and left open. A job may be called again, where a
    dying node cut off its first call; what it repeats is counted again in the progress.

    Args:
        directory: A directory that all nodes see.
        workers: Most jobs at a time, 0 for as many as the cluster has processors.

    Raises:
        MissingDependencyError: Ray is not installed.
    """

    remote = True

    def __init__(self, directory: Path, workers: int = 0) -> None:
        self._ray = load_extra("ray", "cluster", "--executor ray")
        self._directory, self.workers = directory, workers

    def run(
        self,
        function: Callable[[Job, Advance], Result],
        jobs: Sequence[Job],
        progress: Progress,
        stop: StopSignal,
    ) -> Generator[tuple[int, Outcome[Result]], None, None]:
        """Yield index and outcome of each job, run on some node; see `Pool.run`.

        Raises:
            MissingDependencyError: No cluster answers.
            ConfigError: A node does not see the directory.
            InterruptedRunError: A signal came; the jobs are ended.
        """
        ray = self._ray
        with _connected(ray), _shared(ray, self._directory) as shared:
            counter = _start_counter(ray)
            remote = ray.remote(_run_job).options(
                num_cpus=1,
                max_retries=RETRIES,
                runtime_env={"env_vars": dict.fromkeys(THREADS, "1")},
            )
            waiting = deque(range(len(jobs)))
            running: dict[Any, int] = {}
            try:
                while waiting or running:
                    while waiting and (not self.workers or len(running) < self.workers):
                        index = waiting.popleft()
                        running[remote.remote(function, jobs[index], shared, counter)] = index
                    done, _ = ray.wait(
                        list(running), num_returns=len(running), timeout=REPORT_SECONDS
                    )
                    stop.raise_if_requested()
                    _drain(ray, counter, progress)
                    for reference in sorted(done, key=running.__getitem__):
                        yield running.pop(reference), _outcome_of(ray, reference)
                _drain(ray, counter, progress)
            finally:
                _cancel(ray, list(running))
                ray.kill(counter)


def _run_job(
    function: Callable[[Job, Advance], Result], job: Job, shared: SharedDirectory, counter: Any
) -> Outcome[Result]:
    """Run one job in a worker of Ray."""

    def guarded(job: Job, advance: Advance) -> Result:
        shared.require()
        return function(job, advance)

    advance = ThrottledAdvance(counter.add.remote)
    try:
        return attempt(guarded, job, advance)
    finally:
        advance.flush()


class _Counter:
    """An actor that sums what the jobs report until it is asked."""

    def __init__(self) -> None:
        self._sum = 0.0

    def add(self, amount: float) -> None:
        self._sum += amount

    def take(self) -> float:
        taken, self._sum = self._sum, 0.0
        return taken


def _start_counter(ray: Any) -> Any:
    # On this machine: no other node's end should take the count along.
    here = _on_node(ray.get_runtime_context().get_node_id())
    return ray.remote(_Counter).options(num_cpus=0, scheduling_strategy=here).remote()


def _drain(ray: Any, counter: Any, progress: Progress) -> None:
    # A count that is late or lost is no reason to end a run.
    with contextlib.suppress(ray.exceptions.RayError):
        amount = ray.get(counter.take.remote(), timeout=1.0)
        if amount:
            progress.advance(amount)


def _outcome_of(ray: Any, reference: Any) -> Outcome[Any]:
    try:
        outcome: Outcome[Any] = ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        failed = WorkerError(
            "a job could not be run on its node",
            expected="the same vintix and domains on every node",
            found=str(error).strip().splitlines()[-1],
            fix="install on each node what is installed here, or run again with --debug",
        )
        failed.add_note(str(error))
        return Outcome(error=failed)
    except ray.exceptions.RayError as error:
        return Outcome(
            error=WorkerError(
                f"a job was lost {RETRIES + 1} times with its process or its node",
                expected="a node that stays for as long as the job takes",
                found=str(error).strip().splitlines()[0],
                fix="run the same command again: what was collected is staged",
            )
        )
    return outcome


def _cancel(ray: Any, references: list[Any]) -> None:
    """End jobs that run, and wait until they have ended."""
    if not references:
        return
    for reference in references:
        with contextlib.suppress(ray.exceptions.RayError):
            ray.cancel(reference, force=True)
    with contextlib.suppress(ray.exceptions.RayError):
        ray.wait(references, num_returns=len(references), timeout=_CANCEL_SECONDS)


@contextmanager
def _connected(ray: Any) -> Iterator[None]:
    if ray.is_initialized():
        yield
        return
    # Nothing of a run is reported to anybody, unless the user has said so.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        # Ray replaces the handlers, by which a signal stops the run with its work kept.
        with handlers_kept(STOP_SIGNALS):
            ray.init(log_to_driver=False, logging_level="ERROR")
    except (OSError, RuntimeError, ValueError) as error:
        raise MissingDependencyError(
            "no Ray cluster answers",
            where=f"RAY_ADDRESS={os.environ.get('RAY_ADDRESS', '')}",
            expected="the address of a running cluster, or none for one on this machine",
            found=str(error).strip().splitlines()[0],
            fix="ray start --head, then RAY_ADDRESS=HOST:6379; or unset RAY_ADDRESS",
        ) from error
    try:
        yield
    finally:
        with handlers_kept(STOP_SIGNALS):
            ray.shutdown()


@dataclass(frozen=True, slots=True)
class SharedDirectory:
    """A directory, and the token that a host wrote there for every node to see."""

    directory: Path
    token: str
    host: str

    @property
    def path(self) -> Path:
        """The file with the token; what a killed run leaves of it, the next one sweeps away."""
        return self.directory / f"cluster-{self.token}{files.TEMPORARY_SUFFIX}"

    def answer_path(self, node: str) -> Path:
        """Return the file by which a node shows that it writes there, too."""
        return self.directory / f"cluster-{self.token}-{node}{files.TEMPORARY_SUFFIX}"

    def require(self) -> None:
        """Raise a `ConfigError` unless this node sees the token."""
        if not appears(self.path, self.token):
            raise not_shared(
                self.directory, socket.gethostname(), f"no sign of what {self.host} wrote there"
            )


def appears(path: Path, text: str) -> bool:
    """Tell whether a file has a text, or gets it in time: network file systems may be late."""
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        with contextlib.suppress(OSError):
            if path.read_text() == text:
                return True
        if time.monotonic() > end:
            return False
        time.sleep(0.1)


def not_shared(directory: Path, node: str, found: str) -> ConfigError:
    """Return the error to raise where a node does not see the directory of the others."""
    return ConfigError(
        "the workspace is not on a file system that all nodes of the cluster share",
        where=f"{directory} on node {node}",
        expected="the same directory on every node",
        found=found,
        fix="--workspace on a shared file system; without one, collect parts: vintix distill "
        "--shard 1/N, then vintix artifacts merge",
    )


@contextmanager
def _shared(ray: Any, directory: Path) -> Iterator[SharedDirectory]:
    """Put a token into a directory and check that all nodes see it and write there."""
    shared = SharedDirectory(directory.absolute(), secrets.token_hex(8), socket.gethostname())
    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
    try:
        files.write_file(shared.path, shared.token.encode())
        _check_nodes(ray, nodes, shared)
        yield shared
    finally:
        for path in (shared.path, *(shared.answer_path(node["NodeID"]) for node in nodes)):
            with contextlib.suppress(StorageError):
                files.remove_file(path)


def _check_nodes(ray: Any, nodes: Sequence[dict[str, Any]], shared: SharedDirectory) -> None:
    """Raise a `ConfigError` unless every node that is still there answers, and one does."""
    answered = 0
    asked = [
        ray.remote(_probe)
        .options(num_cpus=0, max_retries=0, scheduling_strategy=_on_node(node["NodeID"]))
        .remote(shared, node["NodeID"])
        for node in nodes
    ]
    for node, reference in zip(nodes, asked, strict=True):
        name = f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
        try:
            trouble = ray.get(reference, timeout=_ANSWER_SECONDS)
        except ray.exceptions.RayError as error:
            if _gone(ray, node["NodeID"]):
                continue
            trouble = f"no answer: {str(error).strip().splitlines()[-1]}"
        answer = shared.answer_path(node["NodeID"])
        if trouble is None and not appears(answer, shared.token):
            trouble = f"what it wrote there is not seen on {shared.host}"
        if trouble is not None:
            raise not_shared(shared.directory, name, trouble)
        answered += 1
    if not answered:
        raise ConfigError(
            "the Ray cluster has no processors",
            where=f"RAY_ADDRESS={os.environ.get('RAY_ADDRESS', '')}",
            expected="a node with processors",
            found=f"{len(nodes)} such nodes, none of which answers",
            fix="ray start --address=HOST:6379 on some machines",
        )


def _gone(ray: Any, node: str) -> bool:
    """Tell whether a node has left the cluster, or does within `PATIENCE_SECONDS`."""
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end:
        if not any(each["Alive"] for each in ray.nodes() if each["NodeID"] == node):
            return True
        time.sleep(0.5)
    return False


def _probe(shared: SharedDirectory, node: str) -> str | None:
    """Look for the token from a node and answer beside it; returns what is wrong."""
    try:
        shared.require()
        files.write_file(shared.answer_path(node), shared.token.encode())
    except (ConfigError, StorageError) as error:
        return error.found if isinstance(error, ConfigError) else error.message
    return None


def _on_node(node: str) -> Any:
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(node, soft=False)
