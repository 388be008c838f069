"""Which tasks of a dataset are trained on, and which groups they have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipelines.errors import ConfigError, UsageError
from pipelines.model.config import GroupDims
from pipelines.tasks.names import fold

if TYPE_CHECKING:
    from pipelines.datasets.reader import DatasetReader, DatasetTask


def select_tasks(
    data: DatasetReader, tasks: Sequence[str] = (), domains: Sequence[str] = ()
) -> list[DatasetTask]:
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


def domain_of(task: DatasetTask) -> str:
    """Return the name of a task's domain."""
    return str(_specification(task).get("domain", "unknown"))


def group_dims(tasks: Sequence[DatasetTask]) -> dict[str, GroupDims]:
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


def _specification(task: DatasetTask) -> Mapping[str, Any]:
    specification = task.attributes.get("task", {})
    return specification if isinstance(specification, Mapping) else {}
