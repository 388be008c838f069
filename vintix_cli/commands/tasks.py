"""``vintix tasks``: the catalogue."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from vintix_cli import options
from vintix_cli.help import examples
from vintix_cli.render import print_json, print_table, print_text
from vintix_cli.run import command

EPILOG = examples("vintix tasks --domain metaworld --split validation", "vintix tasks hopper")


@command
def tasks(
    names: Annotated[
        list[str] | None, typer.Argument(help="Show these tasks in full.", show_default=False)
    ] = None,
    domain: options.Domains = None,
    group: Annotated[list[str] | None, typer.Option(help="Encoder group; may be repeated.")] = None,
    split: Annotated[list[str] | None, typer.Option(help="train or validation.")] = None,
    variations: Annotated[bool, typer.Option(help="List the variations in physics too.")] = True,
    json: options.Json = False,
) -> None:
    """List the tasks, or show some of them in full.

    102 tasks and 44 variations of the paper, and those of installed plugins.
    """
    from pipelines.domains.registry import full_catalogue

    catalogue = full_catalogue()
    if names:
        chosen = tuple(catalogue.get(name) for name in names)
    else:
        chosen = catalogue.select(
            domains=domain or (), groups=group or (), splits=split or (), variations=variations
        )
    documents = [task.as_json() for task in chosen]
    if json:
        print_json({"tasks": documents})
    elif names:
        for document in documents:
            _show(document)
    else:
        print_table([_row(document) for document in documents], notes=[_counts(documents)])


def _row(task: dict[str, Any]) -> dict[str, Any]:
    return {
        "task": task["name"],
        "domain": task["domain"],
        "split": task["split"],
        "group": task["group"],
        "obs": task["observation_dim"],
        "act": task["action_dim"],
        "horizon": task["horizon"],
        "trajectories": task["trajectories"],
        "steps_each": task["trajectory_length"],
        "note": "changes nothing" if task["inert"] else "",
    }


def _counts(tasks: list[dict[str, Any]]) -> str:
    variations = sum(task["variation_of"] is not None for task in tasks)
    training = sum(task["split"] == "train" for task in tasks)
    return (
        f"{len(tasks) - variations} tasks ({training} for training) and {variations} variations; "
        "vintix tasks NAME shows one in full"
    )


def _show(task: dict[str, Any]) -> None:
    from pipelines.domains.registry import load_domains
    from pipelines.tasks.schedule import schedule_text

    print_text(task["name"])
    for key, value in task.items():
        if key in ("name", "scores") or value is None:
            continue
        if key in ("schedule", "noise_curve"):
            value = schedule_text(value)
        elif isinstance(value, dict):
            value = ", ".join(f"{name}={item}" for name, item in value.items())
        elif isinstance(value, list):
            value = ", ".join(str(item) for item in value)
        print_text(f"  {key.replace('_', ' '):20} {value}")
    for reference, score in task["scores"].items():
        print_text(
            f"  {'score, ' + reference:20} random {score['random']:g}, expert {score['expert']:g}"
        )
    for option in load_domains()[task["domain"]].options():
        choices = f" ({' | '.join(option.choices)})" if option.choices else ""
        print_text(f"  --option {option.name}={option.default}{choices}: {option.help}")
