"""A task's environments, in this process or in vector-env workers.

Workers step their copies at the same time: copy k of all that are made goes to worker k modulo
their number. What a copy does follows from its own seeds and actions alone, so results do not
depend on where it is. All that is asked until the first answer is wanted goes out as one message a
worker, which answers with one, so neither side ever waits for room in a full pipe.

Shapes: B copies of a task, O observation, A action: (B, A) of a box, (B,) of discrete actions.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from pipelines.domains.base import BatchEnvironment, StepBatch
from pipelines.errors import VintixError
from pipelines.parallel import Outcome, WorkerError, attempt, starting_workers

if TYPE_CHECKING:
    from pipelines.tasks.spec import TaskSpec

MakeBatch = Callable[["TaskSpec", int, Mapping[str, Any], Sequence[int]], BatchEnvironment]
"""Makes the environments of a task: (task, size, options, stream seeds)."""

#: Seconds that a worker is given to end by itself.
_EXIT_SECONDS = 5


def make_batch(
    task: TaskSpec, size: int, options: Mapping[str, Any], stream_seeds: Sequence[int]
) -> BatchEnvironment:
    """Make copies of a task by its domain, checked; see `pipelines.domains.checked.make_batch`."""
    from pipelines.domains.checked import make_batch as make_checked
    from pipelines.domains.registry import domain_of

    return make_checked(domain_of(task), task, size, options, stream_seeds)


class Request(NamedTuple):
    """What a worker is to do with one of its batches: ``make``, ``reset``, ``step`` or ``close``,
    with the arguments of that method."""

    batch: int
    method: str
    arguments: tuple[Any, ...]


class EnvironmentWorkers:
    """Worker processes that hold copies of environments.

    Args:
        count: How many, at least 1.
        make_batch: Makes environments; a function of a module.

    Raises:
        WorkerError: At any later call, a worker has ended or an environment has failed.
        VintixError: At any later call, as an environment raised it.
    """

    def __init__(self, count: int, make_batch: MakeBatch = make_batch) -> None:
        context = multiprocessing.get_context("spawn")
        self._links: list[Connection] = []
        self._processes: list[Any] = []
        self._batches = self._copies = 0
        with starting_workers():
            for _ in range(count):
                ours, theirs = context.Pipe()
                process = context.Process(target=_serve, args=(theirs, make_batch), daemon=True)
                process.start()
                theirs.close()
                self._links.append(ours)
                self._processes.append(process)
        self._requests: list[list[Request]] = [[] for _ in range(count)]
        self._answers: list[dict[int, Any]] = [{} for _ in range(count)]

    def make(
        self, task: TaskSpec, options: Mapping[str, Any], stream_seeds: Sequence[int]
    ) -> WorkerBatch:
        """Make copies of a task, spread over the workers; a seed for each copy."""
        numbers = np.arange(self._copies, self._copies + len(stream_seeds)) % len(self._links)
        self._copies += len(stream_seeds)
        self._batches += 1
        rows = {int(worker): np.flatnonzero(numbers == worker) for worker in np.unique(numbers)}
        for worker, mine in rows.items():
            seeds = [stream_seeds[row] for row in mine.tolist()]
            self.ask(worker, Request(self._batches, "make", (task, len(mine), options, seeds)))
        return WorkerBatch(self, self._batches, rows, task.observation_dim)

    def ask(self, worker: int, request: Request) -> None:
        """Note what a worker is to do."""
        self._requests[worker].append(request)

    def take(self, worker: int, batch: int) -> Any:
        """Return a worker's answer for a batch; has all workers do first what was asked of any."""
        if batch not in self._answers[worker]:
            self._exchange()
        return self._answers[worker].pop(batch)

    def _exchange(self) -> None:
        asked = [worker for worker, requests in enumerate(self._requests) if requests]
        for worker in asked:
            try:
                self._links[worker].send(self._requests[worker])
            except OSError as error:
                raise self._ended(worker) from error
        outcomes: list[Outcome[Any]] = []
        for worker in asked:
            try:
                answers = self._links[worker].recv()
            except (EOFError, OSError) as error:
                raise self._ended(worker) from error
            for request, outcome in zip(self._requests[worker], answers, strict=True):
                outcomes.append(outcome)
                self._answers[worker][request.batch] = outcome.value
            self._requests[worker] = []
        for outcome in outcomes:
            if outcome.error is not None:
                raise outcome.error

    def close(self) -> None:
        """End the workers."""
        for link in self._links:
            link.close()
        for process in self._processes:
            process.join(_EXIT_SECONDS)
            if process.is_alive():
                process.terminate()
                process.join()
        self._links, self._processes = [], []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _ended(self, worker: int) -> VintixError:
        self._processes[worker].join(1)
        return WorkerError(
            "a worker process ended while it held environments",
            where=f"worker {worker}",
            expected="a worker that steps its environments",
            found=f"exit code {self._processes[worker].exitcode}: killed, out of memory, or "
            "crashed in a simulator",
            fix="run the same command again, with fewer --workers if memory is short",
        )


class WorkerBatch(BatchEnvironment):
    """Copies of a task in workers; its demonstrators see what everyone sees.

    Args:
        rows: By worker, which copies it holds, ascending.
    """

    def __init__(
        self,
        workers: EnvironmentWorkers,
        number: int,
        rows: Mapping[int, NDArray[np.int64]],
        observation_dim: int,
    ) -> None:
        self._workers, self._number, self._rows = workers, number, dict(rows)
        self.size, self.observation_dim = sum(map(len, rows.values())), observation_dim
        for worker in self._rows:
            self.actions = workers.take(worker, number)

    def reset(self, indices: Sequence[int], seeds: Sequence[int]) -> NDArray[np.float32]:
        """Begin an episode in some copies; see `BatchEnvironment.reset`."""
        return self.reset_async(indices, seeds)()

    def step(self, action_BA: NDArray[Any]) -> StepBatch:
        """Advance all copies by one step; see `BatchEnvironment.step`."""
        return self.step_async(action_BA)()

    def reset_async(
        self, indices: Sequence[int], seeds: Sequence[int]
    ) -> Callable[[], NDArray[np.float32]]:
        """Ask for a reset; the function that is returned waits for the observations."""
        places = {}
        for worker, mine in self._rows.items():
            own = np.flatnonzero(np.isin(indices, mine))
            if len(own):
                places[worker] = own
                rows = np.searchsorted(mine, np.asarray(indices)[own]).tolist()
                self._ask(worker, "reset", rows, [int(seeds[place]) for place in own.tolist()])
        return partial(self._take_reset, places, len(indices))

    def step_async(self, action_BA: NDArray[Any]) -> Callable[[], StepBatch]:
        """Ask for a step; the function that is returned waits for its result."""
        for worker, mine in self._rows.items():
            self._ask(worker, "step", action_BA[mine])
        return self._take_step

    def close(self) -> None:
        """Have the workers close their copies with what they are asked next, if anything."""
        for worker in self._rows:
            self._ask(worker, "close")

    def _take_reset(
        self, places: Mapping[int, NDArray[np.int64]], count: int
    ) -> NDArray[np.float32]:
        observation = np.empty((count, self.observation_dim), np.float32)
        for worker, own in places.items():
            observation[own] = self._workers.take(worker, self._number)
        return observation

    def _take_step(self) -> StepBatch:
        size = self.size
        observation_BO = np.empty((size, self.observation_dim), np.float32)
        reward_B, success_B = np.empty(size, np.float64), np.zeros(size, np.bool_)
        terminated_B, truncated_B = np.empty(size, np.bool_), np.empty(size, np.bool_)
        known = False
        for worker, mine in self._rows.items():
            part: StepBatch = self._workers.take(worker, self._number)
            observation_BO[mine], reward_B[mine] = part.observation_BO, part.reward_B
            terminated_B[mine], truncated_B[mine] = part.terminated_B, part.truncated_B
            if part.success_B is not None:
                known = True
                success_B[mine] = part.success_B
        return StepBatch(
            observation_BO, reward_B, terminated_B, truncated_B, success_B if known else None
        )

    def _ask(self, worker: int, method: str, *arguments: Any) -> None:
        self._workers.ask(worker, Request(self._number, method, arguments))


def _serve(link: Connection, make_batch: MakeBatch) -> None:
    """Do what is asked until the other side is gone; runs in the worker."""
    batches: dict[int, BatchEnvironment] = {}

    def answer(request: Request, _: Any) -> Any:
        if request.method == "make":
            made = batches[request.batch] = make_batch(*request.arguments)
            return made.actions
        if request.method == "close":
            return batches.pop(request.batch).close()
        return getattr(batches[request.batch], request.method)(*request.arguments)

    try:
        while True:
            link.send([attempt(answer, request, _no_advance) for request in link.recv()])
    except (EOFError, OSError):
        for batch in batches.values():
            batch.close()


def _no_advance(amount: float = 1) -> None:
    """Count nothing: what a worker has done is seen in its answers."""
