"""``vintix report``: what artifacts look like, in numbers and pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from vintix_cli import options
from vintix_cli.help import Command, Group, examples
from vintix_cli.render import print_json, print_table, print_text
from vintix_cli.run import command

EPILOG = examples("vintix report histories", "vintix report histories mujoco --plot mujoco.png")

app = typer.Typer(
    help="Tell what artifacts look like, in numbers and pictures.",
    cls=Group,
    rich_markup_mode=None,
    epilog=EPILOG,
)


@app.callback()
def _group() -> None:
    # With a callback a group of a single command stays a group.
    pass


@app.command("histories", cls=Command, epilog=EPILOG)
@command
def histories(
    reference: Annotated[
        list[str] | None,
        typer.Argument(
            help="NAME, NAME@v3 or a path; default the newest. Several stand side by side.",
            show_default=False,
        ),
    ] = None,
    task: options.Tasks = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            help="Draw return against progress (.png or .svg), one picture a domain.",
        ),
    ] = None,
    workspace: options.Workspace = None,
    json: options.Json = False,
) -> None:
    """Tell how much each history looks like learning.

    Returns are normalised by the measured scores of random play and demonstrator. A poor history
    is what vintix pack refuses without --allow.
    """
    from pipelines.artifacts.workspace import Workspace
    from pipelines.histories.report import compare_histories, summarize

    if plot is not None:
        from pipelines.pictures import check_format

        check_format(plot)
    references, entries = compare_histories(
        Workspace.resolve(workspace), reference or (), task or ()
    )
    found = ", ".join(references)
    pictures: list[Path] = []
    if plot is not None:
        from pipelines.histories.pictures import plot_histories

        pictures = plot_histories(entries, plot)
    documents = [entry.as_json() for entry in entries]
    if json:
        print_json(
            {
                "histories": found,
                "tasks": documents,
                "domains": summarize(entries),
                "pictures": [str(path) for path in pictures],
            }
        )
        return
    print_table([_row(document) for document in documents], title=found, notes=_notes(documents))
    print_table(summarize(entries))
    for path in pictures:
        print_text(f"picture: {path}")


def _row(entry: dict[str, Any]) -> dict[str, Any]:
    numbers = ("start", "end", "rank_correlation", "largest_jump", "r_squared")
    return {
        **({"history": entry["history"]} if "history" in entry else {}),
        "task": entry["task"],
        "domain": entry["domain"],
        "verdict": entry["verdict"],
        "episodes": entry.get("episodes"),
        **{name: entry.get(name) for name in numbers},
        "shares_by_tenth_%": _percentages(entry.get("shares")),
    }


def _percentages(shares: list[float] | None) -> str | None:
    return None if shares is None else " ".join(f"{100 * share:.0f}" for share in shares)


def _notes(entries: list[dict[str, Any]]) -> list[str]:
    notes = [
        "start, end: mean normalised return in the first and last tenth; largest jump: between "
        "neighbouring tenths; r squared: of a straight line; shares: of the trajectory at each "
        "tenth from random to expert"
    ]
    notes += [f"{each['task']}: {', '.join(each['failures'])}" for each in entries]
    return [note for note in notes if not note.endswith(": ")]
