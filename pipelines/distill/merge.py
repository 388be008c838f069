"""Merging the partitions of one plan into a history: ``vintix artifacts merge``.

What machines collected with ``--shard`` has to be of one plan and to add up to it. The history is
staged and published like a collected one, under the plan's own configuration: a merge that is
killed goes on where it was, a second one is up to date, and so is a collection by the same command
without ``--shard``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from pipelines.distill.history import (
    MERGED,
    PART,
    TaskHistory,
    drop_work,
    history_result,
    publish_history,
)
from pipelines.distill.partition import Partition
from pipelines.errors import ArtifactMissingError, ConfigError, UsageError
from pipelines.histories.layout import trajectory_path
from pipelines.parallel import Outcome, run_parallel
from pipelines.text import listed

if TYPE_CHECKING:
    from pipelines.artifacts.artifact import Artifact
    from pipelines.artifacts.staging import Staging
    from pipelines.artifacts.workspace import Workspace
    from pipelines.reporter import Advance, Reporter
    from pipelines.stage import StageResult

_ONE_RELEASE = "collect all shards with one release of vintix and of the task's domain"
_SAME_OPTIONS = "with the options that the other parts were collected with"


def merge(
    references: Sequence[str], workspace: Workspace, reporter: Reporter, name: str | None = None
) -> StageResult:
    """Join the parts of one plan.

    Args:
        references: The parts, as references or paths; or the name of a history alone, for the
            newest of its parts in this workspace.
        workspace: Where references are looked up and the history goes.
        name: Name of the history; None for the one that the parts were made for.

    Returns:
        The published history, and what a collection would report of it.

    Raises:
        UsageError: A reference is malformed, or a part is given twice.
        ArtifactMissingError: There is no such part, or one of the plan is not among them.
        ArtifactCorruptError: A file of a part does not have the bytes its manifest promises.
        ConfigError: The parts are not of one plan, or were not made in one environment; or a task
            has not one complete episode.
        InterruptedRunError: A signal came; what was taken over is staged.
        StorageError, LockedError: The workspace cannot be written.
    """
    parts = _find_parts(references, workspace)
    plan = _join_parts(parts)
    reporter.info(f"parts: {', '.join(part.reference for part in parts)}")
    first = parts[0]
    with workspace.stage(
        "histories",
        name or _history_of(first),
        config=_plan_config(first),
        parents=first.manifest.parents,
        seeds=first.manifest.seeds,
    ) as staging:
        artifact, up_to_date = staging.published, staging.published is not None
        if artifact is None:
            reporter.info(staging.place())
            drop_work(staging, merged=False)
            _drop_superseded(plan, staging)
            _take_over(plan, staging, reporter)
            artifact = publish_history(
                staging,
                [_task_history(task, attributes) for task, attributes in plan.tasks.items()],
                fingerprints=plan.fingerprints,
                packages=plan.packages,
            )
    return history_result(artifact, up_to_date, parts=[f"parts/{part.reference}" for part in parts])


@dataclass(frozen=True, slots=True)
class _JoinedPlan:
    """The plan that parts were made from, with what they recorded of it.

    Attributes:
        tasks: Attributes of each task's group, but for those that its rows give, in the plan's
            order.
        owners: The part that has a trajectory, by task and number, in order.
        packages: Versions of the packages that took part; several where parts differ.
    """

    tasks: dict[str, dict[str, Any]]
    owners: dict[tuple[str, int], Artifact]
    fingerprints: dict[str, Any]
    packages: dict[str, str]

    def keys(self) -> dict[tuple[str, int], list[str]]:
        """Return the files of each trajectory, relative to the hierarchy."""
        from pipelines.artifacts.schema import DATA

        wanted = {trajectory_path(*owned): owned for owned in self.owners}
        found: dict[tuple[str, int], list[str]] = {owned: [] for owned in self.owners}
        for part in {id(part): part for part in self.owners.values()}.values():
            for path in part.manifest.files:
                key = path.removeprefix(f"{DATA}/")
                owned = wanted.get("/".join(key.split("/")[:2]))
                if owned is not None and self.owners[owned] is part:
                    found[owned].append(key)
        return found


@dataclass(frozen=True, slots=True)
class _TakeJob:
    part: Artifact
    keys: list[str]
    name: str
    directory: Path


def _take_job(job: _TakeJob, advance: Advance) -> None:
    """Copy the rows of one trajectory, each file checked by its hash."""
    from pipelines.artifacts.work import WorkItem

    with WorkItem(job.directory, job.name) as item:
        item.take(job.part, job.keys, advance)
        item.data["part"] = job.part.digest


def _task_history(task: str, attributes: dict[str, Any]) -> TaskHistory:
    trajectories = range(attributes["trajectories"])
    rows = tuple(_work_item(task, trajectory) for trajectory in trajectories)
    return TaskHistory(f"{MERGED}{task}", attributes, trajectories, rows)


def _work_item(task: str, trajectory: int) -> str:
    return f"{MERGED}{trajectory_path(task, trajectory)}"


def _drop_superseded(plan: _JoinedPlan, staging: Staging) -> None:
    """Drop what an earlier merge staged of parts with other bytes than these."""
    superseded = set()
    for (task, trajectory), part in plan.owners.items():
        name = _work_item(task, trajectory)
        if staging.done(name) and staging.data(name)["part"] != part.digest:
            superseded |= {name, f"{MERGED}{task}"}
    staging.drop(*(name for name in superseded if staging.done(name)))


def _take_over(plan: _JoinedPlan, staging: Staging, reporter: Reporter) -> None:
    from pipelines.artifacts.schema import DATA

    keys = plan.keys()
    jobs = [
        _TakeJob(part, keys[owned], _work_item(*owned), staging.directory)
        for owned, part in plan.owners.items()
        if not staging.done(_work_item(*owned))
    ]
    sizes = (job.part.manifest.files[f"{DATA}/{key}"].size for job in jobs for key in job.keys)

    def stop_at_failure(index: int, outcome: Outcome[None]) -> None:
        if outcome.error is not None:
            raise outcome.error

    run_parallel(
        _take_job,
        jobs,
        # The disk is what it waits for; a trajectory's files are copied by a few threads.
        1,
        reporter,
        label="merge",
        total=sum(sizes),
        unit="B",
        on_done=stop_at_failure,
    )


def _find_parts(references: Sequence[str], workspace: Workspace) -> list[Artifact]:
    """Open parts by references or paths; the newest of a history's parts by its name alone."""
    names = []
    if len(references) == 1:
        names = _parts_of(references[0].removeprefix("parts/"), workspace)
    return [workspace.find("parts", reference) for reference in names or references]


def _parts_of(history: str, workspace: Workspace) -> list[str]:
    """Return the names of a history's parts, if this is the name of a history."""
    pattern = re.compile(re.escape(history) + r"-([1-9][0-9]*)-of-([1-9][0-9]*)")
    by_count: dict[int, list[tuple[int, str]]] = {}
    for name in workspace.names("parts"):
        if match := pattern.fullmatch(name):
            by_count.setdefault(int(match[2]), []).append((int(match[1]), name))
    if len(by_count) > 1:
        complete = {count: found for count, found in by_count.items() if len(found) == count}
        by_count = complete if len(complete) == 1 else by_count
    if len(by_count) > 1:
        raise UsageError(
            f"history {history!r} was split in several ways",
            where=workspace.root / "parts",
            expected="parts of one split",
            found=", ".join(
                f"{len(found)} of {count} parts" for count, found in sorted(by_count.items())
            ),
            fix="name the parts: vintix artifacts merge "
            + " ".join(f"parts/{name}" for _, name in sorted(by_count[max(by_count)])),
        )
    return [name for found in by_count.values() for _, name in sorted(found)]


def _join_parts(parts: Sequence[Artifact]) -> _JoinedPlan:
    """Check that parts are all parts of one plan and agree on what they recorded of it."""
    first = parts[0]
    for part in parts[1:]:
        _check_plan(first, part)
    _check_complete(parts)
    tasks, owners, places = _join_tasks(parts)
    planned = {
        (task, trajectory)
        for task, settings in first.config["tasks"].items()
        for trajectory in range(settings["trajectories"])
    }
    missing = sorted(planned - owners.keys())
    if missing:
        _split_differently(
            f"task {missing[0][0]}",
            f"{len(planned)} trajectories in all parts together",
            f"without {listed(trajectory_path(*each) for each in missing)}",
        )
    # A digest covers the order of the reports: it is that of the plan.
    tasks = {task: tasks[task] for task in sorted(tasks, key=places.__getitem__)}
    ordered = {
        (task, trajectory): owners[task, trajectory]
        for task, attributes in tasks.items()
        for trajectory in range(attributes["trajectories"])
    }
    return _JoinedPlan(tasks, ordered, _join_fingerprints(parts), _join_packages(parts))


def _partition_of(part: Artifact) -> Partition:
    return Partition(**part.config["shard"])


def _history_of(part: Artifact) -> str:
    return _partition_of(part).history_name(part.manifest.name)


def _plan_config(part: Artifact) -> dict[str, Any]:
    return {key: value for key, value in part.config.items() if key != "shard"}


def _parents_of(part: Artifact) -> str:
    return ", ".join(f"{each.reference} ({each.digest[:12]})" for each in part.manifest.parents)


def _check_plan(first: Artifact, part: Artifact) -> None:
    one, other = _partition_of(first), _partition_of(part)
    difference = _difference(_plan_config(first), _plan_config(part))
    digests = [[parent.digest for parent in each.manifest.parents] for each in (first, part)]
    if one.count != other.count:
        expected, found = f"a part of {one.count}", f"a part of {other.count}"
    elif difference:
        path, *values = difference
        expected, found = (f"{path}: {value}" for value in values)
    elif digests[0] != digests[1]:
        expected, found = (f"made from {_parents_of(each)}" for each in (first, part))
    elif _history_of(first) != _history_of(part):
        expected, found = (f"of history {_history_of(each)}" for each in (first, part))
    else:
        return
    raise ConfigError(
        "the parts are not of one plan",
        where=part.path,
        expected=f"{expected}, as in {first.path}",
        found=found,
        fix=f"vintix distill ... --shard {other.index}/{one.count} {_SAME_OPTIONS}",
    )


def _difference(expected: Any, found: Any, path: str = "") -> tuple[str, str, str] | None:
    """Return where two JSON values first differ, and what each has there."""
    if isinstance(expected, dict) and isinstance(found, dict):
        differences = (
            _difference(expected.get(key), found.get(key), f"{path}.{key}" if path else key)
            for key in sorted({*expected, *found})
        )
        return next((each for each in differences if each), None)
    return None if expected == found else (path, _shown(expected), _shown(found))


def _shown(value: Any) -> str:
    text = json.dumps(value, sort_keys=True)
    return "nothing" if value is None else text if len(text) <= 120 else f"{text[:117]}..."


def _check_complete(parts: Sequence[Artifact]) -> None:
    by_index: dict[int, Artifact] = {}
    for part in parts:
        partition = _partition_of(part)
        if partition.index in by_index:
            raise UsageError(
                f"part {partition} is given twice",
                where=part.path,
                expected="each part once",
                found=f"it and {by_index[partition.index].path}",
            )
        by_index[partition.index] = part
    name, count = _history_of(parts[0]), _partition_of(parts[0]).count
    missing = [f"{index}/{count}" for index in range(1, count + 1) if index not in by_index]
    if missing:
        raise ArtifactMissingError(
            f"{len(missing)} of {count} parts are missing",
            where=f"history {name}",
            expected=f"parts 1 to {count}",
            found=f"without {listed(missing)}",
            fix=f"vintix distill ... --name {name} --shard {missing[0]} {_SAME_OPTIONS}",
        )


def _join_tasks(
    parts: Sequence[Artifact],
) -> tuple[dict[str, dict[str, Any]], dict[tuple[str, int], Artifact], dict[str, int]]:
    """Return attributes by task, owner by trajectory, and place in the plan by task."""
    from pipelines.artifacts.schema import DATA

    tasks: dict[str, dict[str, Any]] = {}
    source: dict[str, Artifact] = {}
    owners: dict[tuple[str, int], Artifact] = {}
    places: dict[str, int] = {}
    for part in parts:
        for task in (report["task"] for report in part.manifest.summary["tasks"]):
            metadata = json.loads(part.read_file(f"{DATA}/{task}/zarr.json"))
            attributes = metadata["attributes"]
            held = attributes.pop(PART)
            # Given by the rows, of all parts together.
            attributes.pop("last_episode_complete")
            if task in tasks:
                _check_attributes(task, source[task], tasks[task], part, attributes)
            else:
                tasks[task], source[task], places[task] = attributes, part, held["place"]
            for trajectory in held["trajectories"]:
                if (task, trajectory) in owners:
                    _split_differently(
                        f"task {task}, trajectory {trajectory}",
                        "it in one part",
                        f"it in {owners[task, trajectory].path} and in {part.path}",
                    )
                owners[task, trajectory] = part
    return tasks, owners, places


def _check_attributes(
    task: str,
    first: Artifact,
    expected: Mapping[str, Any],
    part: Artifact,
    found: Mapping[str, Any],
) -> None:
    message = (
        "the pilots of two parts found different decays of the noise; processors of different "
        "kinds may round differently"
    )
    fix = (
        "collect the shards of this task on processors of one kind, or give the decay: "
        "--schedule p=...,f=..."
    )
    difference = _difference(expected.get("pilot"), found.get("pilot"), "pilot")
    if not difference:
        message, fix = "two parts do not agree on a task", _ONE_RELEASE
        difference = _difference(dict(expected), dict(found))
    if difference:
        path, one, other = difference
        raise ConfigError(
            message,
            where=f"task {task}, {part.path}",
            expected=f"{path}: {one}, as in {first.path}",
            found=f"{path}: {other}",
            fix=fix,
        )


def _split_differently(where: str, expected: str, found: str) -> NoReturn:
    raise ConfigError(
        "the parts do not add up to the plan: it was split differently on two machines",
        where=where,
        expected=expected,
        found=found,
        fix=_ONE_RELEASE,
    )


def _join_fingerprints(parts: Sequence[Artifact]) -> dict[str, Any]:
    from pipelines.playing.fingerprint import check_same_environment

    found: dict[str, Any] = {}
    source: dict[str, Artifact] = {}
    for part in parts:
        for task, fingerprint in part.manifest.fingerprints.items():
            if task not in found:
                found[task], source[task] = fingerprint, part
                continue
            check_same_environment(
                found[task],
                fingerprint,
                "two parts were not collected in the same environment",
                where=f"task {task}, {part.path} (here) and {source[task].path} (the artifact)",
                fix=f"vintix distill ... --shard {_partition_of(part)} with the packages of the "
                "other parts",
            )
    return found


def _join_packages(parts: Sequence[Artifact]) -> dict[str, str]:
    versions: dict[str, set[str]] = {}
    for part in parts:
        for package, version in part.manifest.packages.items():
            versions.setdefault(package, set()).add(version)
    return {package: ", ".join(sorted(found)) for package, found in sorted(versions.items())}
