"""A dark room: the tasks ``dark-room`` and ``dark-key-to-door``.

A grid of 9 x 9 cells, in which one sees where one is and nothing else. An episode starts in the
middle; the actions are to stay, and to go up, down, left and right, where there is no wall. After
Laskin et al. 2022 (Algorithm Distillation, arXiv:2210.14215, section 4.1); in ``dark-room`` a step
pays 1 that ends in the goal. In ``dark-key-to-door`` the first step to the key pays 1, and the
first one to the door after that.

Shapes: see `batch`. O = 20: column and row, each as 9 entries of which one is 1, and two entries
for the cell to go to, counted from the middle. Actions are (B,) from 0 to 4. Z = 81 cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.actions import Discrete
from pipelines.domains.hidden_goal.batch import HiddenGoalBatch, Setting, Trace
from pipelines.drawing import COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

SIDE, MIDDLE = 9, 4
MOVES = np.array([(0, 0), (0, 1), (0, -1), (-1, 0), (1, 0)])
"""Stay, up, down, left, right: columns and rows."""

_ALL = np.stack(np.divmod(np.arange(SIDE * SIDE), SIDE), axis=1).astype(np.float32)
_NEVER = np.iinfo(np.int64).max


class Grid(HiddenGoalBatch):
    """B grids; see `HiddenGoalBatch`."""

    observation_dim = 2 * SIDE + 2
    actions = Discrete(len(MOVES))

    def __init__(self, setting: Setting) -> None:
        self._cell_BX = np.full((len(setting.stream_seeds), 2), MIDDLE)
        self._copies = np.arange(len(setting.stream_seeds))
        super().__init__(setting)

    def few_goals(self) -> NDArray[np.float32]:
        """Return all goals."""
        return self._goals

    @cached_property
    def _goals(self) -> NDArray[np.float32]:
        return _ALL

    def any_goals(self, generator: np.random.Generator, count: int) -> NDArray[np.float32]:
        """Draw among all goals."""
        return self._goals[generator.integers(len(self._goals), size=count)]

    def cells(self, goal_NG: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return the goals themselves, which are columns and rows."""
        return goal_NG.astype(np.int64)

    def begin(self, where: NDArray[np.intp], seeds: Sequence[int]) -> None:
        """Go to the middle."""
        self._cell_BX[where] = MIDDLE

    def move(self, action_BA: NDArray[Any]) -> None:
        """Go to the next cells."""
        self._cell_BX = np.clip(self._cell_BX + MOVES[action_BA], 0, SIDE - 1)

    @property
    def _numbers(self) -> NDArray[np.int64]:
        """The numbers of the present cells, 0 to 80."""
        return self._cell_BX[:, 0] * SIDE + self._cell_BX[:, 1]

    def observe(self) -> NDArray[np.float32]:
        """Return the present cells, and zeros for where to go."""
        observation_BO = np.zeros((self.size, self.observation_dim), np.float32)
        observation_BO[self._copies, self._cell_BX[:, 0]] = 1
        observation_BO[self._copies, SIDE + self._cell_BX[:, 1]] = 1
        return observation_BO

    def draw(self, axes: Axes, trail: Sequence[Trace]) -> None:
        """Draw the way through the grid, and the goal."""
        seen_TO = np.array([each.observation_O for each in trail])
        way_XT = np.stack([seen_TO[:, :SIDE].argmax(1), seen_TO[:, SIDE : 2 * SIDE].argmax(1)])
        axes.set(xlim=(-0.5, SIDE - 0.5), ylim=(-0.5, SIDE - 0.5), aspect="equal")
        axes.set_xticks(np.arange(SIDE))
        axes.set_yticks(np.arange(SIDE))
        axes.plot(*way_XT, color=COLOURS[0], marker="o", markersize=4, label="the way")
        axes.plot(*way_XT[:, -1], color=COLOURS[0], marker="o", markersize=11)
        self.draw_goal(axes, self.goal_BG[0])

    def draw_goal(self, axes: Axes, goal_G: NDArray[np.float32]) -> None:
        """Draw a goal."""
        axes.plot(*goal_G, "*", color=COLOURS[1], markersize=16, label="the goal, not observed")


class DarkRoom(Grid):
    """The goal is a cell."""

    goal_dim = 2

    def show(self, observation_BO: NDArray[np.float32], goal_BG: NDArray[np.float32]) -> None:
        """Write where the goal is into the last two entries."""
        observation_BO[:, -2:] = goal_BG - MIDDLE

    def rewards(self, goal_BPG: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return 1 in the goal, else 0."""
        there_BP = numbers(goal_BPG) == self._numbers[:, None]
        return there_BP.astype(np.float64)


class DarkKeyToDoor(Grid):
    """The goal is the cell of the key and another one, of the door."""

    goal_dim = 4

    def __init__(self, setting: Setting) -> None:
        size = len(setting.stream_seeds)
        # When each cell was reached in the episode: the first time, and the last one before now.
        self._first_BZ = np.full((size, SIDE * SIDE), _NEVER)
        self._last_BZ = np.full((size, SIDE * SIDE), -1)
        self._before_B = np.full(size, -1)
        super().__init__(setting)

    @cached_property
    def _goals(self) -> NDArray[np.float32]:
        key, door = np.divmod(np.arange(len(_ALL) ** 2), len(_ALL))
        return np.concatenate([_ALL[key], _ALL[door]], axis=1)[key != door]

    def begin(self, where: NDArray[np.intp], seeds: Sequence[int]) -> None:
        """Go to the middle; nothing has been reached."""
        super().begin(where, seeds)
        self._first_BZ[where], self._last_BZ[where] = _NEVER, -1

    def move(self, action_BA: NDArray[Any]) -> None:
        """Go to the next cells, and remember when."""
        super().move(action_BA)
        place = (self._copies, self._numbers)
        self._before_B = self._last_BZ[place]
        self._last_BZ[place] = self._age_B
        self._first_BZ[place] = np.minimum(self._first_BZ[place], self._age_B)

    def show(self, observation_BO: NDArray[np.float32], goal_BG: NDArray[np.float32]) -> None:
        """Write where the key is into the last two entries; once it is reached, the door."""
        reached_B = self._first_BZ[self._copies, numbers(goal_BG[:, :2])] != _NEVER
        next_BX = np.where(reached_B[:, None], goal_BG[:, 2:], goal_BG[:, :2])
        observation_BO[:, -2:] = next_BX - MIDDLE

    def rewards(self, goal_BPG: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return 1 at the key's and at the door's first time, else 0."""
        key_BP, door_BP = numbers(goal_BPG[..., :2]), numbers(goal_BPG[..., 2:])
        here_B1, now_B1 = self._numbers[:, None], self._age_B[:, None]
        got_BP = np.take_along_axis(self._first_BZ, key_BP, axis=1)
        at_key_BP = (key_BP == here_B1) & (got_BP == now_B1)
        # Had it been here with the key already, the door would be open.
        at_door_BP = (door_BP == here_B1) & (got_BP < now_B1) & (self._before_B[:, None] < got_BP)
        return (at_key_BP | at_door_BP).astype(np.float64)

    def draw_goal(self, axes: Axes, goal_G: NDArray[np.float32]) -> None:
        """Draw the key and the door."""
        axes.plot(*goal_G[:2], "P", color=COLOURS[1], markersize=13, label="the key")
        axes.plot(*goal_G[2:], "s", color=COLOURS[2], markersize=13, label="the door, not observed")


def numbers(cell_NX: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the numbers (...), 0 to 80, of cells (..., 2)."""
    return (cell_NX[..., 0] * SIDE + cell_NX[..., 1]).astype(np.int64)
