"""A random linear map of what a model sees and does, another one for each trajectory.

Lu et al. 2023, "Structured State Space Models for In-Context Reinforcement Learning", train on one
task through many random linear projections, so that a model cannot know a task by heart and has to
learn from its context what each channel means. Here the map is orthogonal, hence without loss: an
orthogonal matrix, uniformly drawn, for the normalised observation and one for the normalised
action. Rewards and episode steps stay as they are.

With a task's mean m and deviations s = std + 1e-6, channel by channel, an action is mapped as
a' = m + s (Q ((a - m) / s)), and back by the transpose of Q with the same s. Dividing by the
deviation of a channel that hardly moves would blow up the error of a prediction and spread it over
all channels, so action channels with at most `CONSTANT` of the task's largest deviation stay as
they are, and Q is one of the others. Discrete actions are permuted. A normalised observation z is
mapped as Q z; one that the model takes as it is, as a continuous action, but over all channels, of
which constant ones add nothing.

Shapes: N rows, O observation, A action.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from pipelines.actions import ActionSpec
from pipelines.model.normalization import STD_EPSILON, TaskStatistics, Vector

Floats = npt.NDArray[np.float32]

#: Part of a task's largest deviation of an action up to which a channel counts as constant.
CONSTANT = 0.01


@dataclass(frozen=True, eq=False)
class RandomMap:
    """The map of one trajectory.

    Attributes:
        observation_OO: float32, applied to observations about `observation_center_O`.
        observation_center_O: The mean, or 0 for normalised observations.
        action_AA: float32, applied to actions about `action_center_A`.
        inverse_AA: float32, its inverse.
        action_center_A: The task's mean.
        order_N: int64, what each discrete action is seen as; there are no matrices then.
    """

    observation_OO: Floats
    observation_center_O: Vector
    action_AA: Floats
    inverse_AA: Floats
    action_center_A: Vector
    order_N: npt.NDArray[np.int64] | None = None

    @classmethod
    def draw(
        cls,
        statistics: TaskStatistics,
        generator: np.random.Generator,
        actions: ActionSpec | None = None,
        *,
        normalized: bool,
    ) -> Self:
        """Draw a map; costs two QR decompositions, O^3 and A^3.

        Args:
            generator: Says which map: equal states give equal maps.
            actions: What the task's actions are; continuous where None.
            normalized: Whether observations are normalised before they are mapped.
        """
        observation_OO = haar(len(statistics.observation_mean), generator)
        center_O = np.zeros_like(statistics.observation_mean)
        if not normalized:
            center_O = statistics.observation_mean
            observation_OO = _in_units(observation_OO, statistics.observation_std)
            observation_OO[:, statistics.constant_observation] = 0.0
        if actions is not None and not actions.continuous:
            none_AA, order_N = np.zeros((0, 0), np.float32), generator.permutation(actions.width)
            mean_A = statistics.action_mean
            return cls(
                observation_OO.astype(np.float32), center_O, none_AA, none_AA, mean_A, order_N
            )
        std_A = statistics.action_std
        moving = np.flatnonzero(_moving(statistics))
        action_AA = np.eye(len(std_A))
        action_AA[np.ix_(moving, moving)] = haar(len(moving), generator)
        return cls(
            observation_OO.astype(np.float32),
            center_O,
            _in_units(action_AA, std_A).astype(np.float32),
            _in_units(action_AA.T, std_A).astype(np.float32),
            statistics.action_mean,
        )

    def observation(self, observation_NO: Floats) -> Floats:
        """Return observations (N, O) or (O,) as the model is to see them."""
        return _applied(self.observation_OO, self.observation_center_O, observation_NO)

    def action(self, action_NA: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the environment's actions (N, A) or (A,) as the model is to see them."""
        if self.order_N is not None:
            return self.order_N[action_NA]
        return _applied(self.action_AA, self.action_center_A, action_NA)

    def executed(self, action_NA: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the model's actions (N, A) or (A,) as the environment is to take them."""
        if self.order_N is not None:
            return np.argsort(self.order_N)[action_NA]
        return _applied(self.inverse_AA, self.action_center_A, action_NA)

    def apply(self, observation_NO: Floats, *action_NA: npt.NDArray[Any]) -> None:
        """Map a trajectory's observations and any of its arrays of actions in place."""
        observation_NO[...] = self.observation(observation_NO)
        for array_NA in action_NA:
            array_NA[...] = self.action(array_NA)


def mapped_bounds(statistics: TaskStatistics, action_NA: Floats) -> tuple[Floats, Floats]:
    """Return the lower and upper bounds (A,) that actions (N, A) keep under any map."""
    scale_A = statistics.action_std + np.float32(STD_EPSILON)
    moving_A = _moving(statistics)
    units_NA = (action_NA - statistics.action_mean) / scale_A
    most_A = scale_A * np.linalg.norm(units_NA[:, moving_A], axis=1).max()
    return (
        np.where(moving_A, statistics.action_mean - most_A, action_NA.min(axis=0)),
        np.where(moving_A, statistics.action_mean + most_A, action_NA.max(axis=0)),
    )


def _moving(statistics: TaskStatistics) -> npt.NDArray[np.bool_]:
    """Return which channels of actions are mapped, (A,) bool."""
    moving_A: npt.NDArray[np.bool_] = statistics.action_std > CONSTANT * statistics.action_std.max()
    return moving_A


def haar(
    size: int, generator: np.random.Generator, columns: int | None = None
) -> npt.NDArray[np.float64]:
    """Return an orthogonal matrix (size, size), drawn uniformly (by the Haar measure).

    Args:
        columns: How many of its columns to return, at most `size`; None for all.
    """
    shape = (size, size if columns is None else columns)
    orthogonal, triangular = np.linalg.qr(generator.standard_normal(shape))
    # The decomposition leaves signs open; with those of a positive diagonal no matrix is favoured.
    return orthogonal * np.where(np.diagonal(triangular) < 0, -1.0, 1.0)


def _in_units(
    matrix: npt.NDArray[np.float64], std: npt.NDArray[np.float32]
) -> npt.NDArray[np.float64]:
    """Return a matrix of normalised channels as one of channels with these deviations."""
    scale = std.astype(np.float64) + STD_EPSILON
    return scale[:, None] * matrix / scale


def _applied(matrix: Floats, center: Vector, values: Floats) -> Floats:
    return np.asarray((values - center) @ matrix.T + center, np.float32)
