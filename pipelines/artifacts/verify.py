"""Verifying an artifact: every file against the manifest, and on request every number."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.artifacts import files
from pipelines.artifacts.artifact import Artifact
from pipelines.artifacts.schema import DATA, MANIFEST, FileEntry
from pipelines.artifacts.staging import incomplete_arrays, metadata_files
from pipelines.errors import (
    ArtifactCorruptError,
    ArtifactError,
    ArtifactMissingError,
    StorageError,
)
from pipelines.reporter import NullReporter, Reporter

if TYPE_CHECKING:
    import zarr
    from numpy.typing import NDArray

_EPISODE_START = "episode_start"
_EPISODE_LENGTH = "episode_length"
# Any of these gives the number of steps that the episodes of a group index into.
_STEP_ARRAYS = ("reward", "observation", "action")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: in a file, or an array inside of ``data.zarr``."""

    path: str
    expected: str
    found: str

    def as_dict(self) -> dict[str, str]:
        """Return the problem as a JSON object."""
        return asdict(self)


def verify(
    artifact: Artifact | Path, *, deep: bool = False, reporter: Reporter | None = None
) -> list[Problem]:
    """Compare an artifact with its manifest.

    Args:
        artifact: The artifact, or the directory of one that may be too damaged to open.
        deep: Also decode every array, look for NaN and infinity, for chunks that the manifest
            does not have, and check that episodes lie inside of their rows, in order.

    Returns:
        Each missing, altered or unlisted file, and with `deep` each array that is wrong.

    Raises:
        ArtifactMissingError: There is no such directory.
        StorageError: A file cannot be read now, which says nothing of its bytes.
    """
    reporter = reporter or NullReporter()
    path = artifact.path if isinstance(artifact, Artifact) else artifact.absolute()
    if not path.is_dir():
        raise ArtifactMissingError("no artifact here", where=path, fix="vintix artifacts ls")
    try:
        # Read again: an open artifact knows its manifest as it was.
        artifact = Artifact(path)
    except ArtifactError as error:
        return [Problem(MANIFEST, error.expected or "a manifest", error.found or error.message)]
    problems = [*_check_files(artifact, reporter), *_unlisted(artifact)]
    if deep:
        problems += _check_arrays(artifact, {problem.path for problem in problems}, reporter)
    return problems


def _check_files(artifact: Artifact, reporter: Reporter) -> Iterator[Problem]:
    entries = artifact.manifest.files
    total = sum(entry.size for entry in entries.values())
    with reporter.progress(f"verify {artifact.kind}/{artifact.reference}", total, "B") as progress:
        hashed = files.hash_files(
            (artifact.path / relative, entry.size) for relative, entry in entries.items()
        )
        for (relative, entry), record in zip(entries.items(), hashed, strict=True):
            progress.advance(entry.size)
            if isinstance(record, OSError):
                found = files.instead_of_file(record, artifact.path / relative)
                yield Problem(relative, _describe(entry), found)
            elif (record.size, record.sha256) != (entry.size, entry.sha256):
                yield Problem(relative, _describe(entry), _describe(record))


def _unlisted(artifact: Artifact) -> Iterator[Problem]:
    for relative in files.list_files(artifact.path):
        if relative != MANIFEST and relative not in artifact.manifest.files:
            found = "a file that the manifest does not list"
            try:
                files.check_file(artifact.path / relative)
            except files.UnfitFileError as error:
                found = f"{error.strerror}; the manifest does not list it"
            yield Problem(relative, "nothing", found)


def _describe(record: FileEntry | files.FileRecord) -> str:
    return f"{record.size:,} bytes with SHA-256 {record.sha256[:16]}..."


def _check_arrays(artifact: Artifact, damaged: set[str], reporter: Reporter) -> Iterator[Problem]:
    import zarr

    nodes = metadata_files(artifact.manifest.files)
    metadata = [path for path in nodes if path not in damaged]
    readable = artifact.manifest.files.keys() - (damaged.intersection(nodes))
    for array, chunks, found_chunks in incomplete_arrays(artifact.path, readable):
        yield Problem(array, f"{chunks} chunks", f"{found_chunks} chunks in the manifest")
    with reporter.progress("decode arrays", len(metadata), "nodes") as progress:
        for path in metadata:
            progress.advance(1)
            node_path = path.removeprefix(f"{DATA}/").removesuffix("zarr.json").rstrip("/")
            try:
                node = artifact.root if not node_path else artifact.root[node_path]
                if isinstance(node, zarr.Array):
                    yield from _scan(node, f"{DATA}/{node_path}")
                else:
                    yield from _check_episodes(node, f"{DATA}/{node_path}".rstrip("/"))
            except ArtifactCorruptError as error:
                named = str(Path(error.where or path).relative_to(artifact.path))
                if named not in damaged:
                    yield Problem(named, error.expected or "", error.found or error.message)
            except StorageError:
                raise
            except Exception as error:
                # Whatever Zarr and its codecs raise at bytes that they cannot decode.
                yield Problem(path, "what Zarr can decode", f"{type(error).__name__}: {error}")


def _scan(array: zarr.Array[Any], path: str) -> Iterator[Problem]:
    """Decode an array chunk by chunk and count what is not finite."""
    import numpy as np

    checked = np.issubdtype(array.dtype, np.inexact)
    chunks = (
        (
            slice(start, start + array.chunks[0])
            for start in range(0, array.shape[0], array.chunks[0])
        )
        if array.shape
        else [...]
    )
    bad = 0
    for chunk in chunks:
        values = np.asarray(array[chunk])
        if checked:
            bad += int(values.size - np.count_nonzero(np.isfinite(values)))
    if bad:
        yield Problem(path, "finite numbers", f"{bad:,} NaN or infinite of {array.size:,}")


def _check_episodes(group: zarr.Group, path: str) -> Iterator[Problem]:
    """Check the episodes of a trajectory's group, or of a task's, whose trajectories share it."""
    import numpy as np
    import zarr

    starts_array = group.get(_EPISODE_START)
    steps = next((node for name in _STEP_ARRAYS if (node := group.get(name)) is not None), None)
    if not isinstance(starts_array, zarr.Array) or not isinstance(steps, zarr.Array):
        return
    starts, rows = np.asarray(starts_array[...]), steps.shape[0]
    lengths_array = group.get(_EPISODE_LENGTH)
    lengths = np.asarray(lengths_array[...]) if isinstance(lengths_array, zarr.Array) else None
    if starts.ndim != 1:
        where = f"{path}/{_EPISODE_START}"
        yield Problem(where, "one row number an episode", f"shape {starts.shape}, {starts[:1]}")
        return
    if group.get("trajectory_start") is None:
        yield from _check_trajectory(starts, lengths, rows, path, 0)
        return
    names = ("start", "length", "episodes")
    first, count, episodes = (np.asarray(group[f"trajectory_{name}"][...]) for name in names)  # type: ignore[index]
    beyond = np.flatnonzero((first < 0) | (first + count > rows))
    if beyond.size or int(episodes.sum()) != len(starts):
        yield Problem(
            f"{path}/trajectory_start",
            f"trajectories within {rows:,} rows and {len(starts):,} episodes",
            f"trajectory {int(beyond[0])} beyond them" if beyond.size else f"{episodes.sum():,}",
        )
        return
    for end, number, total in zip(np.cumsum(episodes), episodes, count, strict=True):
        own = slice(int(end - number), int(end))
        mine = None if lengths is None else lengths[own]
        yield from _check_trajectory(starts[own], mine, int(total), path, own.start)


def _check_trajectory(
    starts: NDArray[Any], lengths: NDArray[Any] | None, rows: int, path: str, first: int
) -> Iterator[Problem]:
    """Check that the episodes of a trajectory lie inside of its rows, in order.

    Args:
        first: Number of the trajectory's first episode in them.
    """
    import numpy as np

    where = f"{path}/{_EPISODE_START}"
    if starts.size and int(starts[0]) < 0:
        yield Problem(where, "one row number an episode", f"shape {starts.shape}, {starts[:1]}")
        return
    descents = np.flatnonzero(np.diff(starts) <= 0)
    if descents.size:
        number = first + int(descents[0]) + 1
        yield Problem(where, "ascending rows", f"episode {number} starts too early")
    if starts.size and int(starts.max()) >= rows:
        yield Problem(where, f"rows below {rows:,}", f"row {int(starts.max()):,}")
    if lengths is not None and not descents.size:
        ends, limits = starts + lengths, np.append(starts[1:], rows)
        wrong = np.flatnonzero(ends > limits)
        if wrong.size:
            episode = int(wrong[0])
            yield Problem(
                f"{path}/{_EPISODE_LENGTH}",
                f"episode {first + episode} to end by row {int(limits[episode]):,}",
                f"row {int(ends[episode]):,}",
            )
