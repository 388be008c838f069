"""``vintix train``: stage 4, algorithm distillation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vintix_cli.help import examples
from vintix_cli.options import Run, Settings
from vintix_cli.render import picked, print_table
from vintix_cli.stages import run_stage, stage

if TYPE_CHECKING:
    from pipelines.stage import StageResult

EPILOG = examples(
    "vintix train --preset tiny --steps 800",
    "vintix train --preset paper --dry-run --set train.batch_size=64",
    "vintix train --preset paper --gpus 8 --track tensorboard",
    "vintix train --preset paper --gpus 8 --nodes 2 --rendezvous node0:29500",
    "vintix train --device cpu --processes 2",
    "vintix train --init packaged --steps 400 --dry-run",
)


@stage("train")
def train(settings: Settings, run: Run) -> None:
    """Stage 4: train a causal transformer to predict the next action of the histories."""
    run_stage("train", settings, run, _show)


def _show(result: StageResult) -> None:
    report = result.report
    row = picked(report, "preset", "method", "parameters", "steps", "tokens")
    losses = {f"loss_{domain}": loss for domain, loss in report["domains"].items()}
    print_table([{**row, "loss": report["loss"], **losses}])
