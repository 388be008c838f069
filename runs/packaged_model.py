"""Makes the checkpoint that comes with the package, and its card; runs/packaged.sh runs it.

    python runs/packaged_model.py publish --checkpoint all-tiny --rollout all-float32
    python runs/packaged_model.py card --rollout all-float32 --rollout all-float16

`publish` writes pipelines/packaged/checkpoints/packaged/v<N>: the weights as float16, the tasks
with their statistics, the scores of the rollout, and no optimizer. `card` writes the table of
docs/packaged-model.md.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
from pages import write_table

from pipelines.artifacts.artifact import Artifact
from pipelines.artifacts.workspace import PACKAGE, Workspace, packaged
from pipelines.model.saved import load_model, save_model
from pipelines.rollout.report import rollout_report
from pipelines.tasks import catalogue

KIND, NAME = "checkpoints", "packaged"
LIMIT_BYTES = 10_000_000
CANNOT = (
    "play tasks whose observations or actions are of no group listed here",
    "be trusted to learn from rewards: with all rewards shown as zero it does about as well",
    "exceed its demonstrators, some of which are weak",
)


def publish(workspace: Workspace, checkpoint: str, rollout: str) -> Artifact:
    """Write the packaged checkpoint of a trained one, and delete the versions before it."""
    source = workspace.find(KIND, checkpoint)
    report = rollout_report(workspace.find("rollouts", rollout), "paper")
    saved = load_model(source)
    origin = {key: source.manifest.summary[key] for key in ("preset", "steps", "tokens", "context")}
    summary = {
        **origin,
        "method": saved.method,
        "parameters": sum(one.numel() for one in saved.model.parameters()),
        "weights": "float16",
        "commands": "runs/packaged.sh",
        "seeds": source.manifest.seeds,
        "scores": {row["name"]: scores(row) for row in report["tasks"]},
        "mean_first": report["mean_normalized_first"],
        "mean_last3": report["mean_normalized_last3"],
        "cannot": list(CANNOT),
    }
    target = packaged()
    before = target.versions(KIND, NAME)
    with target.stage(
        KIND, NAME, config=source.config, parents=[source], seeds=source.manifest.seeds
    ) as staging:
        if staging.published is not None:
            return staging.published
        with staging.work_item("model") as unit:
            save_model(
                unit,
                saved.model,
                step=saved.step,
                method=saved.method,
                tasks=saved.tasks,
                random_map=saved.random_map,
                dtype=np.float16,
            )
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


def scores(row: dict[str, Any]) -> dict[str, float]:
    """Return what the card says of a task: normalised returns of the first and last shots."""
    return {"first": round(row["normalized_first"], 3), "last3": round(row["normalized_last3"], 3)}


def card(workspace: Workspace, rollouts: list[str]) -> None:
    """Write the table of every task's scores, a pair of columns a rollout."""
    artifacts = [workspace.find("rollouts", each) for each in rollouts]
    found = [
        {row["name"]: row for row in rollout_report(each, "paper")["tasks"]} for each in artifacts
    ]
    known = catalogue()
    heads = " | ".join(f"{each.manifest.name}: first | last three" for each in artifacts)
    lines = [f"| Task | {heads} |", "|---|" + "--:|" * (2 * len(artifacts))]
    domains: dict[str, list[str]] = {}
    for name in found[0]:
        domains.setdefault(known.get(name).domain, []).append(name)
    for domain, names in sorted(domains.items()):
        lines.append(f"| **{domain}, mean of {len(names)}** | {columns(found, names)} |")
        lines += [f"| {name} | {columns(found, [name])} |" for name in names]
    lines.append(f"| **all {len(found[0])}** | {columns(found, list(found[0]))} |")
    write_table("packaged-model.md", "scores", "\n".join(lines))


def columns(found: list[dict[str, Any]], names: list[str]) -> str:
    """Return the means over tasks of the first and last shots, of each rollout."""
    cells = []
    for rows in found:
        for key in ("normalized_first", "normalized_last3"):
            cells.append(f"{np.mean([rows[name][key] for name in names]):.2f}")
    return " | ".join(cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=("publish", "card"))
    parser.add_argument("--checkpoint", default="all-tiny")
    parser.add_argument("--rollout", action="append", required=True)
    parser.add_argument("--workspace", type=Path, help="as of vintix")
    given = parser.parse_args()
    workspace = Workspace.resolve(given.workspace)
    if given.action == "card":
        card(workspace, given.rollout)
        return
    artifact = publish(workspace, given.checkpoint, given.rollout[0])
    sys.stderr.write(f"{artifact.path}: digest {artifact.digest}\n")


if __name__ == "__main__":
    main()
