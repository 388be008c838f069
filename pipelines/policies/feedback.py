"""Linear state feedback around an equilibrium: the kind ``state_feedback``.

Legend: B copies, O observation, A action, S state features.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from pipelines.errors import ConfigError
from pipelines.policies.base import Policy
from pipelines.policies.rowwise import RowwiseLinear
from pipelines.policies.validation import box_bounds, check_arrays, parse_config

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pipelines.actions import ActionSpec
    from pipelines.policies.base import PolicySpec


class StateFeedbackConfig(BaseModel):
    """Configuration of the kind ``state_feedback``.

    Attributes:
        features: How the observation becomes deviations from the equilibrium: ``identity``, or
            ``double_pendulum`` (cart, two angles, three velocities, from the cart position,
            sines, cosines and velocities of InvertedDoublePendulum-v5).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    features: Literal["identity", "double_pendulum"] = "identity"


class StateFeedbackPolicy(Policy):
    """``action = clip(-gain @ features(observation))``, computed in float64."""

    def __init__(
        self,
        gain_AS: NDArray[Any],
        features: Callable[[NDArray[Any]], NDArray[Any]],
        action_low_A: NDArray[np.float32],
        action_high_A: NDArray[np.float32],
    ) -> None:
        self._product = RowwiseLinear(-gain_AS.T.astype(np.float64))
        self._features = features
        self._low_A, self._high_A = action_low_A, action_high_A

    def act(self, observation_BO: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return actions (B, A)."""
        action_BA = self._product(self._features(observation_BO.astype(np.float64)))
        return np.clip(action_BA.astype(np.float32), self._low_A, self._high_A)


def build_state_feedback(spec: PolicySpec, actions: ActionSpec) -> Policy:
    """Build the kind ``state_feedback``: array ``gain`` (A, S).

    Raises:
        ConfigError: The configuration or the gain does not fit the task.
    """
    config = parse_config(StateFeedbackConfig, spec)
    gain_AS = check_arrays(spec, ["gain"])["gain"]
    features = FEATURES[config.features]
    bounds = box_bounds(spec, actions)
    if gain_AS.ndim != 2 or len(gain_AS) != actions.width:
        raise ConfigError(
            "The gain of a state feedback does not fit the task.",
            expected=f"({actions.width}, number of features)",
            found=gain_AS.shape,
        )
    return StateFeedbackPolicy(gain_AS, features, *bounds)


def double_pendulum_features(observation_BO: NDArray[Any]) -> NDArray[Any]:
    """Return cart position, two angles from upright and three velocities (B, 6).

    The observation of InvertedDoublePendulum-v5 is cart position, sines (2), cosines (2),
    velocities (3, clipped to 10) and a constraint force.
    """
    angles = np.arctan2(observation_BO[:, 1:3], observation_BO[:, 3:5])
    return np.concatenate([observation_BO[:, :1], angles, observation_BO[:, 5:8]], axis=1)


def _identity(observation_BO: NDArray[Any]) -> NDArray[Any]:
    return observation_BO


FEATURES: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    "identity": _identity,
    "double_pendulum": double_pendulum_features,
}
"""The feature maps by name."""
