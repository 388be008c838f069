"""A task of Bi-DexHands on Isaac Gym as a batch for the stages, and as a Gymnasium environment.

The stages reset single copies while others are in the middle of an episode, and rely on what a copy
does to follow from its own seeds and actions. Isaac Gym is stepped as a whole, and the reference's
tasks are not safe for it: Push-Block's reset of one copy, for one, puts back the objects of all
copies. Hence **each copy has a simulation, and so a worker, of its own**. This is also how the
authors of the paper evaluated (one copy, on the processor), and steps of several workers run at the
same time. Setting states without stepping, which would spare that, gives a wrong first observation:
the bodies' tensors (fingertips, palms, handles) keep the last episode's values until a step.

``copies_per_simulation`` above 1 shares simulations, for machines where one process a copy is too
much. Then the worker saves the states of the copies that are not reset, makes the reset's step, and
puts them back. Their contacts are found anew by the simulator, so the next step may differ in the
last digits from the one without the reset. It changes results and belongs into the options.

Shapes: B copies, O observation, A action.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.domains.base import BatchEnvironment, StepBatch
from pipelines.domains.isaacgym import worker as protocol
from pipelines.domains.isaacgym.link import Worker
from pipelines.domains.isaacgym.settings import PAGE, IsaacGymError, IsaacGymSettings
from pipelines.domains.loop import SingleEnv
from pipelines.domains.remade import RemadeWhenCopied
from pipelines.errors import ConfigError, VintixError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pipelines.tasks.spec import TaskSpec

FULL_SUCCESS = 1.0
"""The reference's ``successes`` that counts: Push-Block gives 0.5 for one block of two."""


class IsaacGymBatch(BatchEnvironment):
    """B copies of a task, in as many simulations as `copies_per_simulation` asks for.

    The first observation of an episode is the one after a step with a tiny random action, and an
    episode has one recorded step less than the reference's limit, both as in the reference.
    ``success`` is the reference's latched count of the episode, 1 or more.

    Args:
        task: A task of the catalogue's domain bidexhands.
        copies_per_simulation: Copies in one simulation, at least 1; see the module.

    Attributes:
        packages: Versions that the workers report, and the device.

    Raises:
        ConfigError: `copies_per_simulation` is not a whole number of at least 1.
        MissingDependencyError: Isaac Gym is not there.
        IsaacGymError: A worker failed, or its task is not the catalogue's.
    """

    def __init__(
        self,
        task: TaskSpec,
        size: int,
        settings: IsaacGymSettings,
        copies_per_simulation: int = 1,
    ) -> None:
        if int(copies_per_simulation) != copies_per_simulation or copies_per_simulation < 1:
            raise ConfigError(
                "copies_per_simulation is not valid.",
                expected="a whole number of at least 1",
                found=copies_per_simulation,
            )
        self.size, self.observation_dim = size, task.observation_dim
        self.action_low_A = np.full(task.action_dim, -1, dtype=np.float32)
        self.action_high_A = np.full(task.action_dim, 1, dtype=np.float32)
        self.packages: dict[str, str] = {}
        self._task, self._settings = task, settings
        self._copies_each = int(copies_per_simulation)
        # What the driver knows of these copies is out of date until they are reset.
        self._lost_B = np.ones(size, dtype=np.bool_)
        self._workers: list[Worker | None] = [None for _ in range(0, size, self._copies_each)]
        self._closed = False
        self._finalizer = weakref.finalize(self, _stop, self._workers)
        self._start(range(len(self._workers)))

    def reset(self, indices: Sequence[int], seeds: Sequence[int]) -> NDArray[np.float32]:
        """Begin an episode in some copies; see `BatchEnvironment.reset`.

        A simulation whose worker was lost is made anew.

        Raises:
            IsaacGymError: A worker was lost; the copies of all of them have to be reset.
        """
        observation = np.empty((len(indices), self.observation_dim), np.float32)
        rows_of: dict[int, list[int]] = {}
        for row, index in enumerate(indices):
            rows_of.setdefault(int(index) // self._copies_each, []).append(row)
        self._start([number for number in rows_of if self._workers[number] is None])

        def ask(number: int, worker: Worker) -> None:
            rows = rows_of[number]
            ids = [int(indices[row]) - number * self._copies_each for row in rows]
            fields = {"ids": ids, "seeds": [int(seeds[row]) % 2**31 for row in rows]}
            worker.send(protocol.RESET, fields)

        def take(number: int, worker: Worker) -> None:
            rows = rows_of[number]
            shape = (len(rows), self.observation_dim)
            observation[rows] = _array(worker.receive(), "observation", shape)

        self._exchange(list(rows_of), ask, take)
        self._lost_B[list(indices)] = False
        return observation

    def step(self, action_BA: NDArray[np.float32]) -> StepBatch:
        """Advance all copies by one step; see `BatchEnvironment.step`.

        Raises:
            IsaacGymError: A worker was lost and with it this step; all copies have to be reset.
        """
        if self._lost_B.any():
            raise IsaacGymError(
                "Copies of the simulation have to be reset before they are stepped.",
                where=f"task {self._task.name}, copies {np.flatnonzero(self._lost_B).tolist()}",
                expected="a reset of each copy at first, and of all after a lost worker",
                fix="run the command again, which resumes",
            )
        flat = ("reward", "terminated", "truncated", "success")
        parts: dict[int, dict[str, NDArray[Any]]] = {}

        def ask(number: int, worker: Worker) -> None:
            first = number * self._copies_each
            action = np.ascontiguousarray(action_BA[first : first + self._copies_each], np.float32)
            worker.send(protocol.STEP, None, {"action": action})

        def take(number: int, worker: Worker) -> None:
            copies, frame = self._copies(number), worker.receive()
            parts[number] = {
                "observation": _array(frame, "observation", (copies, self.observation_dim)),
                **{name: _array(frame, name, (copies,)) for name in flat},
            }

        everyone = list(range(len(self._workers)))
        self._exchange(everyone, ask, take)

        joined = {
            name: np.concatenate([parts[number][name] for number in everyone])
            for name in ("observation", *flat)
        }
        return StepBatch(
            observation_BO=joined["observation"],
            reward_B=joined["reward"].astype(np.float64),
            terminated_B=joined["terminated"].astype(np.bool_),
            truncated_B=joined["truncated"].astype(np.bool_),
            success_B=joined["success"] >= FULL_SUCCESS,
        )

    def close(self) -> None:
        """Stop the workers; again does nothing."""
        self._closed = True
        self._finalizer()

    def _copies(self, number: int) -> int:
        return min(self._copies_each, self.size - number * self._copies_each)

    def _start(self, numbers: Sequence[int]) -> None:
        """Start workers, all at the same time: it takes Isaac Gym many seconds."""
        if self._closed:
            raise IsaacGymError("The batch is closed.", where=f"task {self._task.name}")
        try:
            for number in numbers:
                self._workers[number] = Worker(self._settings)
            self._exchange(
                numbers,
                lambda number, worker: worker.greet(self._task.env_id, self._copies(number)),
                lambda number, worker: self._check(worker.greeting()),
            )
        except BaseException:
            for number in numbers:
                self._drop(number)
            raise

    def _exchange(
        self,
        numbers: Sequence[int],
        ask: Callable[[int, Worker], None],
        take: Callable[[int, Worker], None],
    ) -> None:
        """Ask workers, then take their answers; every answer, so that requests stay in step.

        Raises:
            VintixError: The first error; the workers with one are ended.
        """
        errors: list[VintixError] = []
        asked: list[int] = []
        for phase, each in ((ask, numbers), (take, asked)):
            for number in each:
                worker = self._workers[number]
                if worker is None:
                    continue
                try:
                    phase(number, worker)
                except VintixError as error:
                    errors.append(error)
                    self._drop(number)
                except BaseException:
                    # An interrupt between request and answer leaves no worker to be trusted.
                    for other in numbers:
                        self._drop(other)
                    raise
                else:
                    if phase is ask:
                        asked.append(number)
        if errors:
            self._lost_B[:] = True
            raise errors[0]

    def _drop(self, number: int) -> None:
        worker, self._workers[number] = self._workers[number], None
        first = number * self._copies_each
        self._lost_B[first : first + self._copies_each] = True
        if worker is not None:
            worker.stop()

    def _check(self, greeting: dict[str, Any]) -> None:
        task = self._task
        expected = {
            "observation_dim": task.observation_dim,
            "action_dim": task.action_dim,
            # The reset's step counts as the first of the reference's episode.
            "max_episode_length": task.horizon + 1,
        }
        found = {name: greeting.get(name) for name in expected}
        if found != expected:
            raise IsaacGymError(
                "The worker's task is not the one of the catalogue.",
                where=f"task {task.name} ({task.env_id})",
                expected=expected,
                found=found,
                fix=f"install bidexhands with its own configuration; see {PAGE}",
            )
        self.packages = packages_of(greeting, self._settings)


class IsaacGymEnv(RemadeWhenCopied, SingleEnv):
    """One copy of a task as a Gymnasium environment; spaces as of the MuJoCo port."""

    def __init__(self, batch: IsaacGymBatch) -> None:
        super().__init__(batch, -protocol.CLIP, protocol.CLIP)


def packages_of(greeting: dict[str, Any], settings: IsaacGymSettings) -> dict[str, str]:
    """Return what goes into a fingerprint of a worker's greeting."""
    versions = greeting.get("versions", {})
    known = {name: str(versions.get(name, "unknown")) for name in ("isaacgym", "bidexhands")}
    return {**known, "isaacgym-device": settings.device}


def _array(frame: protocol.Frame, name: str, shape: tuple[int, ...]) -> NDArray[Any]:
    array = frame.arrays.get(name)
    if array is None or array.shape != shape:
        raise IsaacGymError(
            f"The worker's answer lacks {name}.",
            expected=f"an array of shape {shape}",
            found=None if array is None else array.shape,
            fix=f"see {PAGE}",
        )
    return array


def _stop(workers: list[Worker | None]) -> None:
    held = [worker for worker in workers if worker is not None]
    workers[:] = [None] * len(workers)
    for worker in held:
        worker.leave()
    for worker in held:
        worker.stop()
