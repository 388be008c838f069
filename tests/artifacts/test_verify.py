"""Damage of every kind is named by `verify`, and never read as data."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.artifacts.arrays import create_rows, write_array
from pipelines.artifacts.artifact import Artifact
from pipelines.artifacts.schema import MANIFEST, dump_manifest, seal
from pipelines.artifacts.verify import Problem, verify
from pipelines.artifacts.workspace import Workspace
from pipelines.errors import ArtifactCorruptError, ArtifactError, ArtifactMissingError
from pipelines.reporter import NullReporter

from .helpers import run_tiny

CHUNK = "data.zarr/toy/00000/observation/c/1/0"
MAPPED_CHUNK = "data.zarr/toy/00000/reward/c/1"
ARRAY = "data.zarr/toy/00000/reward/zarr.json"
GROUP = "data.zarr/toy/zarr.json"
ROOT = "data.zarr/zarr.json"
LOG = "log/timing.jsonl"


def _read(artifact, relative):
    """Read a file the way its readers do."""
    if relative == LOG:
        artifact.read_file(relative)
    elif relative == GROUP:
        artifact.group("toy").attrs.asdict()
    else:
        artifact.read(
            relative.removeprefix("data.zarr/").split("/c/")[0].removesuffix("/zarr.json")
        )


def _flip(data):
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 0x10]) + data[middle + 1 :]


DAMAGES = {
    "flipped": _flip,
    "truncated": lambda data: data[:-1],
    "emptied": lambda data: b"",
    "longer": lambda data: data + b"\0",
    "missing": None,
    "a directory": None,
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("relative", [CHUNK, MAPPED_CHUNK, ARRAY, GROUP, LOG])
def test_damaged_file_is_named_and_never_read(tmp_path, relative, damage):
    artifact = run_tiny(tmp_path)
    path = artifact.path / relative
    intact = path.read_bytes()
    path.unlink()
    if damage == "a directory":
        path.mkdir()
    elif DAMAGES[damage]:
        path.write_bytes(DAMAGES[damage](intact))
    for deep in (False, True):
        problems = verify(artifact, deep=deep)
        assert [problem.path for problem in problems] == [relative]
        assert problems[0].expected.startswith(f"{len(intact):,} bytes")
        assert problems[0].found != problems[0].expected
    for access in (_read, Artifact.file, Artifact.read_file):
        with pytest.raises(ArtifactCorruptError) as caught:
            access(Artifact(artifact.path), relative)
        assert caught.value.exit_code == 4
        assert caught.value.where == str(path)
        assert caught.value.fix == "vintix artifacts verify histories/tiny@v1"
    path.rmdir() if damage == "a directory" else path.unlink(missing_ok=True)
    path.write_bytes(intact)
    assert verify(artifact, deep=True) == []


@pytest.mark.parametrize("relative", [ROOT, MANIFEST])
def test_damaged_root_or_manifest(tmp_path, relative):
    """Where nothing can be opened, the one file is named and reading fails."""
    artifact = run_tiny(tmp_path)
    path = artifact.path / relative
    path.write_bytes(_flip(path.read_bytes()))
    assert {problem.path for problem in verify(artifact, deep=True)} == {relative}
    assert {problem.path for problem in verify(artifact.path)} == {relative}
    with pytest.raises(ArtifactError):
        Workspace(tmp_path).find("histories").read("toy/00000/reward")


def test_missing_manifest_is_a_problem(tmp_path):
    artifact = run_tiny(tmp_path)
    (artifact.path / MANIFEST).unlink()
    (problem,) = verify(artifact.path)
    assert problem.path == MANIFEST


def test_missing_directory_is_an_error(tmp_path):
    with pytest.raises(ArtifactMissingError):
        verify(tmp_path / "nothing")


def test_unlisted_file_is_named_and_not_read(tmp_path):
    """An array that someone put into a published hierarchy is not part of it."""
    artifact = run_tiny(tmp_path)
    for extra in ("note.txt", "data.zarr/toy/extra/zarr.json", "data.zarr/toy/00000/reward/c/9"):
        (artifact.path / extra).parent.mkdir(parents=True, exist_ok=True)
        (artifact.path / extra).write_bytes((artifact.path / ARRAY).read_bytes())
    problems = verify(artifact)
    assert [problem.path for problem in problems] == [
        "data.zarr/toy/00000/reward/c/9",
        "data.zarr/toy/extra/zarr.json",
        "note.txt",
    ]
    assert list(Artifact(artifact.path).group("toy")) == ["00000"]
    with pytest.raises(ArtifactCorruptError):
        Artifact(artifact.path).file("note.txt")


def test_several_problems_are_all_named(tmp_path):
    artifact = run_tiny(tmp_path)
    for relative in (CHUNK, ARRAY, LOG):
        (artifact.path / relative).write_bytes(b"")
    (artifact.path / "extra").touch()
    assert {problem.path for problem in verify(artifact, deep=True)} == {CHUNK, ARRAY, LOG, "extra"}


def _publish(root, fill):
    with Workspace(root).stage("histories", "odd", config={}) as staging:
        with staging.work_item("all") as item:
            fill(item.group("task/00000"))
        return staging.publish(summary={})


def _deep(root, fill):
    artifact = _publish(root, fill)
    assert verify(artifact) == []
    return verify(artifact, deep=True)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_deep_finds_numbers_that_are_not_finite(tmp_path, value, dtype):
    def fill(group):
        rows = np.zeros((7, 2), dtype=dtype)
        rows[5, 1] = value
        create_rows(group, "observation", rows.shape, dtype, chunk_rows=3)[:] = rows

    assert _deep(tmp_path, fill) == [
        Problem("data.zarr/task/00000/observation", "finite numbers", "1 NaN or infinite of 14")
    ]


def test_deep_finds_a_scalar_that_is_not_finite(tmp_path):
    problems = _deep(tmp_path, lambda group: write_array(group, "x", np.array(np.nan)))
    assert [problem.path for problem in problems] == ["data.zarr/task/00000/x"]


@pytest.mark.parametrize(
    ("starts", "lengths", "wrong"),
    [
        ([0, 4], [4, 2], None),
        ([0, 4], None, None),
        ([], [], None),
        ([0, 4], [4, 3], "episode_length"),
        ([0, 4], [5, 2], "episode_length"),
        ([0, 4, 4], None, "episode_start"),
        ([4, 0], [2, 4], "episode_start"),
        ([0, 6], None, "episode_start"),
        ([-1, 3], None, "episode_start"),
    ],
)
def test_deep_checks_episodes(tmp_path, starts, lengths, wrong):
    """Episodes begin in ascending order, inside of the rows, and do not overlap."""

    def fill(group):
        write_array(group, "reward", np.zeros(6, dtype=np.float32))
        write_array(group, "episode_start", np.array(starts, dtype=np.int64))
        if lengths is not None:
            write_array(group, "episode_length", np.array(lengths, dtype=np.int32))

    problems = _deep(tmp_path, fill)
    expected = [f"data.zarr/task/00000/{wrong}"] if wrong else []
    assert [problem.path for problem in problems] == expected


def _rewrite(artifact, relative, data):
    """Change a file and make the manifest agree, as a faulty writer would have."""
    import hashlib

    (artifact.path / relative).write_bytes(data)
    fields = artifact.manifest.model_dump(exclude={"digest", "checksum"})
    entry = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest(), "log": False}
    fields["files"][relative] = entry
    (artifact.path / MANIFEST).write_bytes(dump_manifest(seal(fields)))


def test_deep_finds_what_cannot_be_decoded(tmp_path):
    artifact = run_tiny(tmp_path)
    _rewrite(artifact, CHUNK, b"this is not zstd")
    assert verify(artifact.path) == []
    problems = verify(artifact.path, deep=True)
    assert [problem.path for problem in problems] == ["data.zarr/toy/00000/observation/zarr.json"]


def test_deep_finds_lost_chunks(tmp_path):
    """Zarr reads a chunk that is not there as zeros; an array of ours has every chunk."""
    artifact = run_tiny(tmp_path)
    fields = artifact.manifest.model_dump(exclude={"digest", "checksum"})
    del fields["files"][MAPPED_CHUNK]
    (artifact.path / MAPPED_CHUNK).unlink()
    (artifact.path / MANIFEST).write_bytes(dump_manifest(seal(fields)))
    assert verify(artifact.path) == []
    assert verify(artifact.path, deep=True) == [
        Problem("data.zarr/toy/00000/reward", "3 chunks", "2 chunks in the manifest")
    ]


class _Counting(NullReporter):
    def __init__(self):
        super().__init__()
        self.totals = []

    def progress(self, label, total, item=""):
        self.totals.append((total, item))
        return super().progress(label, total, item)


def test_progress_is_reported_in_bytes(tmp_path):
    artifact = run_tiny(tmp_path)
    reporter = _Counting()
    verify(artifact, reporter=reporter)
    expected = sum(entry.size for entry in artifact.manifest.files.values())
    assert reporter.totals == [(expected, "B")]


def test_problem_is_json():
    problem = Problem("a", "b", "c")
    assert problem.as_dict() == {"path": "a", "expected": "b", "found": "c"}


@pytest.mark.parametrize(
    ("starts", "counts", "path", "found"),
    [
        ([0, 3, 0, 2], [2, 2], None, None),
        ([0, 3, 0, 0], [2, 2], "episode_start", "episode 3 starts too early"),
        ([0, 3, 0, 5], [2, 2], "episode_start", "row 5"),
        ([0, 3, 0, 2], [2, 1], "trajectory_start", "3"),
    ],
)
def test_deep_checks_the_episodes_of_trajectories_that_share_arrays(
    tmp_path, starts, counts, path, found
):
    """Episodes count the steps of their own trajectory: two of five rows each."""

    def fill(group):
        write_array(group, "reward", np.zeros(10, np.float32))
        write_array(group, "episode_start", np.array(starts))
        table = {"start": [0, 5], "length": [5, 5], "episodes": counts}
        for name, values in table.items():
            write_array(group, f"trajectory_{name}", np.array(values))

    problems = [(problem.path, problem.found) for problem in _deep(tmp_path, fill)]
    assert problems == ([] if path is None else [(f"data.zarr/task/00000/{path}", found)])
