"""The dynamics of the Industrial Benchmark over B copies at once, in float64.

Equations: Hein et al. 2017, "A Benchmark Environment Motivated by Industrial Control Problems"
(arXiv:1709.09480), with the constants of the package industrial-benchmark-python 2.0 and a
constant setpoint per copy. Against that package on the same draws the largest difference is of
the order of 1e-12 (tests/domains/test_industrial_benchmark.py).

A step is about eighty elementwise operations on short arrays, whose cost is the call, not the
arithmetic: hence buffers allocated once, constants as 0-d arrays (a Python number is converted at
every call) and tables in place of masks. Operations are elementwise throughout, so that a copy's
numbers cannot depend on how many others there are.

Shapes: B copies, A = 3 actions, K rows of noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.domains.industrial_benchmark import goldstone, noise

Array = NDArray[np.float64]

OBSERVATION_DIM = 6
ACTION_DIM = 3

_SHIFT_BOUND = 1.5
_SHIFT_PER_SETPOINT = 0.02
_SHIFT_RANGE = 2 * _SHIFT_BOUND + 100 * _SHIFT_PER_SETPOINT
CONTROL_STEPS = (1.0, 10.0, goldstone.LARGEST_STEP / 0.9 * 100 / _SHIFT_RANGE)
"""How far a full action moves velocity, gain and shift."""

SETPOINT, VELOCITY, GAIN, SHIFT, FATIGUE, CONSUMPTION = range(OBSERVATION_DIM)
_CONTROLS = slice(VELOCITY, SHIFT + 1)

_RECENT_COSTS, _RECENT_SUMS = 3, 8


class _Constants(NamedTuple):
    zero: Array = np.array(0.0)
    one: Array = np.array(1.0)
    minus_one: Array = np.array(-1.0)
    control_limit: Array = np.array(100.0)
    # A control moves freely in [0, 100]; effective actions up to the tolerance do no harm.
    tolerance: Array = np.array(0.05)
    decay: Array = np.array(0.9)
    third: Array = np.array(1 / 3)
    runaway_from: Array = np.array(1.2)
    runaway_rate: Array = np.array(1.1)
    runaway_limit: Array = np.array(5.0)
    # Basic fatigue 30000 / (5 v + 100) - 0.01 g^2, its amplification (1 + 2 alpha) / 3.
    fatigue_velocity: Array = np.array(6000.0)
    fatigue_offset: Array = np.array(20.0)
    fatigue_gain: Array = np.array(0.01)
    two_thirds: Array = np.array(2 / 3)
    # Operational cost exp((2 p + 4 v + 2.5 g) / 100) and its convolution in time.
    cost_velocity: Array = np.array(0.04)
    cost_gain: Array = np.array(0.025)
    cost_weight: Array = np.array(0.11111)
    shift_slope: Array = np.array(_SHIFT_RANGE / 100)
    shift_bound: Array = np.array(_SHIFT_BOUND)
    minus_shift_bound: Array = np.array(-_SHIFT_BOUND)
    safe: Array = np.array(goldstone.SAFE_ZONE)
    minus_safe: Array = np.array(-goldstone.SAFE_ZONE)
    quadratic: Array = np.array(goldstone.potential().quadratic)
    quartic: Array = np.array(goldstone.potential().quartic)
    miscalibration_weight: Array = np.array(25.0)
    fatigue_weight: Array = np.array(3.0)
    reward_divisor: Array = np.array(-100.0)


_C = _Constants()


@dataclass(slots=True)
class State:
    """The whole state of B copies.

    Attributes:
        visible_6B: Setpoint, velocity, gain, shift, fatigue, consumption.
        hidden_2B: Hidden velocity and hidden gain.
        cursor_B: intp, miscalibration automaton (`goldstone.Tables`).
        costs: Operational costs (B,) of the last steps, a ring.
        cost_sums: Sums (B,) of three successive costs, a ring.
        tick: Steps made; where the rings are.
    """

    visible_6B: Array
    hidden_2B: Array
    cursor_B: NDArray[np.intp]
    costs: list[Array]
    cost_sums: list[Array]
    tick: int = 0

    def assign(self, indices: NDArray[np.intp], other: State) -> None:
        """Put the copies of another state, one step old at most, in the place of some of these.

        Args:
            indices: Where each copy of `other` goes.
            other: A state whose rings hold one value each, so that their positions do not matter.
        """
        self.visible_6B[:, indices] = other.visible_6B
        self.hidden_2B[:, indices] = other.hidden_2B
        self.cursor_B[indices] = other.cursor_B
        for ring, source in ((self.costs, other.costs), (self.cost_sums, other.cost_sums)):
            for values_B in ring:
                values_B[indices] = source[0]

    def observation(self) -> NDArray[np.float32]:
        """Return what is visible, (B, 6) float32, in memory of its own."""
        return self.visible_6B.T.astype(np.float32, order="C")


class Dynamics:
    """Steps B copies; holds no state but scratch memory, and is not to be shared by threads.

    Args:
        setpoint_B: Setpoint of each copy, in [0, 100].
    """

    def __init__(self, setpoint_B: NDArray[np.float64]) -> None:
        setpoint = self._setpoint_B = np.array(setpoint_B, dtype=np.float64)
        size = len(setpoint)
        self._control_steps_3B = np.repeat(np.array(CONTROL_STEPS)[:, None], size, axis=1)
        # Effective velocity and gain are ratios with these added to velocity and gain, brought
        # to [0, 1] over all velocities and gains.
        self._effective_offset_2B = np.stack((101.0 - setpoint, 1.0 + setpoint))
        lowest = np.stack(((setpoint + 2.0) / (201.0 - setpoint), 1.0 / (setpoint + 101.0)))
        highest = np.stack(((setpoint + 102.0) / (101.0 - setpoint), 1.0 / (setpoint + 1.0)))
        self._effective_lowest_2B = lowest
        self._effective_range_2B = highest - lowest
        self._setpoint_cost_B = 0.02 * setpoint
        self._shift_offset_B = _SHIFT_PER_SETPOINT * setpoint + _SHIFT_BOUND
        self._tables = goldstone.tables()

        self._action_3B = np.empty((ACTION_DIM, size))
        self._denominator_2B = np.empty((2, size))
        # The numerator of the effective gain is 1 and stays so.
        self._effective_2B, self._numerator_2B = np.empty((2, size)), np.ones((2, size))
        self._noise_2B, self._next_2B = np.empty((2, size)), np.empty((2, size))
        self._mask_2B, self._runaway_2B = np.empty((2, size), bool), np.empty((2, size), bool)
        self._curve_5B = np.empty((5, size))
        self._mask_B, self._other_mask_B = np.empty(size, bool), np.empty(size, bool)
        self._index_B = np.empty(size, np.intp)
        self._one_B, self._two_B, self._three_B = np.empty((3, size))

    def initial_state(self) -> State:
        """Return the state before the step that the benchmark makes at construction.

        The first observation of an episode is what a step with zero action makes of it.
        """
        size = len(self._setpoint_B)
        visible = np.zeros((OBSERVATION_DIM, size))
        visible[SETPOINT] = self._setpoint_B
        visible[_CONTROLS] = 50.0
        cost_B = self._operational_cost(visible, np.empty(size))
        sum_B = cost_B + cost_B + cost_B
        return State(
            visible_6B=visible,
            hidden_2B=np.zeros((2, size)),
            cursor_B=np.full(size, self._tables.start, dtype=np.intp),
            costs=[cost_B.copy() for _ in range(_RECENT_COSTS)],
            cost_sums=[sum_B.copy() for _ in range(_RECENT_SUMS)],
        )

    def step(
        self, state: State, action_BA: NDArray[np.floating], draws_KB: NDArray[np.float64]
    ) -> None:
        """Advance a state by one step, in place.

        Args:
            state: Of B copies.
            action_BA: Changes of velocity, gain and shift, clipped to [-1, 1].
            draws_KB: Prepared noise of this step (`noise.prepare`), a contiguous row each.
        """
        controls = state.visible_6B[_CONTROLS]
        action = self._action_3B
        action[:] = action_BA.T
        np.maximum(action, _C.minus_one, out=action)
        np.minimum(action, _C.one, out=action)
        np.multiply(action, self._control_steps_3B, action)
        np.add(controls, action, controls)
        np.maximum(controls, _C.zero, out=controls)
        np.minimum(controls, _C.control_limit, out=controls)

        self._update_fatigue(state, draws_KB)
        cost_B = self._convolved_cost(state)
        penalty_B = self._update_miscalibration(state)
        # Consumption is x - noise (1 + 0.005 x), x = cost - 25 (penalty - 1).
        consumption = state.visible_6B[CONSUMPTION]
        np.subtract(_C.one, penalty_B, consumption)
        np.multiply(consumption, _C.miscalibration_weight, consumption)
        np.add(consumption, cost_B, consumption)
        np.multiply(consumption, draws_KB[noise.CONSUMPTION_FACTOR], consumption)
        np.subtract(consumption, draws_KB[noise.CONSUMPTION_OFFSET], consumption)
        state.tick += 1

    def reward(self, state: State) -> NDArray[np.float64]:
        """Return the classic reward -(3 fatigue + consumption) / 100 (B,), in memory of its own.

        The division by 100 is the paper's (Appendix A.2.3).
        """
        reward_B = state.visible_6B[FATIGUE] * _C.fatigue_weight
        np.add(reward_B, state.visible_6B[CONSUMPTION], reward_B)
        return np.divide(reward_B, _C.reward_divisor, reward_B)

    def _update_fatigue(self, state: State, draws_KB: Array) -> None:
        visible = state.visible_6B
        velocity, gain, fatigue = visible[VELOCITY], visible[GAIN], visible[FATIGUE]
        denominator, numerator = self._denominator_2B, self._numerator_2B
        effective, noise_2B = self._effective_2B, self._noise_2B

        np.add(visible[VELOCITY : GAIN + 1], self._effective_offset_2B, denominator)
        np.add(denominator[1], _C.one, numerator[0])
        np.divide(numerator, denominator, effective)
        np.subtract(effective, self._effective_lowest_2B, effective)
        np.divide(effective, self._effective_range_2B, effective)

        succeeded = np.less(draws_KB[noise.TRIAL], effective, self._mask_2B)
        np.multiply(draws_KB[noise.JUMP], effective, noise_2B)
        np.multiply(noise_2B, succeeded, noise_2B)
        np.add(noise_2B, draws_KB[noise.BASE], noise_2B)

        hidden, following = state.hidden_2B, self._next_2B
        runaway = np.greater_equal(hidden, _C.runaway_from, self._runaway_2B)
        np.multiply(hidden, _C.decay, following)
        np.multiply(hidden, _C.runaway_rate, hidden)
        np.minimum(hidden, _C.runaway_limit, out=hidden)
        intake = np.multiply(noise_2B, _C.third, denominator)
        np.add(following, intake, following)
        np.copyto(following, hidden, where=runaway)
        harmless = np.less_equal(effective, _C.tolerance, self._mask_2B)
        np.copyto(following, effective, where=harmless)
        state.hidden_2B, self._next_2B = following, hidden

        alpha = np.maximum(noise_2B[0], noise_2B[1], out=self._one_B)
        worst = np.maximum(following[0], following[1], out=self._two_B)
        capped = np.equal(worst, _C.runaway_limit, self._mask_B)
        np.copyto(alpha, draws_KB[noise.CAP], where=capped)

        np.add(velocity, _C.fatigue_offset, fatigue)
        np.divide(_C.fatigue_velocity, fatigue, fatigue)
        relief = np.multiply(gain, gain, self._two_B)
        np.multiply(relief, _C.fatigue_gain, relief)
        np.subtract(fatigue, relief, fatigue)
        np.maximum(fatigue, _C.zero, out=fatigue)
        np.multiply(alpha, _C.two_thirds, alpha)
        np.add(alpha, _C.third, alpha)
        np.multiply(fatigue, alpha, fatigue)

    def _operational_cost(self, visible_6B: Array, out_B: Array) -> Array:
        share = np.multiply(visible_6B[GAIN], _C.cost_gain, self._one_B)
        np.multiply(visible_6B[VELOCITY], _C.cost_velocity, out_B)
        np.add(out_B, share, out_B)
        np.add(out_B, self._setpoint_cost_B, out_B)
        return np.exp(out_B, out_B)

    def _convolved_cost(self, state: State) -> Array:
        # The kernel (1, 2, 3, 2, 1) * 0.11111 over the costs five to nine steps ago is a box of
        # three over a box of three, and the inner box is the same at every step.
        now, costs, sums = state.tick, state.costs, state.cost_sums
        total = self._operational_cost(state.visible_6B, costs[now % _RECENT_COSTS])
        newest = np.add(total, costs[(now - 1) % _RECENT_COSTS], sums[now % _RECENT_SUMS])
        np.add(newest, costs[(now - 2) % _RECENT_COSTS], newest)
        convolved = np.add(
            sums[(now - 5) % _RECENT_SUMS], sums[(now - 6) % _RECENT_SUMS], self._two_B
        )
        np.add(convolved, sums[(now - 7) % _RECENT_SUMS], convolved)
        return np.multiply(convolved, _C.cost_weight, convolved)

    def _update_miscalibration(self, state: State) -> Array:
        shift = np.multiply(state.visible_6B[SHIFT], _C.shift_slope, self._one_B)
        np.subtract(shift, self._shift_offset_B, shift)
        np.maximum(shift, _C.minus_shift_bound, out=shift)
        np.minimum(shift, _C.shift_bound, out=shift)

        above = np.greater(shift, _C.safe, self._mask_B)
        below = np.less(shift, _C.minus_safe, self._other_mask_B)
        index = np.add(state.cursor_B, above, self._index_B)
        np.subtract(index, below, index)
        # The indices are right by construction; `clip` spares the gather its check and a buffer.
        self._tables.cursor.take(index, None, state.cursor_B, "clip")
        knee, slope, scale, exponent, bias = self._tables.curve.take(
            index, 1, self._curve_5B, "clip"
        )

        magnitude = np.abs(shift, self._three_B)
        np.minimum(magnitude, knee, out=knee)
        np.subtract(magnitude, knee, magnitude)
        np.power(magnitude, exponent, magnitude)
        np.multiply(magnitude, scale, magnitude)
        np.multiply(knee, slope, knee)
        np.add(magnitude, knee, magnitude)
        radius = np.copysign(magnitude, shift, shift)
        square = np.multiply(radius, radius, magnitude)
        np.multiply(radius, bias, radius)
        penalty = np.multiply(square, _C.quartic, knee)
        np.subtract(_C.quadratic, penalty, penalty)
        np.multiply(penalty, square, penalty)
        return np.subtract(penalty, radius, penalty)
