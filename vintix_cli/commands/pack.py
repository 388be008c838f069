"""``vintix pack``: stage 3, one training dataset from many histories."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.errors import UsageError
from vintix_cli import values
from vintix_cli.help import examples
from vintix_cli.options import Run, Settings
from vintix_cli.render import print_table
from vintix_cli.stages import print_plan, run_stage, stage

if TYPE_CHECKING:
    from pipelines.stage import StageResult

EPILOG = examples(
    "vintix pack --histories metaworld --histories mujoco@v2 --name all",
    "vintix pack --dry-run --plan paper",
)


@stage("pack")
def pack(
    settings: Settings,
    run: Run,
    plan: Annotated[
        str | None,
        typer.Option(
            help="With --dry-run: 'paper' prints the paper's Table 1, without data.",
            autocompletion=values.fixed("paper"),
        ),
    ] = None,
) -> None:
    """Stage 3: join histories into one training dataset, with statistics, groups and splits.

    A history whose return does not rise from random to demonstrator is refused by name; vintix
    report histories shows all of them.
    """
    if plan is None:
        run_stage("pack", settings, run, _show)
        return
    from pipelines.pack.stage import paper_plan

    if plan != "paper" or not run.dry_run:
        raise UsageError(
            "--plan only prints", expected="--dry-run --plan paper", found=f"--plan {plan}"
        )
    print_plan("pack", paper_plan(), json=run.json)


def _show(result: StageResult) -> None:
    rows = [
        {"split": split, **row} for split, table in result.report["card"].items() for row in table
    ]
    print_table(rows)
