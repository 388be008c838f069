"""What ``vintix report histories`` tells: the quality of every history of an artifact."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pipelines.errors import UsageError
from pipelines.histories.quality import HistoryQuality, history_quality
from pipelines.histories.reader import HistoryReader

if TYPE_CHECKING:
    from pipelines.artifacts.workspace import Workspace


def assess_histories(
    workspace: Workspace, reference: str | None = None, tasks: Sequence[str] = ()
) -> tuple[str, list[HistoryQuality]]:
    """Return an artifact's reference and the quality of its histories, by domain and task.

    Args:
        workspace: Where it is.
        reference: Reference of the histories artifact; None for the newest.
        tasks: Names or aliases of the tasks wanted; empty for all.

    Raises:
        ArtifactMissingError: The reference means nothing.
        ArtifactCorruptError: Its bytes differ from the manifest's.
        UsageError: It has no such task.
    """
    reader = HistoryReader(workspace.find("histories", reference))
    names = {name: (name, *reader.task(name)["task"]["aliases"]) for name in reader.tasks()}
    chosen = set()
    for wanted in tasks:
        found = [name for name, known in names.items() if _fold(wanted) in map(_fold, known)]
        if not found:
            raise UsageError(
                f"no task {wanted!r} in the histories",
                where=reader.reference,
                expected=", ".join(names),
                found=wanted,
                fix=f"vintix distill --task {wanted}",
            )
        chosen.update(found)
    found_qualities = [
        history_quality(reader, name) for name in names if not chosen or name in chosen
    ]
    found_qualities.sort(key=lambda each: (each.domain, each.task))
    return reader.reference, found_qualities


def summarize(histories: Sequence[HistoryQuality]) -> list[dict[str, Any]]:
    """Return a row a domain: histories, those that are poor, and means over the others' numbers.

    A mean is over the histories that have the number; None where none has.
    """
    rows = []
    for domain in sorted({each.domain for each in histories}):
        part = [each for each in histories if each.domain == domain]
        qualities = [each.quality for each in part if each.quality is not None]
        row: dict[str, Any] = {
            "domain": domain,
            "histories": len(part),
            "poor": sum(each.verdict == "poor" for each in part),
        }
        for name in ("start", "end", "rank_correlation", "largest_jump", "r_squared"):
            known = [value for each in qualities if (value := getattr(each, name)) is not None]
            row[name] = sum(known) / len(known) if known else None
        rows.append(row)
    return rows


def _fold(name: str) -> str:
    return name.casefold().replace("_", "-")
