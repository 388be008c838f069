"""``vintix report``: what artifacts look like, in numbers and pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from pipelines.text import counted
from vintix_cli import values
from vintix_cli.help import Group, add, group
from vintix_cli.options import Place, Settings, Tasks, Work, command, configured
from vintix_cli.render import interval_text, picked, print_json, print_table, print_text


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
        return found + self.get_command(ctx, "rollouts").params[0].shell_complete(ctx, incomplete)


app = group(
    "Tell what artifacts look like, in numbers and pictures.\n\n"
    "vintix report ROLLOUT... makes a page of rollouts: it is vintix report rollouts ROLLOUT...",
    "vintix report quickstart",
    "vintix report histories",
    cls=ReportGroup,
)


@add(
    app,
    "vintix report quickstart",
    "vintix report rollouts quickstart@v1 --output curves.html --figures pictures",
)
@configured("pipelines.report.stage:ReportRequest")
def rollouts(settings: Settings, work: Work) -> None:
    """Make a page of rollouts: the paper's figures of them, their scores, where they come from.

    Several rollouts stand side by side: AD beside ED, training tasks beside variations. A film
    plays the first task again that is chosen, with the checkpoint of its rollout.
    """
    from pipelines.report.stage import ReportRequest, make_report

    request = ReportRequest(**settings)
    report = make_report(request, work.space, work.reporter)
    work.reporter.end()
    if work.json:
        print_json(report)
        return
    if not work.quiet:
        for table in report["domains"]:
            _print_domain(table, report["goal"])
        if report["comparison"]:
            _print_comparison(report["comparison"])
    print_text(f"page: {report['page']}")
    if report["pictures"]:
        print_text(f"pictures: {counted(len(report['pictures']), 'file')} in {request.figures}")
    if report["video"]:
        print_text(f"film: {report['video']['path']}, {report['video']['caption']}")


def _print_domain(table: Mapping[str, Any], goal: float) -> None:
    from pipelines.text import sparkline

    reached = f"shots_to_{goal:g}"
    most = max((row["shots"] for row in table["tasks"]), default=0)
    column = f"shots 1 to {most}"
    rows = [
        {
            **picked(row, "task", "part", "seeds", "first"),
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
    title = f"{table['domain']}: {table['model']}"
    if not mean["tasks"]:
        print_table(rows, title=title)
        return
    interval = interval_text(mean["last"]["iqm_interval"])
    note = (
        f"interquartile mean of the last three shots {mean['last']['iqm']:.3f}"
        f"{f' ({interval})' if interval else ''}; normalised by {table['reference']} scores, 0 "
        "random and 1 demonstrator"
    )
    print_table(rows, title=title, totals=totals, notes=[note])


def _print_comparison(rows: Sequence[Mapping[str, Any]]) -> None:
    print_table(
        rows,
        title=f"beside other action models, {len(rows)} task{'' if len(rows) == 1 else 's'}",
        notes=[
            "after convergence; ours by the named reference, reported ones taken from the papers, "
            "each normalised by its authors' own scores, and not measured here"
        ],
    )


@add(app, "vintix report histories", "vintix report histories mujoco --plot mujoco.png")
@command
def histories(
    place: Place,
    reference: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="HISTORY",
            help="NAME, NAME@v3 or a path; default the newest. Several stand side by side.",
            show_default=False,
            autocompletion=values.artifacts("histories"),
        ),
    ] = None,
    task: Tasks = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Draw return against progress (.png or .svg), one picture a domain.",
        ),
    ] = None,
) -> None:
    """Tell how much each history looks like learning.

    Returns are normalised by the measured scores of random play and demonstrator. A poor history
    is what vintix pack refuses without --allow.
    """
    from pipelines.histories.report import compare_histories, summarize

    if plot is not None:
        from pipelines.drawing import FORMATS
        from pipelines.output_files import check_output

        check_output(plot, FORMATS)
    references, entries = compare_histories(place.space, reference or (), task or ())
    found, pictures = ", ".join(references), list[Path]()
    if plot is not None:
        from pipelines.histories.pictures import plot_histories

        pictures = plot_histories(entries, plot)
    tasks, domains = [entry.as_json() for entry in entries], summarize(entries)
    if place.json:
        paths = [str(path) for path in pictures]
        print_json({"histories": found, "tasks": tasks, "domains": domains, "pictures": paths})
        return
    print_table([_row(task) for task in tasks], title=found, notes=_notes(tasks))
    print_table(domains)
    for path in pictures:
        print_text(f"picture: {path}")


def _row(entry: dict[str, Any]) -> dict[str, Any]:
    names = ("start", "end", "rank_correlation", "largest_jump", "r_squared")
    shares = entry.get("shares")
    return {
        **({"history": entry["history"]} if "history" in entry else {}),
        **{name: entry.get(name) for name in ("task", "domain", "verdict", "episodes", *names)},
        "shares_by_tenth_%": shares and " ".join(f"{100 * share:.0f}" for share in shares),
    }


def _notes(entries: list[dict[str, Any]]) -> list[str]:
    notes = [
        "start, end: mean normalised return in the first and last tenth; largest jump: between "
        "neighbouring tenths; r squared: of a straight line; shares: of the trajectory at each "
        "tenth from random to expert"
    ]
    return notes + [
        f"{each['task']}: {', '.join(each['failures'])}" for each in entries if each["failures"]
    ]
