"""Scores that others report, beside ours (the paper's Figure 5 and Appendix I).

The reported scores are normalised by whoever reports them (`pipelines.rollout.reported`) and are
never renormalised; ours are normalised by the paper's scores here, whatever the rest of the report
is normalised by, and taken where a stream has arrived, as theirs are: never from a best shot.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipelines.report.panels import (
    Figure,
    bar,
    counted,
    domains_of,
    figure,
    main_entries,
    panel,
    scored,
)
from pipelines.report.sources import Entry
from pipelines.rollout.reported import OUR_REFERENCE, SOURCES, arrived, reported_for
from pipelines.rollout.statistics import Kind, summarize, task_scores

ARRIVED: dict[Kind, str] = {
    "converged": "the mean of the episodes after convergence",
    "last": "the mean of the last three shots",
}


def compare(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Return ours beside what others report, by training task (section 3.2); JSON.

    Args:
        entries: Tasks as played.

    Returns:
        Objects with ``domain``, ``task``, ``model``, ``ours``, ``ours_kind`` (``converged`` where
        the rollout played further episodes for it, else ``last``: the last three shots),
        ``reference`` (of ours: the paper's) and, null where nothing is reported,
        ``vintix_reported``, ``regent_reported`` and ``jat_reported``. A task that the paper gives
        no random and expert score for is left out.
    """
    rows = []
    for entry in _compared(entries):
        reported = {each["source"]: each["mean"] for each in reported_for(entry.name)}
        kind = arrived(entry.curve)
        rows.append(
            {
                "domain": entry.domain,
                "task": entry.name,
                "model": entry.model,
                "ours": float(task_scores(entry.curve, kind).mean()),
                "ours_kind": kind,
                "reference": entry.curve.reference,
                **{f"{each.column}_reported": reported.get(each.name) for each in SOURCES},
            }
        )
    return rows


def _compared(entries: Sequence[Entry]) -> list[Entry]:
    normalised = [entry.under(OUR_REFERENCE) for entry in main_entries(entries)]
    return [entry for entry in scored(normalised) if entry.trained and reported_for(entry.name)]


def comparison_figure(entries: Sequence[Entry]) -> Figure | None:
    """Return the bars of a domain's mean beside those reported for the same tasks."""
    chosen = _compared(entries)
    if not chosen:
        return None
    panels = []
    for domain in domains_of(chosen):
        mine = [entry for entry in chosen if entry.domain == domain]
        ours = summarize([task_scores(entry.curve, arrived(entry.curve)) for entry in mine])
        interval = ours["mean_interval"] or (None, None)
        bars = [bar(f"{mine[0].model}, this rollout", ours["mean"], interval)]
        for colour, source in enumerate(SOURCES, start=1):
            reported = [each for entry in mine for each in reported_for(entry.name)]
            known = [each["mean"] for each in reported if each["source"] == source.name]
            if known:
                fewer = "" if len(known) == len(mine) else f", {len(known)} of {len(mine)} tasks"
                label = f"{source.name}, as reported{fewer}"
                bars.append(bar(label, sum(known) / len(known), colour=colour))
        title = f"{domain}, mean of {counted(len(mine))}"
        panels.append(panel(title, domain, x="normalised return", bars=bars))
    kinds = {arrived(entry.curve) for entry in chosen}
    by = ", ".join(f"{source.name} ({source.score_reference} scores)" for source in SOURCES)
    return figure(
        "comparison",
        "Beside other action models",
        "Figure 5",
        f"Ours is {' or '.join(ARRIVED[kind] for kind in sorted(kinds))}, by the {OUR_REFERENCE} "
        "scores, on the training tasks that others report too. Theirs are as reported in the "
        "paper, after convergence, and were not measured here; each is normalised by its own "
        f"scores: {by}.",
        panels,
    )
