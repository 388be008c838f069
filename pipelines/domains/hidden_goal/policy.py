"""The demonstrators that need no training: each does the best thing for the goal that it is shown.

Shapes: see `batch`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pipelines.domains.hidden_goal.point import STEP
from pipelines.errors import ConfigError
from pipelines.policies.base import Policy
from pipelines.policies.validation import box_bounds, check_arrays

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pipelines.actions import ActionSpec
    from pipelines.policies.base import PolicySpec

POINT = "hidden_goal_point"


class ToGoal(Policy):
    """Moves a point straight to where the last two entries of the observation say the goal is."""

    def __init__(self, low_A: NDArray[np.float32], high_A: NDArray[np.float32]) -> None:
        self._low_A, self._high_A = low_A, high_A

    def act(self, observation_BO: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the actions (B, 2) that come nearest to the goal in one step."""
        wanted_BA = (observation_BO[:, 2:] - observation_BO[:, :2]) / np.float32(STEP)
        return np.clip(wanted_BA, self._low_A, self._high_A)


def build_to_goal(spec: PolicySpec, actions: ActionSpec) -> Policy:
    """Build the kind ``hidden_goal_point``; it has neither configuration nor arrays.

    Raises:
        ConfigError: It has, or the task has not two action dimensions.
    """
    check_arrays(spec, [])
    if spec.config:
        raise ConfigError(
            f"A policy of kind {spec.kind!r} does not fit.",
            expected="no configuration",
            found=dict(spec.config),
        )
    return ToGoal(*box_bounds(spec, actions, 2))
