"""Parts of a history: finding them, and checking that they are all of one plan."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from pipelines.distill.history import PART
from pipelines.distill.shard import Shard
from pipelines.errors import ArtifactMissingError, ConfigError, UsageError
from pipelines.histories.layout import trajectory_path
from pipelines.text import listed

if TYPE_CHECKING:
    from pipelines.artifacts.artifact import Artifact
    from pipelines.artifacts.schema import Parent
    from pipelines.artifacts.workspace import Workspace

_OTHER_OPTIONS = "with the options that the other parts were collected with"


@dataclass(frozen=True, slots=True)
class JoinedPlan:
    """The plan that parts were made from, with what they recorded of it.

    Attributes:
        name: Name of the history.
        config: Its configuration, as of a history that one machine collects.
        parents: The demonstrators.
        seeds: Base seeds by purpose.
        tasks: Attributes of each task's group, but for those that its rows give, in the plan's
            order.
        owners: The part that has a trajectory, by task and number, in order.
        fingerprints: Environment of each task.
        packages: Versions of the packages that took part; several where parts differ.
    """

    name: str
    config: dict[str, Any]
    parents: list[Parent]
    seeds: dict[str, int]
    tasks: dict[str, dict[str, Any]]
    owners: dict[tuple[str, int], Artifact]
    fingerprints: dict[str, Any]
    packages: dict[str, str]

    def keys(self) -> dict[tuple[str, int], tuple[str, ...]]:
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
        return {owned: tuple(keys) for owned, keys in found.items()}


def shard_of(part: Artifact) -> Shard:
    """Return which share of its plan a part is."""
    shard = part.config["shard"]
    return Shard(shard["index"], shard["count"])


def find_parts(references: Sequence[str], workspace: Workspace) -> list[Artifact]:
    """Open parts.

    Args:
        references: References or paths of parts; or only the name of a history, for the newest
            version of each of its parts.
        workspace: Where references are looked up.

    Raises:
        ArtifactMissingError: There is no such part.
        UsageError: A reference is malformed, means another kind, or is ambiguous.
    """
    if len(references) == 1 and (
        names := _names_of(references[0].removeprefix("parts/"), workspace)
    ):
        return [workspace.find("parts", name) for name in names]
    return [workspace.find("parts", reference) for reference in references]


def join_parts(parts: Sequence[Artifact]) -> JoinedPlan:
    """Check that parts are all parts of one plan, and return it.

    Raises:
        UsageError: A part is given twice.
        ArtifactMissingError: A part of the plan is not among them.
        ConfigError: They are not of one plan, or do not agree on an environment, a pilot or
            anything else that they recorded of a task.
        ArtifactCorruptError: A part is damaged.
    """
    first = parts[0]
    for part in parts[1:]:
        _check_plan(first, part)
    _check_complete(parts)
    tasks, owners, places = _join_tasks(parts)
    _check_trajectories(first, owners)
    # A digest covers the order of the reports: it is that of the plan.
    tasks = {task: tasks[task] for task in sorted(tasks, key=places.__getitem__)}
    ordered = {
        (task, trajectory): owners[task, trajectory]
        for task, attributes in tasks.items()
        for trajectory in range(attributes["trajectories"])
    }
    return JoinedPlan(
        name=shard_of(first).history_name(first.manifest.name),
        config=_plan_config(first),
        parents=first.manifest.parents,
        seeds=first.manifest.seeds,
        tasks=tasks,
        owners=ordered,
        fingerprints=_join_fingerprints(parts),
        packages=_join_packages(parts),
    )


def _names_of(reference: str, workspace: Workspace) -> list[str]:
    """Return the names of a history's parts, if the reference is the name of a history."""
    pattern = re.compile(re.escape(reference) + r"-([1-9][0-9]*)-of-([1-9][0-9]*)")
    by_count: dict[int, list[tuple[int, str]]] = {}
    for name in workspace.names("parts"):
        if match := pattern.fullmatch(name):
            by_count.setdefault(int(match[2]), []).append((int(match[1]), name))
    if len(by_count) > 1:
        complete = {count: found for count, found in by_count.items() if len(found) == count}
        by_count = complete if len(complete) == 1 else by_count
    if len(by_count) > 1:
        raise UsageError(
            f"history {reference!r} was split in several ways",
            where=workspace.root / "parts",
            expected="parts of one split",
            found=", ".join(
                f"{len(found)} of {count} parts" for count, found in sorted(by_count.items())
            ),
            fix="name the parts: vintix artifacts merge "
            + " ".join(f"parts/{name}" for _, name in sorted(by_count[max(by_count)])),
        )
    return [name for found in by_count.values() for _, name in sorted(found)]


def _plan_config(part: Artifact) -> dict[str, Any]:
    return {key: value for key, value in part.config.items() if key != "shard"}


def _check_plan(first: Artifact, part: Artifact) -> None:
    one, other = shard_of(first), shard_of(part)
    if one.count != other.count:
        _not_one_plan(first, part, f"a part of {one.count}", f"a part of {other.count}", other)
    difference = _difference(_plan_config(first), _plan_config(part))
    if difference:
        path, expected, found = difference
        _not_one_plan(first, part, f"{path}: {expected}", f"{path}: {found}", other)
    parents = [[parent.digest for parent in each.manifest.parents] for each in (first, part)]
    if parents[0] != parents[1]:
        names = [
            ", ".join(
                f"{parent.reference} ({parent.digest[:12]})" for parent in each.manifest.parents
            )
            for each in (first, part)
        ]
        _not_one_plan(first, part, f"made from {names[0]}", f"made from {names[1]}", other)
    named = [shard_of(each).history_name(each.manifest.name) for each in (first, part)]
    if named[0] != named[1]:
        _not_one_plan(first, part, f"of history {named[0]}", f"of history {named[1]}", other)


def _not_one_plan(
    first: Artifact, part: Artifact, expected: str, found: str, shard: Shard
) -> NoReturn:
    raise ConfigError(
        "the parts are not of one plan",
        where=part.path,
        expected=f"{expected}, as in {first.path}",
        found=found,
        fix=f"vintix distill ... --shard {shard.index}/{shard_of(first).count} " + _OTHER_OPTIONS,
    )


def _difference(expected: Any, found: Any, path: str = "") -> tuple[str, str, str] | None:
    """Return where two JSON values first differ, and what each has there."""
    if isinstance(expected, dict) and isinstance(found, dict):
        for key in sorted({*expected, *found}):
            difference = _difference(
                expected.get(key), found.get(key), f"{path}.{key}" if path else key
            )
            if difference:
                return difference
        return None
    if expected == found:
        return None
    return path, _shown(expected), _shown(found)


def _shown(value: Any) -> str:
    text = json.dumps(value, sort_keys=True)
    return "nothing" if value is None else text if len(text) <= 120 else f"{text[:117]}..."


def _check_complete(parts: Sequence[Artifact]) -> None:
    by_index: dict[int, Artifact] = {}
    for part in parts:
        shard = shard_of(part)
        if shard.index in by_index:
            raise UsageError(
                f"part {shard} is given twice",
                where=part.path,
                expected="each part once",
                found=f"it and {by_index[shard.index].path}",
            )
        by_index[shard.index] = part
    count = shard_of(parts[0]).count
    missing = [Shard(index, count) for index in range(1, count + 1) if index not in by_index]
    if missing:
        name = shard_of(parts[0]).history_name(parts[0].manifest.name)
        raise ArtifactMissingError(
            f"{len(missing)} of {count} parts are missing",
            where=f"history {name}",
            expected=f"parts 1 to {count}",
            found=f"without {listed(str(shard) for shard in missing)}",
            fix=f"vintix distill ... --name {name} --shard {missing[0]} {_OTHER_OPTIONS}",
        )


def _join_tasks(
    parts: Sequence[Artifact],
) -> tuple[dict[str, dict[str, Any]], dict[tuple[str, int], Artifact], dict[str, int]]:
    """Return attributes by task, owner by trajectory, and place in the plan by task."""
    tasks: dict[str, dict[str, Any]] = {}
    source: dict[str, Artifact] = {}
    owners: dict[tuple[str, int], Artifact] = {}
    places: dict[str, int] = {}
    for part in parts:
        for task in (report["task"] for report in part.manifest.summary["tasks"]):
            attributes = _attributes(part, task)
            share = attributes.pop(PART)
            # Given by the rows, of all parts together.
            attributes.pop("last_episode_complete")
            if task in tasks:
                _check_attributes(task, source[task], tasks[task], part, attributes)
            else:
                tasks[task], source[task], places[task] = attributes, part, share["place"]
            for trajectory in share["trajectories"]:
                if (task, trajectory) in owners:
                    _split_differently(
                        f"task {task}, trajectory {trajectory}",
                        "it in one part",
                        f"it in {owners[task, trajectory].path} and in {part.path}",
                    )
                owners[task, trajectory] = part
    return tasks, owners, places


def _attributes(part: Artifact, task: str) -> dict[str, Any]:
    from pipelines.artifacts.schema import DATA

    found: dict[str, Any] = json.loads(part.read_file(f"{DATA}/{task}/zarr.json"))["attributes"]
    return found


def _check_attributes(
    task: str,
    first: Artifact,
    expected: Mapping[str, Any],
    part: Artifact,
    found: Mapping[str, Any],
) -> None:
    difference = _difference(expected.get("pilot"), found.get("pilot"), "pilot")
    if difference:
        path, one, other = difference
        raise ConfigError(
            "the pilots of two parts found different decays of the noise; processors of different "
            "kinds may round differently",
            where=f"task {task}, {part.path}",
            expected=f"{path}: {one}, as in {first.path}",
            found=f"{path}: {other}",
            fix="collect the shards of this task on processors of one kind, or give the decay: "
            "--schedule p=...,f=...",
        )
    difference = _difference(dict(expected), dict(found))
    if difference:
        path, one, other = difference
        raise ConfigError(
            "two parts do not agree on a task",
            where=f"task {task}, {part.path}",
            expected=f"{path}: {one}, as in {first.path}",
            found=f"{path}: {other}",
            fix="collect all shards with one release of vintix and of the task's domain",
        )


def _check_trajectories(first: Artifact, owners: Mapping[tuple[str, int], Artifact]) -> None:
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


def _split_differently(where: str, expected: str, found: str) -> NoReturn:
    raise ConfigError(
        "the parts do not add up to the plan: it was split differently on two machines",
        where=where,
        expected=expected,
        found=found,
        fix="collect all shards with one release of vintix and of the task's domain",
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
                fix=f"vintix distill ... --shard {shard_of(part)} with the packages of the "
                "other parts",
            )
    return found


def _join_packages(parts: Sequence[Artifact]) -> dict[str, str]:
    versions: dict[str, set[str]] = {}
    for part in parts:
        for package, version in part.manifest.packages.items():
            versions.setdefault(package, set()).add(version)
    return {package: ", ".join(sorted(found)) for package, found in sorted(versions.items())}
