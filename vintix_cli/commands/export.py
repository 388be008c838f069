"""``vintix export``: artifacts in formats of others."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from vintix_cli import options, values
from vintix_cli.help import Command, Group, examples
from vintix_cli.render import ConsoleReporter, print_json, print_table, print_text, size_text
from vintix_cli.run import command

app = typer.Typer(
    help="Write checkpoints, datasets and histories in other formats.",
    cls=Group,
    rich_markup_mode=None,
    epilog=examples(
        "vintix export checkpoint quickstart --format official --output exported",
        "vintix export histories metaworld --format minari --output minari",
    ),
)

_PACKAGE = "pipelines.interchange"
_CHECKPOINT = {
    "official": "official_checkpoint.export_official",
    "safetensors": "safetensors_checkpoint.export_safetensors",
}
_DATASET = {"official": "official_dataset.export_dataset", "minari": "minari.export_packed"}
_HISTORIES = {"minari": "minari.export_minari"}


def _reference(kind: str) -> Any:
    return typer.Argument(
        metavar="ARTIFACT",
        help="NAME, NAME@v3 or a path; default the newest.",
        autocompletion=values.artifacts(kind),
    )


_Output = Annotated[
    Path, typer.Option("--output", "-O", metavar="DIRECTORY", help="Directory to write.")
]
_Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace an earlier export in the directory.")
]


@app.command(
    "checkpoint",
    cls=Command,
    epilog=examples(
        "vintix export checkpoint quickstart --format official --output exported",
        "vintix export checkpoint quickstart --format safetensors --output exported --json",
    ),
)
@command
def checkpoint(
    reference: Annotated[str | None, _reference("checkpoints")] = None,
    format_: Annotated[
        str,
        typer.Option(
            "--format",
            help="official: the authors' folder.",
            autocompletion=values.fixed(*_CHECKPOINT),
        ),
    ] = "official",
    output: _Output = Path("checkpoint"),
    overwrite: _Overwrite = False,
    workspace: options.Workspace = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Write a model for the authors' code, or as safetensors."""
    _export(_CHECKPOINT, reference, format_, output, overwrite, (), workspace, json, quiet)


@app.command(
    "dataset",
    cls=Command,
    epilog=examples(
        "vintix export dataset quickstart --format official --output exported",
        "vintix export dataset quickstart --format minari --task reach --output minari",
    ),
)
@command
def dataset(
    reference: Annotated[str | None, _reference("datasets")] = None,
    format_: Annotated[
        str,
        typer.Option(
            "--format",
            help="official: HDF5, as the authors' release; minari: one dataset a task.",
            autocompletion=values.fixed(*_DATASET),
        ),
    ] = "official",
    output: _Output = Path("dataset"),
    overwrite: _Overwrite = False,
    task: options.Tasks = None,
    workspace: options.Workspace = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Write a dataset in the layout that the authors' loader reads, or as Minari datasets."""
    tasks = tuple(task or ())
    _export(_DATASET, reference, format_, output, overwrite, tasks, workspace, json, quiet)


@app.command(
    "histories",
    cls=Command,
    epilog=examples(
        "vintix export histories metaworld --format minari --output minari",
        "vintix export histories mujoco@v2 --task hopper --output minari --json",
    ),
)
@command
def histories(
    reference: Annotated[str | None, _reference("histories")] = None,
    format_: Annotated[
        str,
        typer.Option(
            "--format",
            help="minari: one Minari dataset a task.",
            autocompletion=values.fixed(*_HISTORIES),
        ),
    ] = "minari",
    output: _Output = Path("histories"),
    overwrite: _Overwrite = False,
    task: options.Tasks = None,
    workspace: options.Workspace = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Write learning histories as Minari datasets, with nothing lost."""
    tasks = tuple(task or ())
    _export(_HISTORIES, reference, format_, output, overwrite, tasks, workspace, json, quiet)


def _export(
    formats: Mapping[str, str],
    reference: str | None,
    format_: str,
    output: Path,
    overwrite: bool,
    tasks: tuple[str, ...],
    workspace: Path | None,
    json: bool,
    quiet: bool,
) -> None:
    from pipelines.artifacts.workspace import Workspace
    from pipelines.interchange.config import ExportConfig

    options.check_choice("--format", format_, tuple(formats))
    module, _, function = formats[format_].partition(".")
    export: Any = getattr(import_module(f"{_PACKAGE}.{module}"), function)
    config = ExportConfig(reference=reference, output=output, overwrite=overwrite, tasks=tasks)
    reporter = ConsoleReporter(quiet)
    result = export(config, Workspace.resolve(workspace), reporter)
    reporter.end()
    if json:
        print_json(result.report)
        return
    if not quiet:
        files = result.report["files"]
        print_table(
            [{"file": each["path"], "size": size_text(each["bytes"])} for each in files[:50]],
            notes=[f"and {len(files) - 50} more"] if len(files) > 50 else [],
        )
    print_text(f"exported: {result.report['exported']} to {result.output}")
