"""Per-task statistics and the three operations on them.

The formulas are those of the released code: observations (and previous actions, if the
configuration says so) are (x - mean) / (std + 1e-6), predictions are put back with a std + mean
(no epsilon), rewards are multiplied by the task's scale and not centred.

One rule is not the release's. A channel that was constant in the data carries no information: the
model has only seen it as 0, and its weights for it are arbitrary. It stays 0 whatever it does
later, where the release would divide by 1e-6. On the data itself both give the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pipelines.errors import ConfigError

#: Added to standard deviations before dividing, as released.
STD_EPSILON = 1e-6

#: Distance of neighbouring float32 numbers, as a part of their size.
FLOAT32_STEP = float(np.finfo(np.float32).eps)

Array = TypeVar("Array", npt.NDArray[np.floating], Tensor)
Vector = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class TaskStatistics:
    """Statistics of one task's dataset.

    Attributes:
        observation_mean: (O,) float32.
        observation_std: (O,) float32, not negative.
        action_mean: (A,) float32; zeros where actions are discrete, of which nothing is normalised.
        action_std: (A,) float32, not negative; ones likewise.
        reward_scale: Factor on rewards (Appendix G), finite and not 0.
    """

    observation_mean: Vector
    observation_std: Vector
    action_mean: Vector
    action_std: Vector
    reward_scale: float

    def __post_init__(self) -> None:
        for name in ("observation", "action"):
            mean = _vector(getattr(self, f"{name}_mean"), f"{name}_mean")
            std = _vector(getattr(self, f"{name}_std"), f"{name}_std")
            if mean.shape != std.shape or (std < 0).any():
                raise ConfigError(
                    "a task's mean and standard deviation do not fit together",
                    where=f"{name}_mean, {name}_std",
                    expected="equal lengths, standard deviations of 0 or more",
                    found=f"lengths {mean.size} and {std.size}, smallest deviation {std.min()}",
                )
            object.__setattr__(self, f"{name}_mean", mean)
            object.__setattr__(self, f"{name}_std", std)
        if not np.isfinite(self.reward_scale) or self.reward_scale == 0:
            raise ConfigError(
                "a task's reward scale is not a usable factor",
                where="reward_scale",
                expected="a finite number other than 0",
                found=self.reward_scale,
            )

    @property
    def constant_observation(self) -> npt.NDArray[np.bool_]:
        """Which observation channels were constant, (O,) bool."""
        return is_constant(self.observation_mean, self.observation_std)

    def normalize_observation(self, observation: Array) -> Array:
        """Return (x - mean) / (std + 1e-6) of observations (..., O), float32 for arrays.

        Constant channels are 0.
        """
        return _normalize(observation, self.observation_mean, self.observation_std)

    def scale_reward(self, reward: Array) -> Array:
        """Return rewards times the task's scale, float32 for arrays."""
        return _float(reward) * self.reward_scale


def float32_resolution(mean: Array) -> Array:
    """Return the spread (...) that rounding to float32 alone may give channels of these means.

    Below a mean of 1 it is that of 1: beside the 1e-6 of the formula such a spread is a tenth of a
    unit at most, and simulators leave rounding noise of that size on what stands still at 0.
    """
    return abs(mean).clip(min=1.0) * FLOAT32_STEP


def is_constant(mean: Array, std: Array) -> Any:
    """Tell which channels (...) were constant: their spread is no more than rounding.

    Sums of squares leave a tiny deviation where there is none, so 0 alone would not do.

    Returns:
        bool, an array or a tensor as the arguments are.
    """
    return std <= float32_resolution(mean)


def divisor(mean: Array, std: Array) -> Array:
    """Return what x - mean is divided by, (...): std + 1e-6, or infinity for constant channels."""
    result = std + STD_EPSILON
    result[is_constant(mean, std)] = float("inf")
    return result


@dataclass(frozen=True)
class ActionUnits:
    """The action statistics of each sequence's task, where the model normalises actions.

    Attributes:
        mean_BA: Means.
        std_BA: Standard deviations.
    """

    mean_BA: Tensor
    std_BA: Tensor

    def normalize(self, action_BLA: Tensor) -> Tensor:
        """Return the environment's actions as the model sees them; constant channels are 0."""
        divisor_BA: Tensor = divisor(self.mean_BA, self.std_BA)
        return (action_BLA - self.mean_BA[:, None]) / divisor_BA[:, None]

    def restore(self, action_BLA: Tensor) -> Tensor:
        """Return the model's actions in the environment's units."""
        return action_BLA * self.std_BA[:, None] + self.mean_BA[:, None]


def _vector(values: npt.ArrayLike | Sequence[float], name: str) -> Vector:
    vector = np.array(values, dtype=np.float32)
    if vector.ndim != 1 or vector.size == 0 or not np.isfinite(vector).all():
        raise ConfigError(
            "a task's statistics are not a vector of finite numbers",
            where=name,
            expected="shape (n,), n at least 1, finite",
            found=f"shape {vector.shape}, {int((~np.isfinite(vector)).sum())} not finite",
        )
    return vector


def _normalize(values: Array, mean: Vector, std: Vector) -> Array:
    numbers = _float(values)
    mean_like, std_like = _like(mean, numbers), _like(std, numbers)
    return (numbers - mean_like) / divisor(mean_like, std_like)


def _float(values: Array) -> Array:
    # Environments return float64; the model and the released statistics are float32.
    return values if isinstance(values, Tensor) else np.asarray(values, dtype=np.float32)


def _like(vector: Vector, values: Array) -> Array:
    if isinstance(values, Tensor):
        return torch.from_numpy(vector).to(device=values.device, dtype=values.dtype)
    return vector
