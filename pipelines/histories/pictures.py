"""Histories as figures: normalised return against progress, as the paper's Figures 9 to 13.

Shapes: N trajectories, C bins of progress.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.drawing import FORMATS, draw, figure, panel, save, series
from pipelines.histories.quality import BINS, HistoryQuality, Quality, binned_means
from pipelines.output_files import check_suffix
from pipelines.text import counted

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

PROGRESS = "share of the trajectory's steps"
#: By the random and demonstrator returns measured when the demonstrator was made.
NORMALISED = "normalised return (measured scores)"
#: Most trajectories that are drawn one by one.
MOST_LINES = 12
#: Normalised returns beyond which the common axis of a domain's pictures does not reach.
_FARTHEST = (-0.3, 1.5)


def history_panel(
    history: HistoryQuality, quality: Quality, label: str, mean_C: NDArray[Any]
) -> dict[str, Any]:
    """Return the panel of a history.

    It shows some trajectories, their mean, and the straight line from random play to the
    demonstrator that a history is meant to follow.

    Args:
        quality: Its quality, in numbers.
        label: What the mean is called.
        mean_C: The mean at each of the quality's bins.
    """
    bins = min(BINS, max(2, quality.episodes // max(1, 2 * quality.trajectories)))
    middles_C = (np.arange(bins) + 0.5) / bins
    ends = np.array([0.0, 1.0])
    lines = [series("straight line", ends, x=ends, weight="aim")]
    lines += [
        series(
            f"trajectory {number}",
            binned_means(each.progress_E, each.returns_E, bins),
            x=middles_C,
            weight="single",
        )
        for number, each in enumerate(history.trajectories[:MOST_LINES])
        if len(each.returns_E)
    ]
    lines.append(series(label, mean_C, x=quality.progress_C))
    poor = history.verdict == "poor"
    title = history.task if history.history is None else f"{history.task}\n{history.history}"
    return panel(
        f"{title} ✗" if poor else title,
        history.domain,
        history.task,
        x=PROGRESS,
        y=NORMALISED,
        lines=lines,
        note="" if quality.r_squared is None else f"R² {quality.r_squared:.2f}",
        poor=poor,
    )


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
    drawn.sort(key=lambda each: by_number(each.task))
    domains = sorted({each.domain for each in drawn})
    return [
        save(
            draw_domain([each for each in drawn if each.domain == domain]),
            path if len(domains) == 1 else path.with_stem(f"{path.stem}-{domain}"),
        )
        for domain in domains
    ]


def by_number(name: str) -> list[str | int]:
    """Return a key that sorts names with the numbers in them as numbers: 5 before 10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]


def draw_domain(histories: Sequence[HistoryQuality]) -> Figure:
    """Draw the tasks of one domain, one panel each: their smoothed return.

    Args:
        histories: One or more with a quality.
    """
    known = [(each, each.quality) for each in histories if each.quality is not None]
    found = [quality.r_squared for _, quality in known if quality.r_squared is not None]
    title = f"{histories[0].domain}: {counted(len(histories), 'history', 'histories')}"
    if found:
        title += f", mean R² of a straight line {np.mean(found):.3f}"
    panels = [history_panel(each, quality, "mean", quality.smoothed_C) for each, quality in known]
    return draw(figure("histories", title, "", "", panels, shared=_FARTHEST))
