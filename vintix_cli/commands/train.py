"""``vintix train``: stage 4, algorithm distillation."""

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
    "vintix train --preset tiny --steps 800",
    "vintix train --preset paper --dry-run --set train.batch_size=64",
    "vintix train --preset paper --gpus 8 --track tensorboard",
    "vintix train --preset paper --gpus 8 --nodes 2 --rendezvous node0:29500",
    "vintix train --device cpu --processes 2",
    "vintix train --init packaged --steps 400 --dry-run",
)


@command
def train(
    dataset: Annotated[
        str | None,
        typer.Option(
            metavar="ARTIFACT",
            help="Dataset artifact; default the newest.",
            autocompletion=values.artifacts("datasets"),
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(help="Size of the model.", autocompletion=values.setting("preset")),
    ] = None,
    init: Annotated[
        str | None,
        typer.Option(
            metavar="ARTIFACT",
            help="Start from this checkpoint's weights; packaged is the one of vintix.",
            autocompletion=values.artifacts("checkpoints"),
        ),
    ] = None,
    task: options.Tasks = None,
    domain: options.Domains = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="What is learnt: ad (the paper), ed (expert distillation) or ad-no-reward.",
            autocompletion=values.setting("method"),
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Optimizer steps.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Sequences a step.")] = None,
    context: Annotated[int | None, typer.Option(min=2, help="Length of a sequence.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    device: Annotated[
        str | None,
        typer.Option(help="Where to train.", autocompletion=values.setting("device")),
    ] = None,
    gpus: Annotated[
        int | None, typer.Option(min=1, help="GPUs of each machine to train on; one process each.")
    ] = None,
    processes: Annotated[
        int | None,
        typer.Option(min=1, help="Processes to train with on CPUs (--device cpu; gloo)."),
    ] = None,
    nodes: Annotated[
        int | None, typer.Option(min=1, help="Machines; run the same command on each.")
    ] = None,
    rendezvous: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Where the machines meet.")
    ] = None,
    shard: Annotated[
        bool, typer.Option("--shard", help="Split the parameters over the processes (FSDP2).")
    ] = False,
    fidelity: Annotated[
        str | None,
        typer.Option(
            help="release: train by the released code's own rules.",
            autocompletion=values.setting("fidelity"),
        ),
    ] = None,
    track: Annotated[
        str | None,
        typer.Option(help="Also log to this tracker.", autocompletion=values.setting("track")),
    ] = None,
    name: options.Name = None,
    seed: options.Seed = None,
    workspace: options.Workspace = None,
    config: options.Config = None,
    set_: options.Set = None,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Stage 4: train a causal transformer to predict the next action of the histories."""
    run_stage(
        "train",
        {
            "dataset": dataset,
            "init": init,
            "tasks": task,
            "domains": domain,
            "preset": preset,
            "method": method,
            "steps": steps,
            "batch_size": batch_size,
            "context": context,
            "learning_rate": learning_rate,
            "device": device,
            "gpus": gpus,
            "processes": processes,
            "nodes": nodes,
            "rendezvous": rendezvous,
            "shard": True if shard else None,
            "fidelity": fidelity,
            "track": track,
            "name": name,
            "seed": seed,
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

    report = result.report
    row = {key: report[key] for key in ("preset", "method", "parameters", "steps", "tokens")}
    losses = {f"loss_{domain}": loss for domain, loss in report["domains"].items()}
    print_table([{**row, "loss": report["loss"], **losses}])
