"""``vintix pack``: stage 3, one training dataset from many histories."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from vintix_cli import options, values
from vintix_cli.help import examples
from vintix_cli.run import command
from vintix_cli.stages import run_stage

if TYPE_CHECKING:
    from pipelines.stage import StageResult

EPILOG = examples(
    "vintix pack --histories metaworld --histories mujoco@v2 --name all",
    "vintix pack --dry-run --plan paper",
)


@command
def pack(
    histories: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ARTIFACT",
            help="Histories artifact; default the newest.",
            autocompletion=values.artifacts("histories"),
        ),
    ] = None,
    task: options.Tasks = None,
    domain: options.Domains = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TASK",
            help="Pack this task although its history is poor, or 'all'.",
            autocompletion=values.tasks,
        ),
    ] = None,
    plan: Annotated[
        str | None,
        typer.Option(
            help="With --dry-run: 'paper' prints the paper's Table 1, without data.",
            autocompletion=values.fixed("paper"),
        ),
    ] = None,
    name: options.Name = None,
    workspace: options.Workspace = None,
    config: options.Config = None,
    set_: options.Set = None,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Stage 3: join histories into one training dataset, with statistics, groups and splits.

    A history whose return does not rise from random to demonstrator is refused by name; vintix
    report histories shows all of them.
    """
    if plan is not None:
        _show_paper_plan(plan, dry_run=dry_run, json=json)
        return
    run_stage(
        "pack",
        {"histories": histories, "tasks": task, "domains": domain, "allow": allow, "name": name},
        workspace=workspace,
        config=config,
        assignments=set_,
        dry_run=dry_run,
        json=json,
        quiet=quiet,
        show=_show,
    )


def _show_paper_plan(plan: str, *, dry_run: bool, json: bool) -> None:
    from pipelines.errors import UsageError
    from pipelines.pack.stage import paper_plan
    from vintix_cli.render import print_json, print_table

    if plan != "paper" or not dry_run:
        raise UsageError(
            "--plan only prints", expected="--dry-run --plan paper", found=f"--plan {plan}"
        )
    table = paper_plan()
    if json:
        print_json(
            {"stage": "pack", "plan": table.rows, "totals": table.totals, "notes": table.notes}
        )
    else:
        print_table(table.rows, totals=table.totals, notes=table.notes)


def _show(result: StageResult) -> None:
    from vintix_cli.render import print_table

    rows = [
        {"split": split, **row} for split, table in result.report["card"].items() for row in table
    ]
    print_table(rows)
