"""``vintix import``: checkpoints and data of others into artifacts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from vintix_cli import options
from vintix_cli.help import Command, Group, examples
from vintix_cli.render import ConsoleReporter, print_table
from vintix_cli.stages import Settings, tell

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


def _config(kind: str) -> Any:
    from pipelines.interchange import config

    return getattr(config, f"Import{kind}Config")


@app.command(
    "checkpoint",
    cls=Command,
    epilog=examples(
        "vintix import checkpoint released/checkpoint",
        "vintix import checkpoint shared/model --name shared --json",
    ),
)
@options.configured(lambda: _config("Checkpoint"))
def checkpoint(
    settings: Settings,
    workspace: options.Workspace = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Import a model, to roll out on the tasks that are known; nothing but tensors is unpickled."""
    from pipelines.artifacts.workspace import Workspace
    from pipelines.interchange.checkpoints import import_checkpoint

    reporter = ConsoleReporter(quiet)
    config = _config("Checkpoint")(**settings)
    result = import_checkpoint(config, Workspace.resolve(workspace), reporter)
    tell(result, reporter, json=json, quiet=quiet, show=_show)


@app.command(
    "dataset",
    cls=Command,
    epilog=examples(
        "vintix import dataset released/data",
        "vintix import dataset released/data --as dataset --order official",
    ),
)
@options.configured(lambda: _config("Dataset"))
def dataset(
    settings: Settings,
    workspace: options.Workspace = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Import learning histories, group by group; run it again to go on after an interruption."""
    from pipelines.artifacts.workspace import Workspace
    from pipelines.interchange.official_dataset import import_dataset

    options.check_choices(_config("Dataset"), settings)
    reporter = ConsoleReporter(quiet)
    config = _config("Dataset")(**settings)
    result = import_dataset(config, Workspace.resolve(workspace), reporter)
    tell(result, reporter, json=json, quiet=quiet, show=_show)


def _show(result: StageResult) -> None:
    print_table(
        [
            {key: value for key, value in row.items() if not isinstance(value, dict)}
            for row in result.report["tasks"]
        ]
    )
