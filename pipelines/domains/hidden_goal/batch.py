"""Copies of a task whose goal the observation does not show, and the goals that there are.

A copy's goal is drawn from its stream seed and kept for all its episodes. The last entries of an
observation are kept free for the goal: zeros, but where the option ``goal`` is ``visible``, and in
what demonstrators see. What a step pays is one function of the step and of a goal, `rewards`, with
which the environment pays as well, so that two goals of a task differ in reward alone.

Goals are held out by their cell: the goals of a task are cut into cells, numbered in each direction
from 0, and a fifth of the cells is held out, those whose weighted sum of numbers, with the weights
1, 2, 1, 2 and so on, is divisible by 5. They are spread evenly over the task.

Shapes: B copies, O observation, A action, G numbers of a goal, P goals, N goals or copies, C
directions of cells.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, get_args

import gymnasium
import numpy as np
from numpy.typing import NDArray

from pipelines.domains.batch import BatchEnvironment, StepBatch
from pipelines.domains.goals import HiddenGoals, Knowledge
from pipelines.domains.loop import SingleEnv
from pipelines.drawing import STYLE
from pipelines.rng import stream

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GoalSet = Literal["training", "held-out", "all"]
GOAL_SETS: tuple[GoalSet, ...] = get_args(GoalSet)

_DPI = 100

HELD_OUT_OF = 5
"""One cell of goals in so many is held out."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What is the same for the batches of all families.

    Attributes:
        stream_seeds: A seed for each copy, of which its goal is drawn.
        picture_size: Width and height in pixels, where pictures are drawn; else None.
    """

    stream_seeds: Sequence[int]
    horizon: int
    goals: GoalSet = "all"
    visible: bool = False
    picture_size: tuple[int, int] | None = None


class HiddenGoalBatch(BatchEnvironment):
    """B copies of a task; a family is a class derived from this one.

    Attributes:
        goal_dim: G.
        reward_spread: As of `HiddenGoals`.
        goal_BG: float32, the goal of each copy.
    """

    goal_dim: int
    reward_spread = 0.0

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self.size = len(setting.stream_seeds)
        self._age_B = np.zeros(self.size, np.int64)
        self.goal_BG = np.zeros((self.size, self.goal_dim), np.float32)
        for copy, seed in enumerate(setting.stream_seeds):
            self.fix_goal(copy, seed)

    def fix_goal(self, copy: int, seed: int) -> None:
        """Draw the goal of a copy from a seed."""
        self.goal_BG[copy] = self.draw_goals(stream(seed, "hidden goal"), 1)[0]

    def draw_goals(self, generator: np.random.Generator, count: int) -> NDArray[np.float32]:
        """Return goals (count, G) of the setting's set."""
        if self._setting.goals == "all":
            return self.any_goals(generator, count)
        wanted = self._setting.goals == "held-out"
        kept_NG = np.zeros((0, self.goal_dim), np.float32)
        while len(kept_NG) < count:
            drawn_NG = self.any_goals(generator, count)
            drawn_NG = drawn_NG[held_out(self.cells(drawn_NG)) == wanted]
            kept_NG = np.concatenate([kept_NG, drawn_NG])
        return kept_NG[:count]

    def every_goal(self) -> NDArray[np.float32] | None:
        """Return all goals of the setting's set (P, G) where they are few; else None."""
        goal_PG = self.few_goals()
        if goal_PG is None or self._setting.goals == "all":
            return goal_PG
        return goal_PG[held_out(self.cells(goal_PG)) == (self._setting.goals == "held-out")]

    def reset(self, indices: Sequence[int], seeds: Sequence[int]) -> NDArray[np.float32]:
        """Begin an episode in some copies; see `BatchEnvironment.reset`."""
        where = np.asarray(indices, np.intp)
        self._age_B[where] = 0
        self.begin(where, seeds)
        return self._seen()[where]

    def step(self, action_BA: NDArray[np.float32]) -> StepBatch:
        """Advance all copies by one step; see `BatchEnvironment.step`."""
        self._age_B += 1
        self.move(action_BA)
        return StepBatch(
            observation_BO=self._seen(),
            reward_B=self.rewards(self.goal_BG[:, None])[:, 0],
            terminated_B=self.ended(),
            truncated_B=self._age_B >= self._setting.horizon,
            success_B=None,
        )

    def _seen(self) -> NDArray[np.float32]:
        observation_BO = self.observe()
        if self._setting.visible:
            self.show(observation_BO, self.goal_BG)
        return observation_BO

    # What a family has

    @abstractmethod
    def any_goals(self, generator: np.random.Generator, count: int) -> NDArray[np.float32]:
        """Draw goals (count, G), float32, held out or not."""

    def few_goals(self) -> NDArray[np.float32] | None:
        """Return all goals (P, G), held out or not, where they are few and equally likely."""
        return None

    @abstractmethod
    def cells(self, goal_NG: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return the numbers (N, C) of the cells that goals are in."""

    @abstractmethod
    def begin(self, where: NDArray[np.intp], seeds: Sequence[int]) -> None:
        """Put some copies to the start of an episode."""

    @abstractmethod
    def move(self, action_BA: NDArray[Any]) -> None:
        """Advance the state of all copies by one step."""

    @abstractmethod
    def observe(self) -> NDArray[np.float32]:
        """Return what the copies show (B, O), a new array, with zeros for the goal."""

    @abstractmethod
    def show(self, observation_BO: NDArray[np.float32], goal_BG: NDArray[np.float32]) -> None:
        """Write goals, or what follows from them at the present step, into observations."""

    def ended(self) -> NDArray[np.bool_]:
        """Tell which episodes have ended by the task (B,); none, by default."""
        return np.zeros(self.size, np.bool_)

    def draw(self, axes: Axes, trail: Sequence[Trace]) -> None:
        """Draw the episode of the first copy, from its start to the present step.

        Args:
            trail: The observation after the reset, and after each step, with what was done and
                paid.
        """
        raise NotImplementedError

    def picture(self, title: str, trail: Sequence[Trace]) -> NDArray[np.uint8]:
        """Return a picture (H, W, 3) of the first copy; by default what `draw` draws."""
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        inches: Any = [pixels / _DPI for pixels in self._setting.picture_size or (640, 480)]
        with matplotlib.rc_context(STYLE):
            figure = Figure(inches, _DPI, layout="constrained", facecolor="white")
            canvas = FigureCanvasAgg(figure)
            axes = figure.subplots()
            self.draw(axes, trail)
            steps, total = len(trail) - 1, sum(each.reward for each in trail)
            axes.set_title(f"{title}: return {total:.3g} after {steps} steps")
            figure.legend(loc="outside lower center", ncols=3)
            canvas.draw()
            return np.array(canvas.buffer_rgba(), dtype=np.uint8)[..., :3]

    @abstractmethod
    def rewards(self, goal_BPG: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return what the latest step pays each copy under each of its goals (B, P), float64.

        Only between a step and the next reset or step.
        """

    def log_likelihoods(
        self, goal_BPG: NDArray[np.float32], reward_B: NDArray[np.float64]
    ) -> NDArray[np.float64] | None:
        """Return how likely the latest rewards are (B, P), where chance has a part in them."""
        return None


class Trace(NamedTuple):
    """A step of an episode, for its picture.

    Attributes:
        observation_O: float32, after the step.
        action_A: What was done; None after the reset.
        reward: What was paid.
    """

    observation_O: NDArray[np.float32]
    action_A: NDArray[Any] | None
    reward: float


def held_out(cell_NC: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell which goals (N,) are held out, by the numbers of their cells."""
    weight_C = 1 + np.arange(cell_NC.shape[1]) % 2
    return (cell_NC @ weight_C) % HELD_OUT_OF == 0


def arcs(goal_NG: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Return in which of so many arcs of a circle points (N, 2) are (N, 1).

    They are numbered from 0, at the right, against the clock.
    """
    place_NG = goal_NG.astype(np.float64)
    turn_N = np.arctan2(place_NG[:, 1], place_NG[:, 0]) / (2 * np.pi) % 1
    return np.minimum(np.floor(turn_N * count), count - 1).astype(np.int64)[:, None]


class BatchGoals(HiddenGoals):
    """The goals of a batch as those who collect histories ask for them."""

    def __init__(self, batch: HiddenGoalBatch, knowledge: Knowledge) -> None:
        self._batch, self.knowledge = batch, knowledge
        self.dim, self.reward_spread = batch.goal_dim, batch.reward_spread

    def current(self) -> NDArray[np.float32]:
        """Return the goal of each copy; see `HiddenGoals`."""
        return self._batch.goal_BG.copy()

    def draw(self, generator: np.random.Generator, count: int) -> NDArray[np.float32]:
        """Return goals of the set that the copies have theirs from; see `HiddenGoals`."""
        return self._batch.draw_goals(generator, count)

    def every(self) -> NDArray[np.float32] | None:
        """Return all goals of that set, where they are few; see `HiddenGoals`."""
        return self._batch.every_goal()

    def show(
        self, observation_BO: NDArray[np.float32], goal_BG: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Return the observations with the goals in their place; see `HiddenGoals`."""
        seen_BO = observation_BO.copy()
        self._batch.show(seen_BO, goal_BG)
        return seen_BO

    def rewards(self, goal_BPG: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return what the latest step would have paid; see `HiddenGoals`."""
        return self._batch.rewards(goal_BPG)

    def log_likelihoods(
        self, goal_BPG: NDArray[np.float32], reward_B: NDArray[np.float64]
    ) -> NDArray[np.float64] | None:
        """Return how likely goals make the latest rewards; see `HiddenGoals`."""
        known_BP = self._batch.log_likelihoods(goal_BPG, reward_B)
        return super().log_likelihoods(goal_BPG, reward_B) if known_BP is None else known_BP


class HiddenGoalEnv(SingleEnv):
    """A batch of one copy as a Gymnasium environment.

    Each reset draws the goal from the seed of its episode, until `fix_goal`: from then on all
    episodes have one goal.

    Args:
        render_mode: ``rgb_array`` to draw, or None.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 5}

    def __init__(
        self,
        batch: HiddenGoalBatch,
        title: str,
        render_mode: str | None = None,
    ) -> None:
        super().__init__(batch, -np.inf, np.inf)
        self._copy, self._fixed = batch, False
        self._title = title
        self._trail: list[Trace] = []
        self.render_mode = render_mode

    def fix_goal(self, seed: int) -> None:
        """Draw the goal of all later episodes from a seed."""
        self._copy.fix_goal(0, seed)
        self._fixed = True

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Begin an episode; `options` are not used."""
        gymnasium.Env.reset(self, seed=seed)
        if seed is None:
            seed = int(self.np_random.integers(2**31))
        if not self._fixed:
            self._copy.fix_goal(0, seed)
        observation_O = self._batch.reset([0], [seed])[0]
        self._trail = [Trace(observation_O.copy(), None, 0.0)]
        return observation_O, {}

    def step(
        self, action: NDArray[Any]
    ) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Advance by one step."""
        after = super().step(action)
        if self.render_mode is not None:
            self._trail.append(Trace(after[0].copy(), np.array(action), after[1]))
        return after

    def render(self) -> Any:
        """Draw the episode up to now and its goal: uint8 (H, W, 3), or None without a mode.

        Raises:
            gymnasium.error.ResetNeeded: No episode has begun.
        """
        if self.render_mode is None:
            return None
        if not self._trail:
            raise gymnasium.error.ResetNeeded("No episode has begun: reset() before render().")
        return self._copy.picture(self._title, self._trail)

    @property
    def hidden_goals(self) -> HiddenGoals:
        """The goal of the present episode, for demonstrators."""
        return BatchGoals(self._copy, "demonstrator")
