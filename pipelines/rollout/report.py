"""What a published rollouts artifact says: its report as JSON, and its pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.drawing import FORMATS
from pipelines.tasks.spec import score_of
from pipelines.text import listed

if TYPE_CHECKING:
    from pipelines.artifacts.artifact import Artifact
    from pipelines.artifacts.workspace import Workspace


def rollout_report(artifact: Artifact, reference: str | None = None) -> dict[str, Any]:
    """Return the report of a rollouts artifact; JSON.

    Args:
        artifact: Of kind ``rollouts``.
        reference: Another score reference than the one it was made with.

    Returns:
        ``tasks`` (see `pipelines.rollout.scores.task_report`), ``mean_normalized_by_shot`` and the
        other means of `pipelines.rollout.scores.summary`, ``reference``, ``seconds`` of wall time
        and ``steps`` as logged when it was made, ``checkpoint`` (null for a baseline) and
        ``artifact`` as references, ``agent`` (``model`` or the baseline's name), ``method`` (how
        the checkpoint was trained, where recorded), ``rewards`` (what it was shown as rewards;
        ``true`` mostly), ``act`` (how its head chose actions; null for a baseline), ``scores`` (see
        `pipelines.rollout.scores.score_rows`), ``absent`` (tasks of a suite that are scored 0)
        and ``reported`` (see `pipelines.rollout.reported.reported_rows`).

    Raises:
        ArtifactCorruptError: A file is damaged.
        ConfigError: None of its tasks has scores under the reference.
    """
    from pipelines.rollout.reported import OUR_REFERENCE, reported_for, reported_rows
    from pipelines.rollout.scores import load_curves, read_curve, score_rows, summary, task_report

    curves = load_curves(artifact, reference)
    timings = [
        json.loads(artifact.read_file(path))
        for path, entry in sorted(artifact.manifest.files.items())
        if entry.log and path.startswith("log/block-")
    ]
    summarized = artifact.manifest.summary
    absent = summarized.get("absent", [])
    comparable = [read_curve(artifact.group, curve.name, OUR_REFERENCE) for curve in curves]
    return {
        "tasks": [{**task_report(curve), "reported": reported_for(curve.name)} for curve in curves],
        **summary(curves),
        "reference": curves[0].reference,
        "seconds": round(sum(timing["seconds"] for timing in timings), 3),
        "steps": sum(timing["steps"] for timing in timings),
        "checkpoint": checkpoint_of(artifact),
        "artifact": artifact.reference,
        "agent": agent_of(artifact),
        "method": summarized.get("method"),
        "rewards": rewards_of(artifact),
        "act": act_of(artifact),
        "scores": score_rows(curves, absent),
        "absent": absent,
        "reported": reported_rows(comparable),
    }


def agent_of(artifact: Artifact) -> str:
    """Return who played a rollouts artifact: ``model``, ``random`` or ``demonstrator``."""
    agent: str = artifact.manifest.config.get("agent", "model")
    return agent


def rewards_of(artifact: Artifact) -> str:
    """Return what the streams of a rollouts artifact were shown as rewards; ``true`` mostly."""
    rewards: str = artifact.manifest.config.get("rewards", "true")
    return rewards


def act_of(artifact: Artifact) -> str | None:
    """Return how the head of a rollouts artifact's model chose actions, None for a baseline."""
    if agent_of(artifact) != "model":
        return None
    # Before heads could draw, all of them gave the mean.
    act: str = artifact.manifest.config.get("act", "mean")
    return act


def checkpoint_of(artifact: Artifact) -> str | None:
    """Return the reference of the checkpoint that played, None for a baseline."""
    for parent in artifact.manifest.parents:
        if parent.kind == "checkpoints":
            return f"{parent.name}@v{parent.version}"
    return None


def compare_rollouts(artifacts: Sequence[Artifact]) -> list[dict[str, Any]]:
    """Return the scores of several agents over the tasks that all of them played; JSON.

    Args:
        artifacts: Of kind ``rollouts``, at least one, whose score reference is everyone's.

    Returns:
        For each, in order: ``agent`` (``model`` or the baseline's name), ``checkpoint``,
        ``method``, ``rewards``, ``act``, ``artifact``, ``tasks`` (names of the common tasks),
        ``scores`` over them, see `pipelines.rollout.scores.score_rows`, and ``regret`` by common
        task, see `pipelines.rollout.scores.regret`; null where the demonstrators are not among the
        agents. Without a common task the scores are empty. All are normalised by `common_scores`.

    Raises:
        ArtifactCorruptError: A file is damaged.
    """
    from pipelines.rollout.scores import load_curves, regret, score_rows

    scores, _ = common_scores(artifacts)
    played = [
        {
            curve.name: replace(curve, score=score_of(scores[curve.name], curve.reference))
            for curve in load_curves(each)
        }
        for each in artifacts
    ]
    common = [name for name in played[0] if all(name in curves for curves in played)]
    agents = [agent_of(artifact) for artifact in artifacts]
    best = played[agents.index("demonstrator")] if "demonstrator" in agents else None
    return [
        {
            "agent": agent_of(artifact),
            "checkpoint": checkpoint_of(artifact),
            "method": artifact.manifest.summary.get("method"),
            "rewards": rewards_of(artifact),
            "act": act_of(artifact),
            "artifact": artifact.reference,
            "tasks": common,
            "scores": score_rows([curves[name] for name in common]) if common else [],
            "regret": best and {name: regret(curves[name], best[name]) for name in common},
        }
        for artifact, curves in zip(artifacts, played, strict=True)
    ]


def common_scores(artifacts: Sequence[Artifact]) -> tuple[dict[str, dict[str, Any]], str | None]:
    """Return what several rollouts are normalised by where they stand beside each other.

    Data of other demonstrators has other measured scores; normalised by each its own, returns
    could not be compared.

    Returns:
        By task its score references, JSON, each of the first artifact that has it; and a sentence
        on the tasks that a later one has others for, None where there are none.

    Raises:
        ArtifactCorruptError: A file is damaged.
    """
    found: dict[str, dict[str, Any]] = {}
    others: dict[str, None] = {}
    for artifact in artifacts:
        for task in artifact.manifest.summary["tasks"]:
            recorded: Any = artifact.group(task).attrs["scores"]
            known = found.setdefault(task, {})
            for name, score in recorded.items():
                if known.setdefault(name, score) != score:
                    others[task] = None
    if not others:
        return found, None
    return found, (
        f"the rollouts differ in the random and expert scores of {listed(list(others))}: all are "
        "normalised by those of the first one"
    )


def check_plot(target: Path) -> None:
    """Check, before anything is played, that `plot_artifact` can write there.

    Raises:
        UsageError: The file's suffix is neither .png nor .svg, or there is a file that vintix did
            not make, or a directory in its place.
    """
    from pipelines.output_files import check_output, check_output_directory

    if target.suffix.lower() in FORMATS or (target.suffix and not target.is_dir()):
        check_output(target, FORMATS)
    else:
        check_output_directory(target)


def other_rewards(report: Mapping[str, Any], workspace: Workspace) -> dict[str, Artifact]:
    """Return what the suite ``reward-use`` played of the first checkpoint with other rewards.

    Args:
        report: That of the suite; any other one gives nothing.
        workspace: Where the rollouts are.
    """
    return {
        f"{each['rewards']} rewards": workspace.find("rollouts", each["artifact"])
        for each in (report.get("comparison", ()) if "reward_use" in report else ())
        if each["checkpoint"] == report["checkpoint"] and each["rewards"] != "true"
    }


def plot_artifact(
    artifact: Artifact, target: Path, others: Mapping[str, Artifact] | None = None
) -> list[Path]:
    """Draw the curves of a rollouts artifact.

    Args:
        artifact: Of kind ``rollouts``.
        target: A file ending in ``.png`` or ``.svg`` for the mean curve beside those of the tasks;
            else a directory, which gets ``overview``, ``mean`` and ``tasks`` in both formats.
        others: Rollouts of the same tasks that are drawn beside it, by their labels.

    Returns:
        The files written.

    Raises:
        UsageError: The file's suffix is neither, or there is a file that vintix did not make.
        StorageError: The file system refused.
    """
    from pipelines.drawing import save
    from pipelines.rollout import curves as drawing
    from pipelines.rollout.scores import load_curves

    check_plot(target)
    loaded = load_curves(artifact)
    beside = {
        label: load_curves(each, loaded[0].reference) for label, each in (others or {}).items()
    }
    if target.suffix.lower() in FORMATS:
        return [save(drawing.draw_overview(loaded, beside), target)]
    figures = {
        "overview": drawing.draw_overview,
        "mean": drawing.draw_mean,
        "tasks": drawing.draw_tasks,
    }
    return [
        save(draw(loaded, beside), target / f"{name}{suffix}")
        for name, draw in figures.items()
        for suffix in FORMATS
    ]
