"""What stands at the head of a report: who played what, and from where to where it got."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pipelines.report.panels import models_of, scored
from pipelines.report.sources import Entry, Sources
from pipelines.rollout.statistics import summarize_curves

if TYPE_CHECKING:
    from pipelines.artifacts.artifact import Artifact


def headline(sources: Sources, entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Return a line for each model; JSON.

    Args:
        sources: The rollouts, and what they came from.
        entries: Their tasks, normalised by one reference.

    Returns:
        Objects with ``model``, ``checkpoint`` (its reference; null for a baseline), ``preset``,
        ``parameters``, ``data`` (references of its datasets), ``date`` (of the rollout, UTC),
        ``reference``, ``part`` (``training``, or ``all`` where no training task has a score),
        ``tasks``, ``seeds`` (the fewest of a task), and means over the tasks of the ``first`` shot
        and the ``last`` three with ``first_interval`` and ``last_interval``. Null is what the
        workspace does not tell, and the means of a model none of whose tasks has a score.
    """
    lines = []
    for model in models_of(entries):
        mine = [entry for entry in entries if entry.model == model]
        known = scored(entry for entry in mine if entry.trained)
        part = "training" if known else "all"
        chosen = known or scored(mine)
        scores = summarize_curves([entry.curve for entry in chosen])
        artifact = next(each for each in sources.rollouts if each.reference == mine[0].artifact)
        lines.append(
            {
                "model": model,
                **_trained(sources, artifact),
                "date": artifact.manifest.created_at[:10],
                "reference": mine[0].curve.reference,
                "part": part,
                "tasks": len(chosen),
                "seeds": min((entry.curve.seeds for entry in chosen), default=0),
                "first": scores["first"]["mean"],
                "first_interval": scores["first"]["mean_interval"],
                "last": scores["last"]["mean"],
                "last_interval": scores["last"]["mean_interval"],
            }
        )
    return lines


def _trained(sources: Sources, rollout: Artifact) -> dict[str, Any]:
    parents = {parent.digest for parent in rollout.manifest.parents}
    found = [each for each in sources.of_kind("checkpoints") if each.digest in parents]
    if not found:
        named = [each for each in rollout.manifest.parents if each.kind == "checkpoints"]
        reference = f"{named[0].name}@v{named[0].version}" if named else None
        return {"checkpoint": reference, "preset": None, "parameters": None, "data": []}
    (checkpoint,) = found
    summary = checkpoint.manifest.summary
    return {
        "checkpoint": checkpoint.reference,
        "preset": summary.get("preset"),
        "parameters": summary.get("parameters"),
        "data": [
            f"{parent.name}@v{parent.version}"
            for parent in checkpoint.manifest.parents
            if parent.kind == "datasets"
        ],
    }
