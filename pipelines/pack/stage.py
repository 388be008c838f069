"""``vintix pack``: joins the histories of many tasks into one training dataset."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.actions import actions_of
from pipelines.artifacts.arrays import write_array
from pipelines.artifacts.row_arrays import RowWriter, write_trajectories
from pipelines.datasets.reader import CARD
from pipelines.histories.layout import ORIGINS, trajectory_path
from pipelines.mean_variance import MeanVariance
from pipelines.pack.card import card
from pipelines.pack.gate import short_note
from pipelines.pack.plan import PackedTask, Packing, paper_plan, plan, resolve
from pipelines.rows import DATASET_ROWS, EPISODE_FIELDS, HISTORY_ROWS, names, row_layout
from pipelines.stage import StageResult
from pipelines.text import listed

if TYPE_CHECKING:
    import zarr
    from numpy.typing import NDArray

    from pipelines.artifacts.artifact import Artifact
    from pipelines.artifacts.staging import Staging
    from pipelines.artifacts.workspace import Workspace
    from pipelines.pack.config import PackConfig
    from pipelines.reporter import Progress, Reporter
    from pipelines.signals import StopSignal

__all__ = ["pack_tasks", "paper_plan", "plan", "run"]

_REDUCED_ROWS = 8_192
"""Rows reduced at a time: a float64 copy of them stays small."""


def run(config: PackConfig, workspace: Workspace, reporter: Reporter) -> StageResult:
    """Pack histories, or go on where an earlier run stopped.

    Memory does not grow with the data: one chunk of each array is held at a time.

    Args:
        workspace: Where the histories are and the dataset goes.

    Returns:
        The published dataset and its card.

    Raises:
        ArtifactMissingError: A reference means nothing.
        ArtifactCorruptError: A history does not have the bytes its manifest promises.
        ConfigError: Two histories of a task are of different tasks, tasks of one group differ in
            dims, or a history does not look like learning and is not allowed.
        UsageError: A task or domain is not in the histories.
        InterruptedRunError: A signal stopped the run; whole trajectories are staged.
        StorageError, LockedError: The workspace cannot be written.
    """
    from pipelines.signals import StopSignal

    packing = resolve(config, workspace)
    for artifact in packing.histories:
        reporter.info(f"histories: {artifact.reference}")
    if joined := [task.name for task in packing.tasks if len(task.parts) > 1]:
        reporter.info(f"joined from several histories: {listed(joined)}")
    for name in packing.allowed:
        quality = packing.quality[name].quality
        failures = [] if quality is None else quality.failures()
        reporter.warn(f"{name}: a poor history, packed as allowed: {', '.join(failures)}")
    if short := short_note(packing.quality):
        reporter.warn(short)
    for verdict, told in (
        ("unmeasured", "without measured scores"),
        ("unjudged", "that are not meant to rise from random play to an expert"),
    ):
        names = [name for name, each in packing.quality.items() if each.verdict == verdict]
        if names:
            reporter.info(f"histories {told}, not judged: {listed(names)}")
    with (
        StopSignal() as stop,
        workspace.stage(
            "datasets", packing.name, config=packing.config, parents=packing.histories
        ) as staging,
    ):
        if staging.published is not None:
            return _result(staging.published, packing, True)
        reporter.info(staging.place())
        artifact = pack_tasks(packing.tasks, staging, reporter, stop)
    return _result(artifact, packing, False)


def pack_tasks(
    tasks: Sequence[PackedTask], staging: Staging, reporter: Reporter, stop: StopSignal
) -> Artifact:
    """Write and publish a dataset of some tasks, going on where an earlier run stopped.

    Raises:
        InterruptedRunError: A signal came; whole trajectories are staged.
        StorageError: The workspace cannot be written.
    """
    _pack_trajectories(tasks, staging, reporter, stop)
    for task in tasks:
        if not staging.done(task.name):
            _write_task(task, staging)
    rows = [_summary(task, staging) for task in tasks]
    table = card(rows)
    if not staging.done(CARD):
        with staging.work_item(CARD) as item:
            item.group(CARD, table)
    return staging.publish(
        summary={"card": table, "tasks": rows},
        work_items=[
            CARD,
            *(task.name for task in tasks),
            *(_work_item(task, group) for task in tasks for group in task.layout.groups),
        ],
        # As the histories recorded them.
        fingerprints={
            task.name: found for task in tasks if (found := task.reader.fingerprint(task.name))
        },
    )


def _result(artifact: Artifact, packing: Packing, up_to_date: bool) -> StageResult:
    summary = artifact.manifest.summary
    tasks = [{**row, "history": packing.quality[row["task"]].verdict} for row in summary["tasks"]]
    parents = [f"{each.name}@v{each.version}" for each in artifact.manifest.parents]
    return StageResult(artifact, up_to_date, {**summary, "tasks": tasks, "histories": parents})


def _pack_trajectories(
    tasks: Sequence[PackedTask], staging: Staging, reporter: Reporter, stop: StopSignal
) -> None:
    waiting = [
        (task, group)
        for task in tasks
        for group in task.layout.groups
        if not staging.done(_work_item(task, group))
    ]
    total = sum(task.rows[trajectory] for task, group in waiting for trajectory in group)
    with reporter.progress("pack", total, "steps") as progress:
        for task, group in waiting:
            _pack_group(task, group, staging, progress, stop)


def _work_item(task: PackedTask, group: range) -> str:
    """Return the work item of trajectories that share chunk files."""
    return trajectory_path(task.name, group.start)


def _pack_group(
    task: PackedTask, group: range, staging: Staging, progress: Progress, stop: StopSignal
) -> None:
    fields = _fields(task)
    copied = [name for name in fields if name in HISTORY_ROWS]
    with staging.work_item(_work_item(task, group)) as item:
        writer = _writer(task, item.group(task.name))
        item.data["moments"] = []
        for trajectory in group:
            starts_E = task.reader.episodes(task.name, trajectory)["episode_start"]
            moments = {"observation": MeanVariance.empty(task.task["observation_dim"])}
            if actions_of(task.task).continuous:
                moments["action"] = MeanVariance.empty(task.task["action_dim"])
            writer.begin(trajectory)
            begin = 0
            for block in task.reader.blocks(task.name, trajectory, copied, task.block_rows):
                end = begin + len(block["reward"])
                steps = _episode_steps(starts_E, begin, end)
                writer.write({**{name: block[name] for name in copied}, "episode_step": steps})
                for name, so_far in moments.items():
                    moments[name] = _reduce(so_far, block[name])
                progress.advance(end - begin)
                stop.raise_if_requested(
                    "interrupted; trajectories that were packed are kept",
                    fix="run the same command again: it goes on from there",
                )
                begin = end
            item.data["moments"].append({name: each.as_json() for name, each in moments.items()})
        writer.flush()


def _writer(task: PackedTask, group: zarr.Group) -> RowWriter:
    layout = row_layout("datasets", task.task["observation_dim"], actions_of(task.task))
    fields = {name: layout[name] for name in _fields(task)}
    return RowWriter(group, task.layout, fields, mapped=True)


def _fields(task: PackedTask) -> tuple[str, ...]:
    """Return the per-step arrays of the dataset: those that the history has something for."""
    known = {*task.reader.fields(task.name), "episode_step"}
    return tuple(name for name in DATASET_ROWS if name in known)


def _reduce(so_far: MeanVariance, rows_NC: NDArray[np.float32]) -> MeanVariance:
    for first in range(0, len(rows_NC), _REDUCED_ROWS):
        so_far = so_far.merge(MeanVariance.of(rows_NC[first : first + _REDUCED_ROWS]))
    return so_far


def _episode_steps(starts_E: NDArray[np.int64], begin: int, end: int) -> NDArray[np.int32]:
    """Return the number of each step within its episode, for steps `begin` to `end` - 1."""
    steps = np.arange(begin, end)
    return (steps - starts_E[np.searchsorted(starts_E, steps, side="right") - 1]).astype(np.int32)


def _write_task(task: PackedTask, staging: Staging) -> None:
    measured = [
        each
        for group in task.layout.groups
        for each in staging.data(_work_item(task, group))["moments"]
    ]
    joined = {
        name: _join([MeanVariance.from_json(each[name]) for each in measured])
        for name in measured[0]
    }
    statistics = {
        name: (moments.mean_C, moments.standard_deviation()) for name, moments in joined.items()
    }
    width = actions_of(task.task).width
    # Of choices there is nothing to normalise.
    statistics.setdefault("action", (np.zeros(width), np.ones(width)))
    episodes = _read_episodes(task)
    counts = [len(each["episode_start"]) for each in episodes]
    source, fields = task.attributes, _fields(task)
    with staging.work_item(task.name) as item:
        group = item.group(
            task.name,
            {
                "task": task.task,
                "group": task.task["group"],
                "reward_scale": task.task["reward_scale"],
                "split": task.task["split"],
                "episode_sparsity": task.task["episode_sparsity"],
                "schedule": source["schedule"],
                "options": source["options"],
                "scores": source["scores"],
                "trajectories": task.trajectories,
                "rows": task.rows,
                "episodes": counts,
                "chunk_rows": task.layout.chunk_rows,
                "weights": task.weights,
                "standard_deviation_divisor": "N - 1",
                **({"fields": list(fields)} if fields != DATASET_ROWS else {}),
                **{name: source[name] for name in (*ORIGINS, "joined") if name in source},
            },
        )
        for name, (mean, std) in statistics.items():
            write_array(group, f"{name}_mean", mean)
            write_array(group, f"{name}_std", std)
        _writer(task, group).create()
        write_trajectories(group, task.layout, episodes)
        item.data["episodes"] = sum(counts)


def _join(parts: list[MeanVariance]) -> MeanVariance:
    joined = parts[0]
    for part in parts[1:]:
        joined = joined.merge(part)
    return joined


def _read_episodes(task: PackedTask) -> list[dict[str, NDArray[Any]]]:
    """Return what a dataset keeps of the episodes of each trajectory."""
    kept = names("datasets", EPISODE_FIELDS)
    read = (task.reader.episodes(task.name, number) for number in range(task.trajectories))
    return [{name: each[name] for name in kept} for each in read]


def _summary(task: PackedTask, staging: Staging) -> dict[str, Any]:
    return {
        "task": task.name,
        "domain": task.task["domain"],
        "group": task.task["group"],
        "split": task.task["split"],
        "trajectories": task.trajectories,
        "episodes": staging.data(task.name)["episodes"],
        "steps": task.total_steps,
        "weights": task.weights,
    }
