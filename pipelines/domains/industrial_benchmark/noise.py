"""The randomness of the Industrial Benchmark: drawn an episode at a time, by the episode's seed.

A step consumes eight numbers. All that can be computed from them without the state is computed
here for a whole episode at once, so that a step of the dynamics reads finished rows.

Shapes: T steps of an episode, K rows that a step reads, N episodes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipelines.rng import stream

DRAWS = 8
"""Raw draws of a step: exponential (velocity, gain), uniform (velocity, gain), the uniform behind
each Bernoulli trial (velocity, gain), normal of the fatigue cap, normal of the consumption."""

ROWS = 9
"""K. Rows that a step of the dynamics reads; the slices below name them."""
BASE = slice(0, 2)
JUMP = slice(2, 4)
TRIAL = slice(4, 6)
CAP = 6
CONSUMPTION_FACTOR = 7
CONSUMPTION_OFFSET = 8

# Episodes prepared together: few enough to stay in the cache, enough to write whole cache lines.
_GROUP = 16

_EXPONENTIAL_SCALE = 0.1
_TRIAL_LOWEST, _TRIAL_HIGHEST = 0.001, 0.999
_CAP_MEAN, _CAP_STD = 2.4, 0.4


def draw(seed: int, steps: int) -> NDArray[np.float64]:
    """Draw the noise of one episode.

    Args:
        seed: The episode's seed; nothing else enters.
        steps: T, with the step that the benchmark makes at construction.

    Returns:
        Raw draws (8, T), in the order of `DRAWS`.
    """
    generator = stream(seed, "industrial-benchmark")
    raw = np.empty((DRAWS, steps))
    generator.standard_exponential(out=raw[0:2])
    generator.random(out=raw[2:6])
    generator.standard_normal(out=raw[6:8])
    raw[0:2] *= _EXPONENTIAL_SCALE
    return raw


def prepare(raw: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn raw draws into the rows that `Dynamics.step` reads.

    Args:
        raw: (8, ...), in the order of `DRAWS`: exponentials of mean 0.1, uniforms in [0, 1],
            standard normals. A trial succeeds where its uniform is below its probability, so
            that 0 and 1 stand for sure success and failure.

    Returns:
        (K, ...): base fatigue noise and its possible jump (velocity, gain), the effective action
        above which the trial of the jump succeeds (velocity, gain), the fatigue amplification
        under the cap, factor and offset of the consumption.
    """
    rows = np.empty((ROWS, *raw.shape[1:]))
    rows[BASE] = 2.0 * (1.0 / (1.0 + np.exp(-raw[0:2])) - 0.5)
    rows[JUMP] = (1.0 - rows[BASE]) * raw[2:4]
    # The probability of a trial is the effective action clipped to [0.001, 0.999]. Clipping the
    # other side of the comparison, once for the episode, spares the step two operations.
    trial = rows[TRIAL]
    trial[:] = raw[4:6]
    np.copyto(trial, -np.inf, where=raw[4:6] < _TRIAL_LOWEST)
    np.copyto(trial, np.inf, where=raw[4:6] >= _TRIAL_HIGHEST)
    rows[CAP] = 1.0 / (1.0 + np.exp(-(_CAP_MEAN + _CAP_STD * raw[6])))
    rows[CONSUMPTION_FACTOR] = 1.0 - 0.005 * raw[7]
    rows[CONSUMPTION_OFFSET] = raw[7]
    return rows


def episodes(seeds: Sequence[int], steps: int) -> NDArray[np.float64]:
    """Return the prepared noise of episodes, each by its own seed.

    Args:
        steps: T, with the step that the benchmark makes at construction.

    Returns:
        (T, K, N), so that what a step reads lies together.
    """
    noise_TKN = np.empty((steps, ROWS, len(seeds)))
    for begin in range(0, len(seeds), _GROUP):
        group = seeds[begin : begin + _GROUP]
        raw = np.empty((DRAWS, len(group), steps))
        for position, seed in enumerate(group):
            raw[:, position] = draw(seed, steps)
        noise_TKN[:, :, begin : begin + len(group)] = prepare(raw).transpose(2, 0, 1)
    return noise_TKN
