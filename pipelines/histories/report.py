"""What ``vintix report histories`` tells: the quality of every history of an artifact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pipelines.histories.quality import HistoryQuality, history_quality
from pipelines.histories.reader import HistoryReader
from pipelines.tasks.names import choose_tasks

if TYPE_CHECKING:
    from pipelines.artifacts.workspace import Workspace


def assess_histories(
    workspace: Workspace, reference: str | None = None, tasks: Sequence[str] = ()
) -> tuple[str, list[HistoryQuality]]:
    """Return an artifact's reference and the quality of its histories, by domain and task.

    Args:
        reference: Reference of the histories artifact; None for the newest.
        tasks: Names or aliases of the tasks wanted; empty for all.

    Raises:
        ArtifactMissingError: The reference means nothing.
        ArtifactCorruptError: Its bytes differ from the manifest's.
        UsageError: It has no such task.
    """
    reader = HistoryReader(workspace.find("histories", reference))
    names = choose_tasks(
        tasks,
        [reader.task(name)["task"] for name in reader.tasks()],
        among="the histories hold",
        where=reader.reference,
    )
    found_qualities = [history_quality(reader, name) for name in names]
    found_qualities.sort(key=lambda each: (each.domain, each.task))
    return reader.reference, found_qualities


def compare_histories(
    workspace: Workspace, references: Sequence[str], tasks: Sequence[str] = ()
) -> tuple[list[str], list[HistoryQuality]]:
    """Return the quality of the histories of several artifacts, the same task's side by side.

    Args:
        references: References of the histories artifacts; empty for the newest.
        tasks: Names or aliases of the tasks wanted, which each of them has to hold; empty for all.

    Returns:
        Their full references, and the qualities by domain and task; with several artifacts each
        tells which it is of.

    Raises:
        ArtifactMissingError: A reference means nothing.
        ArtifactCorruptError: The bytes of one differ from the manifest's.
        UsageError: One has no such task.
    """
    found = [assess_histories(workspace, each, tasks) for each in references or (None,)]
    if len(found) == 1:
        return [found[0][0]], found[0][1]
    entries = [replace(each, history=reference) for reference, part in found for each in part]
    # Sorting keeps the order of the references within a task.
    entries.sort(key=lambda each: (each.domain, each.task))
    return [reference for reference, _ in found], entries


def summarize(histories: Sequence[HistoryQuality]) -> list[dict[str, Any]]:
    """Return a row a domain: histories, those that are poor, and means over the numbers of all.

    A mean is over the histories that have the number; None where none has. Where histories of
    several artifacts stand side by side, a row each.
    """
    rows = []
    several = dict.fromkeys((each.domain, each.history) for each in histories)
    for domain, history in sorted(several, key=lambda each: each[0]):
        part = [each for each in histories if (each.domain, each.history) == (domain, history)]
        qualities = [each.quality for each in part if each.quality is not None]
        row: dict[str, Any] = {
            **({} if history is None else {"history": history}),
            "domain": domain,
            "histories": len(part),
            "poor": sum(each.verdict == "poor" for each in part),
        }
        for name in ("start", "end", "rank_correlation", "largest_jump", "r_squared"):
            known = [value for each in qualities if (value := getattr(each, name)) is not None]
            row[name] = sum(known) / len(known) if known else None
        rows.append(row)
    return rows
