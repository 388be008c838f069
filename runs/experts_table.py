"""Writes the table of the experts beside the paper's into docs/experts.md.

Those of Bi-DexHands have a table of their own: runs/hands_table.py.

vintix demonstrators --episodes 50 --seed 90125 --name experts
python runs/experts_table.py experts

Rows of tasks that no artifact holds stay as they are, so that a new expert needs its own task only:

vintix demonstrators --task hammer --episodes 50 --seed 90125 --name hammer
python runs/experts_table.py hammer
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pages import read_table, write_table

from pipelines.artifacts.workspace import Workspace

ENOUGH = 0.95
LEVELS = (0.8, 0.9, 1.0)
#: Columns of the expert's return and of the reference's random and expert, here and of the hands.
EXPERT, HANDS = (4, 6, 7), (5, 4, 6)


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
    made = [
        row for row in named.values() if row["paper"] is not None and row["domain"] != "bidexhands"
    ]
    episodes = ", ".join(str(each) for each in sorted({row["expert"]["episodes"] for row in made}))
    measured = f"{episodes} episodes each, seed {seeds}."
    lines = read_rows()
    for row in made:
        lines.setdefault(row["domain"], {})[row["name"]] = write_row(row)
    count = sum(len(rows) for rows in lines.values())
    if count > len(made) and not read_table("experts.md", "experts").startswith(
        f"{count} tasks, {measured}"
    ):
        parser.error(f"the page's other rows were measured otherwise than with {measured}")
    scores = {name: [score(row, EXPERT) for row in lines[name].values()] for name in sorted(lines)}
    parts = [table(name, lines[name], scores[name]) for name in scores]
    hands = [score(row, HANDS) for row in rows_of(read_table("bidexhands.md", "demonstrators"))]
    everything = [each for found in scores.values() for each in found] + hands
    # By the two digits that are shown.
    reached = ", ".join(
        f"{sum(round(each, 2) >= at for each in everything)} at {at}" for at in LEVELS
    )
    both = f"Of {len(everything)} tasks, Bi-DexHands by the release's scores: {reached} or more."
    write_table("experts.md", "experts", "\n\n".join([f"{count} tasks, {measured}", *parts, both]))


def read_rows() -> dict[str, dict[str, str]]:
    """Return the page's rows by domain and task."""
    parts = read_table("experts.md", "experts").split("### ")[1:]
    return {
        part.split()[0]: {row.split("|")[1].strip(): row for row in rows_of(part)} for part in parts
    }


def rows_of(text: str) -> list[str]:
    """Return a table's lines below its head."""
    return [line for line in text.splitlines() if line.startswith("| ")][1:]


def score(row: str, columns: tuple[int, int, int]) -> float:
    """Return the normalised score of a row, from its expert, reference random and expert."""
    cells = row.split("|")
    expert, low, high = (float(cells[each].split()[0]) for each in columns)
    return (expert - low) / (high - low)


def write_row(row: dict[str, Any]) -> str:
    """Return the row of a task."""
    random, expert, paper = row["random"], row["expert"], row["paper"]
    success = "" if expert.get("success") is None else f"{expert['success']:.2f}"
    return (
        f"| {row['name']} | {row['policy']} | {random['mean']:.1f} ± {random['std']:.1f}"
        f" | {expert['mean']:.1f} ± {expert['std']:.1f} | {success}"
        f" | {paper['random']:.1f} | {paper['expert']:.1f} | {paper['normalized_expert']:.2f} |"
    )


def table(domain: str, rows: Mapping[str, str], scores: Sequence[float]) -> str:
    """Return the table of a domain and what its column of normalised scores amounts to."""
    lines = [
        f"### {domain}",
        "",
        "| Task | Policy | Random | Expert | Success | Paper random | Paper expert | Normalised |",
        "|---|---|--:|--:|--:|--:|--:|--:|",
        *[rows[name] for name in sorted(rows, key=order)],
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
