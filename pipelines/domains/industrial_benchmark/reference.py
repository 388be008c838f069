"""The Industrial Benchmark stepped by the package industrial-benchmark-python 2.0.

The package as released does not run under NumPy >= 1.24 (it calls ``np.float``), and it seeds and
draws from NumPy's global generator, which would disturb everybody else's stream. Both are put
right without touching NumPy or the package: each copy executes the module ``IDS`` under a
namespace of its own in which ``np`` is NumPy with two names replaced, ``float`` and ``random``.
The draws are those of the package after ``np.random.seed(seed)``.

Shapes: B copies, O = 6 observations, A = 3 actions.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.domains.base import StepBatch
from pipelines.domains.industrial_benchmark.dynamics import OBSERVATION_DIM
from pipelines.domains.industrial_benchmark.environment import (
    HORIZON,
    SetpointBatch,
    reset_needed,
)
from pipelines.domains.remade import RemadeWhenCopied
from pipelines.errors import MissingDependencyError

_MODULE = "industrial_benchmark_python.IDS"
_VISIBLE = ("p", "v", "g", "h", "f", "c")


class _Numpy:
    """NumPy as the package expects it, with a generator of its own."""

    float = float

    def __init__(self, random: Any) -> None:
        self.random = random

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


def reference_class(random: Any) -> Any:
    """Return a fresh copy of the package's class ``IDS``.

    Args:
        random: Stands in for ``np.random``, such as a ``numpy.random.RandomState``. The class
            seeds it at construction.

    Raises:
        MissingDependencyError: The package is not installed.
    """
    try:
        found = importlib.util.find_spec(_MODULE)
    except ModuleNotFoundError:
        found = None
    if found is None or found.loader is None:
        raise MissingDependencyError(
            "The reference dynamics of the Industrial Benchmark are not installed.",
            where="--option backend=reference",
            expected="the package industrial-benchmark-python",
            fix="pip install industrial-benchmark-python==2.0",
        )
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    vars(module)["np"] = _Numpy(random)
    return module.IDS


class ReferenceBatch(RemadeWhenCopied, SetpointBatch):
    """B copies stepped one after the other by the package's dynamics; see `SetpointBatch`.

    Raises:
        MissingDependencyError: The package is not installed.
    """

    def __init__(self, setpoint_B: Sequence[float], *, delta_reward: bool = False) -> None:
        again = functools.partial(ReferenceBatch, delta_reward=delta_reward)
        self.made_by = (again, (list(setpoint_B),))
        super().__init__(setpoint_B, delta_reward=delta_reward)
        self._make = [reference_class(np.random.RandomState()) for _ in range(self.size)]
        self._copies: list[Any] = [None] * self.size
        self._age_B = np.full(self.size, HORIZON)

    def reset(self, indices: Sequence[int], seeds: Sequence[int]) -> NDArray[np.float32]:
        """Begin an episode in some copies; see `BatchEnvironment.reset`."""
        for index, seed in zip(indices, seeds, strict=True):
            copy = self._make[index](p=float(self._setpoint_B[index]), inital_seed=seed)
            self._copies[index] = copy
            self._age_B[index] = 0
            self._last_reward_B[index] = _classic_reward(copy)
        return self._observation(indices)

    def step(self, action_BA: NDArray[np.float32]) -> StepBatch:
        """Advance all copies by one step; see `BatchEnvironment.step`.

        Raises:
            gymnasium.error.ResetNeeded: A copy's episode has ended, or never begun.
        """
        ended = np.flatnonzero(self._age_B >= HORIZON)
        if len(ended):
            raise reset_needed(ended)
        # In float64, as the package computes 10 * action in the action's own precision.
        for copy, action_A in zip(self._copies, action_BA.astype(np.float64), strict=True):
            copy.step(action_A)
        self._age_B += 1
        classic_B = np.array([_classic_reward(copy) for copy in self._copies])
        return StepBatch(
            observation_BO=self._observation(range(self.size)),
            reward_B=self._reward(classic_B),
            terminated_B=np.zeros(self.size, dtype=bool),
            truncated_B=self._age_B == HORIZON,
            success_B=None,
        )

    def _observation(self, indices: Sequence[int]) -> NDArray[np.float32]:
        states = [self._copies[index].state for index in indices]
        rows = [[state[name] for name in _VISIBLE] for state in states]
        return np.array(rows, dtype=np.float32).reshape(len(rows), OBSERVATION_DIM)


def _classic_reward(copy: Any) -> float:
    return -float(copy.state["cost"]) / 100
