"""Pictures of many-shot curves: one panel a task, and the mean over tasks.

Every line is told apart by its style or its label too, not by its colour alone.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.pictures import (
    CURVE,
    DEMONSTRATOR,
    MUTED,
    RANDOM,
    STYLE,
    new_figure,
    shot_ticks,
)
from pipelines.rollout.scores import TaskCurve, by_shot, last_mean, mean_curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

#: Inches.
PANEL_HEIGHT = 1.62
MEAN_HEIGHT = 3.4
#: Most panels of tasks that stand beside the mean; more go below it.
SIDE_PANELS = 6
COLUMNS = 4

_REFERENCES: tuple[tuple[float, str, str, Any], ...] = (
    (1.0, "demonstrator", DEMONSTRATOR, (0, (5, 2))),
    (0.0, "random policy", RANDOM, (0, (1, 1.6))),
)


def draw_overview(curves: Sequence[TaskCurve]) -> Figure:
    """Draw the mean curve on the left and the tasks beside it, or below it where they are many.

    Args:
        curves: One or more tasks.
    """
    import matplotlib

    with matplotlib.rc_context(STYLE):
        if len(curves) > SIDE_PANELS:
            columns = _columns(len(curves))
            below = PANEL_HEIGHT * math.ceil(len(curves) / columns)
            figure = new_figure(MEAN_HEIGHT + below)
            parts: Any = figure.subfigures(2, 1, height_ratios=[MEAN_HEIGHT, below])
            _mean_panel(parts[0].subplots(), curves)
            _task_panels(parts[1], curves, columns)
        else:
            columns = 1 if len(curves) < 3 else 2
            figure = new_figure(max(3.7, 1.45 * math.ceil(len(curves) / columns) + 0.5))
            parts = figure.subfigures(1, 2, width_ratios=[1.0, 0.55 + 0.3 * columns])
            _mean_panel(parts[0].subplots(), curves)
            # The label of the left axis holds for all panels of the picture.
            unscored = any(curve.score is None for curve in curves)
            _task_panels(parts[1], curves, columns, label=unscored)
        return figure


def draw_mean(curves: Sequence[TaskCurve]) -> Figure:
    """Draw the normalised return averaged over tasks, with the tasks' own curves behind it."""
    import matplotlib

    with matplotlib.rc_context(STYLE):
        figure = new_figure(4.2)
        _mean_panel(figure.subplots(), curves)
        return figure


def draw_tasks(curves: Sequence[TaskCurve]) -> Figure:
    """Draw one panel a task: light lines for the seeds, a bold one for their mean."""
    import matplotlib

    with matplotlib.rc_context(STYLE):
        columns = _columns(len(curves))
        rows = math.ceil(len(curves) / columns)
        figure = new_figure(max(2.8, PANEL_HEIGHT * rows + 0.9))
        _task_panels(figure, curves, columns)
        _task_legend(figure, curves)
        return figure


def _columns(panels: int) -> int:
    """Return three or four columns, whichever leaves fewer places empty."""
    fewest = min((COLUMNS, COLUMNS - 1), key=lambda columns: -panels % columns)
    return min(fewest, panels)


def _mean_panel(axes: Axes, curves: Sequence[TaskCurve]) -> None:
    known = [curve for curve in curves if curve.score is not None]
    longest = max((curve.shots for curve in known), default=1)
    for index, curve in enumerate(known):
        shots, values = _line(by_shot(curve.normalized))  # type: ignore[arg-type]
        axes.plot(
            shots,
            values,
            color="#9fb4c7",
            linewidth=0.9,
            zorder=2,
            gid=curve.name,
            label=f"each task, {_seeds(known)}" if index == 0 else None,
        )
    mean_E = mean_curve(known)
    if len(mean_E):
        shots, values = _line(mean_E)
        axes.plot(
            shots,
            values,
            color=CURVE,
            linewidth=2.4,
            marker="o",
            markersize=3.5,
            zorder=4,
            gid="mean",
            label="mean over tasks",
        )
        _references(axes, labelled=True)
    else:
        axes.text(
            0.5,
            0.5,
            "no task has scores\nto normalise by",
            transform=axes.transAxes,
            ha="center",
            va="center",
            color=MUTED,
        )
    axes.set_title(
        f"Return by shot, mean of {len(known)} task{'s' if len(known) != 1 else ''}",
        fontsize=11,
        pad=22,
    )
    if len(mean_E):
        # Above the axes, where no curve can run through it.
        axes.legend(
            loc="lower left",
            bbox_to_anchor=(-0.01, 1.0),
            borderaxespad=0.1,
            ncols=2,
            handlelength=1.6,
            columnspacing=1.4,
        )
    axes.set_xlabel("shot (episode), from an empty context")
    axes.set_ylabel(f"normalised return ({_reference_note(curves)})")
    _limits(axes, known, longest)
    if len(mean_E):
        _change(axes, mean_E, "first shot {:.2f} → last three {:.2f}", 8.5)


def _task_panels(
    figure: Figure | SubFigure, curves: Sequence[TaskCurve], columns: int, *, label: bool = True
) -> None:
    rows = math.ceil(len(curves) / columns)
    grid = figure.subplots(rows, columns, squeeze=False)
    known = [curve for curve in curves if curve.score is not None]
    for index, axes in enumerate(grid.flat):
        if index >= len(curves):
            axes.set_visible(False)
            continue
        curve = curves[index]
        _task_panel(axes, curve)
        if curve.score is not None:
            _limits(axes, known, curve.shots)
            if index % columns and curves[index - 1].score is not None:
                axes.tick_params(labelleft=False)
    figure.supxlabel("shot (episode)", fontsize=9)
    if label:
        figure.supylabel(_task_ylabel(curves), fontsize=9)


def _task_ylabel(curves: Sequence[TaskCurve]) -> str:
    scored = [curve.score is not None for curve in curves]
    if not any(scored):
        return "* episode return"
    normalised = f"normalised return ({_reference_note(curves)})"
    return normalised if all(scored) else f"{normalised}, * episode return"


def _task_legend(figure: Figure, curves: Sequence[TaskCurve]) -> None:
    from matplotlib.lines import Line2D

    entries: list[tuple[Any, ...]] = [("mean over seeds", CURVE, "-", 1.9, 1.0)]
    if any(curve.seeds > 1 for curve in curves):
        entries.append((f"each of {_seeds(curves)}", CURVE, "-", 0.9, 0.35))
    if any(curve.score is not None for curve in curves):
        entries += [(text, colour, style, 1.2, 1.0) for _, text, colour, style in _REFERENCES]
    figure.legend(
        handles=[
            Line2D([], [], color=colour, linestyle=style, linewidth=width, alpha=alpha, label=text)
            for text, colour, style, width, alpha in entries
        ],
        loc="outside upper left",
        ncols=len(entries),
        handlelength=1.8,
        columnspacing=1.6,
    )


def _task_panel(axes: Axes, curve: TaskCurve) -> None:
    values_SE = curve.return_SE if curve.normalized is None else curve.normalized
    for stream, values_E in enumerate(values_SE):
        axes.plot(*_line(values_E), color=CURVE, alpha=0.28, linewidth=0.9, gid=f"seed-{stream}")
    axes.plot(*_line(by_shot(values_SE)), color=CURVE, linewidth=1.9, zorder=4, gid="mean")
    if curve.score is not None:
        _references(axes, labelled=False)
        _change(axes, by_shot(values_SE), "{:.2f} → {:.2f}", 8)
    name = curve.name if curve.score is not None else f"{curve.name} *"
    axes.set_title("\n".join(textwrap.wrap(name, 24, break_on_hyphens=True)), pad=4)
    _shot_axis(axes, curve.shots)


def _references(axes: Axes, *, labelled: bool) -> None:
    """Draw the demonstrator and the random policy, which normalisation puts at 1 and 0."""
    for value, text, colour, style in _REFERENCES:
        axes.axhline(value, color=colour, linewidth=1.2, linestyle=style, zorder=3, gid=text)
        if labelled:
            axes.annotate(
                text,
                (1, value),
                xytext=(0, 3),
                textcoords="offset points",
                color=colour,
                fontsize=8.5,
                va="bottom",
            )


def _change(axes: Axes, curve_E: np.ndarray[Any, Any], text: str, size: float) -> None:
    """Write where a curve starts and where it arrives, in the room above the random line."""
    axes.annotate(
        text.format(curve_E[0], last_mean(curve_E)),
        (1, 0),
        xycoords=("axes fraction", "data"),
        xytext=(-3, 4),
        textcoords="offset points",
        ha="right",
        va="bottom",
        fontsize=size,
        color=MUTED,
        zorder=5,
    )


def _limits(axes: Axes, curves: Sequence[TaskCurve], shots: int) -> None:
    """Give all normalised panels one scale: random to expert, and beyond where seeds went."""
    means = [by_shot(curve.normalized) for curve in curves if curve.normalized is not None]
    seen = np.concatenate(means) if means else np.array([0.0, 1.0])
    low, high = min(0.0, float(seen.min())), max(1.0, float(seen.max()))
    margin = 0.12 * (high - low)
    axes.set_ylim(low - margin, high + margin)
    _shot_axis(axes, shots)


def _shot_axis(axes: Axes, shots: int) -> None:
    axes.set_xticks(shot_ticks(shots))
    axes.set_xlim(1 - 0.03 * max(shots - 1, 1), shots + 0.03 * max(shots - 1, 1))


def _line(values_E: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    return np.arange(1, len(values_E) + 1), np.asarray(values_E)


def _reference_note(curves: Sequence[TaskCurve]) -> str:
    return f"{_listed({curve.reference for curve in curves})} scores"


def _seeds(curves: Sequence[TaskCurve]) -> str:
    counts = {curve.seeds for curve in curves}
    return f"{_listed(counts)} seed{'' if counts == {1} else 's'}"


def _listed(values: set[Any]) -> str:
    return ", ".join(str(value) for value in sorted(values))
