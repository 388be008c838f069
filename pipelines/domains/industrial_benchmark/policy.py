"""The demonstrator that needs no training: drive the three controls to fixed targets.

Shapes: B copies, A = 3 controls.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.actions import ActionSpec
from pipelines.domains.industrial_benchmark.dynamics import CONTROL_STEPS, SHIFT, VELOCITY
from pipelines.errors import ConfigError
from pipelines.policies.base import Policy, PolicySpec
from pipelines.policies.validation import box_bounds

KIND = "industrial_benchmark_setpoint"
TARGETS = ("velocity", "gain", "shift")

_CONTROL_STEPS_A = np.array(CONTROL_STEPS, dtype=np.float32)


def steer(
    observation_BO: NDArray[np.float32],
    target_A: NDArray[np.float32],
    low_A: NDArray[np.float32],
    high_A: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Return the actions (B, A) that bring the controls nearest to their targets in one step.

    Args:
        observation_BO: (B, 6) float32.
        target_A: Targets of velocity, gain and shift, in [0, 100]; (A,), or (B, A) for one set
            per copy.
        low_A: Lower action bounds.
        high_A: Upper action bounds.
    """
    action_BA = target_A - observation_BO[:, VELOCITY : SHIFT + 1]
    np.divide(action_BA, _CONTROL_STEPS_A, action_BA)
    np.maximum(action_BA, low_A, out=action_BA)
    return np.minimum(action_BA, high_A, out=action_BA)


class SetpointPolicy(Policy):
    """Keeps velocity, gain and shift at fixed targets; stateless.

    Args:
        target_A: Velocity, gain and shift, in [0, 100].
        low_A: Lower action bounds.
        high_A: Upper action bounds.
    """

    def __init__(
        self, target_A: NDArray[np.float32], low_A: NDArray[np.float32], high_A: NDArray[np.float32]
    ) -> None:
        self._target_A = target_A
        self._low_A = low_A
        self._high_A = high_A

    def act(self, observation_BO: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return actions (B, A); see `Policy.act`."""
        return steer(observation_BO, self._target_A, self._low_A, self._high_A)


def build_setpoint_policy(spec: PolicySpec, actions: ActionSpec) -> SetpointPolicy:
    """Make the policy of a spec whose config is ``{"velocity", "gain", "shift"}``.

    Raises:
        ConfigError: A target is missing, unknown, not a number or out of [0, 100].
    """
    config: dict[str, Any] = dict(spec.config)
    valid = set(config) == set(TARGETS) and all(
        isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 100
        for value in config.values()
    )
    if not valid:
        raise ConfigError(
            "The configuration of a setpoint policy is not valid.",
            where=f"policy kind {KIND!r}",
            expected=f"{', '.join(TARGETS)}, each a number in [0, 100]",
            found=config,
        )
    target_A = np.array([config[name] for name in TARGETS], dtype=np.float32)
    return SetpointPolicy(target_A, *box_bounds(spec, actions, len(target_A)))
