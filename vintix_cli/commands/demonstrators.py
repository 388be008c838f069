"""``vintix demonstrators``: stage 1, an expert policy a task."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vintix_cli import options, values
from vintix_cli.help import examples
from vintix_cli.run import command
from vintix_cli.stages import run_stage

if TYPE_CHECKING:
    from pipelines.stage import StageResult

EPILOG = examples(
    "vintix demonstrators --domain metaworld",
    "vintix demonstrators --source train --task swimmer",
    "vintix demonstrators --source train --task reacher --algorithm ppo --total-steps 200000",
)


@command
def demonstrators(
    task: options.Tasks = None,
    domain: options.Domains = None,
    option: options.EnvironmentOptions = None,
    backend: options.Backend = None,
    source: Annotated[
        str | None,
        typer.Option(
            help="builtin (comes with the package), train (as the packaged one was, unless "
            "told otherwise) or import.",
            autocompletion=values.setting("source"),
        ),
    ] = None,
    episodes: Annotated[
        int | None, typer.Option(min=20, help="Episodes to measure each return over.")
    ] = None,
    algorithm: Annotated[
        str | None,
        typer.Option(
            help="With --source train: the learner.",
            autocompletion=values.setting("train", "algorithm"),
        ),
    ] = None,
    total_steps: Annotated[
        int | None, typer.Option(min=1, help="With --source train: environment steps.")
    ] = None,
    path: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="With --source import: a Stable-Baselines3 zip; only weights are read.",
        ),
    ] = None,
    evaluate: Annotated[
        str | None,
        typer.Option(
            metavar="ARTIFACT",
            help="Measure the policies of this artifact again, instead.",
            autocompletion=values.artifacts("demonstrators"),
        ),
    ] = None,
    name: options.Name = None,
    seed: options.Seed = None,
    workers: options.Workers = None,
    workspace: options.Workspace = None,
    config: options.Config = None,
    set_: options.Set = None,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Stage 1: get an expert policy a task and measure it against random actions.

    Without a selection: every task that has an expert in the package.
    """
    run_stage(
        "demonstrators",
        {
            "tasks": task,
            "domains": domain,
            "options": options.environment_options(option, backend),
            "source": source,
            "episodes": episodes,
            "train": {
                key: value
                for key, value in {"algorithm": algorithm, "total_steps": total_steps}.items()
                if value is not None
            }
            or None,
            "import_path": path,
            "evaluate": evaluate,
            "name": name,
            "seed": seed,
            "workers": workers,
        },
        workspace=workspace,
        config=config,
        assignments=set_,
        dry_run=dry_run,
        json=json,
        quiet=quiet,
        show=_show,
    )


def _show(result: StageResult) -> None:
    from vintix_cli.render import print_table

    print_table(
        [
            {
                "task": task["name"],
                "policy": task["policy"],
                "source": task["source"],
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
