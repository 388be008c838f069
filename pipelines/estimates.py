"""How long work takes, as plans tell it: from declared rates, and rough.

The seconds are of one core, measured beside other work as time of the processor.
"""

from __future__ import annotations

from collections.abc import Sequence

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
