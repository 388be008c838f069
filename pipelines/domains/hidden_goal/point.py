"""A point in a square: the tasks ``point-dense`` and ``point-ring``.

The point starts in the middle of the square [-1, 1]^2; an action in [-1, 1] moves it by a tenth of
itself in each direction. Dense: the goal is anywhere in the square, and a step pays minus the
distance to it. Ring: the goal is on a circle around the start, and a step pays 1 near it, else 0.

Shapes: see `batch`. O = 4: the position (2) and two entries for the goal. A = 2, G = 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.domains.hidden_goal.batch import HiddenGoalBatch, Setting, Trace, arcs
from pipelines.drawing import COLOURS, MUTED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

STEP = 0.1
"""Of a full action, in each direction."""

RADIUS, NEAR = 0.7, 0.2
"""Of the circle of goals, and of the disk around a goal that pays."""

_CELL = 0.2
_ARCS = 40


class PointBatch(HiddenGoalBatch):
    """B points; see `HiddenGoalBatch`."""

    goal_dim = 2
    observation_dim = 4

    def __init__(self, setting: Setting) -> None:
        self.action_low_A = np.full(2, -1, np.float32)
        self.action_high_A = np.full(2, 1, np.float32)
        self.position_BX = np.zeros((len(setting.stream_seeds), 2))
        super().__init__(setting)

    def begin(self, where: NDArray[np.intp], seeds: Sequence[int]) -> None:
        """Put points into the middle."""
        self.position_BX[where] = 0

    def move(self, action_BA: NDArray[Any]) -> None:
        """Move the points; they stay within the square."""
        self.position_BX = np.clip(self.position_BX + STEP * action_BA.astype(np.float64), -1, 1)

    def observe(self) -> NDArray[np.float32]:
        """Return the positions, and zeros for the goal."""
        observation_BO = np.zeros((self.size, 4), np.float32)
        observation_BO[:, :2] = self.position_BX
        return observation_BO

    def show(self, observation_BO: NDArray[np.float32], goal_BG: NDArray[np.float32]) -> None:
        """Write the goals into the last two entries."""
        observation_BO[:, 2:] = goal_BG

    def distances(self, goal_BPG: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return how far the points are from goals (B, P)."""
        apart_BPG = self.position_BX[:, None] - goal_BPG
        return np.sqrt(apart_BPG[..., 0] ** 2 + apart_BPG[..., 1] ** 2)

    def draw(self, axes: Axes, trail: Sequence[Trace]) -> None:
        """Draw the way of the point in the square, and its goal."""
        way_TX = np.array([each.observation_O[:2] for each in trail])
        axes.set(xlim=(-1.05, 1.05), ylim=(-1.05, 1.05), aspect="equal")
        axes.plot(*way_TX.T, color=COLOURS[0], marker="o", markersize=3, label="the point")
        axes.plot(*way_TX[-1], color=COLOURS[0], marker="o", markersize=9)
        self.draw_goal(axes, self.goal_BG[0])

    def draw_goal(self, axes: Axes, goal_G: NDArray[np.float32]) -> None:
        """Draw a goal."""
        axes.plot(*goal_G, "*", color=COLOURS[1], markersize=14, label="the goal, not observed")


class DensePoints(PointBatch):
    """The goal is uniform in the square, cut into 10 x 10 cells; the reward is -distance."""

    # What a guess is worth that is off by a tenth, as a tenth is a step.
    reward_spread = 0.1

    def any_goals(self, generator: np.random.Generator, count: int) -> NDArray[np.float32]:
        """Draw points of the square."""
        return generator.uniform(-1, 1, (count, 2)).astype(np.float32)

    def cells(self, goal_NG: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return column and row, 0 to 9."""
        return np.minimum(np.floor((goal_NG.astype(np.float64) + 1) / _CELL), 9).astype(np.int64)

    def rewards(self, goal_BPG: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return minus the distances."""
        return -self.distances(goal_BPG)


class RingPoints(PointBatch):
    """The goal is on a circle, cut into 40 arcs; the reward is 1 within 0.2 of it, else 0."""

    def any_goals(self, generator: np.random.Generator, count: int) -> NDArray[np.float32]:
        """Draw points of the circle."""
        angle_N = generator.uniform(0, 2 * np.pi, count)
        goal_NG = RADIUS * np.stack([np.cos(angle_N), np.sin(angle_N)], axis=1)
        return goal_NG.astype(np.float32)

    def cells(self, goal_NG: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return the arc, 0 to 39, counted from the right against the clock."""
        return arcs(goal_NG, _ARCS)

    def draw_goal(self, axes: Axes, goal_G: NDArray[np.float32]) -> None:
        """Draw a goal, the circle that it is on, and where it pays."""
        from matplotlib.patches import Circle

        axes.add_patch(Circle((0, 0), RADIUS, fill=False, color=MUTED, linestyle=":"))
        axes.add_patch(Circle(goal_G.tolist(), NEAR, color=COLOURS[1], alpha=0.2))
        super().draw_goal(axes, goal_G)

    def rewards(self, goal_BPG: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return 1 near the goal, else 0."""
        return (self.distances(goal_BPG) <= NEAR).astype(np.float64)
