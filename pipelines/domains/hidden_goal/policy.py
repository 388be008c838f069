"""The demonstrators that need no training: each does the best thing for the goal that it is shown.

Without one they aim at the middle, where all goals are equally far, or pull the first arm.

Shapes: see `batch`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.actions import Discrete
from pipelines.domains.hidden_goal.grid import MIDDLE, MOVES, SIDE
from pipelines.domains.hidden_goal.point import STEP
from pipelines.errors import ConfigError
from pipelines.policies.base import Policy
from pipelines.policies.validation import box_bounds, check_arrays

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pipelines.actions import ActionSpec
    from pipelines.policies.base import PolicySpec

POINT, CELL, ARM = "hidden_goal_point", "hidden_goal_cell", "hidden_goal_arm"


class ToGoal(Policy):
    """Moves a point straight to where the last two entries of the observation say the goal is."""

    def __init__(self, low_A: NDArray[np.float32], high_A: NDArray[np.float32]) -> None:
        self._low_A, self._high_A = low_A, high_A

    def act(self, observation_BO: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the actions (B, 2) that come nearest to the goal in one step."""
        wanted_BA = (observation_BO[:, 2:] - observation_BO[:, :2]) / np.float32(STEP)
        return np.clip(wanted_BA, self._low_A, self._high_A)


class ToCell(Policy):
    """Walks to the cell that the last two entries of the observation name, and stays there.

    It goes in the direction that is the longer way, in columns where both are equal.
    """

    def act(self, observation_BO: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return the moves (B,)."""
        cell_BX = np.stack(
            [observation_BO[:, :SIDE].argmax(1), observation_BO[:, SIDE : 2 * SIDE].argmax(1)],
            axis=1,
        )
        way_BX = observation_BO[:, -2:] + MIDDLE - cell_BX
        # Each move by how far it goes along the way; of equal ones, the later.
        gain_BM = way_BX @ (MOVES * (1 + 1e-3 * (MOVES[:, :1] != 0))).T
        return np.argmax(gain_BM, axis=1)


class BestArm(Policy):
    """Pulls the arm that the last entry of the observation names."""

    def act(self, observation_BO: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return the arms (B,)."""
        return observation_BO[:, -1].astype(np.int64)


def build_to_goal(spec: PolicySpec, actions: ActionSpec) -> Policy:
    """Build the kind ``hidden_goal_point``; it has neither configuration nor arrays.

    Raises:
        ConfigError: It has, or the task has not two action dimensions.
    """
    _check_plain(spec)
    return ToGoal(*box_bounds(spec, actions, 2))


def build_to_cell(spec: PolicySpec, actions: ActionSpec) -> Policy:
    """Build the kind ``hidden_goal_cell``; it has neither configuration nor arrays.

    Raises:
        ConfigError: It has, or the task's actions are not the five moves.
    """
    _check_plain(spec)
    if actions != Discrete(len(MOVES)):
        raise _misfit(spec, Discrete(len(MOVES)), actions)
    return ToCell()


def build_best_arm(spec: PolicySpec, actions: ActionSpec) -> Policy:
    """Build the kind ``hidden_goal_arm``; it has neither configuration nor arrays.

    Raises:
        ConfigError: It has, or the task's actions are not discrete.
    """
    _check_plain(spec)
    if not isinstance(actions, Discrete):
        raise _misfit(spec, "discrete actions", actions)
    return BestArm()


def _check_plain(spec: PolicySpec) -> None:
    check_arrays(spec, [])
    if spec.config:
        raise _misfit(spec, "no configuration", dict(spec.config))


def _misfit(spec: PolicySpec, expected: Any, found: Any) -> ConfigError:
    message = f"A policy of kind {spec.kind!r} does not fit."
    return ConfigError(message, expected=expected, found=found)
