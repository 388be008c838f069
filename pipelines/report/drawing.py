"""The figures of a report as PNG and SVG files, drawn by Matplotlib from the page's own data."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.pictures import FORMATS, INK, MUTED, STYLE, new_figure, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: As on the page, in the same order.
COLOURS = ("#0067a3", "#b84a00", "#00775a", "#9b4a86", "#7a6200", "#4d5661")
DASHES: tuple[Any, ...] = (
    "-",
    (0, (5, 2)),
    (0, (1, 1.6)),
    (0, (6, 2, 1, 2)),
    (0, (3, 1.5)),
    (0, (1, 1)),
)
#: Inches.
PANEL_HEIGHT, TASK_HEIGHT, BAR_HEIGHT = 2.7, 1.62, 0.2
#: After how many characters the lines of a panel's legend break.
LABEL_CHARACTERS = 34


def write_figures(figures: Sequence[dict[str, Any]], directory: Path) -> list[Path]:
    """Draw figures as they stand in a report, each as PNG and as SVG named by its id.

    Args:
        figures: See `pipelines.report.panels`.
        directory: Where; made if it is not there.

    Returns:
        The files written.

    Raises:
        StorageError: The file system refused.
    """
    written = []
    for each in figures:
        drawn = draw(each)
        written += [save(drawn, directory / f"{each['id']}{suffix}") for suffix in FORMATS]
    return written


def draw(figure: dict[str, Any]) -> Figure:
    """Draw one figure."""
    import matplotlib

    with matplotlib.rc_context(STYLE):
        drawn = _bars(figure) if figure["kind"] == "bars" else _lines(figure)
        title = f"{figure['title']} ({figure['paper']})" if figure["paper"] else figure["title"]
        drawn.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
        return drawn


def _lines(figure: dict[str, Any]) -> Figure:
    panels = figure["panels"]
    tasks = any(panel["task"] is not None for panel in panels)
    columns = min(4 if tasks else 2, len(panels))
    rows = math.ceil(len(panels) / columns)
    drawn = new_figure(max(3.0, (TASK_HEIGHT if tasks else PANEL_HEIGHT) * rows + 0.9))
    grid = drawn.subplots(rows, columns, squeeze=False)
    for index, axes in enumerate(grid.flat):
        if index < len(panels):
            _line_panel(axes, panels[index], small=tasks)
        else:
            axes.set_visible(False)
    drawn.supxlabel(panels[0]["x"], fontsize=9)
    drawn.supylabel("; ".join(dict.fromkeys(panel["y"] for panel in panels)), fontsize=9)
    if tasks:
        _shared_legend(drawn, panels)
    return drawn


def _line_panel(axes: Axes, panel: dict[str, Any], *, small: bool) -> None:
    for each in panel["series"]:
        colour, dash = COLOURS[each["colour"] % 6], DASHES[each["colour"] % 6]
        seed = each["weight"] == "seed"
        axes.plot(
            each["x"],
            each["y"],
            color=colour,
            linestyle=dash,
            linewidth=0.8 if seed else 1.8,
            alpha=0.35 if seed else 1.0,
            marker="o" if len(each["x"]) == 1 else None,
            zorder=2 if seed else 4,
            gid=each["label"],
            label=None if seed else each["label"],
        )
        if each["low"] is not None:
            axes.fill_between(
                each["x"], each["low"], each["high"], color=colour, alpha=0.16, linewidth=0
            )
    if panel["guides"]:
        axes.axhline(1, color=MUTED, linewidth=1.0, linestyle=(0, (5, 2)), zorder=1)
        axes.axhline(0, color=MUTED, linewidth=1.0, linestyle=(0, (1, 1.6)), zorder=1)
    if panel["log"]:
        axes.set_yscale("log")
    axes.set_title("\n".join(textwrap.wrap(panel["title"], 21 if small else 48)), pad=4)
    if not small:
        handles, labels = axes.get_legend_handles_labels()
        # A label that is wider than the panel would squeeze it.
        wrapped = ["\n".join(textwrap.wrap(label, LABEL_CHARACTERS)) for label in labels]
        axes.legend(handles, wrapped, loc="best")
    if panel["x"].startswith("shot"):
        _shot_ticks(axes, max(max(each["x"]) for each in panel["series"]))


def _shot_ticks(axes: Axes, shots: int) -> None:
    from matplotlib.ticker import MaxNLocator

    # The first shot is the point of the picture: it always has its tick.
    apart = shots / 8
    found = [int(tick) for tick in MaxNLocator(4, integer=True).tick_values(1, shots)]
    axes.set_xticks([1, *(tick for tick in found if 1 + apart < tick <= shots)])


def _shared_legend(drawn: Figure, panels: Sequence[dict[str, Any]]) -> None:
    from matplotlib.lines import Line2D

    means = {
        each["label"]: each["colour"] % 6
        for panel in panels
        for each in panel["series"]
        if each["weight"] == "mean"
    }
    drawn.legend(
        handles=[
            Line2D([], [], color=COLOURS[place], linestyle=DASHES[place], label=label)
            for label, place in means.items()
        ],
        loc="outside upper right",
        ncols=min(4, len(means)),
    )


def _bars(figure: dict[str, Any]) -> Figure:
    panels = figure["panels"]
    counts = [len(panel["bars"]) for panel in panels]
    heights = [BAR_HEIGHT * count + 0.75 for count in counts]
    drawn = new_figure(sum(heights) + 0.4)
    grid = drawn.subplots(len(panels), 1, squeeze=False, height_ratios=heights)
    for axes, panel in zip(grid.flat, panels, strict=True):
        _bar_panel(axes, panel)
    return drawn


def _bar_panel(axes: Axes, panel: dict[str, Any]) -> None:
    bars = panel["bars"]
    for row, each in enumerate(bars):
        axes.barh(row, each["value"], height=0.72, color=COLOURS[each["colour"] % 6], zorder=2)
        if each["low"] is not None:
            axes.hlines(row, each["low"], each["high"], color=INK, linewidth=1.0, zorder=3)
        inside = each["value"] > 0.12
        axes.annotate(
            each["inside"],
            (0 if inside else max(0.0, each["value"]), row),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=7.5,
            color="white" if inside else INK,
            zorder=4,
        )
        axes.annotate(
            f"{each['value']:.2f}",
            (1, row),
            xycoords=("axes fraction", "data"),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    axes.set_yticks(range(len(bars)), [each["label"] for each in bars])
    axes.set_ylim(len(bars) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.axvline(1, color=MUTED, linewidth=1.0, linestyle=(0, (5, 2)), zorder=1)
    axes.set_xlim(right=max(1.05, axes.get_xlim()[1]))
    axes.set_title(panel["title"])
    axes.set_xlabel(panel["x"])
