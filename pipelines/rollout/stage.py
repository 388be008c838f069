"""The stage ``rollout``: from a checkpoint to a ``rollouts`` artifact.

The tasks are packed into blocks of at most `max_streams` streams. The streams of a block advance
together, and a block is the unit of resumable work: a run that was killed goes on with the first
block that is not durable. Which streams share a block follows from the configuration alone.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipelines.errors import ConfigError, MissingDependencyError
from pipelines.rollout.config import RolloutConfig
from pipelines.rollout.report import plot_artifact, rollout_report
from pipelines.rollout.selection import Target, select_targets
from pipelines.rollout.streams import StreamRecord, StreamTask
from pipelines.stage import Plan, StageResult

if TYPE_CHECKING:
    from pipelines.artifacts.artifact import Artifact
    from pipelines.artifacts.staging import Staging, Unit
    from pipelines.artifacts.workspace import Workspace
    from pipelines.domains.base import BatchEnvironment
    from pipelines.model.saved import SavedModel
    from pipelines.reporter import Reporter
    from pipelines.tasks.spec import TaskSpec

__all__ = ["plan", "plot_artifact", "rollout_report", "run"]

#: Width up to which a second thread costs more than it gains (measured on two cores).
ONE_THREAD_WIDTH = 256
#: Seconds of one environment step on one core, for `plan` alone (facts of two CPU cores).
STEP_SECONDS = {"metaworld": 1e-3, "mujoco": 2e-4, "industrial-benchmark": 5e-6}
OTHER_STEP_SECONDS = 2e-4

Block = list[StreamTask]


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
    _warn(config, model, targets, reporter)
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
            fingerprints = _fingerprints(config, workspace, checkpoint, targets, reporter)
            if staging.resumed_units:
                reporter.info(f"going on after {staging.resumed_units} durable blocks")
            _play(config, resolved, model, targets, staging, reporter)
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
        _model_seconds(model, resolved, block) for block in _blocks(config, targets)
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


def _warn(
    config: RolloutConfig, model: SavedModel, targets: Sequence[Target], reporter: Reporter
) -> None:
    if config.context is not None and config.context > model.config.context:
        reporter.warn(
            f"context {config.context} is longer than the {model.config.context} steps the model "
            "was trained with: ALiBi allows it, the results are an extrapolation"
        )
    for target in targets:
        if target.spec.inert_reason is not None:
            reporter.warn(
                f"{target.spec.name} plays like {target.spec.variation_of}: "
                f"{target.spec.inert_reason}"
            )
    from pipelines.rollout.scores import score_of

    without = [
        target.spec.name for target in targets if score_of(target.scores, config.reference) is None
    ]
    if without:
        reporter.warn(
            f"no {config.reference} scores for {', '.join(without[:8])}"
            + (f" and {len(without) - 8} more" if len(without) > 8 else "")
            + ": their returns are not normalised and do not count in the mean"
        )


def _fingerprints(
    config: RolloutConfig,
    workspace: Workspace,
    checkpoint: Artifact,
    targets: Sequence[Target],
    reporter: Reporter,
) -> dict[str, Any]:
    """Fingerprint every task as played, and compare known tasks with what the data recorded."""
    from pipelines.domains.registry import compare_fingerprints, fingerprint

    recorded = _recorded_fingerprints(checkpoint, workspace)
    now = {}
    for target in targets:
        name = target.spec.name
        now[name] = fingerprint(target.spec, target.options)
        if name not in recorded or target.options != dict(target.saved.options):
            continue
        differences = compare_fingerprints(recorded[name], now[name])
        if not differences:
            continue
        if config.strict:
            raise ConfigError(
                f"the environment of task {name!r} is not the one the checkpoint's data came from",
                where=f"fingerprint recorded with {checkpoint.reference}",
                expected="equal fingerprints",
                found="; ".join(differences),
                fix="install the simulator versions of the manifest, or leave --strict out",
            )
        reporter.warn(
            f"the environment of {name} differs from the one the checkpoint's data came from: "
            + "; ".join(differences)
        )
    return now


def _recorded_fingerprints(artifact: Artifact, workspace: Workspace) -> Mapping[str, Any]:
    """Return the fingerprints kept with an artifact or, where it has none, with its ancestors."""
    from pipelines.errors import ArtifactError

    if artifact.manifest.fingerprints:
        return artifact.manifest.fingerprints
    found: dict[str, Any] = {}
    for parent in artifact.manifest.parents:
        try:
            ancestor = workspace.find(parent.kind, f"{parent.name}@v{parent.version}")
        except ArtifactError:
            # A checkpoint may have been copied here without its data; there is nothing to compare.
            continue
        if ancestor.digest == parent.digest:
            found |= _recorded_fingerprints(ancestor, workspace)
    return found


def _blocks(config: RolloutConfig, targets: Sequence[Target]) -> list[Block]:
    """Pack tasks in order into blocks; a task is split only where it alone is too large."""
    blocks: list[Block] = [[]]
    for target in targets:
        for start in range(0, config.seeds, config.max_streams):
            streams = tuple(range(start, min(start + config.max_streams, config.seeds)))
            held = sum(len(task.streams) for task in blocks[-1])
            if held + len(streams) > config.max_streams:
                blocks.append([])
            blocks[-1].append(
                StreamTask(
                    target.spec, target.saved.statistics, target.options, target.shots, streams
                )
            )
    return [block for block in blocks if block]


def _play(
    config: RolloutConfig,
    resolved: Mapping[str, Any],
    model: SavedModel,
    targets: Sequence[Target],
    staging: Staging,
    reporter: Reporter,
) -> None:
    from pipelines.rollout.engine import roll
    from pipelines.train.device import torch_threads

    blocks = _blocks(config, targets)
    vintix = model.model.to(resolved["device"])
    total = sum(task.bound * len(task.streams) for block in blocks for task in block)
    has_success: dict[str, bool] = {}
    with (
        reporter.progress("rollout", total, "steps") as progress,
        torch_threads(resolved["threads"]),
    ):
        for index, block in enumerate(blocks):
            name = f"block-{index:05d}"
            bound = sum(task.bound * len(task.streams) for task in block)
            if staging.done(name):
                progress.advance(bound)
            else:
                started, steps = time.perf_counter(), 0

                def count(done: int) -> None:
                    nonlocal steps
                    steps += done
                    progress.advance(done)

                with staging.unit(name) as unit:
                    records = roll(
                        vintix,
                        block,
                        seed=config.seed,
                        make_batch=_make_batch,
                        context=resolved["context"],
                        mask_rewards=model.masks_rewards,
                        on_steps=count,
                    )
                    _write_block(unit, records)
                    # Wall time is not content: the log is left out of the artifact's digest.
                    timing = {"seconds": time.perf_counter() - started, "steps": steps}
                    unit.write_log(f"{name}.json", json.dumps(timing).encode())
                # Episodes that ended early took fewer steps than were announced.
                progress.advance(bound - steps)
            has_success |= staging.data(name)["success"]
    with staging.unit("tasks") as unit:
        for target in targets:
            unit.group(
                target.spec.name,
                {
                    "task": target.spec.as_json(),
                    "options": target.options,
                    "statistics": target.known,
                    "scores": target.scores,
                    "reference": config.reference,
                    "streams": config.seeds,
                    "shots": target.shots,
                    "success": has_success[target.spec.name],
                },
            )


def _make_batch(
    spec: TaskSpec, size: int, options: Mapping[str, Any], stream_seeds: Sequence[int]
) -> BatchEnvironment:
    from pipelines.domains.registry import domain_of

    return domain_of(spec).make_batch(spec, size, options, stream_seeds)


def _write_block(unit: Unit, records: Mapping[str, Mapping[int, StreamRecord]]) -> None:
    from pipelines.artifacts.arrays import write_array

    for task, streams in records.items():
        for stream, record in streams.items():
            group = unit.group(f"{task}/{stream:05d}", {})
            write_array(group, "reward", record.reward_T)
            write_array(group, "episode_return", record.episode_return_E)
            write_array(group, "episode_length", record.episode_length_E)
            if record.success_E is not None:
                write_array(group, "success", record.success_E)
    unit.data["success"] = {
        task: all(record.success_E is not None for record in streams.values())
        for task, streams in records.items()
    }


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
