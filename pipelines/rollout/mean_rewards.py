"""The mean reward of the data that a checkpoint was trained on, for ``--rewards mean``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pipelines.errors import ArtifactMissingError

if TYPE_CHECKING:
    from pipelines.artifacts.artifact import Artifact
    from pipelines.artifacts.workspace import Workspace
    from pipelines.datasets.reader import DatasetReader
    from pipelines.rollout.selection import Target


def mean_rewards(
    checkpoint: Artifact, workspace: Workspace, targets: Sequence[Target]
) -> dict[str, float]:
    """Return the mean unscaled reward of a step in the data of each task.

    A variation has that of its base task, and a task without data the mean over its group's tasks.

    Raises:
        ArtifactMissingError: The workspace does not hold the dataset.
    """
    from pipelines.datasets.reader import DatasetReader

    wanted = {each.digest for each in checkpoint.manifest.parents if each.kind == "datasets"}
    ancestors, _ = workspace.lineage([checkpoint])
    dataset = next((each for each in ancestors if each.digest in wanted), None)
    if dataset is None:
        raise ArtifactMissingError(
            "the mean reward of the data is not known without the data",
            where=f"--rewards mean, checkpoint {checkpoint.reference}",
            expected="the dataset that it was trained on, in this workspace",
            found="none",
            fix="--rewards other, or zero",
        )
    data = DatasetReader(dataset)
    known: dict[str, float] = {}

    def mean_of(name: str) -> float:
        if name not in known:
            known[name] = _mean(data, name)
        return known[name]

    found = {}
    for target in targets:
        name, group = target.saved.name, target.saved.group
        tasks = [name] if name in data.tasks else []
        tasks = tasks or [one for one, task in data.tasks.items() if task.group == group]
        found[target.spec.name] = math.fsum(map(mean_of, tasks)) / len(tasks)
    return found


def _mean(data: DatasetReader, task: str) -> float:
    sums, rows = [], 0
    for trajectory, length in enumerate(data.tasks[task].rows):
        for piece in data.pieces(task, trajectory, 0, length, ("reward",)):
            sums.append(float(piece["reward"].sum(dtype=np.float64)))
            rows += len(piece["reward"])
    return math.fsum(sums) / rows
