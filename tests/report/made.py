"""A workspace whose rollouts, checkpoints and histories are made of curves, not played."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.artifacts.arrays import write_array
from pipelines.artifacts.artifact import Artifact
from pipelines.artifacts.workspace import Workspace
from pipelines.rng import stream
from pipelines.tasks.registry import catalogue

SHOTS, SEEDS = 8, 3
TASKS = ("hopper", "walker2d", "reach", "push", "drawer-open")
MEASURED = {"random": 10.0, "expert": 110.0}


def rising(start: float, end: float) -> Callable[[int], float]:
    """Return a curve that goes from one normalised return to another."""
    return lambda shot: end + (start - end) * 0.5**shot


def returns(task: str, curve: Callable[[int], float], shots: int = SHOTS) -> NDArray[np.float64]:
    """Return episode returns (S, E) about a normalised curve, by the measured scores."""
    noise_SE = stream(0, "made", task).normal(0, 4.0, (SEEDS, shots))
    normalised_E = np.array([curve(shot) for shot in range(shots)])
    return MEASURED["random"] + 100 * normalised_E + noise_SE


def write_lineage(
    workspace: Workspace, name: str = "model", method: str = "ad", tasks: Sequence[str] = TASKS
) -> Artifact:
    """Publish histories, a dataset and a checkpoint of them."""
    histories = (
        workspace.find("histories", "noise")
        if workspace.versions("histories", "noise")
        else _write_histories(workspace, tasks)
    )
    config = {"seed": 0, "of": name}
    with workspace.stage("datasets", name, config=config, parents=[histories]) as staging:
        dataset = staging.publish(summary={})
    config = {"seed": 0, "method": method}
    with workspace.stage("checkpoints", name, config=config, parents=[dataset]) as staging:
        with staging.work_item("log") as unit:
            lines = [
                json.dumps(
                    {
                        "step": step,
                        "loss": 1 / step,
                        "domains": {"mujoco": 1 / step, "metaworld": 1.5 / step},
                    }
                )
                for step in range(1, 301)
            ]
            unit.write_log("metrics.jsonl", ("\n".join(lines) + "\n").encode())
        return staging.publish(summary={"method": method})


def _write_histories(workspace: Workspace, tasks: Sequence[str]) -> Artifact:
    with workspace.stage("histories", "noise", config={"seed": 0}) as staging:
        with staging.work_item("all") as unit:
            for task in tasks:
                unit.group(
                    task,
                    {
                        "task": catalogue().get(task).as_json(),
                        "schedule": None,
                        "scores": {"measured": MEASURED},
                        "steps": 1000,
                        "trajectories": 2,
                        "fields": [],
                        "last_episode_complete": [True, True],
                    },
                )
                for trajectory in range(2):
                    group = unit.group(f"{task}/{trajectory:05d}", {})
                    starts = np.arange(0, 1000, 10)
                    noise_E = stream(trajectory, "made", task).normal(0, 5, 100)
                    write_array(group, "episode_start", starts)
                    write_array(group, "episode_length", np.full(100, 10, np.int32))
                    write_array(group, "episode_return", 10 + 0.1 * starts + noise_E)
                    write_array(group, "episode_final_observation", np.zeros((100, 1), np.float32))
        return staging.publish(summary={})


def write_rollouts(
    workspace: Workspace,
    checkpoint: Artifact | None,
    curves: dict[str, NDArray[np.float64]],
    *,
    name: str = "model",
    specs: dict[str, dict[str, Any]] | None = None,
    scores: dict[str, dict[str, float]] | None = None,
    config: dict[str, Any] | None = None,
    summary: dict[str, Any] | None = None,
    converged: int = 0,
) -> Artifact:
    """Publish returns (S, E) by task as a rollouts artifact.

    Args:
        workspace: Where.
        checkpoint: Its parent, if any.
        curves: The returns.
        name: Of the artifact.
        specs: Specifications of tasks that the catalogue does not have.
        scores: Instead of the measured ones beside those of the catalogue.
        config: More of its configuration.
        summary: More of its summary.
        converged: How many of the episodes were played after the shots.
    """
    variations = {spec.name: dict(spec.variation or {}) for spec in catalogue().variations}
    resolved: dict[str, Any] = {
        "seed": 0,
        "seeds": SEEDS,
        "tasks": {task: {"shots": SHOTS, "variation": variations.get(task, {})} for task in curves},
    }
    parents = [] if checkpoint is None else [checkpoint]
    resolved |= config or {}
    with workspace.stage("rollouts", name, config=resolved, parents=parents) as staging:
        with staging.work_item("all") as unit:
            for task, return_SE in curves.items():
                spec = (specs or {}).get(task) or catalogue().get(task).as_json()
                unit.group(
                    task,
                    {
                        "task": spec,
                        "options": {},
                        "statistics": task,
                        "scores": {**spec["scores"], "measured": MEASURED}
                        if scores is None
                        else scores,
                        "reference": "measured",
                        "streams": len(return_SE),
                        "shots": return_SE.shape[1] - converged,
                        "converged": converged,
                        "success": spec["domain"] == "metaworld",
                    },
                )
                for number, return_E in enumerate(return_SE):
                    group = unit.group(f"{task}/{number:05d}", {})
                    write_array(group, "reward", np.zeros(3, np.float32))
                    write_array(group, "episode_return", return_E)
                    write_array(group, "episode_length", np.full(len(return_E), 3, np.int32))
                    if spec["domain"] == "metaworld":
                        write_array(group, "success", return_E > 60)
        told = {"tasks": list(curves), "streams": SEEDS, "reference": "measured"}
        return staging.publish(summary={**told, **(summary or {})})


def write_everything(root: Path) -> Workspace:
    """Publish AD, ED and AD without rewards; variations, setpoints and unseen tasks of AD."""
    workspace = Workspace(root)
    ends = {"ad": (0.1, 1.0), "ed": (0.4, 0.7), "ad-no-reward": (0.1, 0.6)}
    for method, (start, end) in ends.items():
        curves = {
            task: returns(task + method, rising(start, end - 0.03 * place))
            for place, task in enumerate(TASKS)
        }
        checkpoint = write_lineage(workspace, f"model-{method}", method)
        write_rollouts(workspace, checkpoint, curves, name=f"model-{method}")
    checkpoint = workspace.find("checkpoints", "model-ad")
    changed = {
        variation.name: returns(variation.name, rising(0.1, 0.9))
        for variation in catalogue().variations
        if variation.variation_of in TASKS
    }
    unseen = {task: returns(task, rising(0.0, 0.4)) for task in ("door-unlock", "bin-picking")}
    setpoints = [f"industrial-benchmark-{setpoint}" for setpoint in (0, 50, 80, 100)]
    industrial = {name: returns(name, rising(0.2, 0.95)) for name in setpoints}
    write_rollouts(workspace, checkpoint, {**changed, **unseen, **industrial}, name="unseen")
    return workspace
