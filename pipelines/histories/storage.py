"""From the arrays that trajectories have while they are staged to those that a task is read from.

While a history is collected, merged or imported, each long trajectory has arrays of its own, which
resumed runs, parts of a plan and workers write independently; short ones that are simulated
together share them. What is published has one array a field and task: chunk files of long
trajectories go over as they are, short ones share files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.artifacts.row_arrays import RowLayout, RowWriter, chunk_length, write_trajectories
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
    groups: Sequence[Any],
) -> None:
    """Write a task's group: its attributes and the rows and episodes of all its trajectories.

    Args:
        groups: The arrays of all trajectories, from `staged_trajectories`.
    """
    name = attributes["task"]["name"]
    first = groups[0]
    fields = {
        field: (first[field].shape[1:], first[field].dtype)
        for field in HISTORY_ROWS
        if field in first
    }
    lengths = tuple(int(group["reward"].shape[0]) for group in groups)
    layout = RowLayout(lengths, chunk_length(lengths, _most_rows(groups, lengths)))
    group = item.group(name, {**attributes, "chunk_rows": layout.chunk_rows})
    writer = RowWriter(group, layout, fields)
    writer.create()
    recorded = {path: entry for each in work_items for path, entry in staging.files(each).items()}
    for together in layout.groups:
        number = together.start
        alone = len(together) == 1 and not isinstance(groups[number], dict)
        if alone and _chunk_rows(groups[number]) == layout.chunk_rows:
            item.adopt(_chunk_keys(name, number, layout, fields), recorded)
            continue
        for number in together:
            writer.begin(number)
            writer.write({field: np.asarray(groups[number][field][...]) for field in fields})
        writer.flush()
    kept = [field for field in ALL_HISTORY_EPISODES if field in first]
    episodes = [{field: np.asarray(each[field][...]) for field in kept} for each in groups]
    write_trajectories(group, layout, episodes)


def staged_trajectories(
    staging: Staging, task: str, work_items: Sequence[str], trajectories: Sequence[int]
) -> list[Any]:
    """Return the arrays of each trajectory by name: a group, or a dict of parts of shared arrays.

    Args:
        trajectories: Their numbers, rising.
    """
    found: dict[int, Any] = {}
    for item in work_items:
        recorded = staging.data(item)
        if "trajectories" not in recorded:
            continue
        numbers, counts = recorded["trajectories"], recorded["episodes"]
        group: Any = staging.scratch(item)
        arrays = {field: np.asarray(array[...]) for field, array in group.arrays()}
        steps = len(arrays["reward"]) // len(numbers)
        ends = np.cumsum(counts)
        for place, number in enumerate(numbers):
            rows = slice(place * steps, (place + 1) * steps)
            episodes = slice(ends[place] - counts[place], ends[place])
            found[number] = {
                field: array[episodes if field in ALL_HISTORY_EPISODES else rows]
                for field, array in arrays.items()
            }
    return [
        found[each] if each in found else staging.group(trajectory_path(task, each))
        for each in trajectories
    ]


def _chunk_rows(arrays: Any) -> int:
    """Return the rows of a chunk as staged; of shared arrays those of a trajectory."""
    reward = arrays["reward"]
    return len(reward) if isinstance(reward, np.ndarray) else int(reward.chunks[0])


def _most_rows(groups: Sequence[Any], lengths: Sequence[int]) -> int:
    """Return the most rows of a chunk: as staged, or more where trajectories may share one."""
    longest = max(lengths)
    staged_rows = _chunk_rows(groups[lengths.index(longest)])
    if longest > staged_rows:
        return staged_rows
    widest = groups[0]["observation"]
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
