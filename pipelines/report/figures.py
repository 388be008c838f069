"""The paper's figures of rollouts, as plain data that a page and Matplotlib draw alike.

What a figure holds is told in `pipelines.report.panels`.

Shapes: S seeds, E shots.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.domains.base import Domain
from pipelines.domains.registry import load_domains
from pipelines.report.panels import (
    Figure,
    aggregate,
    axis_label,
    bar,
    counted,
    domains_of,
    figure,
    main_entries,
    models_of,
    panel,
    scored,
    series,
)
from pipelines.report.sources import Entry
from pipelines.rollout.scores import by_shot, standard_error
from pipelines.rollout.statistics import best_shot, bootstrap_interval, task_scores

if TYPE_CHECKING:
    from numpy.typing import NDArray


#: Most seeds of a task whose own curves are drawn.
MOST_SEEDS = 8


def rollout_figures(entries: Sequence[Entry], reference: str) -> list[Figure]:
    """Return the figures of returns against shots that the entries hold the data for.

    Args:
        entries: Tasks as played, normalised by one reference.
        reference: Its name.
    """
    made = [
        _domain_curves(entries, reference),
        _demonstrator_bars(entries, reference),
        _variations(entries, reference),
        _unseen(entries, reference),
        _methods(entries, reference),
        *_grids(entries, reference),
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
            _aggregate_panel(
                domain, [("mean over tasks", [e for e in chosen if e.domain == domain])], reference
            )
            for domain in domains_of(chosen)
        ],
    )


def _aggregate_panel(
    domain: str, parts: Sequence[tuple[str, Sequence[Entry]]], reference: str
) -> dict[str, Any]:
    lines = []
    for label, part in parts:
        mean_E, low_E, high_E = aggregate(part)
        lines.append(series(label, mean_E, low=low_E, high=high_E, tasks=len(part)))
    counts = sorted({len(part) for _, part in parts})
    count = counted(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counted(counts[-1])} each"
    return panel(f"{domain}, {count}", domain, y=axis_label(reference), series=lines)


def _demonstrator_bars(entries: Sequence[Entry], reference: str) -> Figure:
    chosen = scored(entry for entry in main_entries(entries) if entry.trained)
    panels = []
    for domain in domains_of(chosen):
        bars = []
        for entry in (each for each in chosen if each.domain == domain):
            scores_S = task_scores(entry.curve, "best")
            value, shot = float(scores_S.mean()), best_shot(entry.curve) + 1
            bars.append(
                bar(entry.name, value, _interval(scores_S), task=entry.name, inside=f"{shot}")
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


def _interval(scores_S: NDArray[np.float64]) -> tuple[float | None, float | None]:
    if len(scores_S) < 2:
        return None, None
    return bootstrap_interval([scores_S], np.mean)


def variation_label(entry: Entry) -> str:
    """Return what is changed in a variation, such as ``gravity 1.1x``."""
    change = entry.variation
    if not change:
        return "unseen setpoints"
    names = ", ".join(f"{name} {_plain(value)}" for name, value in sorted(change.items()))
    return "unseen setpoints" if "setpoint" in change else names


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def _variations(entries: Sequence[Entry], reference: str) -> Figure:
    chosen = scored(main_entries(entries))
    panels = []
    for domain in domains_of(entry for entry in chosen if entry.varied):
        mine = [entry for entry in chosen if entry.domain == domain]
        parts: dict[str, list[Entry]] = {}
        for entry in mine:
            if entry.varied:
                parts.setdefault(variation_label(entry), []).append(entry)
        trained = [entry for entry in mine if entry.trained]
        if trained:
            parts = {"training tasks": trained, **parts}
        panels.append(_aggregate_panel(domain, list(parts.items()), reference))
    return figure(
        "variations",
        "Parametric variations",
        "Figure 6",
        "Mean over tasks whose physics or setpoint no training task had, beside the training "
        "tasks. Changed physics is scored by its base task's random and expert returns.",
        panels,
    )


def _unseen(entries: Sequence[Entry], reference: str) -> Figure:
    chosen = [entry for entry in main_entries(entries) if entry.unseen]
    return figure(
        "unseen",
        "Unseen tasks",
        "Figure 7",
        "Tasks of the validation split.",
        [_task_panel([entry], reference) for entry in chosen],
    )


def _methods(entries: Sequence[Entry], reference: str) -> Figure:
    chosen = scored(entry for entry in entries if entry.trained)
    panels = []
    for domain in domains_of(chosen):
        mine = [entry for entry in chosen if entry.domain == domain]
        by_model = {
            model: {entry.name: entry for entry in mine if entry.model == model}
            for model in models_of(mine)
        }
        common = set.intersection(*(set(tasks) for tasks in by_model.values()))
        if len(by_model) < 2 or not common:
            continue
        parts = [
            (model, [tasks[name] for name in tasks if name in common])
            for model, tasks in by_model.items()
        ]
        panels.append(_aggregate_panel(domain, parts, reference))
    return figure(
        "models",
        "Models side by side",
        "Figure 8",
        "Mean over the training tasks that all of the models played.",
        panels,
    )


def _grids(entries: Sequence[Entry], reference: str) -> list[Figure]:
    figures = []
    for domain in domains_of(entries):
        mine = [entry for entry in entries if entry.domain == domain]
        names = dict.fromkeys(entry.name for entry in mine)
        several = len(models_of(mine)) > 1
        panels = [
            _task_panel([e for e in mine if e.name == name], reference, named=several)
            for name in names
        ]
        figures.append(
            figure(
                f"tasks-{domain}",
                f"Tasks of {domain}",
                load_domains().get(domain, Domain).returns_figure,
                "The band is the standard error of the mean over seeds.",
                panels,
            )
        )
    return figures


def _task_panel(entries: Sequence[Entry], reference: str, *, named: bool = False) -> dict[str, Any]:
    first = entries[0]
    known = all(entry.curve.score is not None for entry in entries)
    lines = []
    for entry in entries:
        values_SE: Any = entry.curve.normalized if known else entry.curve.return_SE
        if len(entries) == 1 and 1 < entry.curve.seeds <= MOST_SEEDS:
            lines += [
                series(f"seed {seed}", values_E, weight="seed")
                for seed, values_E in enumerate(values_SE)
            ]
        mean_E, error_E = by_shot(values_SE), standard_error(values_SE)
        lines.append(
            series(
                entry.model if named else "mean over seeds",
                mean_E,
                low=None if error_E is None else mean_E - error_E,
                high=None if error_E is None else mean_E + error_E,
            )
        )
    return panel(
        first.name,
        first.domain,
        first.name,
        y=axis_label(reference) if known else "episode return",
        guides=known,
        series=lines,
    )
