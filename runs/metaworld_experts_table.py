"""Writes the tables of docs/metaworld-experts.md.

python runs/metaworld_experts_table.py                      both controllers, from the data
vintix demonstrators --domain metaworld --episodes 50 --seed 90125 --name metaworld-experts
python runs/metaworld_experts_table.py metaworld-experts    and the experts, from the artifact
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipelines.artifacts.workspace import Workspace
from pipelines.policies.phases import metaworld_phases
from pipelines.tasks.registry import catalogue

PAGE = Path(__file__).parents[1] / "docs" / "metaworld-experts.md"
FRESH = """
## Experts on fresh episodes

```
vintix demonstrators --domain metaworld --episodes 50 --seed 90125 --name metaworld-experts
python runs/metaworld_experts_table.py metaworld-experts
```

The choice above was made on other episodes, so nothing here is selected. Random and expert are mean
± standard deviation, success the share of episodes that had it at some step.

<!-- table: experts -->
<!-- end: experts -->
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("reference", nargs="?", help="a demonstrators artifact")
    parser.add_argument("--workspace", type=Path, help="as of vintix")
    given = parser.parse_args()
    text = replace(PAGE.read_text(encoding="utf-8"), "controllers", controllers())
    if given.reference is not None:
        artifact = Workspace.resolve(given.workspace).find("demonstrators", given.reference)
        rows = [
            each for each in artifact.manifest.summary["tasks"] if each["domain"] == "metaworld"
        ]
        text = text if "table: experts" in text else text + FRESH
        text = replace(text, "experts", experts(rows, artifact.manifest.config["seed"]))
    PAGE.write_text(text, encoding="utf-8")


def replace(text: str, name: str, table: str) -> str:
    """Put a table between its two comments."""
    begin, end = f"<!-- table: {name} -->", f"<!-- end: {name} -->"
    head, rest = text.split(begin)
    return f"{head}{begin}\n{table}\n{end}{rest.split(end)[1]}"


def controllers() -> str:
    """Return a row a task: both controllers as stored with the parameters."""
    tasks = {task.env_id: task for task in catalogue().select(domains=["metaworld"])}
    lines = [
        "| Task | Script | Phases | Paper random | Paper expert | Script norm. | Phases norm. |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    script, best = [], []
    for name, tuned in sorted(metaworld_phases().items()):
        task, measured = tasks[name], tuned.measured
        paper = task.scores["paper"]
        both = paper.normalize(measured.script), paper.normalize(measured.phases)
        script.append(both[0])
        best.append(max(both))
        shown = [f"{each:.2f}" for each in both]
        shown[tuned.better] = f"**{shown[tuned.better]}**"
        lines.append(
            f"| {task.name} | {measured.script:.1f} | {measured.phases:.1f}"
            f" | {paper.random:.1f} | {paper.expert:.1f} | {shown[0]} | {shown[1]} |"
        )
    return "\n".join(
        [*lines, "", f"The scripts alone: {summary(script)}.", f"The better one: {summary(best)}."]
    )


def experts(rows: Sequence[dict[str, Any]], seed: int) -> str:
    """Return a row a task, as measured for an artifact."""
    lines = [
        "| Task | Policy | Random | Expert | Success | Paper random | Paper expert | Normalised |",
        "|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    scores = []
    for row in sorted(rows, key=lambda each: each["name"]):
        random, expert, paper = row["random"], row["expert"], row["paper"]
        scores.append(paper["normalized_expert"])
        policy = "script" if row["policy"] == "metaworld_script" else row["policy"]
        lines.append(
            f"| {row['name']} | {policy} | {random['mean']:.1f} ± {random['std']:.1f}"
            f" | {expert['mean']:.1f} ± {expert['std']:.1f} | {expert['success']:.2f}"
            f" | {paper['random']:.1f} | {paper['expert']:.1f} | {scores[-1]:.2f} |"
        )
    episodes = ", ".join(str(each) for each in sorted({row["expert"]["episodes"] for row in rows}))
    return "\n".join([*lines, "", f"{episodes} episodes each, seed {seed}: {summary(scores)}."])


def summary(scores: Sequence[float]) -> str:
    """Return what a column of normalised scores amounts to."""
    return (
        f"{len(scores)} tasks, mean normalised score {sum(scores) / len(scores):.3f},"
        f" least {min(scores):.2f}, {sum(each < 0.6 for each in scores)} below 0.6,"
        f" {sum(each >= 0.95 for each in scores)} of 0.95 or more"
    )


if __name__ == "__main__":
    main()
