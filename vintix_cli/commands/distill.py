"""``vintix distill``: stage 2, learning histories by noise distillation or real ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vintix_cli.help import examples
from vintix_cli.options import Run, Settings
from vintix_cli.render import picked, print_table
from vintix_cli.stages import run_stage, stage

if TYPE_CHECKING:
    from pipelines.stage import StageResult

EPILOG = examples(
    "vintix distill --domain metaworld --schedule p=0.7,f=0.1",
    "vintix distill --task reach --trajectories 2 --steps 20000 --dry-run",
    "vintix distill --source learning-history --task hopper --steps 100000",
)


@stage("distill")
def distill(settings: Settings, run: Run) -> None:
    """Stage 2: roll experts out with annealed noise and record the whole history.

    Algorithm 1 and the decay of Appendix A.3 of the paper; or, with --source learning-history,
    the training history of a learner. Without a selection: every task of the demonstrators
    artifact.
    """
    run_stage("distill", settings, run, show_histories)


def show_histories(result: StageResult) -> None:
    """Print the report of each history of an artifact; of an empty part, nothing."""
    if not result.report["tasks"]:
        return
    print_table(
        [
            {
                **picked(task, "task", "trajectories", "episodes", "steps"),
                "random": task["measured"]["random"],
                **picked(task, "first_tenth", "last_tenth"),
                "expert": task["measured"]["expert"],
                "rank_correlation": task["rank_correlation"],
            }
            for task in result.report["tasks"]
        ],
        notes=[
            "mean returns of the first and last tenth of the episodes between the measured random "
            "and expert returns; rank correlation of return with episode number"
        ],
    )
