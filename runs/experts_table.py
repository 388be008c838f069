"""Writes the table of the experts beside the paper's into docs/experts.md.

Those of Bi-DexHands have a table of their own: runs/hands_table.py.

vintix demonstrators --episodes 50 --seed 90125 --name experts
python runs/experts_table.py experts
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pages import write_table

from pipelines.artifacts.workspace import Workspace

ENOUGH = 0.95


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "references", nargs="+", help="demonstrators artifacts; of a task in several, the last"
    )
    parser.add_argument("--workspace", type=Path, help="as of vintix")
    given = parser.parse_args()
    workspace = Workspace.resolve(given.workspace)
    artifacts = [workspace.find("demonstrators", reference) for reference in given.references]
    seeds = ", ".join(sorted({str(each.config["seed"]) for each in artifacts}))
    named = {row["name"]: row for each in artifacts for row in each.manifest.summary["tasks"]}
    rows = [
        row for row in named.values() if row["paper"] is not None and row["domain"] != "bidexhands"
    ]
    domains = sorted({row["domain"] for row in rows})
    parts = [table(name, [row for row in rows if row["domain"] == name]) for name in domains]
    episodes = ", ".join(str(each) for each in sorted({row["expert"]["episodes"] for row in rows}))
    head = f"{len(rows)} tasks, {episodes} episodes each, seed {seeds}."
    write_table("experts.md", "experts", "\n\n".join([head, *parts]))


def table(domain: str, rows: Sequence[dict[str, Any]]) -> str:
    """Return the table of a domain and what its column of normalised scores amounts to."""
    lines = [
        f"### {domain}",
        "",
        "| Task | Policy | Random | Expert | Success | Paper random | Paper expert | Normalised |",
        "|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    scores = []
    for row in sorted(rows, key=lambda each: order(each["name"])):
        random, expert, paper = row["random"], row["expert"], row["paper"]
        scores.append(paper["normalized_expert"])
        success = "" if expert.get("success") is None else f"{expert['success']:.2f}"
        lines.append(
            f"| {row['name']} | {row['policy']} | {random['mean']:.1f} ± {random['std']:.1f}"
            f" | {expert['mean']:.1f} ± {expert['std']:.1f} | {success}"
            f" | {paper['random']:.1f} | {paper['expert']:.1f} | {scores[-1]:.2f} |"
        )
    lines += [
        "",
        f"{len(scores)} tasks, mean normalised score {sum(scores) / len(scores):.3f}, least "
        f"{min(scores):.2f}, {sum(each >= ENOUGH for each in scores)} of {ENOUGH} or more.",
    ]
    return "\n".join(lines)


def order(name: str) -> tuple[str, int]:
    """Return the key that puts industrial-benchmark-5 before industrial-benchmark-10."""
    stem, _, number = name.rpartition("-")
    return (stem, int(number)) if number.isdigit() else (name, 0)


if __name__ == "__main__":
    main()
