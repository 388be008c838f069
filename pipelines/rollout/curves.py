"""Many-shot curves as figures: the mean over tasks, and a panel a task.

Shapes: S seeds, E shots.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pipelines import drawing
from pipelines.drawing import figure, panel, series
from pipelines.rollout.scores import TaskCurve, by_shot, last_mean, mean_curve
from pipelines.rollout.statistics import standard_error
from pipelines.text import counted

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Most seeds of a task whose own curves are drawn.
MOST_SEEDS = 8
#: Most panels of tasks that stand beside the mean; more go below it.
SIDE_PANELS = 6
_ANY = (-math.inf, math.inf)

Others = Mapping[str, Sequence[TaskCurve]]
"""The same tasks as played otherwise, by what was other."""
NONE: Others = MappingProxyType({})
TRUE = "true rewards"
"""What the curves are called that others stand beside."""


def axis_label(reference: str) -> str:
    """Return what returns normalised by the scores of a reference are called."""
    return f"normalised return ({reference} scores)"


def task_panel(curves: Mapping[str, TaskCurve]) -> dict[str, Any]:
    """Return the panel of one task: its seeds, and their mean with its standard error.

    Args:
        curves: What the task's curve is called, by one or by several models.
    """
    first = next(iter(curves.values()))
    known = all(curve.score is not None for curve in curves.values())
    lines = []
    for label, curve in curves.items():
        values_SE: Any = curve.normalized if known else curve.return_SE
        if len(curves) == 1 and 1 < curve.seeds <= MOST_SEEDS:
            seeds = enumerate(values_SE)
            lines += [series(f"seed {seed}", values_E, weight="single") for seed, values_E in seeds]
        mean_E, error_E = by_shot(values_SE), standard_error(values_SE)
        band = None if error_E is None else (mean_E - error_E, mean_E + error_E)
        lines.append(series(label, mean_E, band=band))
    return panel(
        first.name,
        first.domain,
        first.name,
        y=axis_label(first.reference) if known else "episode return",
        guides=known,
        lines=lines,
        note=_change(mean_E, "{:.2f} → {:.2f}") if known and len(curves) == 1 else "",
    )


def mean_figure(curves: Sequence[TaskCurve], others: Others = NONE) -> dict[str, Any]:
    """Return the normalised return averaged over tasks, with the tasks' own curves behind it.

    With others the means of all stand beside each other, without the tasks' curves.
    """
    known = [curve for curve in curves if curve.score is not None]
    lines = [
        series(f"task {curve.name}", by_shot(curve.normalized), weight="single")  # type: ignore[arg-type]
        for curve in ([] if others else known)
    ]
    note = "no task has scores\nto normalise by"
    if known:
        mean_E = mean_curve(known)
        lines.append(series(TRUE if others else "mean over tasks", mean_E, tasks=len(known)))
        note = _change(mean_E, "first shot {:.2f} → last three {:.2f}")
        names = {curve.name for curve in known}
        for label, each in others.items():
            part = [curve for curve in each if curve.name in names]
            lines.append(series(label, mean_curve(part), tasks=len(part)))
    counts = sorted({curve.seeds for curve in known})
    seeds = f", {counts[0]} to {counts[-1]} seeds" if len(counts) > 1 else ""
    title = f"Return by shot, mean of {counted(len(known), 'task')}"
    title += seeds or (f", {counted(counts[0], 'seed')} each" if counts else "")
    references = ", ".join(sorted({curve.reference for curve in curves}))
    shown = panel(title, y=axis_label(references), lines=lines, note=note)
    return figure("mean", "", "", "", [shown])


def tasks_figure(
    curves: Sequence[TaskCurve], others: Others = NONE, beside: Sequence[dict[str, Any]] = ()
) -> dict[str, Any]:
    """Return one panel a task; those of normalised returns have one vertical axis.

    Args:
        others: Curves of the same tasks by their label.
        beside: Further panels, from `task_panel`.
    """
    named = {label: {curve.name: curve for curve in each} for label, each in others.items()}
    panels = [
        task_panel(
            {
                TRUE if others else "mean over seeds": curve,
                **{label: each[curve.name] for label, each in named.items()},
            }
        )
        for curve in curves
    ]
    panels += beside
    return figure("tasks", "Return by shot, by task", "", "", panels, shared=_ANY)


def draw_mean(curves: Sequence[TaskCurve], others: Others = NONE) -> Figure:
    """Draw `mean_figure`."""
    return drawing.draw(mean_figure(curves, others))


def draw_tasks(curves: Sequence[TaskCurve], others: Others = NONE) -> Figure:
    """Draw `tasks_figure`."""
    return drawing.draw(tasks_figure(curves, others))


def draw_overview(
    curves: Sequence[TaskCurve], others: Others = NONE, beside: Sequence[dict[str, Any]] = ()
) -> Figure:
    """Draw the mean on the left and the tasks beside it, or below it where they are many.

    Args:
        others: Curves of the same tasks by their label.
        beside: Further panels, as of `tasks_figure`; the mean is not of them.
    """
    import matplotlib

    mean, tasks = mean_figure(curves, others), tasks_figure(curves, others, beside)
    with matplotlib.rc_context(drawing.STYLE):
        if len(tasks["panels"]) > SIDE_PANELS:
            columns, width = drawing.columns_of(tasks), drawing.WIDTH
            heights = [3.4, drawing.grid_height(tasks, columns) + 0.3]
            drawn = drawing.new_figure(sum(heights))
            parts: Any = drawn.subfigures(2, 1, height_ratios=heights)
        else:
            columns = 1 if len(tasks["panels"]) < 3 else 2
            drawn = drawing.new_figure(max(3.7, drawing.grid_height(tasks, columns) + 0.3))
            ratios = [1.0, 0.55 + 0.3 * columns]
            width = drawing.WIDTH * ratios[1] / sum(ratios)
            parts = drawn.subfigures(1, 2, width_ratios=ratios)
        drawing.draw_grid(parts[0], mean, 1)
        drawing.draw_grid(parts[1], tasks, columns, width)
        named = {each["label"] for each in mean["legend"]}
        further = [each for each in tasks["legend"] if beside and each["label"] not in named]
        drawing.draw_legend(drawn, [*mean["legend"], *further])
        return drawn


def _change(curve_E: Any, text: str) -> str:
    """Return where a curve starts and where it arrives; zero has no sign."""
    return text.format(round(float(curve_E[0]), 2) + 0.0, round(last_mean(curve_E), 2) + 0.0)
