"""The figures of a report: of rollouts, beside what others report, and of what models came from.

`pipelines.drawing` describes what a figure holds.

Shapes: S seeds, E shots, N trajectories, C bins of progress, K tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.domains.base import Domain
from pipelines.domains.registry import load_domains
from pipelines.drawing import bar, figure, panel, series
from pipelines.report.sources import (
    Entry,
    Sources,
    domains_of,
    main_entries,
    models_of,
    of_domain,
    scored,
)
from pipelines.rollout.curves import axis_label, task_panel
from pipelines.rollout.reported import OUR_REFERENCE, SOURCES, reported_for
from pipelines.rollout.scores import best_shot, mean_curve, task_scores
from pipelines.rollout.statistics import (
    bootstrap_band,
    bootstrap_interval,
    interquartile_mean,
    summarize,
    with_equal_weight,
)
from pipelines.text import counted

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pipelines.artifacts.artifact import Artifact
    from pipelines.histories.quality import HistoryQuality, Quality

Figure = dict[str, Any]

#: Draws of the bootstrap for the bands of curves; the tables' intervals have more.
BAND_RESAMPLES = 500
#: Most points of a training curve: the loss of single batches is noise that hides its course.
POINTS = 60
_GRID_C = (np.arange(20) + 0.5) / 20


def rollout_figures(entries: Sequence[Entry], reference: str) -> list[Figure]:
    """Return the figures of returns against shots that the entries hold the data for.

    Args:
        entries: Tasks as played, normalised by one reference.
        reference: Its name.
    """
    comparison = comparison_figure(entries)
    made = [
        _domain_curves(entries, reference),
        _demonstrator_bars(entries, reference),
        *([] if comparison is None else [comparison]),
        _variations(entries, reference),
        _unseen(entries),
        _methods(entries, reference),
        *(_grid(entries, domain) for domain in domains_of(entries)),
    ]
    return [each for each in made if each["panels"]]


def _domain_curves(entries: Sequence[Entry], reference: str) -> Figure:
    chosen = scored(entry for entry in main_entries(entries) if entry.trained)
    return figure(
        "domains",
        "Return by shot, by domain",
        "Figure 4",
        "Mean over the training tasks, from an empty context on. The band is the 95 % bootstrap "
        "interval over seeds, stratified by task. A curve ends with the fewest shots of any of its "
        "tasks.",
        [
            _mean_panel(domain, {"mean over tasks": of_domain(chosen, domain)}, reference)
            for domain in domains_of(chosen)
        ],
    )


def _mean_panel(domain: str, parts: dict[str, list[Entry]], reference: str) -> dict[str, Any]:
    """Return the panel of means over tasks, each with its 95 % interval over seeds."""
    lines = []
    for label, part in parts.items():
        curves = [entry.curve for entry in part]
        mean_E, band = mean_curve(curves), None
        if min(curve.seeds for curve in curves) > 1:
            samples = [
                curve.normalized[:, : len(mean_E)]
                for curve in curves
                if curve.normalized is not None
            ]
            weighted = with_equal_weight(samples)
            band = bootstrap_band(weighted, np.mean, resamples=BAND_RESAMPLES)
        lines.append(series(label, mean_E, band=band, tasks=len(part)))
    counts = sorted({len(part) for part in parts.values()})
    count = counted(counts[-1], "task")
    count = count if len(counts) == 1 else f"{counts[0]} to {count} each"
    return panel(f"{domain}, {count}", domain, y=axis_label(reference), lines=lines)


def _demonstrator_bars(entries: Sequence[Entry], reference: str) -> Figure:
    chosen = scored(entry for entry in main_entries(entries) if entry.trained)
    panels = []
    for domain in domains_of(chosen):
        bars = []
        for entry in of_domain(chosen, domain):
            scores_S = task_scores(entry.curve, "best")
            interval = bootstrap_interval([scores_S], np.mean) if len(scores_S) > 1 else None
            shot = f"{best_shot(entry.curve) + 1}"
            bars.append(
                bar(entry.name, float(scores_S.mean()), interval, task=entry.name, inside=shot)
            )
        panels.append(panel(domain, domain, x=axis_label(reference), bars=bars))
    return figure(
        "demonstrators",
        "Best shot against the demonstrator",
        "Figure 1",
        "Return at each task's best shot, mean over seeds; 1 is the demonstrator. The number in a "
        "bar is that shot. It is chosen after the fact, so it is an upper estimate.",
        panels,
    )


def variation_label(entry: Entry) -> str:
    """Return what is changed in a variation, such as ``gravity 1.1x``."""
    change = entry.variation
    if not change or "setpoint" in change:
        return "unseen setpoints"
    return ", ".join(
        f"{name} {value:g}" if isinstance(value, int | float) else f"{name} {value}"
        for name, value in sorted(change.items())
    )


def _variations(entries: Sequence[Entry], reference: str) -> Figure:
    chosen = scored(main_entries(entries))
    panels = []
    varied = [entry for entry in chosen if entry.curve.part == "variations"]
    for domain in domains_of(varied):
        mine = of_domain(chosen, domain)
        trained = [entry for entry in mine if entry.trained]
        parts = {"training tasks": trained} if trained else {}
        for entry in of_domain(varied, domain):
            parts.setdefault(variation_label(entry), []).append(entry)
        panels.append(_mean_panel(domain, parts, reference))
    return figure(
        "variations",
        "Parametric variations",
        "Figure 6",
        "Mean over tasks whose physics or setpoint no training task had, beside the training "
        "tasks. Changed physics is scored by its base task's random and expert returns.",
        panels,
    )


def _unseen(entries: Sequence[Entry]) -> Figure:
    chosen = [entry for entry in main_entries(entries) if entry.curve.part == "unseen"]
    return figure(
        "unseen",
        "Unseen tasks",
        "Figure 7",
        "Tasks of the validation split.",
        [task_panel({"mean over seeds": entry.curve}) for entry in chosen],
    )


def _methods(entries: Sequence[Entry], reference: str) -> Figure:
    chosen = scored(entry for entry in entries if entry.trained)
    panels = []
    for domain in domains_of(chosen):
        mine = of_domain(chosen, domain)
        by_model = {
            model: {entry.name: entry for entry in mine if entry.model == model}
            for model in models_of(mine)
        }
        common = set.intersection(*(set(tasks) for tasks in by_model.values()))
        if len(by_model) > 1 and common:
            parts = {
                model: [tasks[name] for name in tasks if name in common]
                for model, tasks in by_model.items()
            }
            panels.append(_mean_panel(domain, parts, reference))
    return figure(
        "models",
        "Models side by side",
        "Figure 8",
        "Mean over the training tasks that all of the models played.",
        panels,
    )


def _grid(entries: Sequence[Entry], domain: str) -> Figure:
    mine = of_domain(entries, domain)
    several = len(models_of(mine)) > 1
    panels = [
        task_panel(
            {
                entry.model if several else "mean over seeds": entry.curve
                for entry in mine
                if entry.name == name
            }
        )
        for name in dict.fromkeys(entry.name for entry in mine)
    ]
    return figure(
        f"tasks-{domain}",
        f"Tasks of {domain}",
        load_domains().get(domain, Domain).returns_figure,
        "The band is the standard error of the mean over seeds.",
        panels,
    )


def compare(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Return ours beside what others report, by training task (section 3.2); JSON.

    The reported scores are normalised by whoever reports them (`pipelines.rollout.reported`) and
    are never renormalised; ours are normalised by the paper's scores here, whatever the rest of the
    report is normalised by, and of the episodes after convergence, as theirs are: a rollout that
    played none stands beside nothing.

    Returns:
        Objects with ``domain``, ``task``, ``model``, ``ours``, ``ours_kind`` (``converged``),
        ``reference`` (of ours: the paper's) and, null where nothing is reported,
        ``vintix_reported``, ``regent_reported`` and ``jat_reported``. A task that the paper gives
        no random and expert score for is left out.
    """
    rows = []
    for entry in _compared(entries):
        reported = {each["source"]: each["mean"] for each in reported_for(entry.name)}
        rows.append(
            {
                "domain": entry.domain,
                "task": entry.name,
                "model": entry.model,
                "ours": float(task_scores(entry.curve, "converged").mean()),
                "ours_kind": "converged",
                "reference": entry.curve.reference,
                **{f"{each.column}_reported": reported.get(each.name) for each in SOURCES},
            }
        )
    return rows


def _compared(entries: Sequence[Entry]) -> list[Entry]:
    normalised = [entry.under(OUR_REFERENCE) for entry in main_entries(entries)]
    return [
        entry
        for entry in scored(normalised)
        if entry.trained and reported_for(entry.name) and entry.curve.further_SE is not None
    ]


def comparison_figure(entries: Sequence[Entry]) -> Figure | None:
    """Return the bars of a domain's mean beside those reported for the same tasks (Figure 5)."""
    chosen = _compared(entries)
    if not chosen:
        return None
    panels = []
    for domain in domains_of(chosen):
        mine = of_domain(chosen, domain)
        ours = summarize([task_scores(entry.curve, "converged") for entry in mine])
        bars = [bar(f"{mine[0].model}, this rollout", ours["mean"], ours["mean_interval"])]
        for colour, source in enumerate(SOURCES, start=1):
            reported = [each for entry in mine for each in reported_for(entry.name)]
            known = [each["mean"] for each in reported if each["source"] == source.name]
            if known:
                fewer = "" if len(known) == len(mine) else f", {len(known)} of {len(mine)} tasks"
                label = f"{source.name}, as reported{fewer}"
                bars.append(bar(label, sum(known) / len(known), colour=colour))
        title = f"{domain}, mean of {counted(len(mine), 'task')}"
        panels.append(panel(title, domain, x="normalised return", bars=bars))
    by = ", ".join(f"{source.name} ({source.score_reference} scores)" for source in SOURCES)
    return figure(
        "comparison",
        "Beside other action models",
        "Figure 5",
        f"After convergence, on the training tasks that others report too; ours by the "
        f"{OUR_REFERENCE} scores. Theirs are as reported in the paper and were not measured here; "
        f"each is normalised by its own scores: {by}.",
        panels,
    )


def history_figures(sources: Sources) -> list[Figure]:
    """Return the figures of the histories that the workspace still holds.

    Raises:
        ArtifactCorruptError: The bytes of one differ from the manifest's.
    """
    from pipelines.histories.pictures import history_panel
    from pipelines.histories.quality import history_quality
    from pipelines.histories.reader import HistoryReader

    mine: dict[str, list[tuple[HistoryQuality, Quality, NDArray[np.float64]]]] = {}
    for artifact in sources.of_kind("histories"):
        reader = HistoryReader(artifact)
        for name in reader.tasks():
            history = history_quality(reader, name)
            if history.quality is not None and len(history.quality.progress_C):
                mean_C = _interquartile(history, history.quality)
                mine.setdefault(history.domain, []).append((history, history.quality, mean_C))
    if not mine:
        return []
    overview = figure(
        "histories",
        "Noise-distilled histories, by domain",
        "Figure 3",
        "Normalised return against progress: the mean over tasks of each task's interquartile "
        "mean, and the range of the middle half of the tasks.",
        [_history_mean(domain, part) for domain, part in mine.items()],
    )
    grids = [
        figure(
            f"histories-{domain}",
            f"Noise-distilled histories of {domain}",
            load_domains().get(domain, Domain).histories_figure,
            "Interquartile mean over trajectories, and the trajectories themselves.",
            [
                history_panel(history, quality, "interquartile mean", mean_C)
                for history, quality, mean_C in part
            ],
        )
        for domain, part in mine.items()
    ]
    return [overview, *grids]


def _interquartile(history: HistoryQuality, quality: Quality) -> NDArray[np.float64]:
    """Return the interquartile mean over trajectories of the binned returns, (C,)."""
    from pipelines.histories.quality import binned_means

    values_NC = [
        binned_means(each.progress_E, each.returns_E, len(quality.progress_C))
        for each in history.trajectories
        if len(each.returns_E)
    ]
    return interquartile_mean(np.stack(values_NC), axis=0)


def _history_mean(
    domain: str, histories: Sequence[tuple[HistoryQuality, Quality, NDArray[np.float64]]]
) -> dict[str, Any]:
    from pipelines.histories.pictures import NORMALISED, PROGRESS

    curves_KC = np.stack(
        [np.interp(_GRID_C, quality.progress_C, mean_C) for _, quality, mean_C in histories]
    )
    low_C, high_C = np.quantile(curves_KC, [0.25, 0.75], axis=0)
    line = series(
        "mean over tasks",
        curves_KC.mean(axis=0),
        x=_GRID_C,
        band=(low_C, high_C) if len(curves_KC) > 1 else None,
        tasks=len(curves_KC),
    )
    title = f"{domain}, {counted(len(curves_KC), 'task')}"
    return panel(title, domain, x=PROGRESS, y=NORMALISED, lines=[line])


def training_figure(sources: Sources) -> Figure | None:
    """Return the loss of each checkpoint by step; None where no log of one is there.

    Raises:
        ArtifactCorruptError: A log differs from the manifest.
    """
    from pipelines.train.metrics import NAME, read_metrics

    panels = []
    for artifact in sources.of_kind("checkpoints"):
        path = f"log/{NAME}"
        if path in artifact.manifest.files:
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
    found = {"all": [(row["step"], row["loss"]) for row in rows]}
    domains = list(dict.fromkeys(name for row in rows for name in row.get("domains") or {}))
    for domain in domains if len(domains) > 1 else ():
        losses = [(row["step"], (row.get("domains") or {}).get(domain)) for row in rows]
        found[domain] = [(step, loss) for step, loss in losses if loss is not None]
    lines = []
    for label, pairs in found.items():
        parts = np.array_split(np.array(pairs, np.float64), min(POINTS, len(pairs)))
        steps, losses = np.array([part.mean(axis=0) for part in parts]).T
        lines.append(series(label, losses, x=steps))
    log = min(value for line in lines for value in line["y"]) > 0
    return panel(
        artifact.reference,
        ", ".join(domains),
        x="optimizer step",
        y="loss, logarithmic" if log else "loss",
        guides=False,
        log=log,
        lines=lines,
    )
