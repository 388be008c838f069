"""Makes the checkpoint that comes with the package, and its card; runs/packaged.sh runs it.

    python runs/packaged_model.py publish --checkpoint all --rollout all-float32
    python runs/packaged_model.py card --rollout all-float32 --rollout all-float16
    python runs/packaged_model.py suite --rollout packaged-paper

`publish` writes pipelines/packaged/checkpoints/packaged/v<N>: the weights as float16, the tasks
with their statistics, the scores of the rollout and of the generations before, and no optimizer.
Where the package has a better one, nothing is written.
`card` writes the table of every task into docs/packaged-model.md, `suite` the one of what
`vintix rollout --suite paper` plays.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
from pages import write_table
from results_table import told

from pipelines.artifacts.artifact import Artifact
from pipelines.artifacts.schema import Manifest
from pipelines.artifacts.workspace import PACKAGE, Workspace, packaged
from pipelines.model.saved import load_model, save_model
from pipelines.rollout.report import rollout_report
from pipelines.rollout.reported import reported_scores
from pipelines.rollout.scores import TaskCurve, load_curves, summarize_curves, task_scores
from pipelines.tasks.registry import catalogue

KIND, NAME = "checkpoints", "packaged"
PARTS = {
    "training": "training tasks",
    "variations": "setpoints 80 to 100",
    "unseen": "held out, of groups that it knows",
}
"""What the card calls the parts of the paper's evaluations."""
LIMIT_BYTES = 10_000_000
CANNOT = (
    "play tasks whose observations or actions are of no group listed here",
    "exceed its demonstrators, some of which are weak",
)
ORIGIN = ("preset", "steps", "tokens", "context", "method")
"""What is told of each generation beside its scores."""


def publish(workspace: Workspace, checkpoint: str, rollout: str) -> Artifact:
    """Write the packaged checkpoint of a trained one, and delete the versions before it."""
    source = workspace.find(KIND, checkpoint)
    report = rollout_report(workspace.find("rollouts", rollout), "paper")
    saved = load_model(source)
    target = packaged()
    before = target.versions(KIND, NAME)
    found = {row["name"]: scores(row) for row in report["tasks"]}
    newest = target.find(KIND, NAME).manifest
    better, known = capped(found), capped(newest.summary["scores"])
    if better < known:
        raise SystemExit(
            f"{source.reference} is worse than generation {newest.version}, which stays: "
            f"{better:.3f} over the last three shots, each task capped at 1, against {known:.3f}"
        )
    summary = {
        **{key: source.manifest.summary[key] for key in ORIGIN},
        **trained(workspace, source),
        "parameters": sum(one.numel() for one in saved.model.parameters()),
        "weights": "float16",
        "commands": "runs/packaged.sh",
        "seeds": source.manifest.seeds,
        "scores": found,
        "mean_first": report["mean_normalized_first"],
        "mean_last3": report["mean_normalized_last3"],
        "cannot": list(CANNOT),
        "generations": generations(newest),
    }
    with target.stage(
        KIND, NAME, config=source.config, parents=[source], seeds=source.manifest.seeds
    ) as staging:
        if staging.published is not None:
            return staging.published
        with staging.work_item("model") as unit:
            save_model(unit, saved, dtype=np.float16)
        artifact = staging.publish(
            summary=summary, fingerprints=source.manifest.fingerprints, packages=["torch"]
        )
    for version in before:
        shutil.rmtree(target.path(KIND, NAME, version))
    # Lock files of the writer are no part of the package.
    for path in (PACKAGE / KIND / NAME).glob(".*"):
        path.unlink()
    size = sum(entry.size for entry in artifact.manifest.files.values())
    if size > LIMIT_BYTES:
        raise SystemExit(f"{size:,} bytes are too many for the package: {LIMIT_BYTES:,} at most")
    return artifact


def trained(workspace: Workspace, checkpoint: Artifact) -> dict[str, int]:
    """Return the steps and tokens of a checkpoint and of those here that it began from."""
    total = {key: checkpoint.manifest.summary[key] for key in ("steps", "tokens")}
    for parent in checkpoint.manifest.parents:
        if parent.kind == KIND and parent.name != NAME:
            before = trained(workspace, workspace.find(KIND, f"{parent.name}@v{parent.version}"))
            total = {key: count + before[key] for key, count in total.items()}
    return total


def generations(manifest: Manifest) -> list[dict[str, Any]]:
    """Return what is kept of the generations so far, the newest of which has this manifest."""
    summary = manifest.summary
    kept = (*ORIGIN, "mean_first", "mean_last3", "scores")
    newest = {"version": manifest.version, **{key: summary[key] for key in kept}}
    return [*summary.get("generations", []), newest]


def scores(row: dict[str, Any]) -> dict[str, float]:
    """Return what the card says of a task: normalised returns of the first and last shots."""
    return {"first": round(row["normalized_first"], 3), "last3": round(row["normalized_last3"], 3)}


def capped(found: dict[str, dict[str, float]]) -> float:
    """Return the mean over tasks of the last three shots, each 1 at most."""
    return float(np.mean([min(each["last3"], 1) for each in found.values()]))


def card(workspace: Workspace, rollouts: list[str]) -> None:
    """Write the table of every task's scores: the generations before, then the rollouts."""
    found = {
        f"generation {each['version']}": each["scores"]
        for each in packaged().find(KIND, NAME).manifest.summary.get("generations", [])
    }
    for reference in rollouts:
        artifact = workspace.find("rollouts", reference)
        rows = rollout_report(artifact, "paper")["tasks"]
        found[artifact.manifest.name] = {row["name"]: scores(row) for row in rows}
    known = catalogue()
    heads = " | ".join(f"{name}: first | last three" for name in found)
    lines = [f"| Task | {heads} | the paper's model |", "|---|" + "--:|" * (2 * len(found) + 1)]
    domains: dict[str, list[str]] = {}
    tasks = list(next(iter(found.values())))
    for name in sorted(tasks, key=[each.name for each in known.tasks].index):
        domains.setdefault(known.get(name).domain, []).append(name)
    for domain, names in sorted(domains.items()):
        lines.append(f"| **{domain}, mean of {len(names)}** | {columns(found, names)} |")
        lines.append(f"| **{domain}, each at most 1** | {columns(found, names, most=1.0)} |")
        lines += [f"| {name} | {columns(found, [name])} |" for name in names]
    lines.append(f"| **all {len(tasks)}** | {columns(found, tasks)} |")
    lines.append(f"| **all {len(tasks)}, each at most 1** | {columns(found, tasks, most=1.0)} |")
    write_table("packaged-model.md", "scores", "\n".join(lines))


def columns(
    found: dict[str, dict[str, dict[str, float]]], names: list[str], most: float = np.inf
) -> str:
    """Return the means over tasks of the first and last shots, each score `most` at most.

    The last column is what the paper reports of its model.
    """
    ours = [
        f"{np.mean([min(rows[name][key], most) for name in names]):.2f}"
        for rows in found.values()
        for key in ("first", "last3")
    ]
    return " | ".join([*ours, reported(names, most)])


def suite(workspace: Workspace, rollout: str) -> None:
    """Write the table of everything that the paper reports, beside what it reports."""
    parts: dict[tuple[str, bool, str], list[TaskCurve]] = {}
    for curve in load_curves(workspace.find("rollouts", rollout), "paper"):
        changed = curve.variation_of and curve.name.removeprefix(f"{curve.variation_of}-")
        part = changed or PARTS[curve.part]
        for domain in (curve.domain, *(["all"] if curve.part == "training" else [])):
            parts.setdefault((domain, curve.part != "training", part), []).append(curve)
    heads = ("domain", "what", "tasks", "first shot", "last three", "each at most 1")
    lines = [
        f"| {' | '.join(heads)} | the paper's model | each at most 1 |",
        f"|---|---|--:|---|---|{'--:|' * 3}",
    ]
    for (domain, _, part), played in sorted(parts.items()):
        scores = summarize_curves(played)
        ours = " | ".join(told(scores[kind], 2) for kind in ("first", "last"))
        capped = np.mean([min(task_scores(each, "last").mean(), 1) for each in played])
        theirs = " | ".join(reported([each.name for each in played], most) for most in (np.inf, 1))
        lines.append(f"| {domain} | {part} | {len(played)} | {ours} | {capped:.2f} | {theirs} |")
    write_table("packaged-model.md", "suite", "\n".join(lines))


def reported(names: list[str], most: float = np.inf) -> str:
    """Return the mean that the paper has of its model; nothing where it lacks a task."""
    known = reported_scores()["Vintix"]
    if not all(name in known for name in names):
        return ""
    return f"{np.mean([min(known[name][0], most) for name in names]):.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=("publish", "card", "suite"))
    parser.add_argument("--checkpoint", default="all")
    parser.add_argument("--rollout", action="append", required=True)
    parser.add_argument("--workspace", type=Path, help="as of vintix")
    given = parser.parse_args()
    workspace = Workspace.resolve(given.workspace)
    if given.action == "card":
        card(workspace, given.rollout)
        return
    if given.action == "suite":
        suite(workspace, given.rollout[0])
        return
    artifact = publish(workspace, given.checkpoint, given.rollout[0])
    sys.stderr.write(f"{artifact.path}: digest {artifact.digest}\n")


if __name__ == "__main__":
    main()
