"""Reads demonstrators artifacts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipelines.errors import UsageError
from pipelines.policies.storage import load_policy
from pipelines.text import listed

if TYPE_CHECKING:
    from pipelines.artifacts.artifact import Artifact
    from pipelines.policies.base import PolicySpec


@dataclass(frozen=True, slots=True)
class Demonstrator:
    """The demonstrator of one task.

    Attributes:
        options: Values of all options of the domain that it was measured under.
        card: ``random`` and ``expert``, each with mean, std, episodes, length and, where the
            domain knows it, success; ``paper``, the paper's two scores and both means normalised
            by them, or None.
        source: Where the policy came from; ``kind`` is builtin, train or import.
        task: The task as JSON, as it was when the artifact was made.
    """

    spec: PolicySpec
    options: dict[str, Any]
    card: dict[str, Any]
    source: dict[str, Any]
    task: dict[str, Any]


def demonstrator_tasks(artifact: Artifact) -> list[str]:
    """Return the names of the tasks of an artifact, sorted."""
    return sorted(name for name, _ in artifact.root.groups())


def load_demonstrator(artifact: Artifact, task: str) -> Demonstrator:
    """Load the demonstrator of one task.

    Raises:
        UsageError: The artifact has none for the task.
        ArtifactCorruptError: It is damaged.
    """
    if task not in artifact.root:
        raise UsageError(
            f"The artifact has no demonstrator of the task {task!r}.",
            where=artifact.reference,
            expected=listed(demonstrator_tasks(artifact)),
            found=task,
            fix=f"vintix demonstrators --task {task}",
        )
    attributes: dict[str, Any] = dict(artifact.group(task).attrs)
    return Demonstrator(
        spec=load_policy(attributes["policy"], artifact.group(f"{task}/policy")),
        options=attributes["options"],
        card=attributes["card"],
        source=attributes["source"],
        task=attributes["task"],
    )
