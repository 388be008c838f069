"""What is looked at before a rollout starts: doubtful input, and the environments themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipelines.errors import ArtifactError
from pipelines.rollout.config import RolloutConfig
from pipelines.rollout.selection import Target
from pipelines.tasks.spec import score_of
from pipelines.text import listed

if TYPE_CHECKING:
    from pipelines.artifacts.artifact import Artifact
    from pipelines.artifacts.workspace import Workspace
    from pipelines.model.saved import SavedModel
    from pipelines.reporter import Reporter


def warn_of_input(
    config: RolloutConfig, model: SavedModel, targets: Sequence[Target], reporter: Reporter
) -> None:
    """Warn of what makes the results mean something else than one might think."""
    if config.context is not None and config.context > model.config.context:
        reporter.warn(
            f"context {config.context} is longer than the {model.config.context} steps the model "
            "was trained with: ALiBi allows it, the results are an extrapolation"
        )
    for target in targets:
        if target.spec.inert_reason is not None:
            reporter.warn(
                f"{target.spec.name} plays like {target.spec.variation_of}: "
                f"{target.spec.inert_reason}"
            )
    without = [
        target.spec.name for target in targets if score_of(target.scores, config.reference) is None
    ]
    if without:
        reporter.warn(
            f"no {config.reference} scores for {listed(without)}: their returns are not normalised "
            "and do not count in the mean"
        )


def check_fingerprints(
    config: RolloutConfig,
    workspace: Workspace,
    checkpoint: Artifact,
    targets: Sequence[Target],
    reporter: Reporter,
) -> dict[str, Any]:
    """Fingerprint every task as played, and compare known tasks with what the data recorded.

    Returns:
        The fingerprint of each task; JSON.

    Raises:
        ConfigError: One differs, under `strict`.
        MissingDependencyError: A simulator is not there.
    """
    from pipelines.playing.fingerprint import check_same_environment, fingerprint

    recorded = _recorded_fingerprints(checkpoint, workspace)
    now = {}
    for target in targets:
        name = target.spec.name
        now[name] = fingerprint(target.spec, target.options)
        if name not in recorded or target.options != dict(target.saved.options):
            continue
        check_same_environment(
            recorded[name],
            now[name],
            f"the environment of task {name!r} is not the one the checkpoint's data came from",
            where=f"fingerprint recorded with {checkpoint.reference}",
            fix="install the simulator versions of the manifest, or leave --strict out",
            warn=None if config.strict else reporter.warn,
        )
    return now


def _recorded_fingerprints(artifact: Artifact, workspace: Workspace) -> Mapping[str, Any]:
    """Return the fingerprints kept with an artifact or, where it has none, with its ancestors."""
    if artifact.manifest.fingerprints:
        return artifact.manifest.fingerprints
    found: dict[str, Any] = {}
    for parent in artifact.manifest.parents:
        try:
            ancestor = workspace.find(parent.kind, f"{parent.name}@v{parent.version}")
        except ArtifactError:
            # A checkpoint may have been copied here without its data; there is nothing to compare.
            continue
        if ancestor.digest == parent.digest:
            found |= _recorded_fingerprints(ancestor, workspace)
    return found
