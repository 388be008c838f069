"""Run the five stages of the packaged run files, each from the artifact of the one before."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from importlib import import_module, resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.config import STAGES, config_class, resolve_config

if TYPE_CHECKING:
    from pipelines.artifacts.artifact import Artifact
    from pipelines.artifacts.workspace import Workspace
    from pipelines.reporter import Reporter
    from pipelines.stage import StageResult

NAME = "quickstart"
REWARD_NAME = "quickstart-reward"
_INPUT = {
    "distill": "demonstrators",
    "pack": "histories",
    "train": "dataset",
    "rollout": "checkpoint",
}


@dataclass(frozen=True, slots=True)
class QuickstartResult:
    """What the quickstart made.

    Attributes:
        report: The rollout's report, with the seconds of each stage, and ``reward_use``: what the
            second model did with true rewards and with none; JSON.
        artifacts: The artifact of each stage of the first model.
    """

    report: dict[str, Any]
    artifacts: dict[str, Artifact]
    plots: list[Path]


def run_file(name: str = "quickstart.yaml") -> Path:
    """Return a packaged run file, which every stage command also takes as ``--config``."""
    return Path(str(resources.files("pipelines.quickstart") / name))


def run(
    workspace: Workspace, reporter: Reporter, *, seed: int = 0, workers: int = 0
) -> QuickstartResult:
    """Run the five stages twice and draw the curves.

    The first model is of tasks on real simulators. The second is of one task whose goal only
    reward tells, and plays with the rewards and without them.

    Args:
        workers: Worker processes of the first two stages; 0 for one a core.
    """
    started = time.monotonic()
    stages = partial(_run_stages, workspace, reporter, seed=seed, workers=workers)
    artifacts, report, seconds = stages(NAME, run_file())
    reporter.info("the same stages for a goal that only reward tells")
    file = run_file("reward.yaml")
    second, used, _ = stages(REWARD_NAME, file)
    reporter.info("and the last stage again, with rewards of 0")
    zeroed = _run_stage(
        "rollout",
        workspace,
        reporter,
        file,
        {
            "name": REWARD_NAME,
            "seed": seed,
            "workers": workers,
            "checkpoint": second["train"].reference,
            "rewards": "zero",
        },
    )
    plot = _draw(workspace.root / "quickstart.png", artifacts["rollout"], second, zeroed.artifact)
    return QuickstartResult(
        report={
            **report,
            "reward_use": {
                "task": used["tasks"][0]["name"],
                "true": used["mean_normalized_by_shot"],
                "zero": zeroed.report["mean_normalized_by_shot"],
            },
            "seconds": round(time.monotonic() - started, 1),
            "seconds_by_stage": seconds,
            "artifacts": {
                stage: f"{artifact.kind}/{artifact.reference}"
                for stage, artifact in artifacts.items()
            },
            "plots": [str(plot)],
        },
        artifacts=artifacts,
        plots=[plot],
    )


def _run_stages(
    workspace: Workspace, reporter: Reporter, name: str, file: Path, *, seed: int, workers: int
) -> tuple[dict[str, Artifact], dict[str, Any], dict[str, float]]:
    """Run the stages of a run file; returns their artifacts, the last report, and their seconds."""
    artifacts: dict[str, Artifact] = {}
    seconds: dict[str, float] = {}
    report: dict[str, Any] = {}
    for number, stage in enumerate(STAGES, start=1):
        reporter.info(f"{number}/5 {stage}")
        started = time.monotonic()
        given: dict[str, Any] = {"name": name, "seed": seed, "workers": workers}
        if stage in _INPUT:
            source = next(reversed(artifacts.values())).reference
            given[_INPUT[stage]] = [source] if stage == "pack" else source
        result = _run_stage(stage, workspace, reporter, file, given)
        artifacts[stage] = result.artifact
        seconds[stage] = round(time.monotonic() - started, 1)
        report = result.report
    return artifacts, report, seconds


def _run_stage(
    stage: str, workspace: Workspace, reporter: Reporter, file: Path, given: dict[str, Any]
) -> StageResult:
    settings = config_class(stage)
    known = {key: value for key, value in given.items() if key in settings.model_fields}
    config = resolve_config(stage, settings, command_line=known, file=file, environment={})
    result: StageResult = import_module(f"pipelines.{stage}.stage").run(config, workspace, reporter)
    if result.up_to_date:
        reporter.info(f"up to date: {result.artifact.kind}/{result.artifact.reference}")
    return result


def _draw(target: Path, rollout: Artifact, second: dict[str, Artifact], zeroed: Artifact) -> Path:
    """Draw the first model's curves, and beside them the second's with and without rewards."""
    from pipelines.drawing import save
    from pipelines.rollout.curves import draw_overview, task_panel
    from pipelines.rollout.scores import load_curves

    (true,), (zero,) = load_curves(second["rollout"]), load_curves(zeroed)
    beside = task_panel({"with its rewards": true, "with rewards of 0": zero})
    return save(draw_overview(load_curves(rollout), beside=[beside]), target)
