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
#: Where the demonstrator and random play lie.
GUIDES: dict[str, Any] = {"demonstrator": (0, (5, 2)), "random": (0, (1, 1.6))}
#: Inches.
PANEL_HEIGHT, TASK_HEIGHT, BAR_HEIGHT = 2.7, 1.62, 0.2
#: After how many characters a row of the legend ends, and a panel's title breaks.
LEGEND_CHARACTERS, TITLE_CHARACTERS, SMALL_CHARACTERS = 84, 48, 21


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
        if figure["legend"]:
            _legend(drawn, figure["legend"])
        return drawn


def _lines(figure: dict[str, Any]) -> Figure:
    panels = figure["panels"]
    tasks = any(panel["task"] is not None for panel in panels)
    columns = min(4 if tasks else 2, len(panels))
    rows = math.ceil(len(panels) / columns)
    drawn = new_figure(max(3.2, (TASK_HEIGHT if tasks else PANEL_HEIGHT) * rows + 1.1))
    grid = drawn.subplots(rows, columns, squeeze=False)
    for index, axes in enumerate(grid.flat):
        if index < len(panels):
            _line_panel(axes, panels[index], small=tasks)
            if index + columns >= len(panels):
                # The lowest of its column; a small one has no room for what follows a comma.
                axes.set_xlabel(panels[index]["x"].split(", ")[0] if tasks else panels[index]["x"])
        else:
            axes.set_visible(False)
    drawn.supylabel("; ".join(dict.fromkeys(panel["y"] for panel in panels)), fontsize=9)
    return drawn


def _line_panel(axes: Axes, panel: dict[str, Any], *, small: bool) -> None:
    for each in panel["series"]:
        colour, dash = _paint(each["colour"])
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
        )
        if each["low"] is not None:
            axes.fill_between(
                each["x"], each["low"], each["high"], color=colour, alpha=0.16, linewidth=0
            )
    if panel["guides"]:
        for value, name in ((1, "demonstrator"), (0, "random")):
            axes.axhline(value, color=MUTED, linewidth=1.0, linestyle=GUIDES[name], zorder=1)
    width = SMALL_CHARACTERS if small else TITLE_CHARACTERS
    axes.set_title("\n".join(textwrap.wrap(panel["title"], width)), pad=4)
    if panel["log"]:
        axes.set_yscale("log")
    axes.set_ylim(panel["y_limits"])
    low, high = panel["x_limits"]
    axes.set_xlim(low - 0.02 * (high - low or 1), high + 0.02 * (high - low or 1))
    axes.set_yticks(*zip(*panel["y_ticks"], strict=True))
    axes.set_xticks(*zip(*panel["x_ticks"], strict=True))
    axes.minorticks_off()


def _paint(place: int) -> tuple[str, Any]:
    """Return colour and dashes of a place in the palette; 36 places differ."""
    return COLOURS[place % 6], DASHES[(place + place // 6) % 6]


def _legend(drawn: Figure, legend: Sequence[dict[str, Any]]) -> None:
    from matplotlib.lines import Line2D

    def sample(key: dict[str, Any]) -> Line2D:
        colour, dash = _paint(key["colour"])
        width, alpha = 1.8, 1.0
        if key["weight"] == "seed":
            width, alpha = 0.8, 0.35
        elif key["weight"] != "mean":
            colour, width, dash = MUTED, 1.0, GUIDES[key["weight"]]
        return Line2D(
            [], [], color=colour, linestyle=dash, linewidth=width, alpha=alpha, label=key["label"]
        )

    longest = max(len(key["label"]) for key in legend)
    drawn.legend(
        handles=[sample(key) for key in legend],
        loc="outside lower left",
        ncols=max(1, min(len(legend), LEGEND_CHARACTERS // (longest + 6))),
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
            each["text"],
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
    axes.axvline(1, color=MUTED, linewidth=1.0, linestyle=GUIDES["demonstrator"], zorder=1)
    axes.set_xlim(panel["x_limits"])
    axes.set_xticks(*zip(*panel["x_ticks"], strict=True))
    axes.set_title(panel["title"])
    axes.set_xlabel(panel["x"])
