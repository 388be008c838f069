"""The Industrial Benchmark as a batch for the stages, and as a plain Gymnasium environment.

An episode has 250 steps (paper, Appendix A.2.3) and is truncated there; nothing terminates it.
Before its first observation the benchmark makes one step without action, so that an episode
consumes 251 rows of noise, all drawn at its reset from its seed.

Shapes: B copies, K rows of noise, O = 6 observations, A = 3 actions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import gymnasium
import numpy as np
from numpy.typing import NDArray

from pipelines.domains.base import BatchEnvironment, StepBatch
from pipelines.domains.industrial_benchmark import noise
from pipelines.domains.industrial_benchmark.dynamics import (
    ACTION_DIM,
    CONSUMPTION,
    FATIGUE,
    GAIN,
    OBSERVATION_DIM,
    SETPOINT,
    SHIFT,
    VELOCITY,
    Dynamics,
    State,
)
from pipelines.domains.loop import SingleEnv
from pipelines.drawing import COLOURS, INK, STYLE

HORIZON = 250
_DPI = 100
#: What pictures show: name, entry of the observation and place in the palette of each curve.
_PANELS = {
    "steerings": (("velocity", VELOCITY, 0), ("gain", GAIN, 2), ("shift", SHIFT, 1)),
    "fatigue and consumption": (("consumption", CONSUMPTION, 0), ("fatigue", FATIGUE, 1)),
}

# Fatigue is at most 30000 / 100, amplified by at most 1; consumption carries normal noise.
_OBSERVATION_LOW = np.array([0, 0, 0, 0, 0, -np.inf], dtype=np.float32)
_OBSERVATION_HIGH = np.array([100, 100, 100, 100, 300, np.inf], dtype=np.float32)


class SetpointBatch(BatchEnvironment):
    """B copies, each with its own setpoint, by any backend.

    Args:
        setpoint_B: Setpoint of each copy, in [0, 100].
        delta_reward: Whether the reward is the change of the classic reward since the last step
            (at the first step, since the reset) in place of the classic reward.
    """

    observation_dim = OBSERVATION_DIM

    def __init__(self, setpoint_B: Sequence[float], *, delta_reward: bool = False) -> None:
        self.size = len(setpoint_B)
        self.action_low_A = np.full(ACTION_DIM, -1, dtype=np.float32)
        self.action_high_A = np.full(ACTION_DIM, 1, dtype=np.float32)
        self._setpoint_B = np.array(setpoint_B, dtype=np.float64)
        self._delta_reward = delta_reward
        self._last_reward_B = np.zeros(self.size)

    def _reward(self, classic_B: NDArray[np.float64]) -> NDArray[np.float64]:
        if not self._delta_reward:
            return classic_B
        change_B, self._last_reward_B = classic_B - self._last_reward_B, classic_B
        return change_B


class IndustrialBenchmarkBatch(SetpointBatch):
    """B copies stepped by `Dynamics`; see `SetpointBatch`.

    A copy's noise waits in a ring of 250 rows that all copies share, written at the copy's reset
    from the row of the next step on. A step therefore reads one row whatever the ages of the
    copies are.
    """

    def __init__(self, setpoint_B: Sequence[float], *, delta_reward: bool = False) -> None:
        super().__init__(setpoint_B, delta_reward=delta_reward)
        self._dynamics = Dynamics(self._setpoint_B)
        self._state = self._dynamics.initial_state()
        self._noise_TKB = np.zeros((HORIZON, noise.ROWS, self.size))
        self._end_tick_B = np.zeros(self.size, dtype=np.int64)
        self._first_end = 0

    def reset(self, indices: Sequence[int], seeds: Sequence[int]) -> NDArray[np.float32]:
        """Begin an episode in some copies; see `BatchEnvironment.reset`."""
        where = np.asarray(indices, dtype=np.intp)
        if not len(where):
            return np.empty((0, OBSERVATION_DIM), dtype=np.float32)
        episodes_TKN = noise.episodes(seeds, HORIZON + 1)
        dynamics = Dynamics(self._setpoint_B[where])
        state = dynamics.initial_state()
        dynamics.step(state, np.zeros((len(where), ACTION_DIM)), episodes_TKN[0])

        now = self._state.tick
        self._state.assign(where, state)
        self._store_noise(where, now % HORIZON, episodes_TKN[1:])
        self._end_tick_B[where] = now + HORIZON
        self._first_end = int(self._end_tick_B.min())
        self._last_reward_B[where] = dynamics.reward(state)
        return state.observation()

    def step(self, action_BA: NDArray[np.float32]) -> StepBatch:
        """Advance all copies by one step; see `BatchEnvironment.step`.

        Raises:
            gymnasium.error.ResetNeeded: A copy's episode has ended, or never begun.
        """
        state = self._state
        if state.tick >= self._first_end:
            raise reset_needed(np.flatnonzero(self._end_tick_B <= state.tick))
        self._dynamics.step(state, action_BA, self._noise_TKB[state.tick % HORIZON])
        reward_B = self._reward(self._dynamics.reward(state))
        truncated_B = np.zeros(self.size, dtype=bool)
        if state.tick == self._first_end:
            np.equal(self._end_tick_B, state.tick, out=truncated_B)
        return StepBatch(
            observation_BO=state.observation(),
            reward_B=reward_B,
            terminated_B=np.zeros(self.size, dtype=bool),
            truncated_B=truncated_B,
            success_B=None,
        )

    @property
    def state(self) -> State:
        """The full state of all copies, hidden variables included; valid until the next step."""
        return self._state

    def _store_noise(
        self, where: NDArray[np.intp], start: int, noise_TKN: NDArray[np.float64]
    ) -> None:
        # A slice is written several times faster than an index array, and most resets are of
        # the whole batch.
        whole = len(where) == self.size and bool((where == np.arange(self.size)).all())
        copies = slice(None) if whole else where
        self._noise_TKB[start:, :, copies] = noise_TKN[: HORIZON - start]
        self._noise_TKB[:start, :, copies] = noise_TKN[HORIZON - start :]


class IndustrialBenchmarkEnv(SingleEnv):
    """A batch of one as a Gymnasium environment that draws the curves of its episode.

    Args:
        batch: One copy, by any backend.
        render_mode: ``rgb_array`` to draw, or None.
        size: Width and height of these pictures in pixels.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 10}

    def __init__(
        self,
        batch: BatchEnvironment,
        render_mode: str | None = None,
        size: tuple[int, int] = (640, 480),
    ) -> None:
        super().__init__(batch, _OBSERVATION_LOW, _OBSERVATION_HIGH)
        self.render_mode, self._size = render_mode, size
        self._observations: list[NDArray[np.float32]] = []
        self._rewards: list[float] = []

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Begin an episode; `options` are not used."""
        observation_O, info = super().reset(seed=seed)
        self._observations, self._rewards = [observation_O.copy()], []
        return observation_O, info

    def step(
        self, action: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Advance by one step.

        Raises:
            gymnasium.error.ResetNeeded: The episode has ended, or never begun.
        """
        after = super().step(action)
        if self.render_mode is not None:
            self._observations.append(after[0].copy())
            self._rewards.append(after[1])
        return after

    def render(self) -> Any:
        """Draw the curves of the episode up to now: uint8 (H, W, 3), or None without a mode.

        There is no scene to be seen.

        Raises:
            gymnasium.error.ResetNeeded: No episode has begun.
        """
        if self.render_mode is None:
            return None
        if not self._observations:
            raise reset_needed(np.array([0]))
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        states_TO, steps = np.asarray(self._observations), len(self._rewards)
        inches: Any = [pixels / _DPI for pixels in self._size]
        with matplotlib.rc_context(STYLE):
            figure = Figure(inches, _DPI, layout="constrained", facecolor="white")
            canvas = FigureCanvasAgg(figure)
            panels = figure.subplots(3, 1, sharex=True)
            for axes, (title, curves) in zip(panels, _PANELS.items(), strict=False):
                for label, column, colour in curves:
                    look = {"color": COLOURS[colour], "linewidth": 1.4, "label": label}
                    axes.plot(states_TO[:, column], **look)
                axes.set_title(title)
                # Beside the panel: a curve may be anywhere within it.
                axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), handlelength=1.4)
            panels[0].set_ylim(-3, 103)
            panels[2].plot(range(1, steps + 1), self._rewards, color=INK, linewidth=1.4)
            panels[2].set(title="reward", xlabel="step", xlim=(0, max(1, steps)))
            setpoint, total = states_TO[0, SETPOINT], sum(self._rewards)
            title = f"Industrial Benchmark, setpoint {setpoint:g}: return {total:,.0f}"
            figure.suptitle(f"{title} after {steps} steps", x=0.01, ha="left")
            canvas.draw()
            return np.array(canvas.buffer_rgba(), dtype=np.uint8)[..., :3]


def reset_needed(copies: NDArray[np.intp]) -> gymnasium.error.ResetNeeded:
    """Return the error of a step in copies whose episode has ended or never begun."""
    return gymnasium.error.ResetNeeded(
        f"Industrial Benchmark: the episode of copies {copies.tolist()} has ended or never begun; "
        "reset them before the next step."
    )
