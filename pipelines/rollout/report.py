"""What a published rollouts artifact says: its report as JSON, and its pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.pictures import FORMATS

if TYPE_CHECKING:
    from pipelines.artifacts.artifact import Artifact


def rollout_report(artifact: Artifact, reference: str | None = None) -> dict[str, Any]:
    """Return the report of a rollouts artifact; JSON.

    Args:
        artifact: Of kind ``rollouts``.
        reference: Another score reference than the one it was made with.

    Returns:
        ``tasks`` (see `pipelines.rollout.scores.task_report`), ``mean_normalized_by_shot`` and the
        other means of `pipelines.rollout.scores.summary`, ``reference``, ``seconds`` of wall time
        and ``steps`` as logged when it was made, ``checkpoint`` and ``artifact`` as references.

    Raises:
        ArtifactCorruptError: A file is damaged.
        ConfigError: None of its tasks has scores under the reference.
    """
    from pipelines.rollout.scores import load_curves, summary, task_report

    curves = load_curves(artifact, reference)
    timings = [
        json.loads(artifact.file(path).read_bytes())
        for path, entry in sorted(artifact.manifest.files.items())
        if entry.log and path.startswith("log/block-")
    ]
    # Beside it there may be the artifact that a prompt came from.
    parent = next(each for each in artifact.manifest.parents if each.kind == "checkpoints")
    return {
        "tasks": [task_report(curve) for curve in curves],
        **summary(curves),
        "reference": curves[0].reference,
        "seconds": round(sum(timing["seconds"] for timing in timings), 3),
        "steps": sum(timing["steps"] for timing in timings),
        "checkpoint": f"{parent.name}@v{parent.version}",
        "artifact": artifact.reference,
    }


def plot_artifact(artifact: Artifact, target: Path, reference: str | None = None) -> list[Path]:
    """Draw the curves of a rollouts artifact.

    Args:
        artifact: Of kind ``rollouts``.
        target: A file ending in ``.png`` or ``.svg`` for the mean curve beside those of the tasks;
            else a directory, which gets ``overview``, ``mean`` and ``tasks`` in both formats.
        reference: Another score reference than the one it was made with.

    Returns:
        The files written.

    Raises:
        UsageError: The file's suffix is neither.
        StorageError: The file system refused.
    """
    from pipelines.pictures import check_format, save
    from pipelines.rollout import curves as drawing
    from pipelines.rollout.scores import load_curves

    if target.suffix and not target.is_dir():
        check_format(target)
    loaded = load_curves(artifact, reference)
    if target.suffix.lower() in FORMATS:
        return [save(drawing.draw_overview(loaded), target)]
    figures = {
        "overview": drawing.draw_overview,
        "mean": drawing.draw_mean,
        "tasks": drawing.draw_tasks,
    }
    return [
        save(draw(loaded), target / f"{name}{suffix}")
        for name, draw in figures.items()
        for suffix in FORMATS
    ]
