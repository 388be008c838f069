"""What every stage returns: the artifact it made, or the plan of what it would make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipelines.artifacts.artifact import Artifact


@dataclass(frozen=True, slots=True)
class StageResult:
    """The outcome of a stage.

    Attributes:
        artifact: The published artifact.
        up_to_date: Whether it had been there already.
        report: What ``--json`` prints for the stage; JSON.
        silent: Whether another process of the same run tells the result.
    """

    artifact: Artifact
    up_to_date: bool
    report: dict[str, Any]
    silent: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """What ``--dry-run`` prints.

    Attributes:
        rows: One mapping a line of the table, all with the same keys.
        totals: The last line.
        notes: Sentences under the table.
    """

    rows: list[dict[str, Any]]
    totals: dict[str, Any]
    notes: list[str] = field(default_factory=list)


def default_name(domains: Sequence[str], tasks: Sequence[str]) -> str:
    """Name an artifact after what was selected: its domains, or a few tasks, or ``all``."""
    if tasks:
        return "-".join(sorted(tasks)[:3]) + ("" if len(tasks) <= 3 else f"-and-{len(tasks) - 3}")
    return "-".join(sorted(domains)) if domains else "all"


# How long work takes, as plans say it: rough, in seconds of one core.
PROCESS_SECONDS = 1.5
"""Until the command, or a worker that it starts, has imported what the first job needs."""

JOB_SECONDS = 0.1
"""Of a job besides its steps: another copy of the environment, and what is written and hashed."""

LONGEST_ESTIMATE = 90 * 86_400
"""Seconds beyond which a plan gives no time: nobody would wait, and no guess holds as long."""


def run_seconds(jobs: Sequence[float], workers: int) -> float:
    """Return how long jobs take together, the start of the processes included.

    Args:
        jobs: Seconds of each; one is not shared by workers.
        workers: How many work on them, at least 1.
    """
    processes = PROCESS_SECONDS * (2 if workers > 1 else 1)
    return processes + max(max(jobs, default=0.0), sum(jobs) / workers)
