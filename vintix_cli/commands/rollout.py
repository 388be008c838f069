"""``vintix rollout``: stage 5, many-shot, cold-start, in-context evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipelines.text import counted
from vintix_cli.commands.stages import run_stage
from vintix_cli.help import examples
from vintix_cli.options import Run, Settings, configured
from vintix_cli.render import interval_text, picked, print_table, print_wrapped

if TYPE_CHECKING:
    from pipelines.stage import StageResult

EPILOG = examples(
    "vintix rollout --task reach --shots 20",
    "vintix rollout --task hopper --gravity 1.1 --plot hopper.png",
    "vintix rollout --suite paper --converged 100 --dry-run",
    "vintix rollout --baseline random --baseline demonstrator",
    "vintix rollout --suite reward-use --domain metaworld --seeds 5",
)


@configured("pipelines.rollout.config:RolloutConfig")
def rollout(
    settings: Settings,
    run: Run,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the curves as PNG or SVG, by the file's suffix."),
    ] = None,
) -> None:
    """Stage 5: let a model act from an empty context, with no gradient step.

    Every return is recorded. Without a selection: every task that the checkpoint was trained on.
    """
    run_stage("rollout", settings, run, show_rollout, plot=plot)


def show_rollout(result: StageResult) -> None:
    """Print a table with a sparkline a task."""
    print_curves(result.report)
    print_scores(result.report)
    print_reward_use(result.report)


def print_curves(report: Mapping[str, Any]) -> None:
    """Print a rollout's report as a table with a sparkline a task."""
    from pipelines.rollout.fallback import foreign_statistics_note
    from pipelines.text import sparkline

    tasks = report["tasks"]
    foreign = foreign_statistics_note({task["name"]: task["foreign_statistics"] for task in tasks})
    column = f"shots 1 to {max(task['shots'] for task in tasks)}"
    rows = [
        {
            **picked(task, task="name", seeds="seeds", first_shot="return_first"),
            **picked(task, last_three="return_last3", first_normalised="normalized_first"),
            "last_normalised": task["normalized_last3"],
            column: sparkline(task["returns_by_shot"])
            if task["normalized_by_shot"] is None
            else sparkline(task["normalized_by_shot"], 0.0, 1.0),
        }
        for task in tasks
    ]
    mean = report["mean_normalized_by_shot"]
    totals = {
        "task": f"mean of {report['tasks_in_mean']}",
        "first_normalised": report["mean_normalized_first"],
        "last_normalised": report["mean_normalized_last3"],
        column: sparkline(mean, 0.0, 1.0),
    }
    print_table(
        rows,
        totals=totals if report["tasks_in_mean"] > 1 else None,
        notes=[
            f"returns by the reference {report['reference']!r}: normalised, 0 is random and 1 the "
            "demonstrator, and so is the height of the bars",
            *filter(None, [foreign]),
        ],
    )


def print_scores(report: Mapping[str, Any]) -> None:
    """Print a rollout's aggregate scores with intervals, those of others, and who else played."""
    rows = [line for row in report["scores"] for line in _score_lines(row)]
    if rows:
        notes = [
            "95 % intervals: stratified bootstrap over the seeds of each task; iqm: interquartile "
            "mean over the seeds of all tasks; best: at the best shot k of each task"
        ]
        if report["absent"]:
            zeros = counted(len(report["absent"]), "task")
            notes.append(f"counted as 0, as random play: {zeros} without a group in the checkpoint")
        print_table(rows, title="scores", notes=notes)
    comparison = report.get("comparison", [])
    compared = [
        {"agent": _agent(each), **line}
        for each in comparison
        for row in each["scores"]
        for line in _score_lines(row)
        if line["score"] in ("first", "last three", "converged")
    ]
    if compared:
        tasks = len(comparison[0]["tasks"])
        print_table(compared, title=f"the same episodes of {counted(tasks, 'task')}, by agent")
    regrets = [
        {"agent": _agent(each), "task": task, "regret": lost["mean"], "stderr": lost["stderr"]}
        for task in (comparison[0]["tasks"] if comparison else ())
        for each in comparison
        if each["regret"] and each["agent"] != "demonstrator"
        for lost in [each["regret"][task]]
    ]
    if regrets:
        print_table(
            regrets,
            title="regret: what the demonstrators earned more on the same episodes, over all shots",
        )
    # What others report is after convergence, and stands beside nothing else.
    reported = [row for row in report["reported"] if row["ours_kind"] == "converged"]
    if reported:
        print_table(
            [
                {
                    "source": f"{row['source']} ({row['label']})",
                    **picked(row, "domain", "part", "tasks", reported="mean"),
                    **picked(row, normalised_by="score_reference", ours="ours"),
                }
                for row in reported
            ],
            title="reported by others, over those of the tasks that they have",
            notes=[
                "after convergence; reported: taken from the papers, not measured here; ours: the "
                f"same tasks by the {reported[0]['ours_reference']} scores"
            ],
        )
    elif report["reported"]:
        print_wrapped(
            "what others report is after convergence: --converged 100 plays that, and shows both"
        )


def print_reward_use(report: Mapping[str, Any]) -> None:
    """Print what share of the rise with shots is lost without true rewards, if that was asked."""
    rows = report.get("reward_use", [])
    if not rows:
        return
    several = len({row["checkpoint"] for row in rows}) > 1
    print_table(
        [
            {
                **({"checkpoint": row["checkpoint"]} if several else {}),
                **picked(row, "domain", "tasks", "rewards", "first"),
                "last three": row["last"],
                "rise_95%": interval_text(row["rise_interval"]),
                "last_without": row["last_without"],
                "lost": row["lost"],
                "lost_95%": interval_text(row["lost_interval"]),
                "share_lost": row["share"],
                "share_95%": interval_text(row["share_interval"]),
            }
            for row in rows
        ],
        title="what true rewards are worth",
        notes=[
            "share_lost: of the rise from the first shot to the last three, what is missing in the "
            "last three when the model is shown other rewards; 0: it never needed them, 1: all of "
            "it. None is told where the rise itself may be none, as of a model that adapts within "
            "its first shot: lost, the difference of the levels, is told always"
        ],
    )


def _score_lines(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            **picked(row, "domain", "part"),
            "tasks": score["tasks"],
            "score": "last three" if kind == "last" else kind,
            "mean": score["mean"],
            "mean_95%": interval_text(score["mean_interval"]),
            "iqm": score["iqm"],
            "iqm_95%": interval_text(score["iqm_interval"]),
            "success": None if score["success"] is None else score["success"]["mean"],
        }
        for kind, score in row["scores"].items()
    ]


def _agent(entry: Mapping[str, Any]) -> str:
    if entry["agent"] != "model":
        return str(entry["agent"])
    details = [entry["method"]] if entry["method"] else []
    if entry["rewards"] != "true":
        details.append(f"{entry['rewards']} rewards")
    if entry["act"] == "greedy":
        details.append("greedy")
    return f"{entry['checkpoint']} ({', '.join(details)})" if details else str(entry["checkpoint"])
