"""The commands of the stages: configure, plan or run, and show the outcome."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.errors import UsageError
from vintix_cli import values
from vintix_cli.help import examples
from vintix_cli.options import Run, Settings, Work, configured
from vintix_cli.render import picked, print_json, print_table, print_text

if TYPE_CHECKING:
    from pipelines.stage import Plan, StageResult

EPILOGS = {
    "demonstrators": examples(
        "vintix demonstrators --domain metaworld",
        "vintix demonstrators --source train --task swimmer",
        "vintix demonstrators --source train --task reacher --algorithm ppo --total-steps 200000",
    ),
    "distill": examples(
        "vintix distill --domain metaworld --schedule p=0.7,f=0.1",
        "vintix distill --task reach --trajectories 2 --steps 20000 --dry-run",
        "vintix distill --source learning-history --task hopper --steps 100000",
    ),
    "pack": examples(
        "vintix pack --histories metaworld --histories mujoco@v2 --name all",
        "vintix pack --dry-run --plan paper",
    ),
    "train": examples(
        "vintix train --preset tiny --steps 800",
        "vintix train --preset paper --dry-run --set train.batch_size=64",
        "vintix train --preset paper --gpus 8 --track tensorboard",
        "vintix train --preset paper --gpus 8 --nodes 2 --rendezvous node0:29500",
        "vintix train --device cpu --processes 2",
        "vintix train --init packaged --method dpt --steps 400 --dry-run",
    ),
}


def run_stage(
    stage: str,
    settings: Settings,
    run: Run,
    show: Callable[[StageResult], None],
    *,
    plot: Path | None = None,
) -> None:
    """Run one stage, or print its plan; `show` prints the result's tables, `plot` draws curves."""
    from pipelines.config import config_class, resolve_config

    if plot is not None:
        from pipelines.rollout.report import check_plot

        check_plot(plot)
    model, assignments = config_class(stage), run.set or ()
    config = resolve_config(
        stage, model, command_line=settings, assignments=assignments, file=run.config
    )
    implementation = import_module(f"pipelines.{stage}.stage")
    if run.dry_run:
        print_plan(stage, implementation.plan(config, run.space), json=run.json)
        return
    result: StageResult = implementation.run(config, run.space, run.reporter)
    if result.silent:
        return
    if plot is not None:
        from pipelines.rollout.report import other_rewards, plot_artifact

        others = other_rewards(result.report, run.space)
        plot_artifact(result.artifact, plot, others=others)
    print_result(result, run, show)
    if plot is not None and not run.json:
        print_text(f"picture: {plot}")


def print_plan(stage: str, plan: Plan, *, json: bool) -> None:
    """Print what ``--dry-run`` finds."""
    if json:
        print_json({"stage": stage, "plan": plan.rows, "totals": plan.totals, "notes": plan.notes})
    else:
        print_table(plan.rows, totals=plan.totals, notes=plan.notes)


def print_result(result: StageResult, work: Work, show: Callable[[StageResult], None]) -> None:
    """Print what a command made: as JSON, or as its table and a line with the artifact's name."""
    work.reporter.end()
    artifact = result.artifact
    if work.json:
        identity = {
            "kind": artifact.kind,
            "name": artifact.manifest.name,
            "version": artifact.manifest.version,
            "path": str(artifact.path),
            "digest": artifact.digest,
        }
        print_json({**result.report, "artifact": identity, "up_to_date": result.up_to_date})
        return
    if not work.quiet:
        show(result)
    state = "up to date" if result.up_to_date else "wrote"
    print_text(f"{state}: {artifact.kind}/{artifact.reference}")


@configured("pipelines.demonstrators.config:DemonstratorsConfig")
def demonstrators(settings: Settings, run: Run) -> None:
    """Stage 1: get an expert policy a task and measure it against random actions.

    Without a selection: every task that has an expert in the package.
    """
    run_stage("demonstrators", settings, run, show_demonstrators)


def show_demonstrators(result: StageResult) -> None:
    """Print the returns of each policy."""
    print_table(
        [
            {
                **picked(task, task="name", policy="policy", source="source"),
                "random": task["random"]["mean"],
                "expert": task["expert"]["mean"],
                "spread": task["expert"]["std"],
                "success": task["expert"].get("success"),
                "of_the_paper's": (task.get("paper") or {}).get("normalized_expert"),
            }
            for task in result.report["tasks"]
        ],
        notes=[
            "returns over whole episodes; of the paper's: (expert - random) / the same of the paper"
        ],
    )


@configured("pipelines.distill.config:DistillConfig")
def distill(settings: Settings, run: Run) -> None:
    """Stage 2: roll experts out with annealed noise and record the whole history.

    Algorithm 1 and the decay of Appendix A.3 of the paper; or, with --source learning-history,
    the training history of a learner. Without a selection: every task of the demonstrators
    artifact.
    """
    run_stage("distill", settings, run, show_histories)


def show_histories(result: StageResult) -> None:
    """Print the report of each history of an artifact; of an empty part, nothing."""
    if not result.report["tasks"]:
        return
    print_table(
        [
            {
                **picked(task, "task", "trajectories", "episodes", "steps"),
                "random": task["measured"]["random"],
                **picked(task, "first_tenth", "last_tenth"),
                "expert": task["measured"]["expert"],
                "rank_correlation": task["rank_correlation"],
            }
            for task in result.report["tasks"]
        ],
        notes=[
            "mean returns of the first and last tenth of the episodes between the measured random "
            "and expert returns; rank correlation of return with episode number"
        ],
    )


@configured("pipelines.pack.config:PackConfig")
def pack(
    settings: Settings,
    run: Run,
    plan: Annotated[
        str | None,
        typer.Option(
            help="With --dry-run: 'paper' prints the paper's Table 1, without data.",
            autocompletion=values.fixed("paper"),
        ),
    ] = None,
) -> None:
    """Stage 3: join histories into one training dataset, with statistics, groups and splits.

    A history whose return does not rise from random to demonstrator is refused by name; vintix
    report histories shows all of them.
    """
    if plan is None:
        run_stage("pack", settings, run, show_pack)
        return
    from pipelines.pack.stage import paper_plan

    if plan != "paper" or not run.dry_run:
        raise UsageError(
            "--plan only prints", expected="--dry-run --plan paper", found=f"--plan {plan}"
        )
    print_plan("pack", paper_plan(), json=run.json)


def show_pack(result: StageResult) -> None:
    """Print the dataset card."""
    rows = [
        {"split": split, **row} for split, table in result.report["card"].items() for row in table
    ]
    print_table(rows)


@configured("pipelines.train.config:TrainConfig")
def train(settings: Settings, run: Run) -> None:
    """Stage 4: train a causal transformer to predict the next action of the histories."""
    run_stage("train", settings, run, show_train)


def show_train(result: StageResult) -> None:
    """Print the losses."""
    report = result.report
    row = picked(report, "preset", "method", "parameters", "steps", "tokens")
    losses = {f"loss_{domain}": loss for domain, loss in report["domains"].items()}
    print_table([{**row, "loss": report["loss"], **losses}])
