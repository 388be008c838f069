"""The tables of a report: a row a task, a line a domain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.report.panels import domains_of, models_of
from pipelines.report.sources import Entry
from pipelines.rollout.scores import by_shot, mean_curve
from pipelines.rollout.statistics import (
    LAST,
    best_shot,
    bootstrap_interval,
    summarize_curves,
    task_scores,
)

#: Normalised return that counts as having got there.
GOAL = 0.9


def domain_tables(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Return a table for each domain and model; JSON.

    Args:
        entries: Tasks as played, normalised by one reference.

    Returns:
        Objects with ``domain``, ``model``, ``reference``, ``tasks`` (see `task_row`) and ``mean``:
        ``tasks`` in it, ``curve`` (mean by shot), ``shots_to_goal`` of it, and by ``first``,
        ``best``, ``last`` and maybe ``converged`` what `pipelines.rollout.statistics.summarize`
        gives. Only training tasks count in the mean, or all where there are none.
    """
    tables = []
    for domain in domains_of(entries):
        for model in models_of(entry for entry in entries if entry.domain == domain):
            part = [each for each in entries if (each.domain, each.model) == (domain, model)]
            tables.append(
                {
                    "domain": domain,
                    "model": model,
                    "reference": part[0].curve.reference,
                    "tasks": [task_row(entry) for entry in part],
                    "mean": _mean([entry for entry in part if entry.trained] or part),
                }
            )
    return tables


def task_row(entry: Entry) -> dict[str, Any]:
    """Return the row of a task: its returns, and its normalised scores where it has any.

    Returns:
        ``task``, ``part`` (``training``, ``variations`` or ``unseen``), ``artifact``, ``seeds``,
        ``shots``, ``random``, ``expert``, ``return_first``, ``return_last``; normalised
        ``first``, ``best``, ``last`` (means over seeds; ``last`` over three shots), their
        ``first_interval`` and so on (95 %, over seeds; null for one seed), ``best_shot``,
        ``shots_to_goal`` (the first shot whose mean over seeds is at least `GOAL`; null if none),
        ``curve`` (by shot) and ``success_last`` (share of episodes; null where there is none).
    """
    curve = entry.curve
    values_SE = curve.return_SE if curve.normalized is None else curve.normalized
    curve_E = by_shot(values_SE)
    row: dict[str, Any] = {
        "task": entry.name,
        "part": curve.part,
        "artifact": entry.artifact,
        "seeds": curve.seeds,
        "shots": curve.shots,
        "random": None if curve.score is None else curve.score.random,
        "expert": None if curve.score is None else curve.score.expert,
        "return_first": float(curve.return_SE[:, 0].mean()),
        "return_last": float(curve.return_SE[:, -LAST:].mean()),
        "success_last": None
        if curve.success_SE is None
        else float(curve.success_SE[:, -LAST:].mean()),
        "best_shot": best_shot(curve) + 1,
        "curve": curve_E.tolist(),
    }
    for kind in ("first", "best", "last"):
        scores_S = None if curve.score is None else task_scores(curve, kind)  # type: ignore[arg-type]
        row[kind] = None if scores_S is None else float(scores_S.mean())
        row[f"{kind}_interval"] = (
            list(bootstrap_interval([scores_S], np.mean))
            if scores_S is not None and len(scores_S) > 1
            else None
        )
    row["shots_to_goal"] = None if curve.score is None else shots_to_reach(curve_E, GOAL)
    return row


def shots_to_reach(curve_E: NDArray[np.float64], level: float) -> int | None:
    """Return the first shot, from 1, at which a curve is at least at a level; None if never."""
    reached = np.flatnonzero(np.asarray(curve_E) >= level)
    return int(reached[0]) + 1 if len(reached) else None


def _mean(entries: Sequence[Entry]) -> dict[str, Any]:
    known = [entry.curve for entry in entries if entry.curve.score is not None]
    curve_E = mean_curve(known)
    return {
        "tasks": len(known),
        "curve": curve_E.tolist(),
        "shots_to_goal": shots_to_reach(curve_E, GOAL),
        **summarize_curves(known),
    }
