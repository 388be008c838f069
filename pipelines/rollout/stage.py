"""The stage ``rollout``: from a checkpoint to a ``rollouts`` artifact.

The tasks are packed into blocks of at most `max_streams` streams. The streams of a block advance
together, and a block is the unit of resumable work: a run that was killed goes on with the first
block that is not durable. Which streams share a block follows from the configuration alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipelines.errors import MissingDependencyError
from pipelines.rollout.blocks import Block, make_blocks, play_blocks
from pipelines.rollout.checks import check_fingerprints, warn_of_input
from pipelines.rollout.config import RolloutConfig
from pipelines.rollout.report import plot_artifact, rollout_report
from pipelines.rollout.selection import Target, select_targets
from pipelines.stage import Plan, StageResult

if TYPE_CHECKING:
    from pipelines.artifacts.artifact import Artifact
    from pipelines.artifacts.staging import Staging
    from pipelines.artifacts.workspace import Workspace
    from pipelines.model.saved import SavedModel
    from pipelines.reporter import Reporter

__all__ = ["plan", "plot_artifact", "rollout_report", "run"]

#: Width up to which a second thread costs more than it gains (measured on two cores).
ONE_THREAD_WIDTH = 256
#: Seconds of one environment step on one core, for `plan` alone (facts of two CPU cores).
STEP_SECONDS = {"metaworld": 1e-3, "mujoco": 2e-4, "industrial-benchmark": 5e-6}
OTHER_STEP_SECONDS = 2e-4


def run(config: RolloutConfig, workspace: Workspace, reporter: Reporter) -> StageResult:
    """Play the chosen tasks from an empty context and record every return.

    Args:
        config: What to play.
        workspace: Where the checkpoint is and the rollouts artifact goes.
        reporter: Told about progress and doubtful input.

    Returns:
        The artifact with its report; see `rollout_report`.

    Raises:
        UsageError: Unknown tasks, or a changed physics they do not have.
        ConfigError: The checkpoint does not fit the tasks, or, under `strict`, the environments
            differ from those its data came from.
        ArtifactMissingError: There is no such checkpoint.
        MissingDependencyError: A simulator or the device is not there.
        LockedError: Another process writes under the name.
    """
    from pipelines.domains.registry import full_catalogue
    from pipelines.model.saved import load_model

    checkpoint = workspace.find("checkpoints", config.checkpoint)
    if config.checkpoint is None:
        reporter.info(f"checkpoint {checkpoint.reference}, the newest")
    model = load_model(checkpoint)
    targets = select_targets(config, model, full_catalogue())
    warn_of_input(config, model, targets, reporter)
    resolved = _resolved(config, model, targets)
    with workspace.stage(
        "rollouts",
        _name(config, checkpoint, targets),
        config=resolved,
        parents=[checkpoint],
        seeds={"rollout": config.seed},
    ) as staging:
        published = staging.published
        up_to_date = published is not None
        if published is None:
            fingerprints = check_fingerprints(config, workspace, checkpoint, targets, reporter)
            if staging.resumed_units:
                reporter.info(f"going on after {staging.resumed_units} durable blocks")
            play_blocks(config, resolved, model, targets, staging, reporter)
            published = _publish(staging, targets, fingerprints)
    return StageResult(published, up_to_date, rollout_report(published))


def plan(config: RolloutConfig, workspace: Workspace) -> Plan:
    """Return what `run` would play; steps and seconds are upper bounds.

    Raises:
        UsageError, ConfigError, ArtifactMissingError: As `run`.
    """
    from pipelines.domains.registry import full_catalogue
    from pipelines.model.saved import load_model

    checkpoint = workspace.find("checkpoints", config.checkpoint)
    model = load_model(checkpoint)
    targets = select_targets(config, model, full_catalogue())
    rows: list[dict[str, Any]] = [
        {
            "task": target.spec.name,
            "domain": target.spec.domain,
            "statistics": target.known,
            "streams": config.seeds,
            "shots": target.shots,
            "steps": config.seeds * target.shots * target.spec.horizon,
            "bytes": 4 * config.seeds * target.shots * (target.spec.horizon + 4),
        }
        for target in targets
    ]
    resolved = _resolved(config, model, targets)
    model_seconds = sum(
        _model_seconds(model, resolved, block) for block in make_blocks(config, targets)
    )
    environment_seconds = sum(
        row["steps"] * STEP_SECONDS.get(row["domain"], OTHER_STEP_SECONDS) for row in rows
    )
    return Plan(
        rows=rows,
        totals={
            "tasks": len(rows),
            "streams": sum(row["streams"] for row in rows),
            "steps": sum(row["steps"] for row in rows),
            "bytes": sum(row["bytes"] for row in rows),
            "seconds": round(model_seconds + environment_seconds, 1),
        },
        notes=[
            f"checkpoint {checkpoint.reference}, context {resolved['context']}",
            "steps are the most there can be: an episode may end before its horizon",
            "the model's share of the seconds is measured here, the simulators' is typical",
        ],
    )


def _resolved(
    config: RolloutConfig, model: SavedModel, targets: Sequence[Target]
) -> dict[str, Any]:
    """Return the artifact's configuration: what the content follows from, nothing else."""
    return {
        "seed": config.seed,
        "seeds": config.seeds,
        "tasks": {
            target.spec.name: {
                "shots": target.shots,
                "statistics": target.known,
                "options": target.options,
                "variation": dict(target.spec.variation or {}),
            }
            for target in targets
        },
        "context": config.context or model.config.context,
        "reference": config.reference,
        "max_streams": config.max_streams,
        "threads": _threads(config, model),
        "device": _device(config.device),
    }


def _threads(config: RolloutConfig, model: SavedModel) -> int:
    from pipelines.train.device import usable_cpus

    if config.threads:
        return config.threads
    return 1 if model.config.width <= ONE_THREAD_WIDTH else usable_cpus()


def _device(choice: str) -> str:
    import torch

    if choice == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if choice == "cuda" and not torch.cuda.is_available():
        raise MissingDependencyError(
            "this machine has no CUDA GPU",
            where="--device cuda",
            expected="a CUDA GPU that PyTorch sees",
            found="none",
            fix="vintix rollout --device cpu",
        )
    return choice


def _name(config: RolloutConfig, checkpoint: Artifact, targets: Sequence[Target]) -> str:
    if config.name is not None:
        return config.name
    from pipelines.stage import default_name

    if not (config.tasks or config.domains or config.splits) and all(
        target.spec.variation is None for target in targets
    ):
        return checkpoint.manifest.name
    if config.tasks or len(targets) == 1:
        return default_name((), [target.spec.name for target in targets])
    changed = {
        "gravity": config.gravity,
        "viscosity": config.viscosity,
        "setpoint": config.setpoint,
    }
    return "-".join(
        [
            default_name(sorted({target.spec.domain for target in targets}), ()),
            *sorted(config.splits),
            *(f"{key}-{value:g}" for key, value in changed.items() if value is not None),
        ]
    )


def _publish(
    staging: Staging, targets: Sequence[Target], fingerprints: Mapping[str, Any]
) -> Artifact:
    from pipelines.domains.registry import domain_of
    from pipelines.rollout.scores import read_curve, summary

    curves = [read_curve(staging.group, target.spec.name) for target in targets]
    means = summary(curves)
    return staging.publish(
        summary={
            "tasks": [curve.name for curve in curves],
            "streams": curves[0].seeds,
            "reference": curves[0].reference,
            "mean_normalized_first": means["mean_normalized_first"],
            "mean_normalized_last3": means["mean_normalized_last3"],
        },
        fingerprints=fingerprints,
        packages=sorted(
            {"torch", *(name for target in targets for name in domain_of(target.spec).packages)}
        ),
    )


def _model_seconds(model: SavedModel, resolved: Mapping[str, Any], block: Block) -> float:
    """Time a few steps of the model for a block and scale them to its longest stream."""
    from pipelines.rollout.engine import time_step
    from pipelines.train.device import torch_threads

    with torch_threads(resolved["threads"]):
        seconds = time_step(model.model, block, resolved["context"])
    return seconds * max(task.bound for task in block)
