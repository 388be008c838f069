"""``vintix tasks``: the catalogue, and pictures of what is in it."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Annotated, Any

import typer

from pipelines.errors import UsageError
from pipelines.text import counted
from vintix_cli import values
from vintix_cli.help import examples
from vintix_cli.options import Domains, Json, command, parse_pairs
from vintix_cli.render import picked, print_json, print_table, print_text, print_wrapped

EPILOG = examples(
    "vintix tasks --domain metaworld --split validation",
    "vintix tasks hopper",
    "vintix tasks hopper --render hopper.png",
)
_picture = functools.partial(typer.Option, rich_help_panel="Picture")


@command
def tasks(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TASK",
            help="Show these tasks in full.",
            show_default=False,
            autocompletion=values.tasks,
        ),
    ] = None,
    domain: Domains = None,
    group: Annotated[
        list[str] | None,
        typer.Option(metavar="GROUP", help="Encoder group.", autocompletion=values.groups),
    ] = None,
    split: Annotated[
        list[str] | None,
        typer.Option(help="Tasks of this split only.", autocompletion=values.splits),
    ] = None,
    variations: Annotated[bool, typer.Option(help="List the variations in physics too.")] = True,
    render: Annotated[
        Path | None,
        _picture(
            metavar="FILE",
            help="Draw the one task that is named (.png), as its demonstrator plays it.",
        ),
    ] = None,
    render_steps: Annotated[
        int | None, _picture(min=0, help="Steps before the picture; default by domain.")
    ] = None,
    size: Annotated[
        str | None, _picture(metavar="WIDTHxHEIGHT", help="Pixels of the picture; default 640x480.")
    ] = None,
    seed: Annotated[
        int | None, _picture(min=0, help="Seed of the episode in the picture; default 0.")
    ] = None,
    option: Annotated[
        list[str] | None,
        _picture(
            "--option",
            "-o",
            metavar="NAME=VALUE",
            help="Option of the environment in the picture, such as gravity=2.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """List the tasks, show some of them in full, or draw one.

    102 tasks and 44 variations of the paper, those beside the paper (hidden-goal), and those of
    installed plugins.
    """
    from pipelines.domains.registry import full_catalogue

    of_picture = {"render-steps": render_steps, "size": size, "seed": seed, "option": option}
    given = [f"--{name}" for name, value in of_picture.items() if value is not None]
    if render is None and given:
        raise UsageError(
            f"{given[0]} says what a picture shows, and none is asked for",
            expected="--render FILE.png beside it",
            found=", ".join(given),
        )
    catalogue = full_catalogue()
    if names:
        chosen = tuple(catalogue.get(name) for name in names)
    else:
        chosen = catalogue.select(
            domains=domain or (), groups=group or (), splits=split or (), variations=variations
        )
    documents = [task.as_json() for task in chosen]
    if render is not None:
        if not names or len(names) != 1:
            raise UsageError(
                "a picture shows one task",
                where="--render",
                expected="one name",
                found=f"{len(names or ())} names",
                fix=f"vintix tasks hopper --render {render}",
            )
        picture = _draw(chosen[0], render, render_steps, size, seed or 0, option)
        if json:
            print_json({"tasks": documents, "picture": picture})
        else:
            print_text(f"picture: {picture['path']}")
            print_text(f"  {picture['shows']}, {picture['width']} x {picture['height']} pixels")
    elif json:
        print_json({"tasks": documents})
    elif names:
        for document in documents:
            _show(document)
    else:
        inert = [document["name"] for document in documents if document["inert"]]
        notes = [f"changes nothing: {', '.join(inert)}"] if inert else []
        rows = [_row(document) for document in documents]
        print_table(rows, notes=[*notes, _counts(documents)])


def _draw(
    task: Any,
    path: Path,
    steps: int | None,
    size: str | None,
    seed: int,
    option: list[str] | None,
) -> dict[str, Any]:
    from pipelines.drawing import PIXEL_FORMATS, save_image
    from pipelines.output_files import check_output
    from pipelines.report.snapshot import SIZE, take_snapshot

    check_output(path, PIXEL_FORMATS)
    pairs, pixels = parse_pairs(option) if option else None, SIZE if size is None else _size(size)
    snapshot = take_snapshot(task, pairs, size=pixels, seed=seed, steps=steps)
    save_image(snapshot.image_HWC, path)
    width, height = snapshot.size
    names = ("task", "policy", "steps", "ended", "episode_return", "seed")
    return {
        "path": str(path),
        "width": width,
        "height": height,
        "shows": snapshot.caption,
        **{name: getattr(snapshot, name) for name in names},
    }


def _size(text: str) -> tuple[int, int]:
    width, by, height = text.lower().partition("x")
    if not (by and width.isdecimal() and height.isdecimal()):
        raise UsageError("malformed --size", expected="WIDTHxHEIGHT, such as 640x480", found=text)
    return int(width), int(height)


def _row(task: dict[str, Any]) -> dict[str, Any]:
    discrete = " discrete" if "actions" in task and task["actions"]["kind"] == "discrete" else ""
    return {
        **picked(task, task="name", domain="domain", split="split", group="group"),
        "obs": task["observation_dim"],
        "act": f"{task['action_dim']}{discrete}",
        "horizon": task["horizon"],
        **picked(task, trajectories="trajectories", steps_each="trajectory_length"),
    }


def _counts(tasks: list[dict[str, Any]]) -> str:
    variations = sum(task["variation_of"] is not None for task in tasks)
    training = sum(task["split"] == "train" for task in tasks)
    from pipelines.tasks.registry import catalogue

    published = {task.name for task in catalogue().tasks}
    further = sum(task["name"] not in published and not task["variation_of"] for task in tasks)
    return (
        f"{counted(len(tasks) - variations, 'task')} ({training} for training) and "
        f"{counted(variations, 'variation')}"
        + (f", {further} of the tasks beside the paper's" if further else "")
        + "; vintix tasks NAME shows one in full"
    )


def _show(task: dict[str, Any]) -> None:
    from pipelines.domains.registry import load_domains
    from pipelines.tasks.schedule import schedule_text

    print_text(task["name"])
    for key, value in task.items():
        if key in ("name", "scores") or value is None:
            continue
        text = str(value)
        if key in ("schedule", "noise_curve"):
            text = schedule_text(value)
        elif isinstance(value, dict):
            text = ", ".join(f"{name}={item}" for name, item in value.items())
        elif isinstance(value, list):
            text = ", ".join(map(str, value))
        print_wrapped(text, lead=f"  {key.replace('_', ' '):20} ")
    for reference, score in task["scores"].items():
        print_wrapped(
            f"random {score['random']:g}, expert {score['expert']:g}",
            lead=f"  {'score, ' + reference:20} ",
        )
    for option in load_domains()[task["domain"]].options():
        choices = f" ({' | '.join(option.choices)})" if option.choices else ""
        print_wrapped(f"{option.name}={option.default}{choices}: {option.help}", lead="  --option ")
