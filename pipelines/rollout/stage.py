"""The stage ``rollout``: from a checkpoint to a ``rollouts`` artifact.

The tasks are packed into blocks of at most `max_streams` streams. The streams of a block advance
together, and a block is the unit of resumable work (`pipelines.rollout.blocks` says why): a run
that was killed goes on with the first block that is not durable. Which streams share a block
follows from the configuration alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipelines.errors import MissingDependencyError
from pipelines.rollout.blocks import Block, make_blocks, play_blocks, worker_count
from pipelines.rollout.checks import check_fingerprints, warn_of_input
from pipelines.rollout.config import RolloutConfig
from pipelines.rollout.prompt import Prompt, find_prompts
from pipelines.rollout.report import plot_artifact, rollout_report
from pipelines.rollout.selection import Target, select_targets
from pipelines.stage import Plan, StageResult

if TYPE_CHECKING:
    from pipelines.artifacts.artifact import Artifact
    from pipelines.artifacts.staging import Staging
    from pipelines.artifacts.workspace import Workspace
    from pipelines.model.saved import SavedModel
    from pipelines.reporter import Reporter
    from pipelines.rollout.engine import Memory

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
        ArtifactMissingError: There is no such checkpoint or prompt.
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
    _memory(config, model)
    prompted, prompts = find_prompts(config, workspace, targets, _context(config, model))
    resolved = _resolved(config, model, targets, prompts)
    with workspace.stage(
        "rollouts",
        _name(config, checkpoint, targets),
        config=resolved,
        parents=[checkpoint] if prompted is None else [checkpoint, prompted],
        seeds={"rollout": config.seed},
    ) as staging:
        published = staging.published
        up_to_date = published is not None
        if published is None:
            fingerprints = check_fingerprints(config, workspace, checkpoint, targets, reporter)
            if staging.resumed_units:
                reporter.info(f"going on after {staging.resumed_units} durable blocks")
            play_blocks(config, resolved, model, targets, staging, reporter, prompts)
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
    memory = _memory(config, model)
    _, prompts = find_prompts(config, workspace, targets, _context(config, model))
    resolved = _resolved(config, model, targets, prompts)
    blocks = make_blocks(config, targets, prompts)
    model_seconds = sum(_model_seconds(model, resolved, memory, block) for block in blocks)
    workers = worker_count(config, blocks)
    apart = {task.spec.name for block in blocks for task in block if task.apart}
    environment_seconds = sum(
        row["steps"]
        * STEP_SECONDS.get(row["domain"], OTHER_STEP_SECONDS)
        / (workers if row["task"] in apart else 1)
        for row in rows
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
            f"{workers} worker processes step the environments"
            if workers > 1
            else "the environments are stepped in this process",
            "steps are the most there can be: an episode may end before its horizon",
            "the model's share of the seconds is measured here, the simulators' is typical",
        ],
    )


def _context(config: RolloutConfig, model: SavedModel) -> int:
    return config.context or model.config.context


def _memory(config: RolloutConfig, model: SavedModel) -> Memory:
    from pipelines.model.cache import check_size
    from pipelines.rollout.engine import Memory

    context = _context(config, model)
    check_size(config.max_streams, context, config.sinks)
    return Memory(context, config.cache, config.sinks)


def _resolved(
    config: RolloutConfig,
    model: SavedModel,
    targets: Sequence[Target],
    prompts: Mapping[str, Prompt],
) -> dict[str, Any]:
    """Return the artifact's configuration: what the content follows from, nothing else.

    What came after the first release is there only where it differs from what was done before.
    """
    later: dict[str, Any] = {}
    if config.cache != "window":
        later["cache"] = config.cache
    if config.sinks:
        later["sinks"] = config.sinks
    if prompts:
        later["prompt"] = {task: prompt.as_config() for task, prompt in prompts.items()}
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
        "context": _context(config, model),
        "reference": config.reference,
        "max_streams": config.max_streams,
        "threads": _threads(config, model),
        "device": _device(config.device),
        **later,
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


def _model_seconds(
    model: SavedModel, resolved: Mapping[str, Any], memory: Memory, block: Block
) -> float:
    """Time a few steps of the model for a block and scale them to its longest stream."""
    from pipelines.rollout.engine import time_steps
    from pipelines.train.device import torch_threads

    with torch_threads(resolved["threads"]):
        empty, full = time_steps(model.model, block, memory)
    steps, context = max(task.bound for task in block), resolved["context"]
    filled = 0 if block[0].prompt is None else block[0].prompt.steps
    filling = max(0, min(steps, context - filled))
    # A step's time grows with what is in view, up to the context.
    middle = min(1.0, (filled + filling / 2) / context)
    return filling * (empty + middle * (full - empty)) + (steps - filling) * full
