"""What the tests of the store share: a tiny stage, and faults of the file system."""

from __future__ import annotations

import builtins
import io
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from pipelines.artifacts.arrays import create_rows, write_array
from pipelines.artifacts.artifact import Artifact
from pipelines.artifacts.staging import Staging
from pipelines.artifacts.workspace import Workspace

CHUNK_ROWS = 4
CONFIG = {"shards": 3, "seed": 3}
WORK_ITEMS = ["toy/00000/00000", "toy/00000/00001", "toy/00000/00002", "toy"]


def rows_of(config: Mapping[str, Any]) -> np.ndarray[Any, Any]:
    """Return the observations, (T, 2) f32, that a run of the tiny stage records."""
    shape = (config["shards"] * CHUNK_ROWS, 2)
    return np.arange(shape[0] * 2, dtype=np.float32).reshape(shape) + config["seed"]


def items_of(config: Mapping[str, Any]) -> list[str]:
    """Return the items of a run of the tiny stage in their order."""
    return [*WORK_ITEMS[: config["shards"]], "toy"]


def write_item(staging: Staging, name: str) -> None:
    """Write one item the way the stages do: rows by shard, then the task's attributes."""
    values = rows_of(staging.config)
    with staging.work_item(name) as item:
        if name == "toy":
            item.group("toy", {"steps": len(values), "seed": staging.config["seed"]})
            shards = range(staging.config["shards"])
            done = [staging.scratch(f"toy/{shard:05d}") for shard in shards]
            returns = np.array([np.asarray(group["sum"])[0] for group in done])
            write_array(item.group("toy/00000"), "episode_return", returns)
            item.write_log("timing.jsonl", f"{time.time()}\n".encode())
            return
        shard = int(name[-5:])
        group = item.group("toy/00000")
        if shard == 0:
            count = len(values)
            create_rows(group, "observation", (count, 2), np.float32, chunk_rows=CHUNK_ROWS)
            create_rows(group, "reward", (count,), np.float32, chunk_rows=CHUNK_ROWS, mapped=True)
        rows = slice(shard * CHUNK_ROWS, (shard + 1) * CHUNK_ROWS)
        open_rows(group, "observation")[rows] = values[rows]
        open_rows(group, "reward")[rows] = values[rows, 0]
        write_array(item.scratch(f"toy/{shard:05d}"), "sum", values[rows, 0].sum()[None])
        item.data["rows"] = CHUNK_ROWS


def run_tiny(
    root: Path,
    name: str = "tiny",
    config: Mapping[str, Any] = CONFIG,
    on_item: Callable[[str], None] = lambda name: None,
    parents: Sequence[Artifact] = (),
) -> Artifact:
    """Run a whole tiny stage, resuming what is there; `on_item` hears of each item it makes."""
    with Workspace(root).stage(
        "histories", name, config=config, parents=parents, seeds={"seed": 3}
    ) as staging:
        if staging.published is not None:
            return staging.published
        for item in items_of(config):
            if not staging.done(item):
                on_item(item)
                write_item(staging, item)
        return publish_tiny(staging)


def publish_tiny(staging: Staging) -> Artifact:
    """Publish what `write_item` wrote."""
    return staging.publish(summary={"units": 4}, fingerprints={"toy": {"dims": [2, 1]}})


def check_tiny(artifact: Artifact) -> None:
    """Check that what is read is what `run_tiny` computes from the artifact's configuration."""
    expected = rows_of(artifact.config)
    np.testing.assert_array_equal(artifact.read("toy/00000/observation"), expected)
    np.testing.assert_array_equal(artifact.read("toy/00000/reward"), expected[:, 0])
    assert dict(artifact.group("toy").attrs) == {
        "steps": len(expected),
        "seed": artifact.config["seed"],
    }


def open_rows(group: zarr.Group, name: str) -> zarr.Array[Any]:
    """Open an array made by `create_rows` to write further chunks of it, also chunks of zeros."""
    return group[name].with_config({"write_empty_chunks": True})


@contextmanager
def quick_directory() -> Iterator[Path]:
    """Make a directory in memory where there is one: hundreds of runs need no real disk."""
    memory = Path("/dev/shm")
    parent = memory if os.access(memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="vintix-test-", dir=parent) as directory:
        yield Path(directory)


class Crash(BaseException):
    """Stands for SIGKILL: no handler of an `Exception` sees it."""


@dataclass
class FileSystem:
    """Counts the changes made below a directory, and refuses them from or at one of them.

    Attributes:
        root: Changes elsewhere are not counted.
        error: Makes what is raised.
        refuses: Given the number, the function's name and the path of a change.
        reads: Counts and refuses reading instead: of files, of directories, and of what is there.
        log: Function's name and path of every change that was tried.
    """

    root: Path
    error: Callable[[], BaseException] = Crash
    refuses: Callable[[int, str, str], bool] = lambda number, name, path: False
    reads: bool = False
    log: list[tuple[str, str]] = field(default_factory=list)

    _READS = ("open", "stat", "lstat", "listdir", "scandir")
    _CHANGES = ("open", "write", "fsync", "replace", "rename", "mkdir", "unlink", "rmdir", "link")

    @contextmanager
    def installed(self) -> Iterator[FileSystem]:
        """Put the counting functions in the place of those of `os`."""
        with pytest.MonkeyPatch.context() as patch:
            for name in self._READS if self.reads else self._CHANGES:
                patch.setattr(os, name, self._counting(name, getattr(os, name)))
            if self.reads:
                opened = self._counting("open", io.open)
                patch.setattr(io, "open", opened)
                patch.setattr(builtins, "open", opened)
            yield self

    def _counting(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(target: Any = ".", *args: Any, **kwargs: Any) -> Any:
            counts = name != "open" or _opens_for_writing(*args, **kwargs) != self.reads
            # The new name of a link is its second argument.
            path = _path_of(args[0] if name in ("link", "replace", "rename") else target, kwargs)
            if counts and Path(path).is_relative_to(self.root):
                self.log.append((name, path))
                if self.refuses(len(self.log), name, path):
                    error = self.error()
                    if isinstance(error, OSError):
                        error.filename = path
                    raise error
            return real(target, *args, **kwargs)

        return call


def _opens_for_writing(how: int | str = "r", *args: Any, mode: Any = None, **kwargs: Any) -> bool:
    """Tell from the arguments of `os.open` or of `open` after the path."""
    if isinstance(how, int):
        return bool(how & (os.O_CREAT | os.O_WRONLY | os.O_RDWR))
    return not set("wax+").isdisjoint(mode if isinstance(mode, str) else how)


def _path_of(target: Any, kwargs: Mapping[str, Any]) -> str:
    if isinstance(target, int):
        return str(Path(f"/proc/self/fd/{target}").readlink())
    directory = kwargs.get("dir_fd")
    if directory is not None:
        return str(Path(f"/proc/self/fd/{directory}").readlink() / os.fspath(target))
    return str(Path(os.fspath(target)).absolute())
