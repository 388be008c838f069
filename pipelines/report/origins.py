"""Figures of what the rollouts' models came from: their histories and their training.

Shapes: N trajectories, C bins of progress, K tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipelines.domains.base import Domain
from pipelines.domains.registry import load_domains
from pipelines.report.panels import Figure, counted, figure, panel, series
from pipelines.report.sources import Sources
from pipelines.rollout.statistics import interquartile_mean

if TYPE_CHECKING:
    from pipelines.artifacts.artifact import Artifact
    from pipelines.histories.quality import HistoryQuality

PROGRESS = "share of the trajectory's steps"
#: By the random and demonstrator returns measured when the demonstrator was made.
NORMALISED = "normalised return (measured scores)"
#: Most points of a training curve: the loss of single batches is noise that hides its course.
POINTS = 60
_GRID_C = (np.arange(20) + 0.5) / 20


def history_figures(sources: Sources) -> list[Figure]:
    """Return the figures of the histories that the workspace still holds.

    Raises:
        ArtifactCorruptError: The bytes of one differ from the manifest's.
    """
    from pipelines.histories.quality import history_quality
    from pipelines.histories.reader import HistoryReader

    histories = []
    for artifact in sources.of_kind("histories"):
        reader = HistoryReader(artifact)
        histories += [history_quality(reader, name) for name in reader.tasks()]
    known = [
        each for each in histories if each.quality is not None and len(each.quality.progress_C)
    ]
    if not known:
        return []
    domains = list(dict.fromkeys(each.domain for each in known))
    mine = {domain: [each for each in known if each.domain == domain] for domain in domains}
    overview = figure(
        "histories",
        "Noise-distilled histories, by domain",
        "Figure 3",
        "Normalised return against progress: the mean over tasks of each task's interquartile "
        "mean, and the range of the middle half of the tasks.",
        [_domain_panel(domain, part) for domain, part in mine.items()],
    )
    return [
        overview,
        *(
            figure(
                f"histories-{domain}",
                f"Noise-distilled histories of {domain}",
                load_domains().get(domain, Domain).histories_figure,
                "Interquartile mean over trajectories, and the trajectories themselves.",
                [_history_panel(each) for each in part],
            )
            for domain, part in mine.items()
        ),
    ]


def _trajectories(history: HistoryQuality) -> NDArray[np.float64]:
    """Return the binned returns of each trajectory that has a complete episode, (N, C)."""
    from pipelines.histories.quality import binned_means

    bins = len(history.quality.progress_C) if history.quality else 1
    return np.stack(
        [
            binned_means(each.progress_E, each.returns_E, bins)
            for each in history.trajectories
            if len(each.returns_E)
        ]
    )


def _history_panel(history: HistoryQuality) -> dict[str, Any]:
    values_NC = _trajectories(history)
    progress_C = history.quality.progress_C if history.quality else np.empty(0)
    lines = [
        series(f"trajectory {number}", values_C, x=progress_C, weight="seed")
        for number, values_C in enumerate(values_NC[:8])
        if len(values_NC) > 1
    ]
    lines.append(series("interquartile mean", interquartile_mean(values_NC, axis=0), x=progress_C))
    return panel(history.task, history.domain, history.task, x=PROGRESS, y=NORMALISED, series=lines)


def _domain_panel(domain: str, histories: Sequence[HistoryQuality]) -> dict[str, Any]:
    curves_KC = np.stack(
        [
            np.interp(
                _GRID_C, each.quality.progress_C, interquartile_mean(_trajectories(each), axis=0)
            )
            for each in histories
            if each.quality is not None
        ]
    )
    low_C, high_C = np.quantile(curves_KC, [0.25, 0.75], axis=0)
    several = len(curves_KC) > 1
    line = series(
        "mean over tasks",
        curves_KC.mean(axis=0),
        x=_GRID_C,
        low=low_C if several else None,
        high=high_C if several else None,
        tasks=len(curves_KC),
    )
    title = f"{domain}, {counted(len(curves_KC))}"
    return panel(title, domain, x=PROGRESS, y=NORMALISED, series=[line])


def training_figure(sources: Sources) -> Figure | None:
    """Return the loss of each checkpoint by step; None where no log of one is there.

    Raises:
        ArtifactCorruptError: A log differs from the manifest.
    """
    from pipelines.train.metrics import NAME, read_metrics

    panels = []
    for artifact in sources.of_kind("checkpoints"):
        path = f"log/{NAME}"
        if path not in artifact.manifest.files:
            continue
        rows = [row for row in read_metrics(artifact.file(path)) if "loss" in row]
        if len(rows) > 1:
            panels.append(_loss_panel(artifact, rows))
    if not panels:
        return None
    return figure(
        "training",
        "Training",
        "",
        f"Loss by optimizer step, each point the mean of neighbouring steps where there are more "
        f"than {POINTS}; in all, and by domain.",
        panels,
    )


def _loss_panel(artifact: Artifact, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    steps = np.array([row["step"] for row in rows], np.float64)
    lines = [_thinned("all", steps, np.array([row["loss"] for row in rows], np.float64))]
    domains = dict.fromkeys(name for row in rows for name in row.get("domains") or {})
    for domain in domains:
        found = [
            (row["step"], row["domains"][domain])
            for row in rows
            if (row.get("domains") or {}).get(domain) is not None
        ]
        if len(domains) > 1:
            at, values = np.array(found, np.float64).T
            lines.append(_thinned(domain, at, values))
    log = min(value for line in lines for value in line["y"]) > 0
    return panel(
        artifact.reference,
        ", ".join(domains),
        x="optimizer step",
        y="loss, logarithmic" if log else "loss",
        guides=False,
        log=log,
        series=lines,
    )


def _thinned(label: str, steps: NDArray[np.float64], values: NDArray[np.float64]) -> dict[str, Any]:
    return series(label, _means(values), x=_means(steps))


def _means(values: NDArray[np.float64]) -> NDArray[np.float64]:
    parts = np.array_split(values, min(POINTS, len(values)))
    return np.array([part.mean() for part in parts])
