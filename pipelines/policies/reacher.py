"""Two-link inverse kinematics with joint PD control: the kind ``reacher``.

Legend: B copies, O observation, A action.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from pipelines.policies.base import Policy
from pipelines.policies.validation import box_bounds, check_arrays, parse_config

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pipelines.actions import ActionSpec
    from pipelines.policies.base import PolicySpec


class ReacherConfig(BaseModel):
    """Configuration of the kind ``reacher``.

    Attributes:
        first_link: Length from the root to the elbow, metres.
        second_link: Length from the elbow to the fingertip, metres.
        proportional: Torque of the shoulder per radian of joint error.
        derivative: Torque of the shoulder per radian a second.
        elbow_factor: The elbow's gains as a share of the shoulder's.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    first_link: float = Field(default=0.1, gt=0)
    second_link: float = Field(default=0.11, gt=0)
    proportional: float = Field(default=0.3, gt=0)
    derivative: float = Field(default=0.03, ge=0)
    elbow_factor: float = Field(default=0.6, gt=0)


class ReacherPolicy(Policy):
    """Moves both joints to the nearer of the two arm postures that reach the target.

    The observation is that of Reacher-v5: cosines (2) and sines (2) of the joints, target (2),
    joint velocities (2), fingertip minus target (2).
    """

    def __init__(
        self,
        config: ReacherConfig,
        action_low_A: NDArray[np.float32],
        action_high_A: NDArray[np.float32],
    ) -> None:
        self._config = config
        self._low_A, self._high_A = action_low_A, action_high_A

    def act(self, observation_BO: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return joint torques (B, 2)."""
        config = self._config
        observation_BO = observation_BO.astype(np.float64)
        joints_BA = np.arctan2(observation_BO[:, 2:4], observation_BO[:, 0:2])
        postures = [
            _wrap(self._posture(observation_BO[:, 4:6], sign) - joints_BA) for sign in (1.0, -1.0)
        ]
        travel = [np.abs(error[:, 0]) + np.abs(error[:, 1]) for error in postures]
        error_BA = np.where((travel[1] < travel[0])[:, None], postures[1], postures[0])
        scale_A = np.array([1.0, config.elbow_factor])
        torque_BA = scale_A * (
            config.proportional * error_BA - config.derivative * observation_BO[:, 6:8]
        )
        return np.clip(torque_BA.astype(np.float32), self._low_A, self._high_A)

    def _posture(self, target: NDArray[Any], sign: float) -> NDArray[Any]:
        """Return the joint angles (B, 2) that put the fingertip on the target or nearest to it."""
        first, second = self._config.first_link, self._config.second_link
        squared = target[:, 0] ** 2 + target[:, 1] ** 2
        cosine = np.clip((squared - first**2 - second**2) / (2 * first * second), -1.0, 1.0)
        elbow = sign * np.arccos(cosine)
        shoulder = np.arctan2(target[:, 1], target[:, 0]) - np.arctan2(
            second * np.sin(elbow), first + second * np.cos(elbow)
        )
        return np.stack([shoulder, elbow], axis=1)


def build_reacher(spec: PolicySpec, actions: ActionSpec) -> Policy:
    """Build the kind ``reacher``; it has no arrays.

    Raises:
        ConfigError: The configuration is not valid, or the task has not two joints.
    """
    config = parse_config(ReacherConfig, spec)
    check_arrays(spec, [])
    return ReacherPolicy(config, *box_bounds(spec, actions, 2))


def _wrap(angle: NDArray[Any]) -> NDArray[Any]:
    return (angle + np.pi) % (2 * np.pi) - np.pi
