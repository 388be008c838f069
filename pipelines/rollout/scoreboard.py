"""Aggregate scores by domain and by part of the paper's evaluation, with what others report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipelines.rollout.scores import PARTS, part_of
from pipelines.rollout.statistics import summarize_curves

if TYPE_CHECKING:
    from pipelines.rollout.scores import TaskCurve

ALL = "all"
"""Stands for every domain, or every part."""


def score_rows(
    curves: Sequence[TaskCurve], absent: Sequence[Mapping[str, Any]] = ()
) -> list[dict[str, Any]]:
    """Return the aggregate scores of a rollout; JSON.

    Args:
        curves: The tasks that were played.
        absent: Tasks of a suite that could not be played, as the artifact names them; each counts
            as 0, the score of random play (Appendix A.2.3).

    Returns:
        A row for each domain and part that has tasks, for each of several parts over several
        domains, and, where there is more than one row, a last one over all. Each has ``domain``,
        ``part``, ``tasks`` (those with a score, zeros included), ``zeros``, and ``scores``, by
        kind as `pipelines.rollout.statistics.summarize_curves` has them.
    """
    absent_at = [(task["domain"], part_of(task)) for task in absent]
    found = dict.fromkeys([(curve.domain, curve.part) for curve in curves] + absent_at)
    domains = list(dict.fromkeys(domain for domain, _ in found))
    places = sorted(found, key=lambda place: (domains.index(place[0]), PARTS.index(place[1])))
    several = len({part for _, part in found}) > 1
    for part in PARTS:
        if several and sum(at == part for _, at in found) > 1:
            places.append((ALL, part))
    if len(found) > 1:
        places.append((ALL, ALL))
    return [_row(place, curves, absent_at) for place in places]


def _row(
    place: tuple[str, str], curves: Sequence[TaskCurve], absent_at: Sequence[tuple[str, str]]
) -> dict[str, Any]:
    zeros = sum(_within(at, place) for at in absent_at)
    scores = summarize_curves(
        [curve for curve in curves if _within((curve.domain, curve.part), place)], zeros
    )
    return {
        "domain": place[0],
        "part": place[1],
        "tasks": scores["first"]["tasks"],
        "zeros": zeros,
        "scores": scores,
    }


def _within(at: tuple[str, str], place: tuple[str, str]) -> bool:
    return all(wanted in (ALL, one) for one, wanted in zip(at, place, strict=True))
