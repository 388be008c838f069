"""``vintix report``: what artifacts look like, in numbers and pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from vintix_cli import options, values
from vintix_cli.help import Command, Group, examples
from vintix_cli.render import (
    ConsoleReporter,
    interval_text,
    print_json,
    print_table,
    print_text,
)
from vintix_cli.run import command

HISTORIES_EPILOG = examples(
    "vintix report histories", "vintix report histories mujoco --plot mujoco.png"
)
ROLLOUTS_EPILOG = examples(
    "vintix report quickstart",
    "vintix report rollouts quickstart@v1 --output curves.html --figures pictures",
)
EPILOG = examples("vintix report quickstart", "vintix report histories")


class ReportGroup(Group):
    """``vintix report ROLLOUT...`` is ``vintix report rollouts ROLLOUT...``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the arguments; the first word that is no command begins those of ``rollouts``."""
        if args and args[0] not in (*self.commands, *ctx.help_option_names):
            args = ["rollouts", *args]
        return super().parse_args(ctx, args)

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """Return the commands that a word may be, and the rollouts."""
        found = super().shell_complete(ctx, incomplete)
        return found + self.commands["rollouts"].params[0].shell_complete(ctx, incomplete)


app = typer.Typer(
    help="Tell what artifacts look like, in numbers and pictures.\n\n"
    "vintix report ROLLOUT... makes a page of rollouts: it is vintix report rollouts ROLLOUT...",
    cls=ReportGroup,
    rich_markup_mode=None,
    epilog=EPILOG,
)


@app.command("rollouts", cls=Command, epilog=ROLLOUTS_EPILOG)
@command
def rollouts(
    reference: Annotated[
        list[str] | None,
        typer.Argument(
            help="NAME, NAME@v3 or a path; default the newest. Several stand side by side.",
            metavar="ROLLOUT",
            show_default=False,
            autocompletion=values.artifacts("rollouts"),
        ),
    ] = None,
    task: options.Tasks = None,
    output: Annotated[
        Path,
        typer.Option(
            "--output", metavar="FILE", help="The page; it needs no other file and no network."
        ),
    ] = Path("report.html"),
    figures: Annotated[
        Path | None,
        typer.Option(
            metavar="DIRECTORY",
            help="Also draw every figure into this directory, as PNG and as SVG.",
        ),
    ] = None,
    video: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Also film a task's first shot beside its last, as .gif (or .mp4 with ffmpeg).",
        ),
    ] = None,
    scores: Annotated[
        str | None,
        typer.Option(
            "--reference",
            help="Scores to normalise by at first; default that of the rollouts.",
            autocompletion=values.score_references,
        ),
    ] = None,
    workspace: options.Workspace = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Make a page of rollouts: the paper's figures of them, their scores, where they come from.

    Several rollouts stand side by side: AD beside ED, training tasks beside variations. A film
    plays the first task again that is chosen, with the checkpoint of its rollout.
    """
    from pipelines.artifacts.workspace import Workspace
    from pipelines.report.stage import ReportRequest, make_report

    request = ReportRequest(
        references=tuple(reference or ()),
        tasks=tuple(task or ()),
        reference=scores,
        output=output,
        figures=figures,
        video=video,
    )
    reporter = ConsoleReporter(quiet)
    report = make_report(request, Workspace.resolve(workspace), reporter)
    reporter.end()
    if json:
        print_json(report)
        return
    if not quiet:
        for table in report["domains"]:
            _print_domain(table, report["goal"])
        if report["comparison"]:
            _print_comparison(report["comparison"])
    print_text(f"page: {report['page']}")
    if report["pictures"]:
        print_text(f"pictures: {len(report['pictures'])} files in {figures}")
    if report["video"]:
        print_text(f"film: {report['video']['path']}, {report['video']['caption']}")


def _print_domain(table: Mapping[str, Any], goal: float) -> None:
    from pipelines.rollout.sparkline import sparkline

    reached = f"shots_to_{goal:g}"
    most = max((row["shots"] for row in table["tasks"]), default=0)
    column = f"shots 1 to {most}"
    rows = [
        {
            "task": row["task"],
            "part": row["part"],
            "seeds": row["seeds"],
            "first": row["first"],
            "first_95%": interval_text(row["first_interval"]),
            "last_three": row["last"],
            "last_95%": interval_text(row["last_interval"]),
            "best": row["best"],
            "at_shot": row["best_shot"],
            reached: row["shots_to_goal"],
            column: sparkline(row["curve"])
            if row["last"] is None
            else sparkline(row["curve"], 0.0, 1.0),
        }
        for row in table["tasks"]
    ]
    mean = table["mean"]
    totals = {
        "task": f"mean of {mean['tasks']}",
        "first": mean["first"]["mean"],
        "first_95%": interval_text(mean["first"]["mean_interval"]),
        "last_three": mean["last"]["mean"],
        "last_95%": interval_text(mean["last"]["mean_interval"]),
        "best": mean["best"]["mean"],
        reached: mean["shots_to_goal"],
        column: sparkline(mean["curve"], 0.0, 1.0),
    }
    iqm = mean["last"]["iqm"]
    notes = []
    if mean["tasks"]:
        notes.append(
            f"interquartile mean of the last three shots {iqm:.3f}"
            + (
                f" ({interval_text(mean['last']['iqm_interval'])})"
                if mean["last"]["iqm_interval"]
                else ""
            )
            + f"; normalised by {table['reference']} scores, 0 random and 1 demonstrator"
        )
    print_table(
        rows,
        title=f"{table['domain']}: {table['model']}",
        totals=totals if mean["tasks"] else None,
        notes=notes,
    )


def _print_comparison(rows: Sequence[Mapping[str, Any]]) -> None:
    print_table(
        rows,
        title=f"beside other action models, {len(rows)} task{'' if len(rows) == 1 else 's'}",
        notes=[
            "ours: by the named reference, after convergence where the rollout played it, else the "
            "last three shots; reported: after convergence, taken from the papers, each normalised "
            "by its authors' own scores, and not measured here"
        ],
    )


@app.command("histories", cls=Command, epilog=HISTORIES_EPILOG)
@command
def histories(
    reference: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="HISTORY",
            help="NAME, NAME@v3 or a path; default the newest. Several stand side by side.",
            show_default=False,
            autocompletion=values.artifacts("histories"),
        ),
    ] = None,
    task: options.Tasks = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
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
        from pipelines.drawing import FORMATS
        from pipelines.output_files import check_output

        check_output(plot, FORMATS)
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
