"""What the five stage commands have in common: configure, plan or run, and show the outcome."""

from __future__ import annotations

import functools
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vintix_cli.options import Run, Settings, Work, configured
from vintix_cli.render import print_json, print_table, print_text

if TYPE_CHECKING:
    from pydantic import BaseModel

    from pipelines.stage import Plan, StageResult


def stage(name: str) -> Callable[[Callable[..., None]], Any]:
    """Return a decorator that gives the command of a stage the options of its configuration."""
    return configured(functools.partial(_config_class, name))


def _config_class(name: str) -> type[BaseModel]:
    from pipelines.config import config_class

    return config_class(name)


def run_stage(
    stage: str,
    settings: Settings,
    run: Run,
    show: Callable[[StageResult], None],
    *,
    plot: Path | None = None,
) -> None:
    """Run one stage for its command.

    Args:
        stage: Its name.
        settings: Settings given as options.
        run: How to run it, and what to print.
        show: Prints a result's tables.
        plot: Where a rollout's curves are drawn.
    """
    from pipelines.config import resolve_config

    if plot is not None:
        from pipelines.rollout.report import check_plot

        check_plot(plot)
    model, assignments = _config_class(stage), run.set or ()
    config = resolve_config(
        stage, model, command_line=settings, assignments=assignments, file=run.config
    )
    implementation = import_module(f"pipelines.{stage}.stage")
    if run.dry_run:
        print_plan(stage, implementation.plan(config, run.space), json=run.json)
        return
    result: StageResult = implementation.run(config, run.space, run.reporter)
    if result.silent:
        return
    if plot is not None:
        from pipelines.rollout.report import plot_artifact

        plot_artifact(result.artifact, plot)
    tell(result, run, show)
    if plot is not None and not run.json:
        print_text(f"picture: {plot}")


def print_plan(stage: str, plan: Plan, *, json: bool) -> None:
    """Print what ``--dry-run`` finds."""
    if json:
        print_json({"stage": stage, "plan": plan.rows, "totals": plan.totals, "notes": plan.notes})
    else:
        print_table(plan.rows, totals=plan.totals, notes=plan.notes)


def tell(result: StageResult, work: Work, show: Callable[[StageResult], None]) -> None:
    """Print what a command made: as JSON, or as its table and a line with the artifact's name."""
    work.reporter.end()
    artifact = result.artifact
    if work.json:
        identity = {
            "kind": artifact.kind,
            "name": artifact.manifest.name,
            "version": artifact.manifest.version,
            "path": str(artifact.path),
            "digest": artifact.digest,
        }
        print_json({**result.report, "artifact": identity, "up_to_date": result.up_to_date})
        return
    if not work.quiet:
        show(result)
    state = "up to date" if result.up_to_date else "wrote"
    print_text(f"{state}: {artifact.kind}/{artifact.reference}")
