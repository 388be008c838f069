"""Writes the table of docs/metaworld-experts.md from a measured demonstrators artifact.

vintix demonstrators --domain metaworld --episodes 50 --seed 90125 --name metaworld-experts
python runs/metaworld_experts_table.py metaworld-experts
"""

import argparse
from pathlib import Path
from typing import Any

from pipelines.artifacts.workspace import Workspace

PAGE = Path(__file__).parents[1] / "docs" / "metaworld-experts.md"
BEGIN, END = "<!-- table: runs/metaworld_experts_table.py -->", "<!-- end of table -->"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("reference", help="a demonstrators artifact with Meta-World tasks")
    parser.add_argument("--workspace", type=Path, help="as of vintix")
    given = parser.parse_args()
    artifact = Workspace.resolve(given.workspace).find("demonstrators", given.reference)
    tasks = [task for task in artifact.manifest.summary["tasks"] if task["domain"] == "metaworld"]
    text = PAGE.read_text(encoding="utf-8")
    head, rest = text.split(BEGIN)
    tail = rest.split(END)[1]
    seed = artifact.manifest.config["seed"]
    PAGE.write_text(f"{head}{BEGIN}\n{table(tasks, seed)}\n{END}{tail}", encoding="utf-8")


def table(tasks: list[dict[str, Any]], seed: int) -> str:
    """Return Markdown: a row a task, sorted by name, and the means below."""
    lines = [
        "| Task | Policy | Random | Expert | Success | Paper random | Paper expert | Normalised |",
        "|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    scores = []
    for task in sorted(tasks, key=lambda each: each["name"]):
        random, expert, paper = task["random"], task["expert"], task["paper"]
        scores.append(paper["normalized_expert"])
        policy = "script" if task["policy"] == "metaworld_script" else task["policy"]
        lines.append(
            f"| {task['name']} | {policy} | {random['mean']:.1f} ± {random['std']:.1f}"
            f" | {expert['mean']:.1f} ± {expert['std']:.1f} | {expert['success']:.2f}"
            f" | {paper['random']:.1f} | {paper['expert']:.1f} | {scores[-1]:.2f} |"
        )
    low = [each for each in scores if each < 0.6]
    episodes = sorted({task["expert"]["episodes"] for task in tasks})
    lines += [
        "",
        f"{len(scores)} tasks, {', '.join(map(str, episodes))} episodes each from seed {seed}:"
        f" mean normalised score {sum(scores) / len(scores):.3f}, least {min(scores):.2f},"
        f" {len(low)} below 0.6, {sum(each >= 0.95 for each in scores)} of 0.95 or more.",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
