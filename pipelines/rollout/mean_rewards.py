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
    from pipelines.model.saved import SavedModel
    from pipelines.rollout.selection import Target


def mean_rewards(
    checkpoint: Artifact, model: SavedModel, workspace: Workspace, targets: Sequence[Target]
) -> dict[str, float]:
    """Return the mean unscaled reward of a step in the data of each task.

    A variation has that of its base task, and a task without data the mean over the tasks of its
    group in the model, where sets of actions of any size may be one group.

    Args:
        model: The loaded checkpoint.

    Raises:
        ArtifactMissingError: The workspace does not hold the dataset, or that no task of a group.
    """
    from pipelines.datasets.reader import DatasetReader

    wanted = {each.digest for each in checkpoint.manifest.parents if each.kind == "datasets"}
    ancestors, _ = workspace.lineage([checkpoint])
    dataset = next((each for each in ancestors if each.digest in wanted), None)
    if dataset is None:
        raise _no_data(checkpoint, "the dataset that it was trained on, in this workspace")
    data = DatasetReader(dataset)
    groups = {
        name: model.tasks[name].group if name in model.tasks else task.group
        for name, task in data.tasks.items()
    }
    known: dict[str, float] = {}

    def mean_of(name: str) -> float:
        if name not in known:
            known[name] = _mean(data, name)
        return known[name]

    found = {}
    for target in targets:
        name, group = target.saved.name, target.saved.group
        tasks = [name] if name in data.tasks else []
        tasks = tasks or [one for one, its in groups.items() if its == group]
        if not tasks:
            raise _no_data(checkpoint, f"tasks of the group {group} in {dataset.reference}")
        found[target.spec.name] = math.fsum(map(mean_of, tasks)) / len(tasks)
    return found


def _no_data(checkpoint: Artifact, expected: str) -> ArtifactMissingError:
    return ArtifactMissingError(
        "the mean reward of the data is not known without the data",
        where=f"--rewards mean, checkpoint {checkpoint.reference}",
        expected=expected,
        found="none",
        fix="--rewards other, or zero",
    )


def _mean(data: DatasetReader, task: str) -> float:
    sums, rows = [], 0
    for trajectory, length in enumerate(data.tasks[task].rows):
        for piece in data.pieces(task, trajectory, 0, length, ("reward",)):
            sums.append(float(piece["reward"].sum(dtype=np.float64)))
            rows += len(piece["reward"])
    return math.fsum(sums) / rows
