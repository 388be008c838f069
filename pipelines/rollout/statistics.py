"""Aggregate scores and their uncertainty, as rliable has them (Agarwal et al., 2021).

The interquartile mean pools the runs of all tasks; the bootstrap is stratified: within each task
the seeds are drawn anew, the set of tasks stays as it is. An interval therefore says what other
seeds on these tasks would give, not what other tasks would.

Shapes: S seeds of a task, E shots, N seeds of all tasks together, R resamples.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipelines.rng import stream

if TYPE_CHECKING:
    from pipelines.rollout.scores import TaskCurve

__all__ = [
    "LAST",
    "Kind",
    "base_of",
    "best_shot",
    "bootstrap_band",
    "bootstrap_draws",
    "bootstrap_interval",
    "interquartile_mean",
    "score_kinds",
    "success_rates",
    "summarize",
    "summarize_curves",
    "task_scores",
]

Kind = Literal["first", "best", "last", "converged"]
"""Which episodes of a stream a score is taken from; see `task_scores`."""

Statistic = Callable[..., Any]
"""Called with values and ``axis=``, as `numpy.mean` and `interquartile_mean` are."""

#: Share of the values that each side of the interquartile mean leaves out.
TRIMMED = 0.25
#: Shots at the end of a curve whose mean counts as where it has arrived.
LAST = 3
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


def bootstrap_draws(
    sizes: Sequence[int],
    together: Sequence[Hashable] | None = None,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[NDArray[np.int64]]:
    """Return which seeds each resample draws: an array (R, S) for each task.

    Args:
        sizes: Seeds of each task.
        together: See `bootstrap_interval`.
        resamples: R.
        seed: Of the draws.
    """
    generator = stream(seed, "bootstrap")
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
    level: float = LEVEL,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the percentile interval of a statistic over the seeds of all tasks.

    Args:
        samples: One array (S,) of independent seeds a task; none empty. A task with one seed has
            no spread of its own and adds nothing to the width.
        statistic: Of the pooled values: called as ``statistic(values_RN, axis=-1)``.
        together: A key for each task; tasks of one key and equal numbers of seeds are drawn
            alike. A task and its variations play the same episodes: drawn apart, they would count
            as more evidence than they are. None draws each task by itself, as rliable does.
        resamples: How often the seeds are drawn anew.
        level: Probability that the interval is to hold, in (0, 1).
        seed: Of the draws.
    """
    low_E, high_E = bootstrap_band(
        [np.asarray(sample)[:, None] for sample in samples],
        statistic,
        together=together,
        resamples=resamples,
        level=level,
        seed=seed,
    )
    return float(low_E[0]), float(high_E[0])


def bootstrap_band(
    samples_SE: Sequence[NDArray[Any]],
    statistic: Statistic,
    *,
    together: Sequence[Hashable] | None = None,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the interval of a statistic at each shot of a curve.

    Args:
        samples_SE: One array (S, E) a task, all of one E; the seeds are drawn as whole curves.
        statistic: As in `bootstrap_interval`.
        together: As in `bootstrap_interval`.
        resamples: How often the seeds are drawn anew.
        level: Probability that each shot's interval is to hold, in (0, 1).
        seed: Of the draws.

    Returns:
        Lower and upper bound, (E,) each.
    """
    sizes = [len(sample_SE) for sample_SE in samples_SE]
    offsets = np.cumsum([0, *sizes[:-1]])
    drawn = bootstrap_draws(sizes, together, resamples=resamples, seed=seed)
    drawn_RN = np.concatenate(
        [offset + index_RS for offset, index_RS in zip(offsets, drawn, strict=True)], axis=1
    )
    pooled_NE = np.concatenate([np.asarray(each, np.float64) for each in samples_SE])
    bounds = [
        np.quantile(statistic(column_N[drawn_RN], axis=-1), [(1 - level) / 2, (1 + level) / 2])
        for column_N in pooled_NE.T
    ]
    low_E, high_E = np.array(bounds).reshape(-1, 2).T
    return low_E, high_E


def task_scores(curve: TaskCurve, kind: Kind) -> NDArray[np.float64]:
    """Return one normalised score of each seed of a task, (S,).

    Args:
        curve: With a score reference.
        kind: ``first``: the first shot, from an empty context. ``best``: the shot k at which the
            mean over seeds is highest, the same k for all seeds (the best k-shot performance of
            section 3.2). Because k is chosen after the fact, its mean is above what one would see
            at k again. ``last``: the mean of the last three shots. ``converged``: the mean of the
            episodes recorded after shot k (section 3.2: 100 of them), which had no say in k.

    Raises:
        ValueError: The task has no score reference, or no episodes after convergence.
    """
    if curve.score is None:
        raise ValueError(f"task {curve.name} has no score reference {curve.reference!r}")
    further_SE = curve.further_SE
    return _of_kind(
        curve.score.normalize(curve.return_SE),
        None if further_SE is None else curve.score.normalize(further_SE),
        kind,
        best_shot(curve),
        curve.name,
    )


def success_rates(curve: TaskCurve, kind: Kind) -> NDArray[np.float64]:
    """Return the share of successful episodes of each seed of a task, (S,).

    Args:
        curve: With success.
        kind: As in `task_scores`; shot k is the one with the best return, not the best success.

    Raises:
        ValueError: The domain knows no success, or there are no episodes after convergence.
    """
    if curve.success_SE is None:
        raise ValueError(f"task {curve.name} knows no success")
    return _of_kind(
        curve.success_SE.astype(np.float64),
        None if curve.further_success_SE is None else curve.further_success_SE.astype(np.float64),
        kind,
        best_shot(curve),
        curve.name,
    )


def best_shot(curve: TaskCurve) -> int:
    """Return the index of the shot whose mean over seeds is best, the first of equals."""
    score = curve.score
    # A reference may have its expert below random play; the best shot is then the lowest.
    values_SE = curve.return_SE if score is None else score.normalize(curve.return_SE)
    return int(values_SE.mean(axis=0).argmax())


def _of_kind(
    shots_SE: NDArray[np.float64],
    further_SE: NDArray[np.float64] | None,
    kind: Kind,
    best: int,
    name: str,
) -> NDArray[np.float64]:
    if kind == "first":
        return shots_SE[:, 0]
    if kind == "last":
        return shots_SE[:, -LAST:].mean(axis=1)
    if kind == "best":
        return shots_SE[:, best]
    if further_SE is None:
        raise ValueError(f"task {name} has no episodes after convergence")
    played_SE = np.concatenate([shots_SE, further_SE], axis=1)
    window_SE = played_SE[:, best + 1 : best + 1 + further_SE.shape[1]]
    return window_SE.mean(axis=1)


def summarize(
    samples: Sequence[NDArray[Any]],
    *,
    together: Sequence[Hashable] | None = None,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> dict[str, Any]:
    """Return mean and interquartile mean of the scores of several tasks with their intervals.

    Args:
        samples: One array (S,) a task.
        together: See `bootstrap_interval`.
        resamples: See `bootstrap_interval`.
        level: See there.
        seed: See there.

    Returns:
        JSON: ``tasks``, ``seeds`` (the fewest of any task), ``mean``, ``iqm`` and, as pairs of
        numbers, ``mean_interval`` and ``iqm_interval``. The numbers are null without tasks, the
        intervals also where a task has one seed alone: nothing tells how another would do.
    """
    report: dict[str, Any] = {
        "tasks": len(samples),
        "seeds": min((len(sample) for sample in samples), default=0),
    }
    for name, statistic in _STATISTICS:
        report[name] = float(statistic(np.concatenate(samples))) if samples else None
        report[f"{name}_interval"] = (
            list(
                bootstrap_interval(
                    samples,
                    statistic,
                    together=together,
                    resamples=resamples,
                    level=level,
                    seed=seed,
                )
            )
            if report["seeds"] > 1
            else None
        )
    return report


def summarize_curves(
    curves: Sequence[TaskCurve], zeros: int = 0, **options: Any
) -> dict[str, dict[str, Any]]:
    """Return `summarize` of each kind of score over the tasks that have a score reference.

    Args:
        curves: Tasks; those without a score are left out.
        zeros: Further tasks that count as 0, as random play does: the model cannot play them.
        options: As for `summarize`.

    Returns:
        By kind, ``first``, ``best``, ``last`` and, where every task has it, ``converged``. Each
        has ``success`` besides: `summarize` of the success rates of the tasks that know it, or
        null without any.
    """
    known = [curve for curve in curves if curve.score is not None]
    telling = [curve for curve in curves if curve.success_SE is not None]
    seeds = max((curve.seeds for curve in known), default=1)
    bases = [base_of(curve) for curve in known] + [f"zero {index}" for index in range(zeros)]
    report: dict[str, dict[str, Any]] = {}
    for kind in score_kinds(curves):
        samples = [task_scores(curve, kind) for curve in known] + [np.zeros(seeds)] * zeros
        rates = [success_rates(curve, kind) for curve in telling]
        success = summarize(rates, together=[base_of(curve) for curve in telling], **options)
        report[kind] = {
            **summarize(samples, together=bases, **options),
            "success": success if rates else None,
        }
    return report


def base_of(curve: TaskCurve) -> str:
    """Return what keys the seeds of a task's episodes."""
    return curve.variation_of or curve.name


def score_kinds(curves: Sequence[TaskCurve]) -> tuple[Kind, ...]:
    """Return the kinds of scores that all of some tasks have."""
    if curves and all(curve.further_SE is not None for curve in curves):
        return ("first", "best", "last", "converged")
    return ("first", "best", "last")


_STATISTICS: tuple[tuple[str, Statistic], ...] = (
    ("mean", np.mean),
    ("iqm", interquartile_mean),
)
