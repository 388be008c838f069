"""``vintix demonstrators``: stage 1, an expert policy a task."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vintix_cli.help import examples
from vintix_cli.options import Run, Settings
from vintix_cli.render import picked, print_table
from vintix_cli.stages import run_stage, stage

if TYPE_CHECKING:
    from pipelines.stage import StageResult

EPILOG = examples(
    "vintix demonstrators --domain metaworld",
    "vintix demonstrators --source train --task swimmer",
    "vintix demonstrators --source train --task reacher --algorithm ppo --total-steps 200000",
)


@stage("demonstrators")
def demonstrators(settings: Settings, run: Run) -> None:
    """Stage 1: get an expert policy a task and measure it against random actions.

    Without a selection: every task that has an expert in the package.
    """
    run_stage("demonstrators", settings, run, _show)


def _show(result: StageResult) -> None:
    print_table(
        [
            {
                **picked(task, task="name", policy="policy", source="source"),
                "random": task["random"]["mean"],
                "expert": task["expert"]["mean"],
                "spread": task["expert"]["std"],
                "success": task["expert"].get("success"),
                "of_the_paper's": (task.get("paper") or {}).get("normalized_expert"),
            }
            for task in result.report["tasks"]
        ],
        notes=[
            "returns over whole episodes; of the paper's: (expert - random) / the same of the paper"
        ],
    )
