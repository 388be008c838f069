"""``vintix distill``: stage 2, learning histories by noise distillation or real ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from vintix_cli import options, values
from vintix_cli.help import examples
from vintix_cli.run import command
from vintix_cli.stages import run_stage

if TYPE_CHECKING:
    from pipelines.stage import StageResult

EPILOG = examples(
    "vintix distill --domain metaworld --schedule p=0.7,f=0.1",
    "vintix distill --task reach --trajectories 2 --steps 20000 --dry-run",
    "vintix distill --source learning-history --task hopper --steps 100000",
)


@command
def distill(
    task: options.Tasks = None,
    domain: options.Domains = None,
    option: options.EnvironmentOptions = None,
    backend: options.Backend = None,
    demonstrators: Annotated[
        str | None,
        typer.Option(
            metavar="ARTIFACT",
            help="Demonstrators artifact; default the newest that has the tasks.",
            autocompletion=values.artifacts("demonstrators"),
        ),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            help="noise, or learning-history: record a Stable-Baselines3 learner (PPO by default, "
            "see distill.train) that trains from scratch in each trajectory.",
            autocompletion=values.setting("source"),
        ),
    ] = None,
    schedule: Annotated[
        str | None,
        typer.Option(
            metavar="p=P,f=F|auto|fitted",
            help="Decay of the noise: p=0.7,f=0.1, or what a pilot finds: auto (p and f) or fitted "
            "(any shape); default each task's own.",
            autocompletion=values.fixed("auto", "fitted"),
        ),
    ] = None,
    trajectories: Annotated[
        int | None, typer.Option(min=1, help="Trajectories a task; default the paper's.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Steps a trajectory; default the paper's.")
    ] = None,
    scale: Annotated[
        float | None, typer.Option(help="Multiply the paper's trajectory lengths by this.")
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            help="Collect the I-th of N shares, for array jobs; vintix artifacts merge joins them.",
        ),
    ] = None,
    executor: Annotated[
        str | None,
        typer.Option(
            autocompletion=values.setting("executor"),
            help="Run the jobs here, or on a Ray cluster whose nodes share the workspace.",
        ),
    ] = None,
    name: options.Name = None,
    seed: options.Seed = None,
    workers: options.Workers = None,
    workspace: options.Workspace = None,
    config: options.Config = None,
    set_: options.Set = None,
    strict: options.Strict = False,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Stage 2: roll experts out with annealed noise and record the whole history.

    Algorithm 1 and the decay of Appendix A.3 of the paper; or, with --source learning-history,
    the training history of a learner. Without a selection: every task of the demonstrators
    artifact.
    """
    run_stage(
        "distill",
        {
            "tasks": task,
            "domains": domain,
            "options": options.environment_options(option, backend),
            "demonstrators": demonstrators,
            "source": source,
            "schedule": schedule,
            "trajectories": trajectories,
            "steps": steps,
            "scale": scale,
            "shard": shard,
            "executor": executor,
            "name": name,
            "seed": seed,
            "workers": workers,
            "strict": strict or None,
        },
        workspace=workspace,
        config=config,
        assignments=set_,
        dry_run=dry_run,
        json=json,
        quiet=quiet,
        show=show_histories,
    )


def show_histories(result: StageResult) -> None:
    """Print the report of each history of an artifact; of an empty part, nothing."""
    from vintix_cli.render import print_table

    if not result.report["tasks"]:
        return
    print_table(
        [
            {
                "task": task["task"],
                "trajectories": task["trajectories"],
                "episodes": task["episodes"],
                "steps": task["steps"],
                "random": task["measured"]["random"],
                "first_tenth": task["first_tenth"],
                "last_tenth": task["last_tenth"],
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
