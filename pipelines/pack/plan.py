"""What packing is going to join: tasks, where they come from, how they are weighted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pipelines.actions import actions_of
from pipelines.artifacts.row_arrays import RowLayout, balanced_rows, chunk_length
from pipelines.datasets.reader import CARD
from pipelines.errors import ConfigError, UsageError
from pipelines.histories.joined import JoinedHistories
from pipelines.histories.reader import HistoryReader
from pipelines.pack.config import CHUNK_BYTES, CHUNK_ROWS
from pipelines.rows import row_bytes
from pipelines.stage import Plan, default_name
from pipelines.tasks.names import choose_tasks
from pipelines.text import counted

if TYPE_CHECKING:
    from pipelines.artifacts.artifact import Artifact
    from pipelines.artifacts.workspace import Workspace
    from pipelines.histories.quality import HistoryQuality
    from pipelines.histories.source import HistorySource
    from pipelines.pack.config import PackConfig

_BYTES_PER_SECOND = 100e6
"""Decode, reduce, hash and write; measured on one core."""


@dataclass(frozen=True, eq=False)
class PackedTask:
    """One task to be packed.

    Attributes:
        parts: The histories it comes from.
        reader: They as one.
        most_rows: Most rows of a chunk file.
        weights: ``by_window`` and ``by_task``: share of the training samples; 0 for a task that
            training leaves out.
    """

    parts: tuple[HistorySource, ...]
    reader: HistorySource
    attributes: dict[str, Any]
    most_rows: int
    weights: dict[str, float]

    @property
    def task(self) -> dict[str, Any]:
        """The task as JSON."""
        found: dict[str, Any] = self.attributes["task"]
        return found

    @property
    def name(self) -> str:
        """The task's name."""
        return str(self.task["name"])

    @property
    def trajectories(self) -> int:
        """Number of trajectories."""
        return int(self.attributes["trajectories"])

    @property
    def total_steps(self) -> int:
        """Steps over all trajectories."""
        return sum(self.rows)

    @cached_property
    def rows(self) -> list[int]:
        """Steps of each trajectory."""
        return self.reader.lengths(self.name)

    @cached_property
    def block_rows(self) -> int:
        """Rows that are read and reduced at a time."""
        return balanced_rows(max(self.rows), self.most_rows)

    @cached_property
    def layout(self) -> RowLayout:
        """Where the rows of the trajectories go."""
        return RowLayout(tuple(self.rows), chunk_length(self.rows, self.most_rows))

    @property
    def data_bytes(self) -> int:
        """Bytes of the packed rows."""
        row = row_bytes("datasets", self.task["observation_dim"], actions_of(self.task))
        return self.total_steps * row


@dataclass(frozen=True, slots=True)
class Packing:
    """A resolved configuration.

    Attributes:
        name: Name of the artifact to be made.
        histories: The artifacts that tasks are taken from.
        config: The artifact's configuration.
        allowed: Tasks with a poor history that are packed all the same.
    """

    name: str
    histories: tuple[Artifact, ...]
    tasks: tuple[PackedTask, ...]
    config: dict[str, Any]
    quality: dict[str, HistoryQuality]
    allowed: list[str]


def resolve(config: PackConfig, workspace: Workspace) -> Packing:
    """Resolve a configuration against the histories there are.

    Raises:
        ArtifactMissingError: A reference means nothing.
        ConfigError: Two histories of a task are of different tasks, tasks of one group differ in
            dims, or a history is poor and not allowed.
        UsageError: A task or domain is not in the histories, or one of them is given twice.
    """
    from pipelines.pack.gate import check_quality

    references: tuple[str | None, ...] = config.histories or (None,)
    readers = [HistoryReader(workspace.find("histories", each)) for each in references]
    counts = Counter(reader.artifact.digest for reader in readers)
    for reader in readers:
        if counts[reader.artifact.digest] > 1:
            raise UsageError(
                "the same histories are given twice",
                where="--histories",
                expected="each of them once",
                found=reader.reference,
                fix=f"give --histories {reader.reference} once",
            )
    tasks = arrange(config, readers)
    quality, allowed = check_quality(config, tasks)
    histories = tuple(
        reader.artifact for reader in readers if any(reader in task.parts for task in tasks)
    )
    return Packing(
        name=config.name or _default_name(config, tasks, histories),
        histories=histories,
        tasks=tasks,
        config={
            "tasks": {task.name: _content(task, readers) for task in tasks},
            "allow_validation": config.allow_validation,
            **({"allowed": allowed} if allowed else {}),
        },
        quality=quality,
        allowed=allowed,
    )


def arrange(config: PackConfig, readers: Sequence[HistorySource]) -> tuple[PackedTask, ...]:
    """Return the selected tasks of all sources by name, each with its weight and chunk length.

    A task that several sources hold has the trajectories of all of them, in the sources' order.

    Raises:
        ConfigError: Two sources of a task are of different tasks, or tasks of one group differ in
            dims, or of one domain in the simulator.
        UsageError: A task or domain is in none of them.
    """
    found = _selected(config, readers)
    _check_groups([attributes["task"] for _, attributes in found])
    _check_simulators([attributes for _, attributes in found])
    parts: dict[str, list[HistorySource]] = {}
    for reader, attributes in found:
        parts.setdefault(attributes["task"]["name"], []).append(reader)
    joined = {
        name: held[0] if len(held) == 1 else JoinedHistories(name, held)
        for name, held in sorted(parts.items())
    }
    attributes = {name: reader.task(name) for name, reader in joined.items()}
    weights = _weights(
        [attributes[name]["task"] for name in joined],
        [sum(reader.lengths(name)) for name, reader in joined.items()],
        config.allow_validation,
    )
    return tuple(
        PackedTask(
            tuple(parts[name]),
            reader,
            attributes[name],
            _most_rows(config.chunk_rows, attributes[name]),
            share,
        )
        for (name, reader), share in zip(joined.items(), weights, strict=True)
    )


def plan(config: PackConfig, workspace: Workspace) -> Plan:
    """Return what ``--dry-run`` prints; raises what `resolve` raises."""
    from pipelines.pack.gate import short_note

    packing = resolve(config, workspace)
    rows = [
        {
            "task": task.name,
            "domain": task.task["domain"],
            "split": task.task["split"],
            "trajectories": task.trajectories,
            "steps": task.total_steps,
            "history": packing.quality[task.name].verdict,
            "weight_by_window": round(task.weights["by_window"], 4),
            "bytes": task.data_bytes,
            "seconds": round(task.data_bytes / _BYTES_PER_SECOND, 1),
        }
        for task in packing.tasks
    ]
    size = sum(task.data_bytes for task in packing.tasks)
    totals = {
        "task": counted(len(rows), "task"),
        "domain": "",
        "split": "",
        "trajectories": sum(task.trajectories for task in packing.tasks),
        "steps": sum(task.total_steps for task in packing.tasks),
        "history": "",
        "weight_by_window": round(sum(task.weights["by_window"] for task in packing.tasks), 4),
        "bytes": size,
        "seconds": round(size / _BYTES_PER_SECOND, 1),
    }
    short = short_note(packing.quality)
    return Plan(
        rows,
        totals,
        [
            "histories: " + ", ".join(artifact.reference for artifact in packing.histories),
            *([] if short is None else [short]),
        ],
    )


def paper_plan() -> Plan:
    """Return the paper's Table 1, computed from the catalogue without any data."""
    from pipelines.pack.card import table
    from pipelines.tasks.registry import catalogue

    rows = table(
        [
            {"domain": spec.domain, "episodes": spec.episodes, "steps": spec.timesteps}
            for spec in catalogue().select(splits=("train",))
        ]
    )
    return Plan(
        rows[:-1],
        rows[-1],
        [
            "Table 1 of the paper; episodes are steps over the mean episode lengths of its "
            "Appendix G",
        ],
    )


def _selected(
    config: PackConfig, readers: Sequence[HistorySource]
) -> list[tuple[HistorySource, dict[str, Any]]]:
    found = [(reader, reader.task(name)) for reader in readers for name in reader.tasks()]
    references = ", ".join(reader.reference for reader in readers)
    names = choose_tasks(
        config.tasks,
        [each["task"] for _, each in found],
        domains=config.domains,
        among="the histories hold",
        where=references,
        command="vintix distill",
    )
    if not names:
        raise UsageError(
            "the selection is empty: none of these tasks is of these domains",
            where=references,
            found=", ".join((*config.tasks, *config.domains)),
        )
    return [(reader, each) for reader, each in found if each["task"]["name"] in names]


def _check_groups(tasks: Sequence[dict[str, Any]]) -> None:
    first: dict[str, dict[str, Any]] = {}
    for task in tasks:
        if task["name"] == CARD:
            raise ConfigError("a task cannot be packed under this name", found=task["name"])
        other = first.setdefault(task["group"], task)
        dims, expected = (
            f"{each['observation_dim']} observation dims, {actions_of(each)}"
            for each in (task, other)
        )
        if dims != expected:
            raise ConfigError(
                f"tasks of group {task['group']!r} differ in observation dimensions or actions",
                where=f"{other['name']} and {task['name']}",
                expected=expected,
                found=dims,
                fix="pack them into datasets of their own, or collect one of them again",
            )


def _weights(
    tasks: Sequence[dict[str, Any]], steps: Sequence[int], allow_validation: bool
) -> list[dict[str, float]]:
    """Return how often each task is drawn: by window (as the authors' release), or by task.

    Windows start at a fixed stride over the kept episodes, so their number follows the steps
    over the episode sparsity, whatever the stride.
    """
    drawn = [task["split"] == "train" or allow_validation for task in tasks]
    kept = [
        count / task["episode_sparsity"] if draw else 0.0
        for task, count, draw in zip(tasks, steps, drawn, strict=True)
    ]
    total, count = sum(kept), sum(drawn)
    return [
        {
            "by_window": share / total if draw else 0.0,
            "by_task": 1 / count if draw else 0.0,
        }
        for share, draw in zip(kept, drawn, strict=True)
    ]


def _content(task: PackedTask, readers: Sequence[HistoryReader]) -> dict[str, Any]:
    """Return what decides a task's bytes, beside the histories that are packed.

    Parents have no order, so that of a task's histories is said here.
    """
    usual = chunk_length(task.rows, _most_rows(CHUNK_ROWS, task.attributes))
    order = [reader.artifact.digest for reader in readers if reader in task.parts]
    return {
        "chunk_rows": task.block_rows,
        **({} if task.layout.chunk_rows == usual else {"file_rows": task.layout.chunk_rows}),
        **({} if len(order) == 1 else {"histories": order}),
    }


def _most_rows(most: int, attributes: dict[str, Any]) -> int:
    """Return the most rows of a chunk; the widest array, the observations, sets the bound."""
    by_bytes = CHUNK_BYTES // (4 * attributes["task"]["observation_dim"])
    return max(1, min(most, by_bytes))


def _default_name(
    config: PackConfig, tasks: Sequence[PackedTask], histories: Sequence[Artifact]
) -> str:
    if config.tasks:
        return default_name([], [task.name for task in tasks])
    if config.domains:
        return default_name(sorted({task.task["domain"] for task in tasks}), [])
    return default_name([], sorted({artifact.manifest.name for artifact in histories}))


def _check_simulators(found: Sequence[dict[str, Any]]) -> None:
    from pipelines.domains.registry import load_domains, simulators

    domains = load_domains()
    first: dict[str, tuple[str, dict[str, Any]]] = {}
    for attributes in found:
        task = attributes["task"]
        domain = domains.get(task["domain"])
        # Histories of a domain that is not installed here are packed as they are.
        if domain is None or not attributes.get("options"):
            continue
        used = simulators(domain, attributes["options"])
        other, expected = first.setdefault(domain.name, (task["name"], used))
        if used != expected:
            raise ConfigError(
                f"histories of domain {domain.name} were recorded on different simulators",
                where=f"{other} and {task['name']}",
                expected=expected,
                found=used,
                fix="pack them into datasets of their own, or collect one of them again",
            )
