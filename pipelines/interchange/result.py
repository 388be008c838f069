"""What an export gives back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.artifacts.artifact import Artifact
from pipelines.interchange.output import describe_files


@dataclass(frozen=True, slots=True)
class ExportResult:
    """The outcome of an export.

    Attributes:
        artifact: What was exported.
        output: The directory that was written.
        report: What ``--json`` prints; JSON.
    """

    artifact: Artifact
    output: Path
    report: dict[str, Any]


def export_result(
    artifact: Artifact, output: Path, format_name: str, **details: Any
) -> ExportResult:
    """Describe a finished export: what, where, and every file with its hash."""
    output = output.expanduser().absolute()
    return ExportResult(
        artifact,
        output,
        {
            "exported": f"{artifact.kind}/{artifact.reference}",
            "digest": artifact.digest,
            "format": format_name,
            "output": str(output),
            **details,
            "files": describe_files(output),
        },
    )
