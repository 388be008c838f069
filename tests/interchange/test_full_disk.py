"""A full disk is told as such, and leaves nothing behind."""

from __future__ import annotations

import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from pipelines.artifacts.workspace import Workspace
from pipelines.errors import StorageError
from pipelines.interchange.config import ExportConfig, ImportCheckpointConfig, ImportDatasetConfig
from pipelines.reporter import NullReporter

from .support import task, write_official

REPORTER = NullReporter()
USAGE = namedtuple("USAGE", "total used free")


@pytest.fixture
def checkpoint(workspace: Workspace, tmp_path: Path) -> Workspace:
    from pipelines.interchange.checkpoints import import_checkpoint

    folder = write_official(tmp_path / "released", {"a": task(3, 2, "g")})
    import_checkpoint(ImportCheckpointConfig(path=folder), workspace, REPORTER)
    return workspace


def test_safetensors_tells_what_its_library_only_says_in_words(
    checkpoint: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors import SafetensorError

    from pipelines.interchange.safetensors_checkpoint import export_safetensors

    def refuse(*_: object, **__: object) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("safetensors.torch.save_file", refuse)
    with pytest.raises(StorageError, match=r"(?s)No space left.*make room"):
        export_safetensors(ExportConfig(output=tmp_path / "out"), checkpoint, REPORTER)
    assert not [path for path in tmp_path.iterdir() if "out" in path.name]


def test_what_a_library_does_not_tell_is_seen(
    checkpoint: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyTorch raises a RuntimeError about a position in the file."""
    from pipelines.interchange.official_checkpoint import export_official

    def refuse(*_: object) -> None:
        raise RuntimeError("unexpected pos 2000576 vs 2000528")

    monkeypatch.setattr("torch.save", refuse)
    config = ExportConfig(output=tmp_path / "out")
    with pytest.raises(StorageError, match="unexpected pos"):
        export_official(config, checkpoint, REPORTER)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: USAGE(1, 1, 0))
    with pytest.raises(StorageError, match="No space left"):
        export_official(config, checkpoint, REPORTER)


def test_hdf5_is_not_begun_without_room(
    workspace: Workspace, conformance: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library may crash on a full disk."""
    pytest.importorskip("h5py", reason="the extra h5 is not installed")
    from pipelines.interchange.official_dataset import export_dataset, import_dataset

    config = ImportDatasetConfig(path=conformance / "dataset", as_kind="dataset")
    import_dataset(config, workspace, REPORTER)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: USAGE(10**6, 0, 10**5))
    with pytest.raises(StorageError, match="room for"):
        export_dataset(ExportConfig(output=tmp_path / "out"), workspace, REPORTER)
    assert not [path for path in tmp_path.iterdir() if "out" in path.name]
