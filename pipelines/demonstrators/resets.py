"""Resets of a Meta-World environment, stored once and played from many times.

A reset costs as much as twenty steps and a new seed; a stored one costs a fraction of a step and
gives every candidate of an optimiser the same episodes.

Legend: O observation.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pipelines.policies.base import Policy

_PLAIN = (bool, int, float, str, bytes, np.generic, type(None))


@dataclass(frozen=True, slots=True)
class _Stored:
    state: NDArray[np.float64]
    model: dict[str, NDArray[Any]]
    attributes: dict[str, Any]
    observation_O: NDArray[np.float64]


class StoredResets:
    """Resets of one environment, of the class `pipelines.domains.sawyer.SawyerProtocol`.

    Args:
        env: The environment, at its full reset protocol; it is used to play.
        seeds: One seed a reset.
    """

    def __init__(self, env: Any, seeds: Sequence[int]) -> None:
        import mujoco

        self.env = env
        self._spec = mujoco.mjtState.mjSTATE_INTEGRATION
        self._stored = [self._store(seed) for seed in seeds]

    def __len__(self) -> int:
        return len(self._stored)

    def _store(self, seed: int) -> _Stored:
        import mujoco

        from pipelines.domains.sawyer import MODEL_FIELDS

        observation_O, _ = self.env.reset(seed=seed)
        model, data = self.env.model, self.env.data
        state = np.empty(mujoco.mj_stateSize(model, self._spec))
        mujoco.mj_getState(model, data, state, self._spec)
        return _Stored(
            state=state,
            model={name: getattr(model, name).copy() for name in MODEL_FIELDS},
            attributes={
                name: _copy(value) for name, value in vars(self.env).items() if _is_data(value)
            },
            observation_O=observation_O.copy(),
        )

    def restore(self, index: int) -> NDArray[np.float64]:
        """Put the environment where a reset had left it; return its observation (O,)."""
        import mujoco

        stored = self._stored[index]
        model, data = self.env.model, self.env.data
        for name, value in stored.model.items():
            getattr(model, name)[:] = value
        mujoco.mj_setState(model, data, stored.state, self._spec)
        vars(self.env).update({name: _copy(value) for name, value in stored.attributes.items()})
        return stored.observation_O.copy()

    def play(self, policy: Policy, index: int) -> float:
        """Return the return of one episode of a policy from a stored reset."""
        observation_O = self.restore(index)
        policy.reset([0])
        total, over = 0.0, False
        while not over:
            action_A = policy.act(observation_O[None].astype(np.float32))[0]
            observation_O, reward, _, over, _ = self.env.step(action_A)
            total += reward
        return total


def _is_data(value: object) -> bool:
    """Tell whether an attribute is the episode's own, to be copied, or stands for something else.

    The package keeps views into the simulator's memory among its attributes, some of them meant as
    copies (``init_left_pad``): they follow the simulator in the environment, and have to here.
    """
    if isinstance(value, np.ndarray):
        root: Any = value
        while isinstance(root.base, np.ndarray):
            root = root.base
        return root.base is None
    if isinstance(value, (list, tuple)):
        return all(_is_data(each) for each in value)
    return isinstance(value, _PLAIN)


def _copy(value: Any) -> Any:
    return copy.deepcopy(value) if isinstance(value, (np.ndarray, list)) else value
