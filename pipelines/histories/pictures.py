"""Pictures of histories: normalised return against progress, as the paper's Figures 9 to 13.

One panel a task: its smoothed return over all trajectories, the trajectories one by one behind it,
and the straight line from random play to the demonstrator that a history is meant to follow.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.histories.quality import BINS, HistoryQuality, Quality, binned_means
from pipelines.output_files import check_suffix
from pipelines.pictures import (
    CURVE,
    DEMONSTRATOR,
    FORMATS,
    INK,
    MUTED,
    RANDOM,
    STYLE,
    new_figure,
    save,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANEL_HEIGHT = 1.55
COLUMNS = 5
#: Most trajectories that are drawn one by one.
MOST_LINES = 12
#: Most letters in a line of a panel's title: wide ones would reach into the next of five panels.
_TITLE = 18
#: Curves beyond these normalised returns are cut off: one odd task must not flatten the others.
_LOWEST, _HIGHEST = -0.3, 1.5

_TARGET: Any = {"color": "#8b95a1", "linewidth": 0.9, "linestyle": (0, (4, 2))}


def plot_histories(histories: Sequence[HistoryQuality], path: Path) -> list[Path]:
    """Write a picture a domain.

    Args:
        histories: One or more; those without measured scores are left out.
        path: A file ending in ``.png`` or ``.svg``; where there are several domains, each one's
            name is put before the suffix.

    Returns:
        The files written.

    Raises:
        UsageError: The file's suffix is neither, or there is a file that vintix did not make.
        StorageError: The file system refused.
    """
    check_suffix(path, FORMATS)
    drawn = [each for each in histories if each.quality is not None]
    domains = sorted({each.domain for each in drawn})
    return [
        save(
            draw_domain([each for each in drawn if each.domain == domain]),
            path if len(domains) == 1 else path.with_stem(f"{path.stem}-{domain}"),
        )
        for domain in domains
    ]


def draw_domain(histories: Sequence[HistoryQuality]) -> Figure:
    """Draw the tasks of one domain, one panel each.

    Args:
        histories: One or more with a quality.
    """
    import matplotlib

    drawn = [(each, each.quality) for each in histories if each.quality is not None]
    with matplotlib.rc_context(STYLE):
        columns = _columns(len(drawn))
        rows = math.ceil(len(drawn) / columns)
        figure = new_figure(PANEL_HEIGHT * rows + 1.25)
        grid = figure.subplots(rows, columns, squeeze=False)
        low, high = _limits(histories)
        for index, axes in enumerate(grid.flat):
            if index >= len(drawn):
                axes.set_visible(False)
                continue
            _panel(axes, *drawn[index])
            axes.set_ylim(low, high)
            axes.tick_params(labelleft=index % columns == 0)
            # The lowest panel of a column carries its labels, also where the last row is not full.
            lowest = index + columns >= len(drawn)
            axes.tick_params(labelbottom=lowest)
            if lowest:
                axes.set_xlabel("share of the trajectory", fontsize=8)
        figure.supylabel("normalised return", fontsize=9)
        figure.suptitle(_title(histories), fontsize=11, fontweight="bold", x=0.01, ha="left")
        _legend(figure)
        return figure


def _panel(axes: Axes, history: HistoryQuality, quality: Quality) -> None:
    bins = min(BINS, max(2, quality.episodes // max(1, 2 * quality.trajectories)))
    middles = (np.arange(bins) + 0.5) / bins
    axes.plot([0, 1], [0, 1], zorder=1, gid="straight line", **_TARGET)
    for number, each in enumerate(history.trajectories[:MOST_LINES]):
        if len(each.returns_E):
            values_C = binned_means(each.progress_E, each.returns_E, bins)
            axes.plot(
                middles,
                values_C,
                color=CURVE,
                alpha=0.22,
                linewidth=0.8,
                zorder=2,
                gid=f"trajectory-{number}",
            )
    axes.axhline(1, color=DEMONSTRATOR, linewidth=1.0, linestyle=(0, (5, 2)), zorder=3)
    axes.axhline(0, color=RANDOM, linewidth=1.0, linestyle=(0, (1, 1.6)), zorder=3)
    axes.plot(
        quality.progress_C, quality.smoothed_C, color=CURVE, linewidth=1.9, zorder=4, gid="mean"
    )
    poor = history.verdict == "poor"
    title = textwrap.wrap(history.task, _TITLE)
    if history.history is not None:
        title += textwrap.wrap(history.history, 30)
    axes.set_title(
        "\n".join(title) + (" ✗" if poor else ""),
        pad=4,
        fontsize=8.5,
        color=RANDOM if poor else INK,
    )
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes.set_yticks([0, 0.5, 1])
    if quality.r_squared is not None:
        axes.annotate(
            f"R² {quality.r_squared:.2f}",
            (0.98, 0),
            xycoords=("axes fraction", "data"),
            xytext=(0, 4),
            textcoords="offset points",
            ha="right",
            va="bottom",
            fontsize=8,
            color=MUTED,
            zorder=5,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 0.8},
        )


def _title(histories: Sequence[HistoryQuality]) -> str:
    found = [each.quality.r_squared for each in histories if each.quality is not None]
    known = [value for value in found if value is not None]
    count = len(histories)
    text = f"{histories[0].domain}: {count} {'history' if count == 1 else 'histories'}"
    return f"{text}, mean R² of a straight line {np.mean(known):.3f}" if known else text


def _legend(figure: Figure) -> None:
    from matplotlib.lines import Line2D

    entries: list[tuple[str, Any]] = [
        ("mean", {"color": CURVE, "linewidth": 1.9}),
        ("trajectory", {"color": CURVE, "linewidth": 0.8, "alpha": 0.35}),
        ("straight line", _TARGET),
        ("demonstrator", {"color": DEMONSTRATOR, "linestyle": (0, (5, 2))}),
        ("random policy", {"color": RANDOM, "linestyle": (0, (1, 1.6))}),
    ]
    figure.legend(
        handles=[Line2D([], [], label=text, **look) for text, look in entries],
        loc="outside lower left",
        ncols=len(entries),
        handlelength=1.8,
        columnspacing=1.6,
    )


def _limits(histories: Sequence[HistoryQuality]) -> tuple[float, float]:
    smoothed = [each.quality.smoothed_C for each in histories if each.quality is not None]
    seen = np.concatenate([[0.0, 1.0], *smoothed])
    low, high = max(_LOWEST, float(seen.min())), min(_HIGHEST, float(seen.max()))
    return low - 0.12, high + 0.12


def _columns(panels: int) -> int:
    """Return four or five columns, whichever leaves fewer places empty; three for a few panels."""
    if panels <= 6:
        return min(panels, 3)
    return min((COLUMNS, COLUMNS - 1), key=lambda columns: -panels % columns)
