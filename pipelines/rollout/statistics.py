"""Aggregate scores and their uncertainty, as rliable has them (Agarwal et al., 2021).

In a mean every task counts once, by the mean of its runs; the interquartile mean pools the runs of
all tasks. The bootstrap is stratified: within each task the seeds are drawn anew, the set of tasks
stays as it is. An interval therefore says what other seeds on these tasks would give, not what
other tasks would.

Shapes: S seeds of a task, E shots, N seeds of all tasks together, R resamples.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipelines.rng import stream

Statistic = Callable[..., Any]
"""Called with values and ``axis=``, as `numpy.mean` and `interquartile_mean` are."""

#: Share of the values that each side of the interquartile mean leaves out.
TRIMMED = 0.25
RESAMPLES = 2000
LEVEL = 0.95


@overload
def interquartile_mean(values: ArrayLike, axis: None = None) -> float: ...
@overload
def interquartile_mean(values: ArrayLike, axis: int) -> NDArray[np.float64]: ...
def interquartile_mean(values: ArrayLike, axis: int | None = None) -> Any:
    """Return the mean of the middle half: the 25 % trimmed mean of rliable.

    Args:
        values: Numbers, of any shape; along the axis at least one.
        axis: Along which; all together if None.

    Returns:
        A float without an axis; else an array that lacks it. As in `scipy.stats.trim_mean`,
        a quarter of the values, rounded down, is left out on each side.
    """
    array = np.asarray(values, np.float64)
    rows = array.reshape(-1) if axis is None else np.moveaxis(array, axis, -1)
    size = rows.shape[-1]
    cut = int(TRIMMED * size)
    # The order within the middle half does not matter, so a partition will do.
    middle = np.partition(rows, (cut, size - cut - 1), axis=-1)[..., cut : size - cut]
    mean = middle.mean(axis=-1)
    return float(mean) if axis is None else mean


def standard_error(values_SE: NDArray[Any]) -> NDArray[np.float64] | None:
    """Return the standard error of the mean over seeds at each shot (E,), None for one seed."""
    seeds = len(values_SE)
    if seeds < 2:
        return None
    return np.asarray(values_SE, np.float64).std(axis=0, ddof=1) / np.sqrt(seeds)


def with_equal_weight(samples: Sequence[NDArray[Any]]) -> list[NDArray[np.float64]]:
    """Return samples scaled so that their pooled mean is the mean of the tasks' means.

    Args:
        samples: One array (S, ...) a task; none empty.
    """
    mean_size = sum(map(len, samples)) / len(samples) if samples else 0
    return [np.asarray(each, np.float64) * (mean_size / len(each)) for each in samples]


def bootstrap_draws(
    sizes: Sequence[int], together: Sequence[Hashable] | None = None, resamples: int = RESAMPLES
) -> list[NDArray[np.int64]]:
    """Return which seeds each resample draws: an array (R, S) for each task.

    Args:
        sizes: Seeds of each task.
        together: A key for each task; tasks of one key and equal numbers of seeds are drawn
            alike. A task and its variations play the same episodes: drawn separately, they would
            count as more evidence than they are. None draws each task by itself, as rliable does.
    """
    generator = stream(0, "bootstrap")
    draws: dict[Hashable, NDArray[np.int64]] = {}
    found = []
    for size, key in zip(sizes, together or range(len(sizes)), strict=True):
        if (key, size) not in draws:
            draws[key, size] = generator.integers(size, size=(resamples, size))
        found.append(draws[key, size])
    return found


def bootstrap_interval(
    samples: Sequence[NDArray[Any]],
    statistic: Statistic,
    *,
    together: Sequence[Hashable] | None = None,
    resamples: int = RESAMPLES,
) -> tuple[float, float]:
    """Return the 95 % percentile interval of a statistic over the seeds of all tasks.

    Args:
        samples: One array (S,) of independent seeds a task; none empty. A task with one seed has
            no spread of its own and adds nothing to the width.
        statistic: Of the pooled values: called as ``statistic(values_RN, axis=-1)``.
        together: See `bootstrap_draws`.
        resamples: How often the seeds are drawn anew.
    """
    columns = [np.asarray(sample)[:, None] for sample in samples]
    low_E, high_E = bootstrap_band(columns, statistic, together=together, resamples=resamples)
    return float(low_E[0]), float(high_E[0])


def bootstrap_band(
    samples_SE: Sequence[NDArray[Any]],
    statistic: Statistic,
    *,
    together: Sequence[Hashable] | None = None,
    resamples: int = RESAMPLES,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return lower and upper bound, (E,) each, of a statistic at each shot of a curve.

    Args:
        samples_SE: One array (S, E) a task, all of one E; the seeds are drawn as whole curves.
        statistic: As in `bootstrap_interval`.
        together: See `bootstrap_draws`.
        resamples: How often the seeds are drawn anew.
    """
    sizes = [len(sample_SE) for sample_SE in samples_SE]
    offsets = np.cumsum([0, *sizes[:-1]])
    drawn = bootstrap_draws(sizes, together, resamples)
    drawn_RN = np.concatenate(
        [offset + index_RS for offset, index_RS in zip(offsets, drawn, strict=True)], axis=1
    )
    pooled_NE = np.concatenate([np.asarray(each, np.float64) for each in samples_SE])
    bounds = [interval(statistic(column_N[drawn_RN], axis=-1)) for column_N in pooled_NE.T]
    low_E, high_E = np.array(bounds).reshape(-1, 2).T
    return low_E, high_E


def interval(values_R: NDArray[np.float64]) -> list[float]:
    """Return the bounds of the middle 95 % of a statistic's resamples."""
    bounds: list[float] = np.quantile(values_R, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).tolist()
    return bounds


def summarize(
    samples: Sequence[NDArray[Any]],
    *,
    together: Sequence[Hashable] | None = None,
    resamples: int = RESAMPLES,
) -> dict[str, Any]:
    """Return mean and interquartile mean of the scores of several tasks with their intervals.

    The mean is that of the tasks' means; the interquartile mean pools all seeds, as rliable does.

    Args:
        samples: One array (S,) a task.
        together: See `bootstrap_draws`.
        resamples: How often the seeds are drawn anew.

    Returns:
        JSON: ``tasks``, ``seeds`` (the fewest of any task), ``mean``, ``iqm`` and, as pairs of
        numbers, ``mean_interval`` and ``iqm_interval``. The numbers are null without tasks, the
        intervals also where a task has one seed alone: nothing says how another would do.
    """
    seeds = min((len(sample) for sample in samples), default=0)
    report: dict[str, Any] = {"tasks": len(samples), "seeds": seeds}
    statistics: Sequence[tuple[str, Statistic, Sequence[NDArray[Any]]]] = (
        ("mean", np.mean, with_equal_weight(samples)),
        ("iqm", interquartile_mean, samples),
    )
    for name, statistic, values in statistics:
        report[name] = float(statistic(np.concatenate(values))) if values else None
        report[f"{name}_interval"] = (
            list(bootstrap_interval(values, statistic, together=together, resamples=resamples))
            if seeds > 1
            else None
        )
    return report
