"""Every curve and bar that is shown: described once as plain data, drawn as PNG, SVG and page.

A figure is a JSON object that `figure` makes of panels: ``id``, ``title``, ``paper`` (which figures
of the paper it answers to), ``text``, ``kind`` (``lines`` or ``bars``), ``small`` (a panel a task),
``panels`` and ``legend``, one for all panels: lines without points. `panel` makes a panel of
`series` or of `bar` objects and gives it its axes. `draw` draws a figure with Matplotlib, without
pyplot's global state; the report's page draws the same object (``report/assets/plot.js``).
"""

from __future__ import annotations

import io
import math
import re
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.output_files import MARK, write_output

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from numpy.typing import NDArray

DPI = 150
#: Inches; at 150 dots an inch, 1200 pixels.
WIDTH = 8.0
#: Suffixes of the drawings that can be written, and of scenes, which are pixels.
FORMATS = (".png", ".svg")
PIXEL_FORMATS = (".png",)

INK, MUTED, DARK_MUTED, GRID = "#22272e", "#6b7480", "#8d98a5", "#e6e9ed"
#: Distinct under colour blindness; on white and, in the same order, on a dark page.
COLOURS = ("#0067a3", "#b84a00", "#00775a", "#9b4a86", "#7a6200", "#4d5661")
DARK_COLOURS = ("#62b6f0", "#ff9a57", "#37c79c", "#e39acb", "#e0c44c", "#b3bcc6")
#: Lengths of dashes and gaps, as multiples of a line's width; no line is known by colour alone.
DASHES = ((), (5, 2), (1, 1.6), (6, 2, 1, 2), (3, 1.5), (1, 1))
#: Width (points) and opacity of a mean, of one of the lines that it is the mean of, and of a line
#: that curves are to follow.
WEIGHTS = {"mean": (2.0, 1.0), "single": (0.8, 0.4), "aim": (1.0, 1.0)}
BAND_OPACITY = 0.16
#: Where normalisation puts the demonstrator and random play.
_GUIDE: dict[str, Any] = {"colour": None, "width": 1.0, "opacity": 1.0, "weight": "guide"}
GUIDES = (
    ("demonstrator", 1.0, {**_GUIDE, "dash": [5, 3]}),
    ("random play", 0.0, {**_GUIDE, "dash": [1, 2.5], "width": 1.3}),
)

SHOT = "shot (episode), from an empty context"
#: Most shots that are marked on an axis; about how many ticks axes of other things have.
MOST_SHOTS, ACROSS, UP = 6, 5, 6
#: Inches.
PANEL_HEIGHT, SMALL_HEIGHT, BAR_HEIGHT = 2.7, 1.62, 0.2
#: Characters that fit beside each other in a picture of `WIDTH`: of titles, of the legend.
TITLE_CHARACTERS, LEGEND_CHARACTERS = 90, 96

STYLE: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["Inter", "Helvetica Neue", "Arial", "DejaVu Sans"],
    "font.size": 9,
    "text.color": INK,
    "text.parse_math": False,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#aab2bc",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlelocation": "left",
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.labelsize": 9,
    "figure.titlesize": 11,
    "figure.titleweight": "bold",
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "svg.hashsalt": "vintix",
    "svg.fonttype": "none",
}


# What is shown, as data.


def series(
    label: str,
    y: NDArray[Any],
    *,
    x: NDArray[Any] | None = None,
    band: tuple[NDArray[Any], NDArray[Any]] | None = None,
    weight: str = "mean",
    tasks: int | None = None,
) -> dict[str, Any]:
    """Return a line of a panel; `figure` gives it colour and dashes.

    Args:
        label: What it is; of a single line the name of its kind and more, such as ``seed 3``.
        x: Where they are; None for the shots, from 1 on.
        band: Lower and upper bound of each value, None for none.
        weight: One of `WEIGHTS`.
        tasks: How many tasks it is the mean of; None for one.
    """
    return {
        "label": label,
        "tasks": tasks,
        "x": [*range(1, len(y) + 1)] if x is None else x.tolist(),
        "y": [float(value) for value in y],
        "low": None if band is None else band[0].tolist(),
        "high": None if band is None else band[1].tolist(),
        **_look(0, weight),
    }


def bar(
    label: str,
    value: float,
    interval: tuple[float, float] | None = None,
    *,
    colour: int = 0,
    task: str | None = None,
    inside: str = "",
) -> dict[str, Any]:
    """Return a bar; its value is written out here, so that page and pictures round alike."""
    low, high = interval or (None, None)
    return {
        "label": label,
        "task": task,
        "colour": colour,
        "value": value,
        "low": low,
        "high": high,
        "text": f"{value:.2f}",
        "inside": inside,
    }


def panel(
    title: str,
    domain: str = "",
    task: str | None = None,
    *,
    x: str = SHOT,
    y: str = "",
    lines: Sequence[dict[str, Any]] = (),
    bars: Sequence[dict[str, Any]] = (),
    guides: bool = True,
    log: bool = False,
    note: str = "",
    poor: bool = False,
) -> dict[str, Any]:
    """Return a panel with its axes.

    Args:
        domain: What it is about, for the page's filter.
        task: The one task that it shows; None for several.
        x: Label of the horizontal axis; one that begins with shot or share decides its ticks.
        lines: Its lines, or
        bars: its bars.
        guides: Whether normalised returns are shown: the demonstrator at 1, random play at 0.
        note: A few words, in a corner that curves seldom go through.
        poor: Whether the title says that something is wrong with what is shown.
    """
    made: dict[str, Any] = {"title": title, "domain": domain, "task": task, "x": x, "y": y}
    made |= {"guides": guides, "log": log, "note": note, "poor": poor}
    if bars:
        ends = [each[key] for each in bars for key in ("value", "low", "high")]
        low, high = _range(ends, 0.0, 1.05)
        return {**made, "bars": list(bars), "x_limits": [low, high], "x_ticks": _ticks(low, high)}
    places = [value for each in lines for value in each["x"]] or [1]
    if x.startswith("shot"):
        x_limits, x_ticks = [1, max(places)], _labelled(shot_ticks(int(max(places))))
    else:
        x_limits = [0, 1] if x.startswith("share") else [min(places), max(places)]
        x_ticks = _ticks(*x_limits)
    made |= {"series": list(lines), "x_limits": x_limits, "x_ticks": x_ticks}
    return made | _heights(lines, guides=guides, log=log)


def figure(
    name: str,
    title: str,
    paper: str,
    text: str,
    panels: Sequence[dict[str, Any]],
    *,
    shared: tuple[float, float] | None = None,
) -> dict[str, Any]:
    """Return a figure with its one legend; each label has one colour in all its panels.

    Args:
        name: Its ``id``.
        paper: Which figures of the paper it answers to; empty for none.
        panels: Its panels, all of lines or all of bars.
        shared: Where all panels of normalised returns are to have one vertical axis, that of their
            means: what it reaches to at most, so that one odd task does not flatten the others.
    """
    lines = [each for panel in panels for each in panel.get("series", ())]
    means = list(dict.fromkeys(each["label"] for each in lines if each["weight"] == "mean"))
    singles = {each["label"].split()[0] for each in lines if each["weight"] == "single"}
    aims = {each["label"] for each in lines if each["weight"] == "aim"}
    small = any(each["task"] is not None and "series" in each for each in panels)
    scored = [each for each in panels if each["guides"] and each.get("series")]
    if shared:
        chosen = [line for each in scored for line in each["series"] if line["weight"] == "mean"]
        axis = _heights(chosen, guides=True, farthest=shared) | {"shared": True}
        for each in scored:
            each |= axis
    for each in panels:
        mine = each.get("series", ())
        for line in mine:
            # Other lines are drawn where there is one mean alone, and stand before it.
            place = means.index((line if line["weight"] == "mean" else mine[-1])["label"])
            line |= _look(place, line["weight"])
        # A small panel has no room for what stands in brackets or after a comma.
        x, y = each["x"], each["y"]
        each["labels"] = [re.split(r" \(|, ", label)[0] if small else label for label in (x, y)]
    legend = [{"label": label, **_look(place, "mean")} for place, label in enumerate(means)]
    legend += [{"label": f"each {name}", **_look(0, "single")} for name in sorted(singles)]
    legend += [{"label": label, **_look(0, "aim")} for label in sorted(aims)]
    if scored:
        legend += [{"label": f"{what} ({value:g})", **look} for what, value, look in GUIDES]
    return {
        "id": name,
        "title": title,
        "paper": paper,
        "text": text,
        "kind": "lines" if lines else "bars",
        "small": small,
        "panels": list(panels),
        "legend": legend,
    }


def _look(place: int, weight: str) -> dict[str, Any]:
    """Return how a line is drawn: its colour is a place in the palette, None for a muted one."""
    width, opacity = WEIGHTS[weight]
    look: dict[str, Any] = {"weight": weight, "width": width, "opacity": opacity}
    if weight == "aim":
        return {**look, "colour": None, "dash": [6, 2, 1, 2]}
    # 36 places differ.
    return {**look, "colour": place % 6, "dash": list(DASHES[(place + place // 6) % 6])}


def _heights(
    lines: Sequence[dict[str, Any]],
    *,
    guides: bool,
    log: bool = False,
    farthest: tuple[float, float] = (-math.inf, math.inf),
) -> dict[str, Any]:
    found = [each[key] or () for each in lines for key in ("y", "low", "high")]
    low, high = _range([v for values in found for v in values], *([0.0, 1.0] if guides else ()))
    if log:
        low, high = low / 1.1, high * 1.1
        return {"y_limits": [low, high], "y_ticks": _labelled(log_ticks(low, high))}
    low, high = max(low, farthest[0]), min(high, farthest[1])
    margin = 0.08 * (high - low or abs(high) or 1.0)
    low, high = low - margin, high + margin
    return {"y_limits": [low, high], "y_ticks": _labelled(ticks(low, high, UP))}


def _range(values: Iterable[float | None], *others: float) -> tuple[float, float]:
    known = [*(value for value in values if value is not None), *others]
    return min(known), max(known)


def ticks(low: float, high: float, most: int) -> list[float]:
    """Return multiples of 1, 2 or 5 times a power of 10 within two limits, about `most` of them."""
    rough = (high - low) / most
    if rough <= 0:
        return [low]
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(each * power for each in (1, 2, 5, 10) if each * power >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    count = math.floor(high / step + 1e-9) - first
    # The rounding leaves 0.3 where a product is 0.30000000000000004.
    return [float(f"{(first + number) * step:.12g}") for number in range(count + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Return ones, twos and fives within two limits; ones alone where those would be many.

    Limits that are so near that fewer than two lie between them get evenly spaced ticks.
    """
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found = [float(f"{digit}e{power}") for power in powers for digit in (1, 2, 5)]
    inside = [each for each in found if low <= each <= high]
    if len(inside) < 2:
        return ticks(low, high, UP)
    ones = [each for each in inside if f"{each:e}".startswith("1.0")]
    return ones if len(inside) > 7 and len(ones) > 1 else inside


def shot_ticks(shots: int) -> list[int]:
    """Return the shots that are marked: the first, and multiples of 1, 2 or 5 times a power of 10.

    The first shot is the point of the picture: it always has its tick.
    """
    step = next(
        step
        for power in range(10)
        for step in (10**power, 2 * 10**power, 5 * 10**power)
        if shots // step + (step > 1) <= MOST_SHOTS
    )
    return sorted({1, *range(step, shots + 1, step)})


def _ticks(low: float, high: float) -> list[list[Any]]:
    return _labelled(ticks(low, high, ACROSS))


def _labelled(values: Iterable[float]) -> list[list[Any]]:
    """Return ticks with what an axis has room for: 0.2, 500, 120k."""
    return [[v, f"{v / 1000:.6g}k" if abs(v) >= 1e5 else f"{v:.6g}"] for v in values]


# What is shown, drawn.


def write_figures(figures: Iterable[dict[str, Any]], directory: Path) -> list[Path]:
    """Draw figures, each as PNG and as SVG named by its id, and return the files written.

    Raises:
        UsageError: There is a file that vintix did not make.
        StorageError: The file system refused.
    """
    drawn = [(each["id"], draw(each)) for each in figures]
    return [save(one, directory / f"{name}{suffix}") for name, one in drawn for suffix in FORMATS]


def draw(figure: dict[str, Any]) -> Figure:
    """Draw one figure; see `figure`."""
    import matplotlib

    with matplotlib.rc_context(STYLE):
        if figure["kind"] == "bars":
            heights = [BAR_HEIGHT * len(each["bars"]) + 0.75 for each in figure["panels"]]
            drawn = new_figure(sum(heights) + 0.4)
            grid = drawn.subplots(len(heights), 1, squeeze=False, height_ratios=heights)
            for axes, panel in zip(grid.flat, figure["panels"], strict=True):
                _draw_bars(axes, panel)
        else:
            columns = columns_of(figure)
            drawn = new_figure(max(3.2, grid_height(figure, columns) + 1.1))
            # In a part of its own: its common label would else stand on the legend.
            body: Any = drawn.subfigures()
            draw_grid(body, figure, columns)
        if figure["title"]:
            paper = f" ({figure['paper']})" if figure["paper"] else ""
            drawn.suptitle(figure["title"] + paper, x=0.01, ha="left")
        draw_legend(drawn, figure["legend"])
        return drawn


def columns_of(figure: dict[str, Any]) -> int:
    """Return in how many columns panels stand: small ones so that few places stay empty."""
    count = len(figure["panels"])
    if not figure["small"]:
        return min(2, count)
    return min(min((4, 3), key=lambda columns: -count % columns), count)


def grid_height(figure: dict[str, Any], columns: int) -> float:
    """Return the height of all rows of panels, inches."""
    rows = math.ceil(len(figure["panels"]) / columns)
    return rows * (SMALL_HEIGHT if figure["small"] else PANEL_HEIGHT)


def draw_grid(
    drawn: Figure | SubFigure, figure: dict[str, Any], columns: int, width: float = WIDTH
) -> None:
    """Draw the panels of lines of a figure.

    Args:
        columns: How many stand side by side.
        width: Inches that they have.
    """
    panels = figure["panels"]
    grid = drawn.subplots(math.ceil(len(panels) / columns), columns, squeeze=False)
    letters = int(TITLE_CHARACTERS * width / WIDTH / columns) - 1
    # What most panels have is said once.
    x, y = (_commonest([panel[key] for panel in panels]) for key in ("x", "y"))
    for place, axes in enumerate(grid.flat):
        if place >= len(panels):
            axes.set_visible(False)
            continue
        panel = panels[place]
        _draw_lines(axes, panel, letters)
        if panel["x"] != x:
            axes.set_xlabel(panel["labels"][0])
        if panel["y"] != y:
            axes.set_ylabel(panel["labels"][1])
        if place % columns and panel.get("shared") and panels[place - 1].get("shared"):
            axes.tick_params(labelleft=False)
    if len(panels) == 1:
        drawn.axes[0].set(xlabel=x, ylabel=y)
    else:
        drawn.supxlabel(x, fontsize=9)
        drawn.supylabel(y, fontsize=9)


def _commonest(labels: Sequence[str]) -> str:
    return max(labels, key=labels.count)


def _draw_lines(axes: Axes, panel: dict[str, Any], letters: int) -> None:
    for each in panel["series"]:
        point = {"marker": "o", "markersize": 3} if len(each["x"]) == 1 else {}
        look = _line(each) | {"zorder": 4 if each["weight"] == "mean" else 2} | point
        axes.plot(each["x"], each["y"], gid=each["label"], **look)
        if each["low"] is not None:
            band = {"color": look["color"], "alpha": BAND_OPACITY, "linewidth": 0}
            axes.fill_between(each["x"], each["low"], each["high"], **band)
    if panel["guides"] and panel["series"]:
        for name, value, look in GUIDES:
            axes.axhline(value, gid=name, zorder=1, **_line(look))
    wrapped = [line for each in panel["title"].split("\n") for line in textwrap.wrap(each, letters)]
    axes.set_title("\n".join(wrapped), pad=4, color=COLOURS[1] if panel["poor"] else INK)
    if not panel["series"]:
        middle: Any = {"ha": "center", "va": "center", "transform": axes.transAxes}
        axes.text(0.5, 0.5, panel["note"], color=MUTED, **middle)
    elif panel["note"]:
        axes.annotate(
            panel["note"],
            (1, 0),
            xycoords=("axes fraction", "data" if panel["guides"] else "axes fraction"),
            xytext=(-3, 4),
            textcoords="offset points",
            ha="right",
            va="bottom",
            fontsize=8,
            color=MUTED,
            zorder=5,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 0.8},
        )
    if panel["log"]:
        axes.set_yscale("log")
    axes.set_ylim(panel["y_limits"])
    low, high = panel["x_limits"]
    margin = 0.02 * (high - low or 1)
    axes.set_xlim(low - margin, high + margin)
    axes.set_yticks(*zip(*panel["y_ticks"], strict=True))
    axes.set_xticks(*zip(*panel["x_ticks"], strict=True))
    axes.minorticks_off()


def _line(look: dict[str, Any]) -> dict[str, Any]:
    return {
        "color": MUTED if look["colour"] is None else COLOURS[look["colour"]],
        "linestyle": (0, tuple(look["dash"])) if look["dash"] else "-",
        "linewidth": look["width"],
        "alpha": look["opacity"],
    }


def draw_legend(drawn: Figure | SubFigure, legend: Sequence[dict[str, Any]]) -> None:
    """Draw a legend below everything else, if there is one."""
    from matplotlib.lines import Line2D

    if legend:
        longest = max(len(key["label"]) for key in legend)
        drawn.legend(
            handles=[Line2D([], [], label=key["label"], **_line(key)) for key in legend],
            loc="outside lower left",
            ncols=max(1, min(len(legend), LEGEND_CHARACTERS // (longest + 6))),
        )


def _draw_bars(axes: Axes, panel: dict[str, Any]) -> None:
    bars = panel["bars"]
    for row, each in enumerate(bars):
        axes.barh(row, each["value"], height=0.72, color=COLOURS[each["colour"]], zorder=2)
        if each["low"] is not None:
            axes.hlines(row, each["low"], each["high"], color=INK, linewidth=1.0, zorder=3)
        inside = each["value"] > 0.12
        look: Any = {"xytext": (4, 0), "textcoords": "offset points", "va": "center", "zorder": 4}
        axes.annotate(
            each["inside"],
            (0 if inside else max(0.0, each["value"]), row),
            fontsize=7.5,
            color="white" if inside else INK,
            **look,
        )
        axes.annotate(
            each["text"], (1, row), xycoords=("axes fraction", "data"), fontsize=8, **look
        )
    axes.set_yticks(range(len(bars)), [each["label"] for each in bars])
    axes.set_ylim(len(bars) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.axvline(1, zorder=1, **_line(GUIDES[0][2]))
    axes.set_xlim(panel["x_limits"])
    axes.set_xticks(*zip(*panel["x_ticks"], strict=True))
    axes.set_title(panel["title"])
    axes.set_xlabel(panel["x"])


def new_figure(height: float) -> Figure:
    """Return an empty figure, `WIDTH` by `height` inches; within the context of `STYLE`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, path: Path) -> Path:
    """Write a figure as the suffix of the file says; the same figure gives the same bytes.

    Raises:
        UsageError: There is a file that vintix did not make.
        StorageError: The file system refused.
    """
    import matplotlib

    suffix = path.suffix.lower().lstrip(".")
    mark = {"Date": None, "Creator": MARK} if suffix == "svg" else {"Software": MARK}
    buffer = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(buffer, format=suffix, dpi=DPI, metadata=mark)
    return write_output(path, buffer.getvalue())


def save_image(image_HWC: NDArray[np.uint8], path: Path) -> Path:
    """Write pixels, uint8 (H, W, 3), as PNG; the same pixels give the same bytes.

    Raises:
        UsageError: There is a file that vintix did not make.
        StorageError: The file system refused.
    """
    from matplotlib.image import imsave

    buffer = io.BytesIO()
    # Without the version of Matplotlib, which has nothing to do with the picture.
    imsave(buffer, image_HWC, format="png", metadata={"Software": MARK})
    return write_output(path, buffer.getvalue())
