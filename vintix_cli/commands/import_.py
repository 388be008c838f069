"""``vintix import``: checkpoints and data of others into artifacts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vintix_cli import options, values
from vintix_cli.help import Command, Group, examples
from vintix_cli.render import ConsoleReporter, print_table
from vintix_cli.run import command
from vintix_cli.stages import tell

if TYPE_CHECKING:
    from pipelines.stage import StageResult

app = typer.Typer(
    help="Bring in checkpoints and data of the authors' release.",
    cls=Group,
    rich_markup_mode=None,
    epilog=examples(
        "vintix import checkpoint released/checkpoint", "vintix import dataset released/data"
    ),
)

_KINDS = ("histories", "dataset")
_ORDERS = ("natural", "official")
_Name = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Name of the artifact; default the directory's.",
        callback=options.check_name,
    ),
]


@app.command(
    "checkpoint",
    cls=Command,
    epilog=examples(
        "vintix import checkpoint released/checkpoint",
        "vintix import checkpoint shared/model --name shared --json",
    ),
)
@command
def checkpoint(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="DIRECTORY",
            help="Directory with model.pth, config.json and metadata.json, "
            "or with model.safetensors and config.json.",
        ),
    ],
    name: _Name = None,
    workspace: options.Workspace = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Import a model, to roll out on the tasks that are known; nothing but tensors is unpickled."""
    from pipelines.artifacts.workspace import Workspace
    from pipelines.interchange.checkpoints import import_checkpoint
    from pipelines.interchange.config import ImportCheckpointConfig

    reporter = ConsoleReporter(quiet)
    result = import_checkpoint(
        ImportCheckpointConfig(path=path, name=name),
        Workspace.resolve(workspace),
        reporter,
    )
    tell(result, reporter, json=json, quiet=quiet, show=_show)


@app.command(
    "dataset",
    cls=Command,
    epilog=examples(
        "vintix import dataset released/data",
        "vintix import dataset released/data --as dataset --order official",
    ),
)
@command
def dataset(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="DIRECTORY",
            help="Directory of the authors' HDF5 layout, or of one task in it.",
        ),
    ],
    as_: Annotated[
        str,
        typer.Option(
            "--as",
            help="histories, to be packed; or dataset, packed at once.",
            autocompletion=values.fixed(*_KINDS),
        ),
    ] = _KINDS[0],
    order: Annotated[
        str,
        typer.Option(
            help="Numbering of trajectories: natural, or official (10.h5 before 2.h5).",
            autocompletion=values.fixed(*_ORDERS),
        ),
    ] = _ORDERS[0],
    task: options.Tasks = None,
    name: _Name = None,
    workspace: options.Workspace = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Import learning histories, group by group; run it again to go on after an interruption."""
    from pipelines.artifacts.workspace import Workspace
    from pipelines.interchange.config import ImportDatasetConfig
    from pipelines.interchange.official_dataset import import_dataset

    options.check_choice("--as", as_, _KINDS)
    options.check_choice("--order", order, _ORDERS)
    config: Any = {"path": path, "as_kind": as_, "order": order, "name": name}
    reporter = ConsoleReporter(quiet)
    result = import_dataset(
        ImportDatasetConfig(**config, tasks=tuple(task or ())),
        Workspace.resolve(workspace),
        reporter,
    )
    tell(result, reporter, json=json, quiet=quiet, show=_show)


def _show(result: StageResult) -> None:
    print_table(
        [
            {key: value for key, value in row.items() if not isinstance(value, dict)}
            for row in result.report["tasks"]
        ]
    )
