"""Compare linear, automatic and fitted noise decays on tasks whose demonstrators are built in.

    python runs/schedule_fits.py --output fits reacher inverted-pendulum door-open

Makes, in the workspace ``fits/artifacts``, the demonstrators and three histories of every task:
linear (p = 1, f = 0.1), ``--schedule auto`` and ``--schedule fitted``; prints the R-squared of a
straight line through each one's smoothed return as a table in Markdown, and draws ``fits/*.png``.
Run again, it goes on where it stopped.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pipelines.artifacts.workspace import Workspace
from pipelines.demonstrators.config import DemonstratorsConfig
from pipelines.demonstrators.stage import run as demonstrators
from pipelines.distill.config import DistillConfig
from pipelines.distill.stage import run as distill
from pipelines.histories.pictures import plot_histories
from pipelines.histories.quality import HistoryQuality
from pipelines.histories.report import assess_histories
from pipelines.reporter import NullReporter

SCHEDULES = {"linear": "p=1,f=0.1", "auto": "auto", "fitted": "fitted"}


def main() -> None:
    """Parse the arguments, make the histories, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tasks", nargs="+", metavar="TASK")
    parser.add_argument("--output", type=Path, default=Path("fits"))
    parser.add_argument("--trajectories", type=int, default=4)
    parser.add_argument("--scale", type=float, default=0.1, help="of the paper's lengths")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    workspace = Workspace(arguments.output / "artifacts")
    common = {"tasks": arguments.tasks, "workers": arguments.workers, "seed": arguments.seed}
    experts = demonstrators(
        DemonstratorsConfig(**common, name="fits"), workspace, NullReporter()
    ).artifact
    entries: dict[str, list[HistoryQuality]] = {}
    for name, schedule in SCHEDULES.items():
        config = DistillConfig(
            **common,
            name=name,
            demonstrators=experts.reference,
            schedule=schedule,  # type: ignore[arg-type]
            trajectories=arguments.trajectories,
            scale=arguments.scale,
        )
        artifact = distill(config, workspace, NullReporter()).artifact
        _, entries[name] = assess_histories(workspace, artifact.reference)
        plot_histories(entries[name], arguments.output / f"{name}.png")
    print_table(entries)


def print_table(entries: dict[str, list[HistoryQuality]]) -> None:
    """Print a line a task: R-squared under each schedule, and the p and f of ``auto``."""
    print("| task | " + " | ".join(entries) + " | auto found |")
    print("|---|" + "---|" * (len(entries) + 1))
    for each in zip(*entries.values(), strict=True):
        found: dict[str, Any] = dict(each[1].schedule or {})
        numbers = " | ".join(_text(one) for one in each)
        print(f"| {each[0].task} | {numbers} | p = {found['p']:g}, f = {found['f']:g} |")
    means = " | ".join(f"{_mean(part):.3f}" for part in entries.values())
    print(f"| mean | {means} | |")


def _text(entry: HistoryQuality) -> str:
    value = _straightness(entry)
    return "too short" if value is None else f"{value:.3f}"


def _straightness(entry: HistoryQuality) -> float | None:
    return None if entry.quality is None else entry.quality.r_squared


def _mean(entries: list[HistoryQuality]) -> float:
    known = [value for each in entries if (value := _straightness(each)) is not None]
    return sum(known) / len(known) if known else float("nan")


if __name__ == "__main__":
    main()
