"""Scores that others report, beside ours (the paper's Figure 5 and Appendix I).

The reported scores are normalised by whoever reports them: JAT's and REGENT's by JAT's random and
expert returns, the paper's by its own Tables 7 to 10 (section 3.2). They are never renormalised.
"""

from __future__ import annotations

import csv
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.report.figures import Figure, domains_of, main_entries, panel, scored
from pipelines.report.sources import Entry
from pipelines.rollout.statistics import summarize, task_scores
from pipelines.tasks.names import fold

_FILE = Path(__file__).parent.parent / "rollout" / "data" / "compare.csv"

REPORTED = {
    "vintix": "Vintix, as reported",
    "regent": "REGENT, as reported",
    "jat": "JAT, as reported",
}


@dataclass(frozen=True)
class Reported:
    """What others report of one task, normalised by their own scores.

    Attributes:
        domain: Its domain.
        task: The task as the paper's Appendix I spells it.
        vintix: The paper's model.
        regent: REGENT.
        jat: JAT.
    """

    domain: str
    task: str
    vintix: float
    regent: float
    jat: float


@functools.cache
def reported_scores() -> tuple[Reported, ...]:
    """Return the rows of the paper's Appendix I."""
    with _FILE.open(newline="") as file:
        return tuple(
            Reported(
                row["domain"],
                row["task"],
                float(row["vintix_mean"]),
                float(row["regent_mean"]),
                float(row["jat_mean"]),
            )
            for row in csv.DictReader(file)
        )


def compare(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Return ours beside what others report, by training task (section 3.2); JSON.

    Ours is the score after convergence where the rollout played further episodes for it, else
    that of the best shot; ``ours_kind`` tells which.

    Args:
        entries: Tasks as played, normalised by one reference.
    """
    known = {_key(row.domain, row.task): row for row in reported_scores()}
    rows = []
    for entry in scored(main_entries(entries)):
        found = known.get(_key(entry.domain, entry.name)) if entry.trained else None
        if found is None:
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
                **{f"{name}_reported": getattr(found, name) for name in REPORTED},
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
        bars += [
            _bar(label, place, sum(row[f"{name}_reported"] for row in theirs) / len(theirs))
            for place, (name, label) in enumerate(REPORTED.items(), start=1)
        ]
        count = f"{len(mine)} task{'' if len(mine) == 1 else 's'}"
        label = f"normalised return (ours: {reference} scores)"
        panels.append(panel(f"{domain}, mean of {count}", domain, x=label, bars=bars))
    kinds = {row["ours_kind"] for row in rows}
    ours_are = "after convergence" if kinds == {"converged"} else "at the best shot"
    return {
        "id": "comparison",
        "title": "Beside other action models",
        "paper": "Figure 5",
        "text": f"Ours are scores {ours_are}, by the {reference} reference, on the training tasks "
        "that the paper's Appendix I lists too. The others are as reported, each normalised by its "
        "own authors' scores: JAT and REGENT by JAT's, Vintix by the paper's.",
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


def _key(domain: str, task: str) -> tuple[str, str]:
    # Appendix I writes HalfCheetah where the catalogue has half-cheetah.
    return domain, fold(task).replace("-", "")
