"""What lies where a file should is told apart before it is opened, by everyone who reads."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import zarr

from pipelines.artifacts import files
from pipelines.artifacts.artifact import Artifact
from pipelines.artifacts.listing import list_artifacts, list_staged, show_artifact
from pipelines.artifacts.schema import MANIFEST
from pipelines.artifacts.verify import verify
from pipelines.artifacts.workspace import Workspace
from pipelines.errors import ArtifactCorruptError, ArtifactError

from .helpers import run_tiny
from .hostile import HOSTILE, bounded, called, copy

CHUNK = "data.zarr/toy/00000/reward/c/0"
METADATA = "data.zarr/toy/00000/reward/zarr.json"
LOG = "log/timing.jsonl"
GOLDEN = Path(__file__).parent / "golden"

hostile = pytest.mark.parametrize("name", HOSTILE)


@pytest.fixture(scope="module")
def intact(tmp_path_factory):
    return run_tiny(tmp_path_factory.mktemp("intact")).path


def put(name, path):
    """Put the hostile thing in the place of a file; return what it has to be called."""
    HOSTILE[name][0](path)
    return called(name, path)


def read_all(artifact):
    """Read everything that the manifest lists, the way the readers do."""
    for relative in artifact.manifest.files:
        artifact.read_file(relative)
        artifact.file(relative)
    for path, node in artifact.root.members(max_depth=None):
        if isinstance(node, zarr.Array):
            artifact.read(path)


@hostile
def test_a_file_is_opened_only_if_it_is_one(tmp_path, name):
    """The one door: no pipe hangs it, no giant fills it, no link leads it away."""
    path = tmp_path / "file"
    path.write_bytes(b"bytes")
    assert files.read_file(path) == files.read_file(path, 5) == b"bytes"
    found = put(name, path)
    with bounded():
        for read in (files.check_file, files.open_file, files.read_file):
            for size in (None, 5):
                with pytest.raises(files.UnfitFileError) as caught:
                    read(path, size)
                assert found in caught.value.strerror
        with pytest.raises(files.UnfitFileError):
            files.hash_file(path, 5)


def test_a_file_of_another_size_is_not_read(tmp_path):
    """Less is as wrong as more."""
    path = tmp_path / "file"
    path.write_bytes(b"bytes")
    for size in (4, 6):
        with pytest.raises(files.UnfitFileError, match="5 bytes"):
            files.read_file(path, size)


@hostile
@pytest.mark.parametrize("relative", [MANIFEST, CHUNK, METADATA, LOG])
def test_verify_and_readers_name_what_is_there(tmp_path, intact, name, relative):
    """The problem's path is the file's, and what was found is said in words."""
    path = copy(intact, tmp_path / "histories/tiny/v1")
    found = put(name, path / relative)
    with bounded():
        problems = {
            problem.path: problem.found
            for deep in (False, True)
            for problem in verify(path, deep=deep)
        }
        assert found in problems[relative]
        with pytest.raises(ArtifactCorruptError) as caught:
            read_all(Artifact(path))
        assert found in str(caught.value.found)
        assert caught.value.where == str(path / relative)


def test_a_link_in_the_place_of_a_directory_is_named(tmp_path, intact):
    """Its files have the right bytes, and still are not the artifact's."""
    path = copy(intact, tmp_path / "histories/tiny/v1")
    (path / "data.zarr").rename(tmp_path / "elsewhere")
    (path / "data.zarr").symlink_to(tmp_path / "elsewhere")
    (problem,) = verify(path)
    assert problem.path == "data.zarr" and "symbolic link" in problem.found


@hostile
def test_a_hostile_manifest_is_listed_and_never_taken_for_nothing(tmp_path, intact, name):
    """`ls` shows the version as damaged; a stage does not silently take an older one."""
    copy(intact, tmp_path / "histories/tiny/v1")
    path = copy(intact, tmp_path / "histories/tiny/v2")
    found = put(name, path / MANIFEST)
    workspace = Workspace(tmp_path)
    with bounded():
        assert [bool(row["damaged"]) for row in list_artifacts(workspace)] == [False, True]
        assert found in list_artifacts(workspace)[1]["damaged"]
        for reference in (None, "tiny", "tiny@v2"):
            with pytest.raises(ArtifactCorruptError, match="manifest"):
                workspace.find("histories", reference)
        with pytest.raises(ArtifactCorruptError):
            show_artifact(path)


@hostile
def test_a_mapped_chunk_that_is_swapped_later_is_told_too(tmp_path, name, dataset=GOLDEN):
    """A checked file may be something else when it is mapped again."""
    from pipelines.datasets.reader import DatasetReader

    path = copy(dataset / "datasets/v1", tmp_path / "datasets/v1")
    reader = DatasetReader(Artifact(path), open_files=1)
    (task,) = reader.tasks
    reader.window(task, 0, 0, 1)
    reader._maps.clear()
    for chunk in path.glob(f"data.zarr/{task}/00000/observation/c/*/*"):
        found = put(name, chunk)
    with bounded(), pytest.raises(ArtifactCorruptError) as caught:
        reader.window(task, 0, 0, 1)
    assert found in str(caught.value.found)


@pytest.mark.slow
@hostile
@pytest.mark.parametrize("kind", sorted(path.name for path in GOLDEN.iterdir()))
def test_every_place_of_every_kind_of_artifact(tmp_path, kind, name):
    """The campaign: each file of a small artifact of each kind, each way of looking at it."""
    source = GOLDEN / kind / "v1"
    for number, relative in enumerate([MANIFEST, *Artifact(source).manifest.files]):
        root = tmp_path / str(number)
        path = copy(source, root / kind / "golden/v1")
        found = put(name, path / relative)
        workspace = Workspace(root)
        with bounded():
            for deep in (False, True):
                problems = [each for each in verify(path, deep=deep) if each.path == relative]
                assert problems and found in problems[0].found, (relative, problems)
            (row,) = list_artifacts(workspace)
            assert bool(row["damaged"]) == (relative == MANIFEST)
            list_staged(workspace)
            with pytest.raises(ArtifactError) as caught:
                read_all(workspace.find(kind, "golden"))
            assert found in str(caught.value.found), relative
        shutil.rmtree(root)
