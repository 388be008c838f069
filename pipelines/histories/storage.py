"""From the arrays that trajectories have while they are staged to those that a task is read from.

While a history is collected, merged or imported, each long trajectory has arrays of its own, which
resumed runs, parts of a plan and workers write independently; short ones that are simulated
together share them. What is published has one array a field and task: chunk files of long
trajectories go over as they are, short ones share files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.artifacts import files
from pipelines.artifacts.row_arrays import (
    RowLayout,
    RowWriter,
    StoredRows,
    chunk_length,
    write_trajectories,
)
from pipelines.artifacts.schema import DATA
from pipelines.artifacts.work import SCRATCH
from pipelines.histories.layout import trajectory_path
from pipelines.rows import ALL_HISTORY_EPISODES, HISTORY_ROWS

if TYPE_CHECKING:
    from pipelines.artifacts.staging import Staging
    from pipelines.artifacts.work import WorkItem

CHUNK_ROWS = 65_536
"""Most rows of a chunk file that trajectories share."""

CHUNK_BYTES = 16 << 20
"""Most bytes of such a chunk, uncompressed, of the widest array."""


def join_trajectories(
    item: WorkItem,
    staging: Staging,
    attributes: Mapping[str, Any],
    work_items: Sequence[str],
    staged: Sequence[StagedTrajectory],
) -> None:
    """Write a task's group: its attributes and the rows and episodes of all its trajectories.

    Args:
        staged: The arrays of all trajectories, from `staged_trajectories`.
    """
    name = attributes["task"]["name"]
    first = staged[0]
    fields = {
        field: (first[field].shape[1:], first[field].dtype)
        for field in HISTORY_ROWS
        if field in first
    }
    lengths = tuple(len(each["reward"]) for each in staged)
    layout = RowLayout(lengths, chunk_length(lengths, _most_rows(staged, lengths)))
    group = item.group(name, {**attributes, "chunk_rows": layout.chunk_rows})
    writer = RowWriter(group, layout, fields)
    writer.create()
    recorded = {path: entry for each in work_items for path, entry in staging.files(each).items()}
    for together in layout.groups:
        number = together.start
        alone = len(together) == 1 and not staged[number].shared
        if alone and staged[number].chunk_rows == layout.chunk_rows:
            item.adopt(_chunk_keys(name, number, layout, fields), recorded)
            continue
        for number in together:
            writer.begin(number)
            writer.write({field: staged[number][field][...] for field in fields})
        writer.flush()
    kept = [field for field in ALL_HISTORY_EPISODES if field in first]
    episodes = [{field: each[field][...] for field in kept} for each in staged]
    write_trajectories(group, layout, episodes)


@dataclass(frozen=True)
class StagedTrajectory:
    """The arrays of a staged trajectory by field, read when they are asked for.

    Attributes:
        directory: Of its own arrays, or of those that it shares with others.
        read: Returns an array of a directory.
        part: Its rows and its episodes of shared arrays; None where it has its own.
    """

    directory: Path
    read: Callable[[Path], Any]
    part: tuple[slice, slice] | None = None

    @property
    def shared(self) -> bool:
        """Whether its arrays hold other trajectories, too."""
        return self.part is not None

    @property
    def chunk_rows(self) -> int:
        """Rows of a chunk as staged; of shared arrays those of a trajectory."""
        reward = self["reward"]
        return len(reward) if self.shared else int(reward.chunk_rows)

    def __contains__(self, field: str) -> bool:
        return files.is_there(self.directory / field / "zarr.json")

    def __getitem__(self, field: str) -> Any:
        array = self.read(self.directory / field)
        return array if self.part is None else array[self.part[field in ALL_HISTORY_EPISODES]]


def staged_trajectories(
    staging: Staging, task: str, work_items: Sequence[str], trajectories: Sequence[int]
) -> list[StagedTrajectory]:
    """Return the arrays of each trajectory.

    Of shared arrays those of one or two work items are held at a time, if they are read one
    trajectory after the other.

    Args:
        trajectories: Their numbers, rising.
    """

    @lru_cache(len(HISTORY_ROWS) + len(ALL_HISTORY_EPISODES))
    def read(directory: Path) -> Any:
        return StoredRows(directory)[...]

    found = {}
    for item in work_items:
        recorded = staging.data(item)
        if "trajectories" not in recorded:
            continue
        numbers, counts = recorded["trajectories"], recorded["episodes"]
        directory = staging.directory / SCRATCH / item
        steps = len(StoredRows(directory / "reward")) // len(numbers)
        ends = np.cumsum(counts).tolist()
        for place, number in enumerate(numbers):
            rows = slice(place * steps, (place + 1) * steps)
            episodes = slice(ends[place] - counts[place], ends[place])
            found[number] = StagedTrajectory(directory, read, (rows, episodes))
    data = staging.directory / DATA
    return [
        found.get(each) or StagedTrajectory(data / trajectory_path(task, each), StoredRows)
        for each in trajectories
    ]


def _most_rows(staged: Sequence[StagedTrajectory], lengths: Sequence[int]) -> int:
    """Return the most rows of a chunk: as staged, or more where trajectories may share one."""
    longest = max(lengths)
    staged_rows = staged[lengths.index(longest)].chunk_rows
    if longest > staged_rows:
        return staged_rows
    widest = staged[0]["observation"]
    return max(longest, min(CHUNK_ROWS, CHUNK_BYTES // (widest.dtype.itemsize * widest.shape[1])))


def _chunk_keys(
    name: str, number: int, layout: RowLayout, fields: Mapping[str, tuple[tuple[int, ...], Any]]
) -> dict[str, str]:
    """Return the keys of a trajectory's chunk files, joined and as staged."""
    return {
        f"{name}/{field}/c/{chunk}{end}": f"{trajectory_path(name, number)}/{field}/c/{at}{end}"
        for field, (shape, _) in fields.items()
        for end in ("/0" * len(shape),)
        for at, chunk in enumerate(layout.chunks(number))
    }
