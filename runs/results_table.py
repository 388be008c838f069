"""Writes the tables of docs/results.md from the rollouts that two scripts make.

bash runs/results.sh && bash runs/reinforcement.sh
python runs/results_table.py

A table whose rollouts are not in the workspace is left as it is, and so is a row of the table
"reinforcement".
"""

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path

from pages import read_table, write_table

from pipelines.artifacts.artifact import Artifact
from pipelines.artifacts.workspace import Workspace
from pipelines.errors import ArtifactMissingError
from pipelines.rollout.config import REWARDS
from pipelines.rollout.report import compare_rollouts
from pipelines.rollout.reward_use import reward_use
from pipelines.rollout.scores import TaskCurve, load_curves, summarize_curves

AGENTS = {
    "claims-tiny": "AD",
    "claims-tiny-ed": "ED",
    "claims-tiny-ad-no-reward": "AD without rewards",
    "claims-tiny-demonstrator": "demonstrators",
}
CHANGES = {
    "none": "as trained",
    "gravity-0.9": "gravity x 0.9",
    "gravity-1.1": "gravity x 1.1",
    "viscosity-0.05": "viscosity 0.05",
    "viscosity-0.1": "viscosity 0.1",
}
MODELS = {
    "claims-tiny": "14 tasks of 4 domains",
    "many-tiny": "16 Meta-World tasks",
    "many-tiny-map": "the same through random maps",
    "goals-tiny": "5 Meta-World tasks, hidden goals",
}

REINFORCEMENT = ("point-ring", "point-dense", "dark-room", "reach", "push-back")
KNOWLEDGE = {"demonstrator": "goal known", "decoy": "decoys", "belief": "beliefs"}
TARGETS = {
    "ad": "action",
    "ad-no-reward": "action (no rewards)",
    "dpt": "clean action",
    "dpt-no-reward": "clean action (no rewards)",
}
RECIPES = [
    (knowledge, method, head, length)
    for knowledge, methods in (
        ("demonstrator", ("ad", "ad-no-reward", "dpt")),
        ("decoy", ("dpt", "dpt-no-reward")),
        ("belief", ("dpt", "dpt-no-reward")),
    )
    for method in methods
    for head in ("mse", "bins", "categorical")
    for length in ("", "-long")
]
"""Of runs/reinforcement.sh: histories, method, head and how long it is trained."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--workspace", type=Path, help="as of vintix")
    workspace = Workspace.resolve(parser.parse_args().workspace)
    for name, played, table in (
        ("methods", "claims-tiny", methods),
        ("changes", "paper", changes),
        ("reward-use", "claims-tiny", shares),
        ("goals", "goals-tiny", goals),
    ):
        if exists(workspace, played):
            write_table("results.md", name, table(workspace))
    write_table("results.md", "reinforcement", reinforcement(workspace))


def methods(workspace: Workspace) -> str:
    """First and last three shots of each agent, by domain."""
    agents = {name: label for name, label in AGENTS.items() if exists(workspace, name)}
    rows = compare_rollouts([found(workspace, name) for name in agents])
    lines = ["| domain | tasks | agent | first shot | last three |", "|---|--:|---|---|---|"]
    for place, row in enumerate(rows[0]["scores"]):
        for label, entry in zip(agents.values(), rows, strict=True):
            scores = entry["scores"][place]["scores"]
            lines.append(
                f"| {row['domain']} | {row['tasks']} | {label} | {told(scores['first'])} "
                f"| {told(scores['last'])} |"
            )
    return "\n".join(lines)


def changes(workspace: Workspace) -> str:
    """Behaviour under changed gravity, viscosity and setpoints."""
    curves = load_curves(found(workspace, "paper"), "paper")
    lines = ["| domain | change | tasks | first shot | last three |", "|---|---|--:|---|---|"]
    bases = {curve.variation_of for curve in curves if curve.variation_of}
    for change, label in CHANGES.items():
        mine = [
            curve
            for curve in curves
            if (curve.name in bases if change == "none" else curve.name.endswith(change))
        ]
        lines.append(f"| mujoco | {label} | {summary(mine)} |")
    industrial = [curve for curve in curves if curve.domain == "industrial-benchmark"]
    for part, label in (("training", "setpoints 0 to 75"), ("variations", "setpoints 80 to 100")):
        mine = [curve for curve in industrial if curve.part == part]
        lines.append(f"| industrial-benchmark | {label} | {summary(mine)} |")
    for domain in ("metaworld", "bidexhands"):
        for part, label in (("training", "the paper's training"), ("unseen", "its unseen")):
            mine = [curve for curve in curves if (curve.domain, curve.part) == (domain, part)]
            if mine:
                lines.append(f"| {domain} | {label} tasks of known groups | {summary(mine)} |")
    return "\n".join(lines)


def shares(workspace: Workspace) -> str:
    """Share of the rise that is lost without true rewards."""
    lines = [
        "| model | domain | first shot | last three | rewards shown | last three then "
        "| share of the rise lost |",
        "|---|---|--:|--:|---|--:|---|",
    ]
    for model, label in MODELS.items():
        if not exists(workspace, model):
            continue
        names = [model, *(f"{model}-{rewards}-rewards" for rewards in REWARDS[1:])]
        played = [found(workspace, name) for name in names if exists(workspace, name)]
        for row in reward_use(played):
            share = "no rise" if row["share"] is None else rounded(row["share"])
            if row["share_interval"] is not None:
                low, high = row["share_interval"]
                share += f" ({rounded(low)} to {rounded(high)})"
            lines.append(
                f"| {label} | {row['domain']} | {row['first']:.3f} | {row['last']:.3f} "
                f"| {row['rewards']} | {row['last_without']:.3f} | {share} |"
            )
    return "\n".join(lines)


def goals(workspace: Workspace) -> str:
    """Hidden goals, task by task, with and without rewards in training."""
    names = [name for name in ("goals-tiny", "goals-tiny-ad-no-reward") if exists(workspace, name)]
    played = [
        {curve.name: curve for curve in load_curves(found(workspace, name))} for name in names
    ]
    lines = [
        "| task | AD, first shot | last three | AD without rewards, first shot | last three |",
        "|---|---|---|---|---|",
    ]
    for task in played[0]:
        cells = []
        for curves in played:
            scores = summarize_curves([curves[task]])
            cells += [told(scores["first"]), told(scores["last"])]
        lines.append(f"| {task} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def reinforcement(workspace: Workspace) -> str:
    """What each recipe makes of rewards, task by task."""
    shown = ("zero", "mean", "other", "shuffled", "flipped")
    lines = [
        f"| task | histories, target, head | first shot | last three | {' | '.join(shown)} |",
        f"|---|---|--:|---|{'--:|' * len(shown)}",
    ]
    before = {
        tuple(line.split(" | ")[:2]): line
        for line in read_table("results.md", "reinforcement").splitlines()
    }
    for task in REINFORCEMENT:
        for knowledge, method, head, length in RECIPES:
            name = f"{task}-{knowledge}-{method}-{head}{length}"
            recipe = f"{KNOWLEDGE[knowledge]}, {TARGETS[method]}, {head}"
            recipe += ", four times as long" if length else ""
            if not exists(workspace, name):
                lines += filter(None, [before.get((f"| {task}", recipe))])
                continue
            scores = summarize_curves(load_curves(found(workspace, name)))
            others = [
                f"{last_three(workspace, other):.2f}" if exists(workspace, other) else ""
                for other in (f"{name}-{rewards}-rewards" for rewards in shown)
            ]
            lines.append(
                f"| {task} | {recipe} | {scores['first']['mean']:.2f} | {told(scores['last'], 2)} "
                f"| {' | '.join(others)} |"
            )
    return "\n".join(lines)


def last_three(workspace: Workspace, name: str) -> float:
    mean: float = summarize_curves(load_curves(found(workspace, name)))["last"]["mean"]
    return mean


def summary(curves: Sequence[TaskCurve]) -> str:
    scores = summarize_curves(curves)
    return f"{len(curves)} | {told(scores['first'])} | {told(scores['last'])}"


def told(score: dict[str, object], digits: int = 3) -> str:
    interval: Iterable[float] | None = score["mean_interval"]  # type: ignore[assignment]
    mean, *ends = (f"{value:.{digits}f}" for value in (score["mean"], *(interval or ())))
    return f"{mean} ({' to '.join(ends)})" if ends else mean


def rounded(value: float) -> str:
    # A zero has no sign.
    return f"{round(value, 2) + 0.0:.2f}"


def exists(workspace: Workspace, name: str) -> bool:
    try:
        found(workspace, name)
    except ArtifactMissingError:
        return False
    return True


def found(workspace: Workspace, name: str) -> Artifact:
    return workspace.find("rollouts", name)


if __name__ == "__main__":
    main()
