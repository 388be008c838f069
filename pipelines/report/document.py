"""The whole content of a report as one JSON document, before anybody draws it."""

from __future__ import annotations

from typing import Any

from pipelines.report.comparison import compare, comparison_figure
from pipelines.report.figures import rollout_figures
from pipelines.report.headline import headline
from pipelines.report.origins import history_figures, training_figure
from pipelines.report.panels import Figure, domains_of
from pipelines.report.provenance import provenance
from pipelines.report.sources import Sources
from pipelines.report.tables import GOAL, domain_tables


def report_document(sources: Sources, reference: str | None = None) -> dict[str, Any]:
    """Return all numbers, curves and provenance of a report; JSON.

    Args:
        sources: What it is about.
        reference: The score reference it opens with; None for the artifacts' own.

    Returns:
        ``rollouts`` (references), ``reference``, ``goal`` (the normalised return that
        ``shots_to_goal`` counts to), ``views`` (by score reference: ``headline``, ``tables`` and
        ``figures``), ``comparison`` and ``figures`` (which no choice of reference touches),
        ``absent`` (tasks that could not be played), ``domains``, ``tasks``, ``film`` (null; see
        `pipelines.report.stage`) and ``provenance``.

    Raises:
        ArtifactCorruptError: The bytes of an artifact differ from its manifest's.
        ConfigError: No task has scores under the reference.
    """
    chosen = sources.chosen_reference(reference)
    references = sources.references or [chosen]
    training = training_figure(sources)
    return {
        "rollouts": [artifact.reference for artifact in sources.rollouts],
        "reference": chosen,
        "goal": GOAL,
        "views": {name: _view(sources, name) for name in references},
        "comparison": compare(sources.entries),
        "figures": [*history_figures(sources), *([] if training is None else [training])],
        "absent": sources.absent,
        "domains": domains_of(sources.entries),
        "tasks": list(dict.fromkeys(entry.name for entry in sources.entries)),
        "film": None,
        "provenance": provenance(sources),
    }


def _view(sources: Sources, reference: str) -> dict[str, Any]:
    entries = [entry.under(reference) for entry in sources.entries]
    figures = rollout_figures(entries, reference)
    comparison = comparison_figure(entries)
    if comparison is not None:
        # After the curves and the bars of all training tasks.
        place = sum(figure["id"] in ("domains", "demonstrators") for figure in figures)
        figures.insert(place, comparison)
    return {
        "headline": headline(sources, entries),
        "tables": domain_tables(entries),
        "figures": figures,
    }


def figures_of(document: dict[str, Any]) -> list[Figure]:
    """Return the figures as the document opens: by its own reference, and the others."""
    return [*document["views"][document["reference"]]["figures"], *document["figures"]]


def summary_document(document: dict[str, Any]) -> dict[str, Any]:
    """Return the tables and the provenance of a report, without its curves' drawings."""
    view = document["views"][document["reference"]]
    return {
        "rollouts": document["rollouts"],
        "reference": document["reference"],
        "goal": document["goal"],
        "headline": view["headline"],
        "domains": view["tables"],
        "comparison": document["comparison"],
        "absent": document["absent"],
        "figures": [
            {"id": figure["id"], "title": figure["title"], "paper": figure["paper"]}
            for figure in figures_of(document)
        ],
        "provenance": document["provenance"],
    }
