"""What a report is made from: rollouts, the models that played them, and what those came from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pipelines.errors import ConfigError, UsageError
from pipelines.methods import DEFAULT, method_title
from pipelines.rollout.report import act_of, checkpoint_of, common_scores, rewards_of
from pipelines.rollout.scores import TaskCurve, read_curve
from pipelines.tasks.names import choose_tasks
from pipelines.tasks.spec import REFERENCES, score_of

if TYPE_CHECKING:
    from pipelines.artifacts.artifact import Artifact
    from pipelines.artifacts.workspace import Workspace

BASELINES = {
    "random": "random play",
    "demonstrator": "demonstrator",
    "blind": "demonstrator without the goal",
    "belief": "demonstrator by rewards alone",
    "thompson": "Thompson sampling",
    "ucb": "upper confidence bounds",
}
"""What the baselines are called."""


@dataclass(frozen=True)
class Entry:
    """One task as one model played it.

    Attributes:
        model: What the model is called in the report.
        method: How it was trained, or the baseline's name; None where that is not known.
        artifact: Reference of the rollouts artifact.
        task: The task's specification, JSON.
        scores: Score references by name, JSON; see `pipelines.rollout.report.common_scores`.
        curve: Returns by shot, with the score of the artifact's own reference.
        variation: What is changed, such as ``{"gravity": "1.1x"}``; empty where nothing is.
    """

    model: str
    method: str | None
    artifact: str
    task: dict[str, Any]
    scores: dict[str, Any]
    curve: TaskCurve
    variation: dict[str, Any]

    @property
    def name(self) -> str:
        """Name of the task or variation."""
        return self.curve.name

    @property
    def domain(self) -> str:
        """Its domain."""
        return self.curve.domain

    @property
    def trained(self) -> bool:
        """Whether it is a training task."""
        return self.curve.part == "training"

    def under(self, reference: str) -> Entry:
        """Return the same with the scores of another reference."""
        score = score_of(self.scores, reference)
        return replace(self, curve=replace(self.curve, reference=reference, score=score))


def domains_of(entries: Iterable[Entry]) -> list[str]:
    """Return the domains, in order of appearance."""
    return list(dict.fromkeys(entry.domain for entry in entries))


def models_of(entries: Iterable[Entry]) -> list[str]:
    """Return the models, in order of appearance."""
    return list(dict.fromkeys(entry.model for entry in entries))


def of_domain(entries: Iterable[Entry], domain: str) -> list[Entry]:
    """Return the entries of one domain."""
    return [entry for entry in entries if entry.domain == domain]


def scored(entries: Iterable[Entry]) -> list[Entry]:
    """Return those that can be normalised."""
    return [entry for entry in entries if entry.curve.score is not None]


def main_entries(entries: Sequence[Entry]) -> list[Entry]:
    """Return each domain's entries of one model: of the first trained by AD, else of the first."""
    chosen = []
    for domain in domains_of(entries):
        mine = of_domain(entries, domain)
        first = min(mine, key=lambda entry: entry.method not in (None, DEFAULT))
        chosen += [entry for entry in mine if entry.model == first.model]
    return chosen


@dataclass(frozen=True)
class Sources:
    """All that a report is made from.

    Attributes:
        entries: Their tasks, in the order they were played.
        lineage: The rollouts and, as far as the workspace holds them, all they came from.
        missing: References of ancestors that the workspace does not hold.
    """

    rollouts: tuple[Artifact, ...]
    entries: tuple[Entry, ...]
    lineage: tuple[Artifact, ...]
    missing: tuple[str, ...]

    @property
    def absent(self) -> list[dict[str, Any]]:
        """Tasks that a rollout was asked for and whose group its checkpoint does not have.

        JSON objects with ``rollout``, ``name``, ``domain`` and ``reason``.
        """
        return [
            {
                "rollout": artifact.reference,
                **{key: task.get(key) for key in ("name", "domain", "reason")},
            }
            for artifact in self.rollouts
            for task in artifact.manifest.summary.get("absent", ())
        ]

    @property
    def references(self) -> list[str]:
        """Score references under which at least one task can be normalised."""
        known = {
            name
            for entry in self.entries
            for name in entry.scores
            if score_of(entry.scores, name) is not None
        }
        return [name for name in REFERENCES if name in known] + sorted(known - {*REFERENCES})

    def of_kind(self, kind: str) -> list[Artifact]:
        """Return the artifacts of a kind among the lineage."""
        return [artifact for artifact in self.lineage if artifact.kind == kind]

    def chosen_reference(self, wanted: str | None) -> str:
        """Return the reference to begin with: the one wanted, else the artifacts' own.

        Raises:
            ConfigError: No task has scores under the one wanted.
        """
        if wanted is not None and wanted not in self.references:
            raise ConfigError(
                f"no task of the rollouts has a score reference {wanted!r}",
                where=", ".join(artifact.reference for artifact in self.rollouts),
                expected=" or ".join(self.references) or "a task with scores",
                found=wanted,
                fix=f"vintix report --reference {self.references[0]}"
                if self.references
                else "leave --reference out",
            )
        own = self.entries[0].curve.reference
        if wanted is not None:
            return wanted
        return own if own in self.references or not self.references else self.references[0]


def read_sources(
    workspace: Workspace, references: Sequence[str] = (), tasks: Sequence[str] = ()
) -> Sources:
    """Read rollouts and find what they came from.

    Args:
        references: References of rollouts artifacts; empty for the newest.
        tasks: Names or aliases of the tasks wanted; empty for all. Each has to be in one of them.

    Raises:
        ArtifactMissingError: A reference means nothing.
        ArtifactCorruptError: The bytes of one differ from the manifest's.
        UsageError: An artifact is named twice, or none has such a task.
    """
    rollouts = [workspace.find("rollouts", each) for each in references or (None,)]
    seen: set[str] = set()
    for artifact in rollouts:
        if artifact.reference in seen:
            raise UsageError(
                "a rollout is named twice",
                where="ROLLOUT",
                expected="each once",
                found=artifact.reference,
                fix=f"name {artifact.reference} once",
            )
        seen.add(artifact.reference)
    lineage, missing = workspace.lineage(rollouts)
    entries = list(_entries(rollouts, {artifact.digest: artifact for artifact in lineage}))
    if tasks:
        chosen = choose_tasks(
            tasks,
            [entry.task for entry in entries],
            among="the rollouts hold",
            where=", ".join(artifact.reference for artifact in rollouts),
        )
        entries = [entry for entry in entries if entry.name in chosen]
    return Sources(tuple(rollouts), tuple(entries), tuple(lineage), tuple(missing))


def _entries(rollouts: Sequence[Artifact], known: dict[str, Artifact]) -> Iterator[Entry]:
    names = _model_names(rollouts, known)
    scores, _ = common_scores(rollouts)
    for artifact in rollouts:
        method = _method(artifact, known)
        settings = artifact.config.get("tasks", {})
        for task in artifact.manifest.summary["tasks"]:
            attributes: dict[str, Any] = dict(artifact.group(task).attrs)
            curve = read_curve(artifact.group, task)
            yield Entry(
                model=names[artifact.reference],
                method=method,
                artifact=artifact.reference,
                task=attributes["task"],
                scores=scores[task],
                curve=replace(curve, score=score_of(scores[task], curve.reference)),
                variation=settings.get(task, {}).get("variation") or {},
            )


def _model_names(rollouts: Sequence[Artifact], known: dict[str, Artifact]) -> dict[str, str]:
    """Name the model of each artifact: by how it was trained, where that is different.

    Artifacts of one checkpoint share its name, unless they played a task twice: then the artifact's
    reference is added. What the model was shown as rewards is part of the name, and so is that
    it chose the most likely actions.
    """
    parents = {artifact.reference: checkpoint_of(artifact) for artifact in rollouts}
    methods = {artifact.reference: _method_name(artifact, known) for artifact in rollouts}
    names = {}
    for artifact in rollouts:
        checkpoint = parents[artifact.reference]
        same_method = {
            parents[other]
            for other, method in methods.items()
            if method == methods[artifact.reference]
        }
        name = methods[artifact.reference] or checkpoint or artifact.reference
        if len(same_method) > 1 and checkpoint:
            name = f"{name}, {checkpoint}" if name != checkpoint else name
        mine = set(artifact.manifest.summary["tasks"])
        rivals = [
            other
            for other in rollouts
            if other is not artifact
            and parents[other.reference] == checkpoint
            and methods[other.reference] == methods[artifact.reference]
            and mine & set(other.manifest.summary["tasks"])
        ]
        names[artifact.reference] = f"{name}, {artifact.reference}" if rivals else name
    return names


def _method(artifact: Artifact, known: dict[str, Artifact]) -> str | None:
    if "method" in artifact.manifest.summary:
        return str(artifact.manifest.summary["method"])
    for parent in artifact.manifest.parents:
        if parent.kind == "checkpoints" and parent.digest in known:
            manifest = known[parent.digest].manifest
            found = manifest.config.get("method", manifest.summary.get("method"))
            return None if found is None else str(found)
    return None


def _method_name(artifact: Artifact, known: dict[str, Artifact]) -> str | None:
    method, rewards = _method(artifact, known), rewards_of(artifact)
    name = None if method is None else BASELINES.get(method) or method_title(method)
    details = [] if rewards == "true" else [f"{rewards} rewards"]
    details += ["greedy"] if act_of(artifact) == "greedy" else []
    return ", ".join([name or "model", *details]) if details else name
