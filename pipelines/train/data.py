"""What training needs of a packed dataset, and which of its tasks are trained on.

`pipelines.datasets.reader.DatasetReader` is the one implementation outside of tests.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from pipelines.errors import ConfigError, UsageError
from pipelines.model.config import GroupDims
from pipelines.tasks.names import fold

Rows = Mapping[str, npt.NDArray[Any]]


class DataTask(Protocol):
    """One task of a dataset."""

    @property
    def name(self) -> str:
        """Canonical name."""
        ...

    @property
    def group(self) -> str:
        """Name of its group."""
        ...

    @property
    def observation_dim(self) -> int:
        """Channels of an observation."""
        ...

    @property
    def action_dim(self) -> int:
        """Channels of an action."""
        ...

    @property
    def split(self) -> str:
        """`train` or `validation`."""
        ...

    @property
    def reward_scale(self) -> float:
        """Factor on rewards."""
        ...

    @property
    def episode_sparsity(self) -> int:
        """Every which episode the release uses."""
        ...

    @property
    def rows(self) -> Sequence[int]:
        """Rows of each trajectory; its place is the trajectory's number."""
        ...

    @property
    def attributes(self) -> Mapping[str, Any]:
        """Attributes of the task's group in the artifact."""
        ...

    @property
    def statistics(self) -> Mapping[str, npt.NDArray[np.float64]]:
        """`observation_mean`, `observation_std` (O,), `action_mean` and `action_std` (A,)."""
        ...


class TrainingData(Protocol):
    """A dataset that gives rows of its trajectories."""

    @property
    def tasks(self) -> Mapping[str, DataTask]:
        """Tasks by name."""
        ...

    def window(self, task: str, trajectory: int, start: int, length: int) -> Rows:
        """Return rows [start, start + length): observation (L, O), action (L, A), reward (L,),
        episode_step (L,), noise (L,).
        """
        ...

    def pieces(
        self, task: str, trajectory: int, start: int, length: int, fields: Collection[str]
    ) -> Iterator[Rows]:
        """Yield some fields of the same rows in consecutive parts that must not be written to."""
        ...

    def episode_starts(self, task: str, trajectory: int) -> npt.NDArray[np.int64]:
        """Return the first row of each episode, ascending."""
        ...


def select_tasks(
    data: TrainingData, tasks: Sequence[str] = (), domains: Sequence[str] = ()
) -> list[DataTask]:
    """Return the tasks to train on, sorted by name: of the training split, within the selection.

    Args:
        data: The dataset.
        tasks: Names or aliases; all tasks if empty.
        domains: Names of domains; all domains if empty.

    Raises:
        UsageError: The dataset has no such task or domain.
        ConfigError: Nothing is left to train on.
    """
    by_name = {
        fold(name): task
        for task in data.tasks.values()
        for name in (task.name, *_specification(task).get("aliases", ()))
    }
    known_domains = {domain_of(task) for task in data.tasks.values()}
    for label, asked, known in (
        ("task", tasks, set(by_name)),
        ("domain", domains, known_domains),
    ):
        for name in asked:
            if (fold(name) if label == "task" else name) not in known:
                raise UsageError(
                    f"the dataset does not hold this {label}",
                    where=f"--{label} {name}",
                    expected=", ".join(sorted(data.tasks if label == "task" else known)),
                    found=name,
                    fix=f"vintix pack --{label} {name}",
                )
    wanted = {by_name[fold(name)].name for name in tasks}
    chosen = [
        task
        for name, task in sorted(data.tasks.items())
        if task.split == "train"
        and (not tasks or name in wanted)
        and (not domains or domain_of(task) in domains)
    ]
    if not chosen:
        raise ConfigError(
            "the dataset has no training task to train on",
            where="the selected tasks" if tasks or domains else "the dataset",
            expected="at least one task of the split train",
            found=", ".join(f"{name} ({task.split})" for name, task in sorted(data.tasks.items()))
            or "no task",
            fix="vintix pack with at least one task of: vintix tasks --split train",
        )
    return chosen


def domain_of(task: DataTask) -> str:
    """Return the name of a task's domain."""
    return str(_specification(task).get("domain", "unknown"))


def group_dims(tasks: Sequence[DataTask]) -> dict[str, GroupDims]:
    """Return the dimensions of each group, sorted by its name.

    Raises:
        ConfigError: Two tasks of a group have different dimensions.
    """
    groups: dict[str, GroupDims] = {}
    for task in sorted(tasks, key=lambda task: (task.group, task.name)):
        dims = GroupDims(observation_dim=task.observation_dim, action_dim=task.action_dim)
        first = groups.setdefault(task.group, dims)
        if first != dims:
            raise ConfigError(
                "two tasks of one group have different dimensions",
                where=f"task {task.name}, group {task.group}",
                expected=f"observation {first.observation_dim}, action {first.action_dim}",
                found=f"observation {dims.observation_dim}, action {dims.action_dim}",
                fix="give one of them another group and pack again",
            )
    return groups


def _specification(task: DataTask) -> Mapping[str, Any]:
    specification = task.attributes.get("task", {})
    return specification if isinstance(specification, Mapping) else {}
