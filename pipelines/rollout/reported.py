"""Scores that others report, to stand beside ours and never among them.

``data/reported.csv`` holds Tables 11 and 12 of the paper (Vintix, REGENT and JAT on the tasks of
MuJoCo and Meta-World) and the normalised Vintix column of Tables 9 and 10 for the other domains.
Nothing here was measured by this project. Each source normalises by random and expert scores of its
own, named with every number; REGENT took those of JAT, the paper's Vintix has better demonstrators
on some tasks and is lower by that (section 3.2).
"""

from __future__ import annotations

import csv
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pipelines.rollout.scores import Kind, task_scores

if TYPE_CHECKING:
    from pipelines.rollout.scores import TaskCurve

OUR_REFERENCE = "paper"
"""What our scores are normalised by where they stand beside reported ones."""
LABEL = "reported"
"""With every number of this module: somebody else measured it."""


@dataclass(frozen=True, slots=True)
class Source:
    """Who reports scores.

    Attributes:
        name: As shown.
        column: Its columns in the data file begin with this.
        score_reference: Whose random and expert scores normalise its returns.
        what: What its numbers are.
    """

    name: str
    column: str
    score_reference: str
    what: str


SOURCES = (
    Source("Vintix", "vintix", "paper", "100 episodes after convergence (paper, Tables 7 to 12)"),
    Source("REGENT", "regent", "JAT's", "as reported (paper, Tables 11 and 12)"),
    Source("JAT", "jat", "JAT's", "as reported, full dataset (paper, Tables 11 and 12)"),
)


@functools.cache
def reported_scores() -> Mapping[str, Mapping[str, tuple[float, float | None]]]:
    """Return the reported normalised mean and spread over episodes by source and task.

    The spread is None where the source gives none.
    """
    with (Path(__file__).parent / "data" / "reported.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    found: dict[str, Mapping[str, tuple[float, float | None]]] = {}
    for source in SOURCES:
        mean, std = f"{source.column}_mean", f"{source.column}_std"
        found[source.name] = MappingProxyType(
            {
                row["task"]: (float(row[mean]), float(row[std]) if row.get(std) else None)
                for row in rows
                if row[mean]
            }
        )
    return MappingProxyType(found)


def reported_for(task: str) -> list[dict[str, Any]]:
    """Return what is reported of one task: ``source``, ``mean``, ``std`` and so on; JSON."""
    return [
        {**_head(source), "mean": scores[task][0], "std": scores[task][1]}
        for source in SOURCES
        if task in (scores := reported_scores()[source.name])
    ]


def reported_rows(curves: Sequence[TaskCurve]) -> list[dict[str, Any]]:
    """Return what is reported of the domains of some curves, over the same tasks; JSON.

    Args:
        curves: What was played, normalised by `OUR_REFERENCE`. Variations have no reported scores
            of their own.

    Returns:
        A row for each domain, part and source: ``source``, ``label`` (always "reported"),
        ``score_reference``, ``what``, ``domain``, ``part``, ``tasks`` (those of the curves that the
        source has), ``mean`` over these tasks, and ours over the same: ``ours`` (where the streams
        have arrived, see `arrived`; null where the paper has no random and expert score of one),
        ``ours_kind`` (``converged`` or ``last``) and ``ours_reference``.
    """
    rows = []
    for domain, part in dict.fromkeys((curve.domain, curve.part) for curve in curves):
        played = [
            curve
            for curve in curves
            if (curve.domain, curve.part) == (domain, part) and curve.variation_of is None
        ]
        for source in SOURCES:
            scores = reported_scores()[source.name]
            mine = [curve for curve in played if curve.name in scores]
            if mine:
                rows.append(
                    {
                        **_head(source),
                        "domain": domain,
                        "part": part,
                        "tasks": len(mine),
                        "mean": sum(scores[curve.name][0] for curve in mine) / len(mine),
                        **_ours(mine),
                    }
                )
    return rows


def arrived(curve: TaskCurve) -> Kind:
    """Return which episodes of ours are compared: those after convergence, else the last three."""
    return "last" if curve.further_SE is None else "converged"


def _ours(curves: Sequence[TaskCurve]) -> dict[str, Any]:
    kind: Kind = "converged" if all(arrived(curve) == "converged" for curve in curves) else "last"
    known = all(curve.score is not None for curve in curves)
    scores = [float(task_scores(curve, kind).mean()) for curve in curves] if known else []
    return {
        "ours": sum(scores) / len(scores) if scores else None,
        "ours_kind": kind,
        "ours_reference": OUR_REFERENCE,
    }


def _head(source: Source) -> dict[str, Any]:
    return {
        "source": source.name,
        "label": LABEL,
        "score_reference": source.score_reference,
        "what": source.what,
    }
