"""``vintix import`` and ``vintix export``: artifacts from and into the formats of others."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vintix_cli import values
from vintix_cli.commands.stages import print_result
from vintix_cli.help import add, group
from vintix_cli.options import (
    Settings,
    Tasks,
    Work,
    check_choice,
    check_choices,
    command,
    configured,
)
from vintix_cli.render import print_json, print_table, print_text, size_text

if TYPE_CHECKING:
    from pipelines.stage import StageResult

import_app = group(
    "Bring in checkpoints and data of the authors' release.",
    "vintix import checkpoint released/checkpoint",
    "vintix import dataset released/data",
)
export_app = group(
    "Write checkpoints, datasets and histories in other formats.",
    "vintix export checkpoint quickstart --format official --output exported",
    "vintix export histories metaworld --format minari --output minari",
)


def _config(name: str) -> Any:
    from pipelines.interchange import config

    return getattr(config, name)


@add(
    import_app,
    "vintix import checkpoint released/checkpoint",
    "vintix import checkpoint shared/model --name shared --json",
    name="checkpoint",
)
@configured(lambda: _config("ImportCheckpointConfig"))
def import_checkpoint(settings: Settings, work: Work) -> None:
    """Import a model, to roll out on the tasks that are known; nothing but tensors is unpickled."""
    from pipelines.interchange.checkpoints import import_checkpoint

    config = _config("ImportCheckpointConfig")(**settings)
    print_result(import_checkpoint(config, work.space, work.reporter), work, show_import)


@add(
    import_app,
    "vintix import dataset released/data",
    "vintix import dataset released/data --as dataset --order official",
    name="dataset",
)
@configured(lambda: _config("ImportDatasetConfig"))
def import_dataset(settings: Settings, work: Work) -> None:
    """Import learning histories, group by group; run it again to go on after an interruption."""
    from pipelines.interchange.official_dataset import import_dataset

    model = _config("ImportDatasetConfig")
    check_choices(model, settings)
    print_result(import_dataset(model(**settings), work.space, work.reporter), work, show_import)


def show_import(result: StageResult) -> None:
    """Print a line for each task that was imported."""
    tasks = result.report["tasks"]
    print_table(
        [{key: each for key, each in row.items() if not isinstance(each, dict)} for row in tasks]
    )


FORMATS = {
    "checkpoint": {
        "official": "official_checkpoint.export_official",
        "safetensors": "safetensors_checkpoint.export_safetensors",
    },
    "dataset": {"official": "official_dataset.export_dataset", "minari": "minari.export_packed"},
    "histories": {"minari": "minari.export_minari"},
}
"""What writes each format, as text: help is not to import torch."""


def _reference(kind: str) -> Any:
    return typer.Argument(
        metavar="ARTIFACT",
        help="NAME, NAME@v3 or a path; default the newest.",
        autocompletion=values.artifacts(kind),
    )


def _format(kind: str, text: str) -> Any:
    return typer.Option("--format", help=text, autocompletion=values.fixed(*FORMATS[kind]))


_Output = Annotated[
    Path, typer.Option("--output", "-O", metavar="DIRECTORY", help="Directory to write.")
]
_Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace an earlier export in the directory.")
]


@add(
    export_app,
    "vintix export checkpoint quickstart --format official --output exported",
    "vintix export checkpoint quickstart --format safetensors --output exported --json",
    name="checkpoint",
)
@command
def export_checkpoint(
    work: Work,
    reference: Annotated[str | None, _reference("checkpoints")] = None,
    format_: Annotated[str, _format("checkpoint", "official: the authors' folder.")] = "official",
    output: _Output = Path("checkpoint"),
    overwrite: _Overwrite = False,
) -> None:
    """Write a model for the authors' code, or as safetensors."""
    _export("checkpoint", work, format_, reference=reference, output=output, overwrite=overwrite)


@add(
    export_app,
    "vintix export dataset quickstart --format official --output exported",
    "vintix export dataset quickstart --format minari --task reach --output minari",
    name="dataset",
)
@command
def export_dataset(
    work: Work,
    reference: Annotated[str | None, _reference("datasets")] = None,
    format_: Annotated[
        str,
        _format("dataset", "official: HDF5, as the authors' release; minari: one dataset a task."),
    ] = "official",
    output: _Output = Path("dataset"),
    overwrite: _Overwrite = False,
    task: Tasks = None,
) -> None:
    """Write a dataset in the layout that the authors' loader reads, or as Minari datasets."""
    _export("dataset", work, format_, task, reference=reference, output=output, overwrite=overwrite)


@add(
    export_app,
    "vintix export histories metaworld --format minari --output minari",
    "vintix export histories mujoco@v2 --task hopper --output minari --json",
    name="histories",
)
@command
def export_histories(
    work: Work,
    reference: Annotated[str | None, _reference("histories")] = None,
    format_: Annotated[str, _format("histories", "minari: one Minari dataset a task.")] = "minari",
    output: _Output = Path("histories"),
    overwrite: _Overwrite = False,
    task: Tasks = None,
) -> None:
    """Write learning histories as Minari datasets, with nothing lost."""
    _export(
        "histories", work, format_, task, reference=reference, output=output, overwrite=overwrite
    )


def _export(
    kind: str, work: Work, format_: str, tasks: list[str] | None = None, **settings: Any
) -> None:
    formats: Mapping[str, str] = FORMATS[kind]
    check_choice("--format", format_, tuple(formats))
    module, _, function = formats[format_].partition(".")
    export: Any = getattr(import_module(f"pipelines.interchange.{module}"), function)
    config = _config("ExportConfig")(**settings, tasks=tuple(tasks or ()))
    result = export(config, work.space, work.reporter)
    work.reporter.end()
    if work.json:
        print_json(result.report)
        return
    if not work.quiet:
        files = result.report["files"]
        print_table(
            [{"file": each["path"], "size": size_text(each["bytes"])} for each in files[:50]],
            notes=[f"and {len(files) - 50} more"] if len(files) > 50 else [],
        )
    print_text(f"exported: {result.report['exported']} to {result.output}")
