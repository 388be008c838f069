"""From the arrays that each trajectory has while it is staged to those that its task is read from.

While a history is collected, merged or imported, each trajectory has arrays of its own, which
resumed runs, parts of a plan and workers write independently. What is published has one array a
field and task: chunk files of long trajectories go over as they are, short ones share files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.artifacts.row_arrays import RowLayout, RowWriter, chunk_length, write_trajectories
from pipelines.histories.layout import trajectory_path
from pipelines.rows import HISTORY_EPISODES, HISTORY_ROWS

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
    trajectories: Sequence[int],
) -> None:
    """Write a task's group: its attributes and the rows and episodes of all its trajectories.

    Args:
        item: The work item that this makes.
        staging: Where the trajectories are staged.
        attributes: Of the task.
        work_items: Those that wrote the trajectories.
        trajectories: Their numbers, from 0.
    """
    name = attributes["task"]["name"]
    groups: list[Any] = [staging.group(trajectory_path(name, each)) for each in trajectories]
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
        if len(together) == 1 and groups[number]["reward"].chunks[0] == layout.chunk_rows:
            item.adopt(_chunk_keys(name, number, layout, fields), recorded)
            continue
        for number in together:
            writer.begin(number)
            writer.write({field: np.asarray(groups[number][field][...]) for field in fields})
        writer.flush()
    kept = [field for field in HISTORY_EPISODES if field in first]
    episodes = [{field: np.asarray(each[field][...]) for field in kept} for each in groups]
    write_trajectories(group, layout, episodes)


def _most_rows(groups: Sequence[Any], lengths: Sequence[int]) -> int:
    """Return the most rows of a chunk: as staged, or more where trajectories may share one."""
    longest = max(lengths)
    staged_rows = int(groups[lengths.index(longest)]["reward"].chunks[0])
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
