"""What the figures of a report are made of, and which entries go into them.

A figure is a JSON object: ``id``, ``title``, ``paper`` (which figures of the paper it answers to),
``text``, ``kind`` (``lines`` or ``bars``), ``panels`` and ``legend``, one for all its panels:
``label``, ``colour`` and ``weight`` of each kind of line (``mean``, ``seed``, ``demonstrator`` or
``random``). A panel has ``title``, ``domain``, ``task`` (null for an aggregate), ``x``, ``y``
(labels), ``guides`` (whether random and expert lie at 0 and 1), ``log``, limits and ticks of its
axes (`pipelines.report.axes`) and ``series``, or, in a figure of bars, ``bars``. A series has
``label``, ``tasks`` (how many it is the mean of; null for a single one), ``colour`` (a place in the
palette, the same for a label in all panels of a figure), ``weight`` (``mean`` or ``seed``), ``x``,
``y`` and null or lists ``low`` and ``high``; a bar has ``label``, ``colour``, ``value``, ``low``,
``high``, ``text`` (the value as it is shown), ``inside`` (a short text) and ``task``.

Shapes: S seeds, E shots.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.methods import DEFAULT
from pipelines.report.axes import bar_axes, line_axes
from pipelines.report.sources import Entry
from pipelines.rollout.scores import mean_curve
from pipelines.rollout.statistics import bootstrap_band

if TYPE_CHECKING:
    from numpy.typing import NDArray

Figure = dict[str, Any]

SHOT = "shot (episode), from an empty context"
#: Draws of the bootstrap for the bands of curves; the tables' intervals have more.
BAND_RESAMPLES = 500


def domains_of(entries: Iterable[Entry]) -> list[str]:
    """Return the domains, in order of appearance."""
    return list(dict.fromkeys(entry.domain for entry in entries))


def models_of(entries: Iterable[Entry]) -> list[str]:
    """Return the models, in order of appearance."""
    return list(dict.fromkeys(entry.model for entry in entries))


def main_entries(entries: Sequence[Entry]) -> list[Entry]:
    """Return each domain's entries of one model: of the first trained by AD, else of the first."""
    chosen = []
    for domain in domains_of(entries):
        mine = [entry for entry in entries if entry.domain == domain]
        ranked = sorted(mine, key=lambda entry: entry.method not in (None, DEFAULT))
        chosen += [entry for entry in mine if entry.model == ranked[0].model]
    return chosen


def aggregate(entries: Sequence[Entry]) -> tuple[NDArray[np.float64], Any, Any]:
    """Return the mean over tasks by shot with its 95 % interval.

    Args:
        entries: Tasks with a score; at least one.

    Returns:
        Mean (E,), and lower and upper bounds (E,), None where a task has a single seed.
    """
    curves = [entry.curve for entry in entries]
    mean_E = mean_curve(curves)
    if min(curve.seeds for curve in curves) < 2:
        return mean_E, None, None
    samples = [
        curve.normalized[:, : len(mean_E)] for curve in curves if curve.normalized is not None
    ]
    return mean_E, *bootstrap_band(samples, np.mean, resamples=BAND_RESAMPLES)


def scored(entries: Iterable[Entry]) -> list[Entry]:
    """Return those that can be normalised."""
    return [entry for entry in entries if entry.curve.score is not None]


def axis_label(reference: str) -> str:
    """Return what normalised returns are called."""
    return f"normalised return ({reference} scores)"


def figure(
    name: str, title: str, paper: str, text: str, panels: Sequence[dict[str, Any]]
) -> Figure:
    """Return a figure with its one legend; each label has one colour in all its panels.

    Args:
        name: Its ``id``.
        title: Its title.
        paper: Which figures of the paper it answers to; empty for none.
        text: What is shown.
        panels: Its panels, all of lines or all of bars.
    """
    lines = [each for panel in panels for each in panel.get("series", ())]
    means = list(dict.fromkeys(each["label"] for each in lines if each["weight"] == "mean"))
    singles = [each["label"].split()[0] for each in lines if each["weight"] == "seed"]
    for panel in panels:
        mine = panel.get("series", ())
        for each in mine:
            # Single lines are drawn where there is one mean alone, and stand before it.
            each["colour"] = means.index((each if each["weight"] == "mean" else mine[-1])["label"])
    legend = [_key(label, colour, "mean") for colour, label in enumerate(means)]
    if singles:
        legend.append(_key(f"each {singles[0]}", 0, "seed"))
    if any(panel["guides"] and "series" in panel for panel in panels):
        legend += [
            _key("demonstrator (1)", 0, "demonstrator"),
            _key("random play (0)", 0, "random"),
        ]
    return {
        "id": name,
        "title": title,
        "paper": paper,
        "text": text,
        "kind": "lines" if lines else "bars",
        "panels": list(panels),
        "legend": legend,
    }


def _key(label: str, colour: int, weight: str) -> dict[str, Any]:
    return {"label": label, "colour": colour, "weight": weight}


def panel(title: str, domain: str, task: str | None = None, **parts: Any) -> dict[str, Any]:
    """Return a panel with its defaults and its axes."""
    made = {
        "title": title,
        "domain": domain,
        "task": task,
        "x": SHOT,
        "y": "",
        "guides": True,
        "log": False,
        **parts,
    }
    if "bars" in made:
        return {**made, **bar_axes(made["bars"])}
    axes = line_axes(made["series"], made["x"], guides=made["guides"], log=made["log"])
    return {**made, **axes}


def counted(count: int) -> str:
    """Return ``1 task`` or ``4 tasks``."""
    return f"{count} task{'' if count == 1 else 's'}"


def bar(
    label: str,
    value: float,
    interval: tuple[float | None, float | None] = (None, None),
    *,
    colour: int = 0,
    task: str | None = None,
    inside: str = "",
) -> dict[str, Any]:
    """Return a bar; its value is written out here, so that page and pictures round alike."""
    low, high = interval
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


def series(
    label: str,
    y: NDArray[Any],
    *,
    x: NDArray[Any] | None = None,
    low: NDArray[Any] | None = None,
    high: NDArray[Any] | None = None,
    weight: str = "mean",
    tasks: int | None = None,
) -> dict[str, Any]:
    """Return a series, which `figure` colours; without x they are the shots, from 1 on."""
    return {
        "label": label,
        "tasks": tasks,
        "colour": 0,
        "weight": weight,
        "x": (np.arange(1, len(y) + 1) if x is None else x).tolist(),
        "y": np.asarray(y, np.float64).tolist(),
        "low": None if low is None else low.tolist(),
        "high": None if high is None else high.tolist(),
    }
