"""Writes the table of the 20 Bi-DexHands demonstrators into docs/bidexhands.md.

vintix demonstrators --domain bidexhands --episodes 50 --seed 90125 --name hands
python runs/hands_table.py hands
"""

import argparse
from pathlib import Path

from pages import write_table

from pipelines.artifacts.workspace import Workspace
from pipelines.demonstrators.experts import expert_training
from pipelines.tasks.registry import catalogue

GOOD, FAIR = 0.8, 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("references", nargs="+", help="of a task in several, the last counts")
    parser.add_argument("--workspace", type=Path, help="as of vintix")
    given = parser.parse_args()
    workspace = Workspace.resolve(given.workspace)
    artifacts = [workspace.find("demonstrators", reference) for reference in given.references]
    rows = {row["name"]: row for each in artifacts for row in each.manifest.summary["tasks"]}
    lines = [
        "| Task | Split | Random | Release's random | Expert | Release's expert | Normalised "
        "| Success | Method |",
        "|---|---|--:|--:|--:|--:|--:|--:|---|",
    ]
    scores = []
    for task in catalogue().select(domains=["bidexhands"]):
        row = rows[task.name]
        random, expert, release = row["random"], row["expert"], task.scores["release"]
        scores.append(release.normalize(expert["mean"]))
        training = expert_training(task)
        method = row["policy"]
        if training is not None:
            method += (
                f", {training['steps'] / 1e6:.2g} M steps of {training['settings']['algorithm']}"
            )
        lines.append(
            f"| {task.name} | {task.split} | {random['mean']:.1f} ± {random['std']:.1f} "
            f"| {release.random:g} | {expert['mean']:.1f} ± {expert['std']:.1f} "
            f"| {release.expert:g} | {scores[-1]:.2f} | {expert['success']:.2f} | {method} |"
        )
    episodes = ", ".join(sorted({str(row["expert"]["episodes"]) for row in rows.values()}))
    lines += [
        "",
        f"{len(scores)} tasks, {episodes} episodes each: "
        + " and ".join(f"{sum(s >= at for s in scores)} at {at} or more" for at in (GOOD, FAIR))
        + ".",
    ]
    write_table("bidexhands.md", "demonstrators", "\n".join(lines))


if __name__ == "__main__":
    main()
