"""Run the five stages of the packaged run file, each from the artifact of the one before."""

from __future__ import annotations

import time
from dataclasses import dataclass
from importlib import import_module, resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.config import STAGES, config_class, resolve_config

if TYPE_CHECKING:
    from pipelines.artifacts.artifact import Artifact
    from pipelines.artifacts.workspace import Workspace
    from pipelines.reporter import Reporter

NAME = "quickstart"
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
        report: The rollout's report, with the seconds of each stage; JSON.
        artifacts: The artifact of each stage.
        plots: The pictures that were written.
    """

    report: dict[str, Any]
    artifacts: dict[str, Artifact]
    plots: list[Path]


def run_file() -> Path:
    """Return the packaged run file, which every stage command also takes as ``--config``."""
    return Path(str(resources.files("pipelines.quickstart") / "quickstart.yaml"))


def run(
    workspace: Workspace, reporter: Reporter, *, seed: int = 0, workers: int = 0
) -> QuickstartResult:
    """Run the five stages and draw the curves.

    Args:
        workspace: Where the artifacts go.
        reporter: Told about each stage.
        seed: Base seed of all stages.
        workers: Worker processes of the first two stages; 0 for one a core.
    """
    started = time.monotonic()
    artifacts: dict[str, Artifact] = {}
    seconds: dict[str, float] = {}
    report: dict[str, Any] = {}
    for number, stage in enumerate(STAGES, start=1):
        reporter.info(f"{number}/5 {stage}")
        stage_started = time.monotonic()
        settings = config_class(stage)
        given: dict[str, Any] = {"name": NAME}
        if "seed" in settings.model_fields:
            given["seed"] = seed
        if "workers" in settings.model_fields:
            given["workers"] = workers
        if stage in _INPUT:
            source = next(reversed(artifacts.values())).reference
            given[_INPUT[stage]] = [source] if stage == "pack" else source
        config = resolve_config(
            stage, settings, command_line=given, file=run_file(), environment={}
        )
        result = import_module(f"pipelines.{stage}.stage").run(config, workspace, reporter)
        artifacts[stage] = result.artifact
        seconds[stage] = round(time.monotonic() - stage_started, 1)
        report = result.report
    from pipelines.rollout.report import plot_artifact

    plots = plot_artifact(artifacts["rollout"], workspace.root / "quickstart.png")
    return QuickstartResult(
        report={
            **report,
            "seconds": round(time.monotonic() - started, 1),
            "seconds_by_stage": seconds,
            "artifacts": {
                stage: f"{artifact.kind}/{artifact.reference}"
                for stage, artifact in artifacts.items()
            },
            "plots": [str(path) for path in plots],
        },
        artifacts=artifacts,
        plots=plots,
    )
