"""What an export gives back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.artifacts.artifact import Artifact
from pipelines.interchange.output import Output


@dataclass(frozen=True, slots=True)
class ExportResult:
    """The outcome of an export.

    Attributes:
        report: What ``--json`` prints; JSON.
    """

    artifact: Artifact
    output: Path
    report: dict[str, Any]


def export_result(
    artifact: Artifact, target: Path, output: Output, format_name: str, **details: Any
) -> ExportResult:
    """Describe a finished export: what, where, and every file with its hash."""
    target = target.expanduser().absolute()
    return ExportResult(
        artifact,
        target,
        {
            "exported": f"{artifact.kind}/{artifact.reference}",
            "digest": artifact.digest,
            "format": format_name,
            "output": str(target),
            **details,
            "files": output.files,
        },
    )
