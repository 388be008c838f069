"""Writes the table of both Meta-World controllers into docs/metaworld-experts.md.

python runs/metaworld_phases_table.py
"""

from collections.abc import Sequence

from pages import write_table

from pipelines.policies.phases import metaworld_phases
from pipelines.tasks.registry import catalogue


def table() -> str:
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


def summary(scores: Sequence[float]) -> str:
    """Return what a column of normalised scores amounts to."""
    return (
        f"{len(scores)} tasks, mean normalised score {sum(scores) / len(scores):.3f},"
        f" least {min(scores):.2f}, {sum(each < 0.6 for each in scores)} below 0.6,"
        f" {sum(each >= 0.95 for each in scores)} of 0.95 or more"
    )


if __name__ == "__main__":
    write_table("metaworld-experts.md", "controllers", table())
