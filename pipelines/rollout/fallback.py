"""Fallback statistics: how observations of tasks that a checkpoint does not know are normalised.

A model normalises observations and actions by the statistics of the task's own data. A task without
data has none, so the user says where they come from, and the artifact records it.

Shapes: O observation, A action.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipelines.errors import ConfigError, unknown
from pipelines.text import counted, listed

if TYPE_CHECKING:
    from pipelines.actions import ActionSpec
    from pipelines.model.normalization import TaskStatistics
    from pipelines.model.saved import SavedModel, SavedTask
    from pipelines.tasks.spec import TaskSpec

RUNNING = "running:"
"""Begins the source of statistics that are estimated in context."""
_DESCRIBED = 4
"""Groups that an error describes, at most; of more it gives the names."""


def known_task(spec: TaskSpec, model: SavedModel) -> str | None:
    """Return the checkpoint's task whose statistics are a task's own: itself or its base task."""
    for name in (spec.name, spec.variation_of):
        if name is not None and name in model.tasks:
            return name
    return None


def model_group(spec: TaskSpec, model: SavedModel) -> str | None:
    """Return the model's group for a task, or None where it has none of its dims.

    Where its head takes sets of actions of any size, a set of another size has the same group.
    Imported checkpoints have names of their own for the catalogue's groups.
    """
    names = [
        saved.group
        for saved in model.tasks.values()
        if saved.task.get("group", saved.group) == spec.group
    ]
    for name in (*names, spec.group, spec.set_group):
        if name is not None and model.config.fits(name, spec.observation_dim, spec.actions):
            return name
    return None


def can_play(spec: TaskSpec, model: SavedModel) -> bool:
    """Tell whether the model knows a task, or tasks of its group whose statistics it can take."""
    if known_task(spec, model) is not None:
        return True
    group = model_group(spec, model)
    return any(saved.group == group for saved in model.tasks.values())


def _a_checkpoint_with(spec: TaskSpec) -> str:
    """Return how to get a checkpoint that has a task's group: the package's, else one's own."""
    from pipelines.artifacts.workspace import packaged

    for artifact in packaged().artifacts("checkpoints"):
        architecture: Any = artifact.group("model").attrs["config"]
        if spec.group in architecture["groups"]:
            return f"vintix rollout --checkpoint {artifact.manifest.name}"
    task = spec.variation_of or spec.name
    return f"vintix distill --task {task}, then vintix pack and vintix train"


def no_group(spec: TaskSpec, model: SavedModel) -> ConfigError:
    """Return the error of a task that the model has no encoder and no head for.

    It describes a few groups. Of more it names those of the task's domain, else the first ones.
    """
    names = list(model.config.groups)
    whose = counted(len(names), "group")
    if len(names) <= _DESCRIBED:
        names = [f"{name} ({model.config.describe(name)})" for name in names]
    else:
        tasks = model.tasks.values()
        near = {each.group for each in tasks if each.task.get("domain") == spec.domain}
        names = [name for name in names if name in near] or names
        whose += f", of which {len(near)} of {spec.domain}" if near else ""
    return ConfigError(
        f"the checkpoint has no group for task {spec.name!r}",
        where=f"group {spec.group}: {spec.observation_dim} observation dims, {spec.actions}",
        expected=f"a task of its {whose}: {listed(names)}",
        found=spec.group,
        fix=_a_checkpoint_with(spec),
    )


def fallback_statistics(
    spec: TaskSpec, model: SavedModel, stats: str | None
) -> tuple[str, SavedTask]:
    """Return the source of an unseen task's statistics, and the task as if the model knew it.

    Args:
        spec: A task that the model does not know.
        stats: ``group``, ``running`` or ``task:NAME``; see `RolloutConfig.stats`.

    Returns:
        The source as artifacts record it, ``group:NAME``, ``running:NAME`` or the name of a task;
        and what the model would keep of the task. With pooled statistics the reward scale is the
        catalogue's for the task; a named task's statistics come with its own scale. Options are
        those under which the data of all tasks of the group was collected, where they agree.

    Raises:
        ConfigError: The model has no group for it, or nothing says whose statistics to take.
        UsageError: The named task is not of its group.
    """
    from pipelines.model.saved import SavedTask

    group = model_group(spec, model)
    if group is None:
        raise no_group(spec, model)
    same = {name: saved for name, saved in model.tasks.items() if saved.group == group}
    # A dataset may hold further tasks that the model was not trained on.
    trained = {name: saved for name, saved in same.items() if saved.trained} or same
    if stats is None or not trained:
        raise _no_statistics(spec, trained)
    if stats.startswith("task:"):
        source = _named(stats.removeprefix("task:"), spec, same)
        statistics = for_set(same[source].statistics, spec.actions)
    else:
        source = f"{stats}:{group}"
        statistics = pooled(
            [for_set(saved.statistics, spec.actions) for saved in trained.values()],
            spec.reward_scale,
        )
    return source, SavedTask(
        name=spec.name,
        group=group,
        statistics=statistics,
        trained=False,
        task=spec.as_json(),
        options=_shared(saved.options for saved in trained.values()),
    )


def foreign_source(
    name: str, source: str | None, changed_options: Mapping[str, Any] | None
) -> str | None:
    """Return in words what a task's statistics are of; None where they are its own.

    Args:
        source: Where they come from, as artifacts record it; none where nothing is normalised.
        changed_options: Options that the data was recorded under, where they are others now.
    """
    if not source or (source == name and not changed_options):
        return None
    options = ", ".join(f"{option}={value}" for option, value in (changed_options or {}).items())
    return f"{source} with {options}" if options else source


def foreign_statistics_note(sources: Mapping[str, str | None]) -> str | None:
    """Return a sentence on the tasks that are normalised by statistics not their own."""
    foreign = [f"{name} by {source}" for name, source in sources.items() if source]
    return (
        f"normalised by statistics that are not their own: {listed(foreign)}" if foreign else None
    )


def pooled(statistics: Sequence[TaskStatistics], reward_scale: float) -> TaskStatistics:
    """Return the statistics of several tasks' data taken together, each task counting the same.

    A channel that was constant in each task is constant here, too, whatever it was in which: the
    model has only ever seen it as 0.

    Args:
        statistics: At least one, all of one shape.
        reward_scale: Of the result; scales are not statistics of the data.
    """
    from pipelines.model.normalization import TaskStatistics, is_constant

    vectors: dict[str, NDArray[Any]] = {}
    for name in ("observation", "action"):
        mean = np.stack([getattr(each, f"{name}_mean") for each in statistics]).astype(np.float64)
        std = np.stack([getattr(each, f"{name}_std") for each in statistics]).astype(np.float64)
        center = mean.mean(axis=0)
        vectors[f"{name}_mean"] = center
        # Spread within the tasks and between them.
        spread = np.sqrt((std**2 + (mean - center) ** 2).mean(axis=0))
        vectors[f"{name}_std"] = np.where(is_constant(mean, std).all(axis=0), 0.0, spread)
    return TaskStatistics(**vectors, reward_scale=reward_scale)


def for_set(statistics: TaskStatistics, actions: ActionSpec) -> TaskStatistics:
    """Return statistics for tasks with other discrete actions, of which nothing is normalised."""
    if actions.continuous or actions.width == len(statistics.action_mean):
        return statistics
    width = actions.width
    return replace(
        statistics,
        action_mean=np.zeros(width, np.float32),
        action_std=np.ones(width, np.float32),
    )


def _named(wanted: str, spec: TaskSpec, same: Mapping[str, SavedTask]) -> str:
    from pipelines.tasks.names import fold

    for name, saved in same.items():
        if fold(wanted) in map(fold, (name, *saved.task.get("aliases", ()))):
            return name
    raise unknown(
        f"no statistics of a task {wanted!r} fit task {spec.name!r}",
        wanted,
        same,
        where="--stats",
        expected=f"a task of the checkpoint in group {spec.group}: {listed(same)}",
        fix=f"vintix rollout --stats task:{next(iter(same))}, or --stats group",
    )


def _no_statistics(spec: TaskSpec, same: Mapping[str, SavedTask]) -> ConfigError:
    return ConfigError(
        f"the checkpoint has no normalisation statistics for task {spec.name!r}",
        where=f"group {spec.group}",
        expected=f"one of its tasks ({listed(same)}) or a variation of one",
        found=spec.name,
        fix="vintix rollout --stats group, or --stats task:NAME, or --stats running; or train on a "
        "dataset that holds this task",
    )


def _shared(all_options: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    first, *others = all_options
    return {
        name: value
        for name, value in first.items()
        if all(name in each and each[name] == value for each in others)
    }
