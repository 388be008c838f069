"""Which tasks of a dataset are trained on, and which groups they have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pipelines.errors import ConfigError
from pipelines.model.config import GroupDims
from pipelines.model.heads import DEFAULT, DEFAULTS, HEADS, heads_for
from pipelines.tasks.names import choose_tasks, fold, task_names

if TYPE_CHECKING:
    from pipelines.datasets.reader import DatasetReader, DatasetTask
    from pipelines.model.heads.base import Embedding


def select_tasks(
    data: DatasetReader, tasks: Sequence[str] = (), domains: Sequence[str] = ()
) -> list[DatasetTask]:
    """Return the tasks to train on, sorted by name: those with a weight, within the selection.

    Tasks of the validation split have one where ``pack.allow_validation`` gave it to them.

    Args:
        tasks: Names or aliases; all tasks if empty.
        domains: Names of domains; all domains if empty.

    Raises:
        UsageError: The dataset has no such task or domain.
        ConfigError: Nothing is left to train on.
    """
    names = choose_tasks(
        tasks,
        [
            {"name": task.name, "aliases": (), "domain": domain_of(task), **_specification(task)}
            for task in data.tasks.values()
        ],
        domains=domains,
        among="the dataset holds",
        where=data.artifact.reference,
        command="vintix pack",
    )
    chosen = [data.tasks[name] for name in names if _is_drawn(data.tasks[name])]
    if not chosen:
        raise ConfigError(
            "the dataset has no training task to train on",
            where="the selected tasks" if tasks or domains else "the dataset",
            expected="at least one task of the split train, or that pack was told to allow",
            found=", ".join(f"{name} ({task.split})" for name, task in sorted(data.tasks.items()))
            or "no task",
            fix="vintix pack with at least one task of: vintix tasks --split train; to train on "
            "those that are held out, vintix pack --set pack.allow_validation=true",
        )
    return chosen


def held_out_tasks(data: DatasetReader, tasks: Sequence[str]) -> list[str]:
    """Return which of the tasks that are named `select_tasks` leaves out, sorted."""
    named = {fold(name) for name in tasks}
    return sorted(
        task.name
        for task in data.tasks.values()
        if not _is_drawn(task)
        and named & task_names({"name": task.name, "aliases": (), **_specification(task)})
    )


def _is_drawn(task: DatasetTask) -> bool:
    weights = task.attributes.get("weights", {})
    return task.split == "train" or weights.get("by_task", 0) > 0


def domain_of(task: DatasetTask) -> str:
    """Return the name of a task's domain."""
    return str(_specification(task).get("domain", "unknown"))


def chosen_embedding(overrides: Mapping[str, Any]) -> Embedding | None:
    """Return how the head that settings of a model name embeds actions; None where it does not."""
    head = overrides.get("head", DEFAULT)
    if head not in HEADS.names:
        # The model's configuration says what there is.
        return None
    return HEADS.find(head).embedding(**HEADS.options(head, overrides.get("head_options", {})))


def in_set_groups(tasks: Iterable[DatasetTask], overrides: Mapping[str, Any]) -> list[DatasetTask]:
    """Return tasks with the groups that they have in a model: of all sizes of a set one group.

    That is where the model's head tells actions by embeddings.

    Args:
        overrides: Settings of the model, complete or not; of them the head counts.
    """
    if chosen_embedding(overrides) is None:
        return list(tasks)
    return [
        task
        if task.actions.continuous
        else replace(task, group=str(_specification(task).get("set_group") or task.group))
        for task in tasks
    ]


def check_sets(tasks: Iterable[DatasetTask], overrides: Mapping[str, Any]) -> None:
    """Refuse tasks with more actions than the embeddings of the model's head can tell.

    Args:
        overrides: As of `in_set_groups`.

    Raises:
        ConfigError: There is one.
    """
    embedding = chosen_embedding(overrides)
    if embedding is None:
        return
    for task in tasks:
        if not task.actions.continuous and task.actions.width > embedding.channels:
            raise ConfigError(
                f"the head {overrides['head']} cannot tell so many actions apart",
                where=f"task {task.name}",
                expected=f"{embedding.channels} actions at most",
                found=task.actions,
                fix=f"--set train.model.head_options.embedding={task.actions.width}",
            )


def group_dims(tasks: Sequence[DatasetTask]) -> dict[str, GroupDims]:
    """Return the dimensions of each group, sorted by its name.

    Where a set of actions has several sizes, they are those of the largest.

    Raises:
        ConfigError: Two tasks of a group have different dimensions or actions.
    """
    groups: dict[str, GroupDims] = {}
    for task in sorted(tasks, key=lambda task: (task.group, -task.actions.width, task.name)):
        dims = GroupDims.of(task.observation_dim, task.actions)
        first = groups.setdefault(task.group, dims)
        of_a_set = _specification(task).get("set_group") == task.group
        if first != dims and not (of_a_set and first.observation_dim == dims.observation_dim):
            raise ConfigError(
                "two tasks of one group have different dimensions or actions",
                where=f"task {task.name}, group {task.group}",
                expected=f"{first.observation_dim} observation dims, {first.actions}",
                found=f"{dims.observation_dim} observation dims, {dims.actions}",
                fix="give one of them another group and pack again",
            )
    return groups


def with_head(overrides: Mapping[str, Any], groups: Mapping[str, GroupDims]) -> dict[str, Any]:
    """Return settings of a model with a head that fits the actions of some of its groups.

    Where none is named and the paper's fits none of the groups, it is the one that is the default
    of their kind.

    Args:
        groups: What there is to be predicted, of one or several kinds.

    Raises:
        ConfigError: The head that is named fits none of the groups.
    """
    kinds = list(dict.fromkeys(dims.actions.kind for dims in groups.values()))
    named = overrides.get("head")
    if named is not None and named not in HEADS.names:
        # The model's configuration says what there is.
        return {**overrides}
    head = DEFAULT if named is None else named
    if {*kinds} & {*HEADS.find(head).kinds}:
        return {**overrides}
    if named is None and kinds[0] in DEFAULTS:
        return {**overrides, "head": DEFAULTS[kinds[0]]}
    fitting = [name for kind in kinds for name in heads_for(kind)]
    raise ConfigError(
        f"the head {head} does not fit the actions",
        where="train.model.head",
        expected=", ".join(fitting) or "a head of another package",
        found=f"{head}, for actions of kind {', '.join(HEADS.find(head).kinds)}; the dataset's "
        f"are of kind {', '.join(kinds)}",
        fix=f"vintix train --set train.model.head={fitting[0]}"
        if fitting
        else "install one that fits",
    )


def _specification(task: DatasetTask) -> Mapping[str, Any]:
    specification = task.attributes.get("task", {})
    return specification if isinstance(specification, Mapping) else {}
