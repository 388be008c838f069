"""What the figures of a report are made of, and which entries go into them.

A figure is a JSON object: ``id``, ``title``, ``paper`` (which figures of the paper it answers to),
``text``, ``kind`` (``lines`` or ``bars``) and ``panels``. A panel has ``title``, ``domain``,
``task`` (null for an aggregate), ``x``, ``y`` (labels), ``guides`` (whether random and expert lie
at 0 and 1), ``log`` and ``series``, or, in a figure of bars, ``bars``. A series has ``label``,
``colour`` (a place in the palette), ``weight`` (``mean`` or ``seed``), ``x``, ``y`` and null or
lists ``low`` and ``high``; a bar has ``label``, ``colour``, ``value``, ``low``, ``high``,
``inside`` (a short text) and ``task``.

Shapes: S seeds, E shots.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

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
        ranked = sorted(mine, key=lambda entry: entry.method not in (None, "ad"))
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


def panel(title: str, domain: str, task: str | None = None, **parts: Any) -> dict[str, Any]:
    """Return a panel with its defaults."""
    return {
        "title": title,
        "domain": domain,
        "task": task,
        "x": SHOT,
        "y": "",
        "guides": True,
        "log": False,
        **parts,
    }


def series(
    label: str,
    colour: int,
    y: NDArray[Any],
    *,
    x: NDArray[Any] | None = None,
    low: NDArray[Any] | None = None,
    high: NDArray[Any] | None = None,
    weight: str = "mean",
) -> dict[str, Any]:
    """Return a series; its x are the shots from 1 on where none are given."""
    return {
        "label": label,
        "colour": colour,
        "weight": weight,
        "x": (np.arange(1, len(y) + 1) if x is None else x).tolist(),
        "y": np.asarray(y, np.float64).tolist(),
        "low": None if low is None else low.tolist(),
        "high": None if high is None else high.tolist(),
    }
