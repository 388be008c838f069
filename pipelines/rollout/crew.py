"""Environments in this process or in worker processes, behind one interface of asking and taking.

All streams of a block wait for each other at every step, so that a slow simulator costs the sum of
its copies. A `Crew` spreads the copies over processes, which step at the same time: copy k of all
that are made goes to worker k modulo their number. What a copy does follows from its own seeds and
actions alone (`pipelines.domains.base.BatchEnvironment`), so that results do not depend on where it
is. A worker gets one message a step and answers with one; between the two it does all that was
asked, so neither side ever waits for room in a full pipe.

Shapes: B copies of a task, O observation, A action.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from pipelines.domains.base import StepBatch
from pipelines.errors import VintixError
from pipelines.parallel import Outcome, WorkerError, attempt, starting_workers

if TYPE_CHECKING:
    from pipelines.domains.base import BatchEnvironment
    from pipelines.tasks.spec import TaskSpec

MakeBatch = Callable[["TaskSpec", int, Mapping[str, Any], Sequence[int]], "BatchEnvironment"]
"""Makes the environments of a task: (task, size, options, stream seeds)."""

#: Seconds that a worker is given to end by itself.
_GOODBYE_SECONDS = 5


class Copies(Protocol):
    """Copies of a task's environment: what is asked of them happens until it is taken."""

    action_low_A: NDArray[np.float32]
    action_high_A: NDArray[np.float32]

    def ask_reset(self, copies: Sequence[int], seeds: Sequence[int]) -> None:
        """Begin an episode in some copies."""

    def take_reset(self) -> NDArray[np.float32]:
        """Return the first observations (len(copies), O) of what was asked last."""
        ...

    def ask_step(self, action_BA: NDArray[np.float32]) -> None:
        """Advance all copies by one step."""

    def take_step(self) -> StepBatch:
        """Return the step that was asked last."""
        ...

    def demonstrator_view(self, observation_SO: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what demonstrators see; see `BatchEnvironment.demonstrator_view`."""
        ...

    def close(self) -> None:
        """Give back what the copies hold."""


class LocalCopies:
    """Copies in this process; they do what was asked when it is taken."""

    def __init__(self, batch: BatchEnvironment) -> None:
        self._batch = batch
        self.action_low_A, self.action_high_A = batch.action_low_A, batch.action_high_A
        self._asked: Any = None

    def ask_reset(self, copies: Sequence[int], seeds: Sequence[int]) -> None:
        """Begin an episode in some copies."""
        self._asked = (list(copies), list(seeds))

    def take_reset(self) -> NDArray[np.float32]:
        """Return the first observations of what was asked last."""
        return self._batch.reset(*self._asked)

    def ask_step(self, action_BA: NDArray[np.float32]) -> None:
        """Advance all copies by one step."""
        self._asked = action_BA

    def take_step(self) -> StepBatch:
        """Return the step that was asked last."""
        return self._batch.step(self._asked)

    def demonstrator_view(self, observation_SO: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what demonstrators see; see `BatchEnvironment.demonstrator_view`."""
        return self._batch.demonstrator_view(observation_SO)

    def close(self) -> None:
        """Give back what the copies hold."""
        self._batch.close()


class Order(NamedTuple):
    """What a worker is to do with one of the batches it holds: ``make``, ``reset``, ``step`` or
    ``close``, with the arguments of the method."""

    batch: int
    verb: str
    arguments: tuple[Any, ...]


class Crew:
    """Worker processes that hold copies of environments.

    Args:
        workers: How many, at least 1.
        make_batch: Makes environments; a function of a module.

    Raises:
        WorkerError: At any later call, a worker has ended or an environment has failed.
        VintixError: At any later call, as an environment raised it.
    """

    def __init__(self, workers: int, make_batch: MakeBatch) -> None:
        context = multiprocessing.get_context("spawn")
        self._links: list[Connection] = []
        self._processes: list[Any] = []
        self._batches = 0
        self._copies = 0
        with starting_workers():
            for _ in range(workers):
                ours, theirs = context.Pipe()
                process = context.Process(target=_serve, args=(theirs, make_batch), daemon=True)
                process.start()
                theirs.close()
                self._links.append(ours)
                self._processes.append(process)
        self._orders: list[list[Order]] = [[] for _ in range(workers)]
        self._answers: list[dict[int, Any]] = [{} for _ in range(workers)]

    @property
    def workers(self) -> int:
        """Number of worker processes."""
        return len(self._links)

    def make(
        self, spec: TaskSpec, options: Mapping[str, Any], stream_seeds: Sequence[int]
    ) -> CrewCopies:
        """Make copies of a task, spread over the workers.

        Args:
            spec: The task.
            options: Options of the domain's environments.
            stream_seeds: A seed for each copy.
        """
        numbers = np.arange(self._copies, self._copies + len(stream_seeds)) % self.workers
        self._copies += len(stream_seeds)
        self._batches += 1
        rows = {
            int(worker): np.flatnonzero(numbers == worker) for worker in np.unique(numbers).tolist()
        }
        for worker, mine in rows.items():
            seeds = [stream_seeds[row] for row in mine.tolist()]
            self.ask(worker, Order(self._batches, "make", (spec, len(mine), options, seeds)))
        self.exchange()
        return CrewCopies(self, self._batches, rows, spec.observation_dim)

    def ask(self, worker: int, order: Order) -> None:
        """Note what a worker is to do at the next exchange."""
        self._orders[worker].append(order)

    def take(self, worker: int, batch: int) -> Any:
        """Return what a worker answered for a batch at the last exchange."""
        return self._answers[worker].pop(batch)

    def exchange(self) -> None:
        """Have all workers do what was asked, at the same time."""
        asked = [worker for worker, orders in enumerate(self._orders) if orders]
        for worker in asked:
            try:
                self._links[worker].send(self._orders[worker])
            except OSError as error:
                raise self._ended(worker) from error
        outcomes: list[Outcome[Any]] = []
        for worker in asked:
            try:
                answers = self._links[worker].recv()
            except (EOFError, OSError) as error:
                raise self._ended(worker) from error
            for order, outcome in zip(self._orders[worker], answers, strict=True):
                outcomes.append(outcome)
                self._answers[worker][order.batch] = outcome.value
            self._orders[worker] = []
        for outcome in outcomes:
            if outcome.error is not None:
                raise outcome.error

    def close(self) -> None:
        """End the workers."""
        for link in self._links:
            link.close()
        for process in self._processes:
            process.join(_GOODBYE_SECONDS)
            if process.is_alive():
                process.terminate()
                process.join()
        self._links, self._processes = [], []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
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


class CrewCopies:
    """Copies of a task in the workers of a crew; asking and taking are for `Crew.exchange`.

    Args:
        crew: Who holds them.
        batch: Number of the batch.
        rows: By worker, which copies it holds, ascending.
        observation_dim: O.
    """

    def __init__(
        self, crew: Crew, batch: int, rows: Mapping[int, NDArray[np.int64]], observation_dim: int
    ) -> None:
        self._crew, self._number, self._rows = crew, batch, dict(rows)
        self._size = sum(len(mine) for mine in rows.values())
        self._observation_dim = observation_dim
        self._places: dict[int, NDArray[np.int64]] = {}
        for worker in self._rows:
            self.action_low_A, self.action_high_A = crew.take(worker, batch)

    def ask_reset(self, copies: Sequence[int], seeds: Sequence[int]) -> None:
        """Begin an episode in some copies, at the next exchange."""
        wanted, seeds_C = np.asarray(copies, np.int64), np.asarray(seeds, np.int64)
        self._places = {}
        for worker, mine in self._rows.items():
            places = np.flatnonzero(np.isin(wanted, mine))
            if len(places):
                self._places[worker] = places
                own = np.searchsorted(mine, wanted[places]).tolist()
                self._order(worker, "reset", own, seeds_C[places].tolist())

    def take_reset(self) -> NDArray[np.float32]:
        """Return the first observations of what was asked last."""
        total = sum(len(places) for places in self._places.values())
        observation = np.empty((total, self._observation_dim), np.float32)
        for worker, places in self._places.items():
            observation[places] = self._crew.take(worker, self._number)
        return observation

    def ask_step(self, action_BA: NDArray[np.float32]) -> None:
        """Advance all copies by one step, at the next exchange."""
        for worker, mine in self._rows.items():
            self._order(worker, "step", action_BA[mine])

    def take_step(self) -> StepBatch:
        """Return the step that was asked last."""
        whole = StepBatch(
            np.empty((self._size, self._observation_dim), np.float32),
            np.empty(self._size, np.float64),
            np.empty(self._size, np.bool_),
            np.empty(self._size, np.bool_),
            np.zeros(self._size, np.bool_),
        )
        known = False
        for worker, mine in self._rows.items():
            part: StepBatch = self._crew.take(worker, self._number)
            whole.observation_BO[mine] = part.observation_BO
            whole.reward_B[mine] = part.reward_B
            whole.terminated_B[mine] = part.terminated_B
            whole.truncated_B[mine] = part.truncated_B
            if part.success_B is not None and whole.success_B is not None:
                known = True
                whole.success_B[mine] = part.success_B
        if known:
            return whole
        return StepBatch(
            whole.observation_BO, whole.reward_B, whole.terminated_B, whole.truncated_B, None
        )

    def demonstrator_view(self, observation_SO: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what everyone sees: copies whose demonstrators see more are never apart."""
        return observation_SO

    def close(self) -> None:
        """Have the workers close their copies at the next exchange, if there is one."""
        for worker in self._rows:
            self._order(worker, "close")

    def _order(self, worker: int, verb: str, *arguments: Any) -> None:
        self._crew.ask(worker, Order(self._number, verb, arguments))


def _serve(link: Connection, make_batch: MakeBatch) -> None:
    """Do what is asked until the other side is gone; runs in the worker."""
    batches: dict[int, BatchEnvironment] = {}

    def obey(order: Order, _: Any) -> Any:
        if order.verb == "make":
            made = batches[order.batch] = make_batch(*order.arguments)
            return made.action_low_A, made.action_high_A
        if order.verb == "close":
            return batches.pop(order.batch).close()
        return getattr(batches[order.batch], order.verb)(*order.arguments)

    try:
        while True:
            link.send([attempt(obey, order, _no_advance) for order in link.recv()])
    except (EOFError, OSError):
        for batch in batches.values():
            batch.close()


def _no_advance(amount: float = 1) -> None:
    """Count nothing: what a worker has done is seen in its answers."""
