"""Importing a checkpoint of whichever format a directory holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.errors import ArtifactMissingError
from pipelines.interchange import official_checkpoint, safetensors_checkpoint
from pipelines.interchange.checkpoint_files import publish_checkpoint
from pipelines.interchange.config import ImportCheckpointConfig
from pipelines.stage import StageResult

if TYPE_CHECKING:
    from pipelines.artifacts.workspace import Workspace
    from pipelines.reporter import Reporter


def import_checkpoint(
    config: ImportCheckpointConfig, workspace: Workspace, reporter: Reporter
) -> StageResult:
    """Import a checkpoint folder: the authors', or one in safetensors.

    Args:
        reporter: Told which of its tasks are not the catalogue's.

    Returns:
        The published checkpoint, which `vintix rollout` plays on the tasks that are known.

    Raises:
        ArtifactMissingError: There is no such folder, or a file is not there.
        ArtifactCorruptError: A file cannot be read, or the weights do not fit the configuration.
        UnsafeContentError: The weights hold more than tensors.
        ConfigError: The configuration cannot be translated.
        StorageError, LockedError: The workspace cannot be written.
    """
    folder = _folder(config.path)
    if (folder / safetensors_checkpoint.WEIGHTS).is_file():
        found = safetensors_checkpoint.read_safetensors(folder)
        names: tuple[str, ...] = safetensors_checkpoint.NAMES
    else:
        from pipelines.domains.registry import full_catalogue

        found = official_checkpoint.read_official(folder, full_catalogue())
        names = official_checkpoint.NAMES
    return publish_checkpoint(found, names, config.name, workspace, reporter)


def _folder(path: Path) -> Path:
    folder = path.expanduser().absolute()
    if not folder.is_dir():
        raise ArtifactMissingError(
            "there is no such directory",
            where=folder,
            expected="a directory with model.pth, config.json and metadata.json, or with "
            "model.safetensors and config.json",
            found="a file" if folder.exists() else "nothing",
            fix="give the checkpoint's directory",
        )
    return folder
