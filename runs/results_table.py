"""Writes the tables of docs/results.md and docs/fine-tuning.md from what four scripts make.

bash runs/results.sh && bash runs/reinforcement.sh && bash runs/ml45.sh && bash runs/finetune.sh
python runs/results_table.py

A table whose artifacts are not in the workspace is left as it is, and so is a row of the tables
"reinforcement", "paired" and "tuned".
"""

import argparse
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import mean

from pages import read_table, write_table

from pipelines.artifacts.artifact import Artifact
from pipelines.artifacts.workspace import Workspace
from pipelines.errors import ArtifactMissingError
from pipelines.histories.reader import HistoryReader
from pipelines.rollout.config import REWARDS
from pipelines.rollout.report import compare_rollouts
from pipelines.rollout.reported import reported_scores
from pipelines.rollout.reward_use import reward_use
from pipelines.rollout.scores import TaskCurve, load_curves, summarize_curves, task_scores
from pipelines.rollout.statistics import summarize
from pipelines.tasks.spec import ScoreReference

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

SHOWN = ("zero", "mean", "other", "shuffled", "flipped")
"""Other rewards, in the order of the columns."""

REINFORCEMENT = (
    "point-ring",
    "point-dense",
    "dark-room",
    "dark-key-to-door",
    "bernoulli-bandit-20",
    "reacher-hidden",
    "reach",
    "push-back",
    "soccer",
)
KNOWLEDGE = {
    "demonstrator": "goal known",
    "decoy": "decoys",
    "played": "decoys, then its own play",
    "belief": "beliefs",
}
TARGETS = {
    "ad": "action",
    "ad-no-reward": "action (no rewards)",
    "dpt": "clean action",
    "dpt-no-reward": "clean action (no rewards)",
}
LENGTHS = {"": "", "-long": ", four times as long", "-longer": ", twelve times as long"}
RECIPES = [
    (knowledge, method, head, length)
    for knowledge, methods in (
        ("demonstrator", ("ad", "ad-no-reward", "dpt")),
        ("decoy", ("dpt", "dpt-no-reward")),
        ("played", ("dpt",)),
        ("belief", ("dpt", "dpt-no-reward")),
    )
    for method in methods
    for head in ("mse", "bins", "categorical")
    for length in LENGTHS
]
"""Of runs/reinforcement.sh: histories, method, head and how long it is trained."""

WAYS = {
    "the paper's way": "goal known, action, ",
    "clean action alone": "goal known, clean action, ",
    "decoys": "decoys, clean action, ",
    "beliefs": "beliefs, clean action, ",
    "*no model, blind*": "*no model: the demonstrator, blind*",
    "*no model, beliefs*": "*no model: the demonstrator, by beliefs*",
}
"""Columns of the table "ways", with how their rows in the table "reinforcement" begin."""

BOUNDS = {
    "*no model: the demonstrator, blind*": "-bounds-blind",
    "*no model: the demonstrator, by beliefs*": "-bounds-belief",
}
"""What no learning reaches, and what an honest student can."""

TUNED = {"door-lock": (0, 25, 100), "point-mass": (25, 100)}
"""Of runs/finetune.sh: numbers of updates by the name of the data."""

INITS = ("packaged", "nothing")
"""What these models began with."""

ML45 = {
    "ml45-ad": "decay, action",
    "ml45-plain": "own demonstrators, clean action",
    "ml45-decoy": "decoys of tasks, clean action",
    "ml45-decoy-no-reward": "decoys of tasks, clean action (no rewards)",
}
"""Models of runs/ml45.sh: histories and target."""


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
    write_table("results.md", "ways", ways())
    write_table("results.md", "paired", paired(workspace))
    if exists(workspace, "ml45-others", "histories"):
        write_table("results.md", "others", others(workspace))
    if exists(workspace, "door-lock-packaged-0"):
        write_table("fine-tuning.md", "tuned", tuned(workspace))
    if any(exists(workspace, name) for name in ML45):
        write_table("results.md", "ml45", ml45(workspace))


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
    lines = [
        f"| task | histories, target, head | first shot | last three | {' | '.join(SHOWN)} |",
        f"|---|---|--:|---|{'--:|' * len(SHOWN)}",
    ]
    before = rows_before("reinforcement")
    for task in REINFORCEMENT:
        for recipe, suffix in {**named(RECIPES), **BOUNDS}.items():
            if exists(workspace, task + suffix):
                lines.append(f"| {task} | {recipe} | {levels(workspace, task + suffix)} |")
            else:
                lines += filter(None, [before.get((f"| {task}", recipe))])
    return "\n".join(lines)


def ways() -> str:
    """The last three shots of each way at its best, and without rewards, by "reinforcement"."""
    rows = [
        line.strip("|").split("|")
        for line in read_table("results.md", "reinforcement").splitlines()
    ]
    lines = [f"| task | {' | '.join(WAYS)} |", f"|---|{'---|' * len(WAYS)}"]
    for task in REINFORCEMENT:
        cells = []
        for begins in WAYS.values():
            levels = [
                (row[3].split()[0], row[4].strip())
                for row in rows
                if row[0].strip() == task and row[1].strip().startswith(begins)
            ]
            last, zero = max(levels, key=lambda level: float(level[0]), default=("", ""))
            cells.append(f"{last}, {zero}" if zero else last)
        if any(cells):
            lines.append(f"| {task} | {' | '.join(cells)} |")
    return "\n".join(lines)


def paired(workspace: Workspace) -> str:
    """How far the last three shots are from those of others on the same goals."""
    lines = [
        "| task | histories, target, head | less without rewards | less AD | less blind "
        "| less beliefs |",
        "|---|---|---|---|---|---|",
    ]
    before = rows_before("paired")
    recipes = [recipe for recipe in RECIPES if recipe[0] != "demonstrator" and recipe[1] == "dpt"]
    for task in REINFORCEMENT:
        for recipe, suffix in named(recipes).items():
            others = (
                suffix.replace("-dpt-", "-dpt-no-reward-"),
                re.sub("^-[a-z]+-dpt-", "-demonstrator-ad-", suffix),
                *BOUNDS.values(),
            )
            if exists(workspace, task + suffix) and any(
                exists(workspace, task + other) for other in others
            ):
                cells = (less(workspace, task + suffix, task + other) for other in others)
                lines.append(f"| {task} | {recipe} | {' | '.join(cells)} |")
            else:
                lines += filter(None, [before.get((f"| {task}", recipe))])
    return "\n".join(lines)


def less(workspace: Workspace, name: str, other: str) -> str:
    """Last three shots of a rollout less those of another, goal by goal, with their interval."""
    if not exists(workspace, other):
        return ""
    mine_S, theirs_S = (
        task_scores(load_curves(found(workspace, each))[0], "last") for each in (name, other)
    )
    return told(summarize([mine_S - theirs_S]), 2)


def named(recipes: Iterable[tuple[str, str, str, str]]) -> dict[str, str]:
    """Return the ends of the names of the rollouts by what the tables say of them."""
    return {
        f"{KNOWLEDGE[knowledge]}, {TARGETS[method]}, {head}"
        + LENGTHS[length]: f"-{knowledge}-{method}-{head}{length}"
        for knowledge, method, head, length in recipes
    }


def rows_before(table: str, page: str = "results.md") -> dict[tuple[str, ...], str]:
    """Return the lines of a table of the page by their first two cells."""
    lines = read_table(page, table).splitlines()
    return {tuple(line.split(" | ")[:2]): line for line in lines}


def ml45(workspace: Workspace) -> str:
    """Models of the 45 tasks, on these and on the five that are held out."""
    lines = [
        f"| tasks | histories, target | first shot | last three | {' | '.join(SHOWN)} |",
        f"|---|---|--:|---|{'--:|' * len(SHOWN)}",
    ]
    for suffix, label in (("", "45 of training"), ("-held-out", "5 held out")):
        lines += [
            f"| {label} | {recipe} | {levels(workspace, name + suffix)} |"
            for name, recipe in ML45.items()
            if exists(workspace, name + suffix)
        ]
    return "\n".join(lines)


def tuned(workspace: Workspace) -> str:
    """Models that began from the packaged one, and from nothing: first and last three shots."""
    lines = [
        "| data | updates | from the packaged model: first shot | last three "
        "| from nothing: first shot | last three |",
        "|---|--:|---|---|---|---|",
    ]
    before = rows_before("tuned", "fine-tuning.md")
    for name, updates in TUNED.items():
        for count in updates:
            if not any(exists(workspace, f"{name}-{init}-{count}") for init in INITS):
                lines += filter(None, [before.get((f"| `{name}`", str(count)))])
                continue
            cells = []
            for init in INITS:
                played = f"{name}-{init}-{count}"
                if exists(workspace, played):
                    scores = summarize_curves(load_curves(found(workspace, played)))
                    cells += [told(scores[kind], 2) for kind in ("first", "last")]
                else:
                    cells += ["", ""]
            lines.append(f"| `{name}` | {count} | {' | '.join(cells)} |")
    return "\n".join(lines)


def others(workspace: Workspace) -> str:
    """What demonstrators get in tasks that are not theirs, by the paper's scores."""
    reader = HistoryReader(found(workspace, "ml45-others", "histories"))
    rows = {task: played_by(reader, task) for task in reader.tasks()}
    rows["mean"] = tuple(map(mean, zip(*rows.values(), strict=True)))
    lines = ["| task | its own demonstrator | others | the paper's model |", "|---|--:|--:|--:|"]
    lines += [f"| {task} | " + " | ".join(map(rounded, row)) + " |" for task, row in rows.items()]
    return "\n".join(lines)


def played_by(reader: HistoryReader, task: str) -> tuple[float, ...]:
    """Return the mean scores of the task's own demonstrator, of others, and what is reported."""
    scores = ScoreReference(**reader.task(task)["scores"]["paper"])
    own: list[float] = []
    theirs: list[float] = []
    for trajectory in reader.trajectories(task):
        episodes = reader.episodes(task, trajectory)
        for total, player, complete in zip(
            episodes["episode_return"],
            episodes["episode_demonstrator"],
            episodes["complete"],
            strict=True,
        ):
            if complete:
                (theirs if player else own).append(scores.normalize(float(total)))
    return mean(own), mean(theirs), reported_scores()["Vintix"][task][0]


def levels(workspace: Workspace, name: str) -> str:
    """First and last three shots of a rollout, and the last three under other rewards."""
    scores = summarize_curves(load_curves(found(workspace, name)))
    shown = [
        f"{last_three(workspace, other):.2f}" if exists(workspace, other) else ""
        for other in (f"{name}-{rewards}-rewards" for rewards in SHOWN)
    ]
    seeds = [
        f"{last_three(workspace, again):.2f}"
        for again in (f"{name}-seed-{seed}" for seed in (1, 2))
        if exists(workspace, again)
    ]
    last = told(scores["last"], 2) + (f"; {', '.join(seeds)}" if seeds else "")
    return " | ".join([f"{scores['first']['mean']:.2f}", last, *shown])


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


def exists(workspace: Workspace, name: str, kind: str = "rollouts") -> bool:
    try:
        found(workspace, name, kind)
    except ArtifactMissingError:
        return False
    return True


def found(workspace: Workspace, name: str, kind: str = "rollouts") -> Artifact:
    return workspace.find(kind, name)


if __name__ == "__main__":
    main()
