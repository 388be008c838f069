"""Scores that others report, beside ours (the paper's Figure 5 and Appendix I).

The reported scores are normalised by whoever reports them (`pipelines.rollout.reported`) and are
never renormalised.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipelines.report.panels import Figure, domains_of, main_entries, panel, scored
from pipelines.report.sources import Entry
from pipelines.rollout.reported import SOURCES, reported_for
from pipelines.rollout.statistics import summarize, task_scores


def compare(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Return ours beside what others report, by training task (section 3.2); JSON.

    Args:
        entries: Tasks as played, normalised by one reference.

    Returns:
        Objects with ``domain``, ``task``, ``model``, ``ours``, ``ours_kind`` (``converged`` where
        the rollout played further episodes for it, else ``best``: at the best shot), ``reference``
        and, null where nothing is reported, ``vintix_reported``, ``regent_reported`` and
        ``jat_reported``.
    """
    rows = []
    for entry in scored(main_entries(entries)):
        reported = {each["source"]: each["mean"] for each in reported_for(entry.name)}
        if not (entry.trained and reported):
            continue
        kind = _kind(entry)
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


def comparison_figure(entries: Sequence[Entry], reference: str) -> Figure | None:
    """Return the bars of a domain's mean beside those reported for the same tasks."""
    rows = compare(entries)
    if not rows:
        return None
    compared = {row["task"] for row in rows}
    chosen = [entry for entry in scored(main_entries(entries)) if entry.name in compared]
    panels = []
    for domain in domains_of(chosen):
        mine = [entry for entry in chosen if entry.domain == domain]
        theirs = [row for row in rows if row["domain"] == domain]
        ours = summarize([task_scores(entry.curve, _kind(entry)) for entry in mine])
        low, high = ours["mean_interval"] or (None, None)
        bars = [_bar(f"{mine[0].model}, this rollout", 0, ours["mean"], low, high)]
        for colour, source in enumerate(SOURCES, start=1):
            found = [row[f"{source.column}_reported"] for row in theirs]
            known = [value for value in found if value is not None]
            if known:
                fewer = "" if len(known) == len(found) else f", {len(known)} of {len(found)} tasks"
                label = f"{source.name}, as reported{fewer}"
                bars.append(_bar(label, colour, sum(known) / len(known)))
        count = f"{len(mine)} task{'' if len(mine) == 1 else 's'}"
        label = f"normalised return (ours: {reference} scores)"
        panels.append(panel(f"{domain}, mean of {count}", domain, x=label, bars=bars))
    kinds = {row["ours_kind"] for row in rows}
    ours_are = "after convergence" if kinds == {"converged"} else "at the best shot"
    by = ", ".join(f"{source.name} ({source.score_reference} scores)" for source in SOURCES)
    return {
        "id": "comparison",
        "title": "Beside other action models",
        "paper": "Figure 5",
        "text": f"Ours are scores {ours_are}, by the {reference} reference, on training tasks that "
        "others report too. Theirs are as reported in the paper and were not measured here; each "
        f"is normalised by its own scores: {by}.",
        "kind": "bars",
        "panels": panels,
    }


def _kind(entry: Entry) -> Any:
    return "best" if entry.curve.further_SE is None else "converged"


def _bar(
    label: str, colour: int, value: float, low: float | None = None, high: float | None = None
) -> dict[str, Any]:
    return {
        "label": label,
        "task": None,
        "colour": colour,
        "value": value,
        "low": low,
        "high": high,
        "inside": "",
    }
