"""Training methods, one file each: what is read, cut into windows, shown and predicted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pipelines.errors import ConfigError, VintixError
from pipelines.methods.base import Method
from pipelines.methods.windows import Subsequence
from pipelines.plugins import Kind

if TYPE_CHECKING:
    from pipelines.datasets.reader import DatasetReader, DatasetTask

DEFAULT = "ad"
"""The paper's."""

METHODS: Kind[Method] = Kind(
    group="vintix.methods",
    noun="training method",
    base="pipelines.methods.base:Method",
    option="--method",
    own={
        "ad": "pipelines.methods.ad:AD",
        "ed": "pipelines.methods.ed:ED",
        "ad-no-reward": "pipelines.methods.ad_no_reward:ADNoReward",
        "dpt": "pipelines.methods.dpt:DPT",
        "dpt-no-reward": "pipelines.methods.dpt_no_reward:DPTNoReward",
    },
)


def find_method(name: str) -> Method:
    """Return the method of a name.

    Raises:
        UsageError: No installed distribution declares it.
        MissingDependencyError: One does, but it cannot be used.
    """
    return METHODS.find(name)()


def method_title(name: str) -> str:
    """Return what reports call a method: its title, or its name where it cannot be asked."""
    try:
        return find_method(name).title
    except VintixError:
        return name


def cut_tasks(
    data: DatasetReader,
    tasks: Sequence[DatasetTask],
    *,
    context: int,
    method: str = DEFAULT,
    fidelity: str = "corrected",
    episode_sparsity: bool = True,
    last_fraction: float | None = None,
    trajectories: Mapping[str, Sequence[int]] | None = None,
) -> dict[str, list[Subsequence]]:
    """Return what the windows of each task are cut from.

    Args:
        context: Sequence length; a window reads one row more, for the previous action and reward
            of its first token.
        fidelity: By which of its rules.
        episode_sparsity: Thin tasks that have an episode sparsity.
        last_fraction: Last part of each trajectory that windows start in; None for the part that
            the method uses.
        trajectories: Trajectories of each task; all of them if None.

    Raises:
        ConfigError: A trajectory, or the part that is used, is shorter than a window, or the
            dataset lacks a field that the method reads.
    """
    learner = find_method(method)
    for task in tasks:
        there = data.fields(task.name)
        missing = sorted({*learner.fields, learner.target} - {*there})
        if missing:
            raise ConfigError(
                f"the dataset lacks what the method {method} reads",
                where=f"task {task.name}",
                expected=", ".join(missing),
                found=", ".join(there),
                fix="pack the histories again, or choose another --method",
            )
    return {
        task.name: learner.rules[fidelity].cut(
            learner,
            data,
            task,
            range(len(task.rows)) if trajectories is None else trajectories[task.name],
            context=context,
            thin=episode_sparsity,
            last_fraction=last_fraction,
        )
        for task in tasks
    }
