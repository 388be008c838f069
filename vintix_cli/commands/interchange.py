"""``vintix import`` and ``vintix export``: artifacts from and into the formats of others."""

from __future__ import annotations

from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from vintix_cli.commands.stages import print_result
from vintix_cli.help import add, group
from vintix_cli.options import Settings, Work, check_choices, configured
from vintix_cli.render import picked, print_json, print_table, print_text, size_text

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


_CONFIG = "pipelines.interchange.config"


@add(
    import_app,
    "vintix import checkpoint released/checkpoint",
    "vintix import checkpoint shared/model --name shared --json",
    name="checkpoint",
)
@configured(f"{_CONFIG}:ImportCheckpointConfig")
def import_checkpoint(settings: Settings, work: Work) -> None:
    """Import a model, to roll out on the tasks that are known; nothing but tensors is unpickled."""
    from pipelines.interchange.checkpoints import import_checkpoint
    from pipelines.interchange.config import ImportCheckpointConfig

    config = ImportCheckpointConfig(**settings)
    print_result(import_checkpoint(config, work.space, work.reporter), work, show_import)


@add(
    import_app,
    "vintix import dataset released/data",
    "vintix import dataset released/data --as dataset --order official",
    name="dataset",
)
@configured(f"{_CONFIG}:ImportDatasetConfig")
def import_dataset(settings: Settings, work: Work) -> None:
    """Import learning histories, group by group; run it again to go on after an interruption."""
    from pipelines.interchange.config import ImportDatasetConfig
    from pipelines.interchange.official_dataset import import_dataset

    check_choices(ImportDatasetConfig, settings)
    config = ImportDatasetConfig(**settings)
    print_result(import_dataset(config, work.space, work.reporter), work, show_import)


def show_import(result: StageResult) -> None:
    """Print a line for each task that was imported."""
    rows = [
        {name: each for name, each in row.items() if not isinstance(each, dict)}
        for row in result.report["tasks"]
    ]
    # The keys of a manifest are sorted: who the row is about comes first.
    print_table([{**picked(row, "task"), **row} for row in rows])


FORMATS = {
    "checkpoint": {
        "official": "official_checkpoint:export_official",
        "safetensors": "safetensors_checkpoint:export_safetensors",
    },
    "dataset": {"official": "official_dataset:export_dataset", "minari": "minari:export_packed"},
    "histories": {"minari": "minari:export_minari"},
}
"""What writes each format, as text: help is not to import torch."""


@add(
    export_app,
    "vintix export checkpoint quickstart --format official --output exported",
    "vintix export checkpoint quickstart --format safetensors --output exported --json",
    name="checkpoint",
)
@configured(f"{_CONFIG}:ExportCheckpointConfig")
def export_checkpoint(settings: Settings, work: Work) -> None:
    """Write a model for the authors' code, or as safetensors."""
    _export("checkpoint", settings, work)


@add(
    export_app,
    "vintix export dataset quickstart --format official --output exported",
    "vintix export dataset quickstart --format minari --task reach --output minari",
    name="dataset",
)
@configured(f"{_CONFIG}:ExportDatasetConfig")
def export_dataset(settings: Settings, work: Work) -> None:
    """Write a dataset in the layout that the authors' loader reads, or as Minari datasets."""
    _export("dataset", settings, work)


@add(
    export_app,
    "vintix export histories metaworld --format minari --output minari",
    "vintix export histories mujoco@v2 --task hopper --output minari --json",
    name="histories",
)
@configured(f"{_CONFIG}:ExportHistoriesConfig")
def export_histories(settings: Settings, work: Work) -> None:
    """Write learning histories as Minari datasets, with nothing lost."""
    _export("histories", settings, work)


def _export(kind: str, settings: Settings, work: Work) -> None:
    model: Any = resolve_name(f"{_CONFIG}:Export{kind.capitalize()}Config")
    check_choices(model, settings)
    config = model(**settings)
    export: Any = resolve_name(f"pipelines.interchange.{FORMATS[kind][config.format]}")
    report = export(config, work.space, work.reporter)
    work.reporter.end()
    if work.json:
        print_json(report)
        return
    if not work.quiet:
        files = report["files"]
        print_table(
            [{"file": each["path"], "size": size_text(each["bytes"])} for each in files[:50]],
            notes=[f"and {len(files) - 50} more"] if len(files) > 50 else [],
        )
    print_text(f"exported: {report['exported']} to {report['output']}")
