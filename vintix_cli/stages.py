"""What the five stage commands have in common: configure, plan or run, and show the outcome."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vintix_cli.render import ConsoleReporter, print_json, print_table, print_text

if TYPE_CHECKING:
    from pipelines.stage import StageResult


def run_stage(
    stage: str,
    command_line: Mapping[str, Any],
    *,
    workspace: Path | None,
    config: Path | None,
    assignments: list[str] | None,
    dry_run: bool,
    json: bool,
    quiet: bool,
    show: Callable[[StageResult], None],
    plot: Path | None = None,
) -> None:
    """Run one stage for its command.

    Args:
        stage: Its name.
        command_line: Settings given as options; None for those that were not.
        workspace: ``--workspace``.
        config: ``--config``.
        assignments: ``--set``.
        dry_run: Print the plan instead.
        json: Print JSON instead of tables.
        quiet: Show warnings only.
        show: Prints a result's tables.
        plot: Where a rollout's curves are drawn.
    """
    from pipelines.artifacts.workspace import Workspace
    from pipelines.config import config_class, resolve_config

    if plot is not None:
        from pipelines.rollout.report import check_plot

        check_plot(plot)
    settings = resolve_config(
        stage,
        config_class(stage),
        command_line=command_line,
        assignments=assignments or (),
        file=config,
    )
    implementation = import_module(f"pipelines.{stage}.stage")
    space = Workspace.resolve(workspace)
    reporter = ConsoleReporter(quiet)
    if dry_run:
        plan = implementation.plan(settings, space)
        if json:
            print_json(
                {"stage": stage, "plan": plan.rows, "totals": plan.totals, "notes": plan.notes}
            )
        else:
            print_table(plan.rows, totals=plan.totals, notes=plan.notes)
        return
    result: StageResult = implementation.run(settings, space, reporter)
    if result.silent:
        return
    if plot is not None:
        from pipelines.rollout.report import plot_artifact

        plot_artifact(result.artifact, plot)
    tell(result, reporter, json=json, quiet=quiet, show=show)
    if plot is not None and not json:
        print_text(f"picture: {plot}")


def tell(
    result: StageResult,
    reporter: ConsoleReporter,
    *,
    json: bool,
    quiet: bool,
    show: Callable[[StageResult], None],
) -> None:
    """Print what a command made: as JSON, or as its table and a line with the artifact's name."""
    reporter.end()
    if json:
        print_json({**result.report, **_identity(result)})
        return
    if not quiet:
        show(result)
    state = "up to date" if result.up_to_date else "wrote"
    print_text(f"{state}: {result.artifact.kind}/{result.artifact.reference}")


def _identity(result: StageResult) -> dict[str, Any]:
    """Return what ``--json`` says of the artifact that a command made."""
    artifact = result.artifact
    return {
        "artifact": {
            "kind": artifact.kind,
            "name": artifact.manifest.name,
            "version": artifact.manifest.version,
            "path": str(artifact.path),
            "digest": artifact.digest,
        },
        "up_to_date": result.up_to_date,
    }
