"""Where the numbers of a report come from: every artifact, how it was made, and from what."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from pipelines.artifacts.workspace import STAGE_OF_KIND
from pipelines.report.sources import Sources
from pipelines.rollout.prompt import KINDS as PROMPTS

if TYPE_CHECKING:
    from pipelines.artifacts.artifact import Artifact

_OPTIONS = {
    "demonstrators": "--demonstrators",
    "histories": "--histories",
    "datasets": "--dataset",
    "checkpoints": "--checkpoint",
}
"""The option that names a parent of each kind."""
_SEEDED = ("histories", "checkpoints", "rollouts")


def provenance(sources: Sources) -> dict[str, Any]:
    """Return what made a report; JSON.

    Returns:
        ``vintix`` (the version that made it), ``command`` (that makes it again), ``artifacts``,
        rollouts first, each with ``reference``, ``digest``, ``created_at``, ``git_revision``,
        ``packages``, ``seeds``, ``parents`` (``reference`` and ``digest``), ``command`` and
        ``config``, and ``missing``: references of ancestors that are not in the workspace.
    """
    from pipelines import __version__

    names = [artifact.reference for artifact in sources.rollouts]
    return {
        "vintix": __version__,
        "command": shlex.join(["vintix", "report", *names]),
        "artifacts": [_record(artifact) for artifact in sources.lineage],
        "missing": list(sources.missing),
    }


def _record(artifact: Artifact) -> dict[str, Any]:
    manifest = artifact.manifest
    return {
        "reference": f"{artifact.kind}/{artifact.reference}",
        "digest": manifest.digest,
        "created_at": manifest.created_at,
        "git_revision": manifest.git_revision,
        "packages": dict(sorted(manifest.packages.items())),
        "seeds": dict(manifest.seeds),
        "parents": [
            {"reference": parent.reference, "digest": parent.digest} for parent in manifest.parents
        ],
        "command": _command(artifact),
        "config": manifest.config,
    }


def _command(artifact: Artifact) -> str:
    """Return the command that makes an artifact of this kind from these parents.

    A manifest records the resolved configuration, not what was typed: settings that no parent
    tells are in ``config``.
    """
    manifest = artifact.manifest
    words = ["vintix", *STAGE_OF_KIND[artifact.kind].split()]
    for parent in manifest.parents:
        if artifact.kind == "rollouts" and parent.kind in PROMPTS:
            words += ["--prompt", parent.reference]
        elif artifact.kind == "rollouts" and parent.kind == "demonstrators":
            # A baseline finds them by itself.
            continue
        elif parent.kind in _OPTIONS:
            words += [_OPTIONS[parent.kind], f"{parent.name}@v{parent.version}"]
    agent = manifest.config.get("agent")
    if agent is None:
        words += ["--name", manifest.name]
    else:
        # Beside the rollout of the checkpoint whose tasks it plays, which is no parent of it.
        words += ["--name", manifest.name.removesuffix(f"-{agent}"), "--baseline", agent]
    if artifact.kind == "rollouts":
        tasks = manifest.config.get("tasks", {})
        for task, each in tasks.items():
            if not each.get("variation"):
                words += ["--task", task]
        shots = {each.get("shots") for each in tasks.values()}
        if len(shots) == 1:
            words += ["--shots", str(shots.pop())]
        words += ["--seeds", str(manifest.config.get("seeds", 1))]
    if artifact.kind in _SEEDED and isinstance(manifest.config.get("seed"), int):
        words += ["--seed", str(manifest.config["seed"])]
    return shlex.join(words)
