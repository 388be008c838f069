"""What is published of staged work: the list of its files, checked to be whole."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pipelines.artifacts import files
from pipelines.artifacts.schema import DATA, FileEntry
from pipelines.artifacts.unit import LOG, SCRATCH, group_key, group_metadata, parent_groups
from pipelines.errors import ArtifactCorruptError

_CHUNK = re.compile(r"(.+)/c((?:/\d+)*)")


def assemble(directory: Path, records: Mapping[str, dict[str, Any]]) -> dict[str, FileEntry]:
    """List the files to publish, and write the metadata of groups that no unit owns.

    Args:
        directory: The staging directory.
        records: Record by durable unit.

    Raises:
        ArtifactCorruptError: A file of a durable unit is gone, two units wrote one file, or an
            array lacks chunks.
        StorageError: The file system refused.
    """
    listed: dict[str, FileEntry] = {}
    owner: dict[str, str] = {}
    for unit, record in records.items():
        for path, written in record["files"].items():
            if path.startswith(f"{SCRATCH}/"):
                continue
            entry = FileEntry(**written, log=path.startswith(f"{LOG}/"))
            if listed.setdefault(path, entry) != entry:
                raise incomplete(
                    directory / path, "one unit a file", f"units {owner[path]} and {unit}"
                )
            owner[path] = unit
    _check_sizes(directory, listed)
    listed |= _complete_groups(directory, listed)
    for array, expected, found in incomplete_arrays(directory, listed):
        raise incomplete(directory / array, f"{expected} chunks", f"{found} chunks")
    return listed


def incomplete_arrays(directory: Path, listed: Iterable[str]) -> list[tuple[str, int, int]]:
    """Find the arrays that have not exactly the chunk files their shape asks for.

    Readers would take a chunk that was never written for zeros.

    Args:
        directory: What the paths are relative to.
        listed: Paths of the files, among them the ``zarr.json`` of the arrays to look at.

    Returns:
        Array, expected and found number of chunks, for each array with a difference.

    Raises:
        StorageError: A file cannot be read.
    """
    paths = list(listed)
    chunks = Counter(match[1] for path in paths if (match := _CHUNK.fullmatch(path)))
    wrong = []
    for path in sorted(paths):
        if path.startswith(f"{DATA}/") and path.endswith("/zarr.json"):
            metadata = json.loads(files.read_if_there(directory / path) or b"{}")
            if metadata.get("node_type") == "array":
                array = path.removesuffix("/zarr.json")
                expected = _chunk_count(metadata)
                if chunks[array] != expected:
                    wrong.append((array, expected, chunks[array]))
    return wrong


def _chunk_count(metadata: Mapping[str, Any]) -> int:
    chunk_shape = metadata["chunk_grid"]["configuration"]["chunk_shape"]
    pairs = zip(metadata["shape"], chunk_shape, strict=True)
    return math.prod(-(-rows // chunk_rows) for rows, chunk_rows in pairs)


def _check_sizes(directory: Path, listed: Mapping[str, FileEntry]) -> None:
    for path, entry in listed.items():
        try:
            files.check_file(directory / path, entry.size)
        except OSError as error:
            if not files.is_no_file(error):
                raise files.reading_error(error, directory / path) from error
            found = error.strerror or str(error)
            raise incomplete(directory / path, f"{entry.size:,} bytes", found) from error


def _complete_groups(directory: Path, listed: Mapping[str, FileEntry]) -> dict[str, FileEntry]:
    groups = {""}
    for path in listed:
        if path.startswith(f"{DATA}/") and path.endswith("/zarr.json"):
            groups |= set(parent_groups(path.removeprefix(f"{DATA}/").removesuffix("/zarr.json")))
    entries = {}
    for group in sorted(groups):
        path = f"{DATA}/{group_key(group)}"
        if path not in listed:
            record = files.write_file(directory / path, group_metadata({}))
            entries[path] = FileEntry(size=record.size, sha256=record.sha256)
    return entries


def incomplete(path: Path, expected: str, found: str) -> ArtifactCorruptError:
    """Return the error to raise where staged work is not whole."""
    return ArtifactCorruptError(
        "the staged work is not whole and was not published",
        where=path,
        expected=expected,
        found=found,
        fix="run the same command again: units that lost files are made anew",
    )
