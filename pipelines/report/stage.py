"""``vintix report``: reads rollouts, and writes the page, the pictures and the film."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from pipelines.options import Tasks, option
from pipelines.output_files import check_output, check_output_directory

if TYPE_CHECKING:
    from pipelines.artifacts.workspace import Workspace
    from pipelines.reporter import Reporter

PAGE_FORMATS = (".html", ".htm")
#: A larger film is not put into the page: such a page opens slowly and no mail takes it.
LARGEST_FILM = 8 << 20
_MEDIA = {".gif": "image/gif", ".mp4": "video/mp4"}


class ReportRequest(BaseModel):
    """What ``vintix report rollouts`` writes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    references: tuple[str, ...] = option(
        "NAME, NAME@v3 or a path; default the newest. Several stand side by side.",
        (),
        argument=True,
        metavar="ROLLOUT",
        values=("rollouts",),
    )
    tasks: Tasks = ()
    output: Path = option(
        "The page; it needs no other file and no network.", Path("report.html"), metavar="FILE"
    )
    figures: Path | None = option(
        "Also draw every figure into this directory, as PNG and as SVG.", None, metavar="DIRECTORY"
    )
    video: Path | None = option(
        "Also film a task's first shot beside its last, as .gif (or .mp4 with ffmpeg).",
        None,
        metavar="FILE",
    )
    reference: str | None = option(
        "Scores to normalise by at first; default that of the rollouts.",
        None,
        values=("score_references",),
    )


def make_report(request: ReportRequest, workspace: Workspace, reporter: Reporter) -> dict[str, Any]:
    """Write what is asked for.

    Args:
        workspace: Where the rollouts are, and what they came from.
        reporter: Where progress and warnings go.

    Returns:
        JSON: as `pipelines.report.document.summary_document`, ``page`` (its path), ``pictures``
        (paths) and ``video`` (null, or ``path``, ``task``, ``caption``, ``returns`` and
        ``recorded``).

    Raises:
        ArtifactMissingError: A reference means nothing.
        ArtifactCorruptError: The bytes of an artifact differ from its manifest's.
        UsageError: There is no such task, a file's suffix is not of its kind, there is a file
            that vintix did not make, or the task cannot be drawn.
        ConfigError: No task has scores under the reference.
        StorageError: The file system refused.
    """
    from pipelines.report.document import figures_of, report_document, summary_document
    from pipelines.report.page import write_page
    from pipelines.report.sources import read_sources
    from pipelines.rollout.report import common_scores

    check_output(request.output, PAGE_FORMATS)
    if request.figures is not None:
        check_output_directory(request.figures)
    if request.video is not None:
        from pipelines.report.video import check_video

        check_video(request.video)
    sources = read_sources(workspace, request.references, request.tasks)
    reporter.info(
        f"rollouts {', '.join(each.reference for each in sources.rollouts)}"
        + ("" if request.references else ", the newest")
    )
    _, differing = common_scores(sources.rollouts)
    if differing is not None:
        reporter.warn(differing)
    document = report_document(sources, request.reference)
    if sources.missing:
        reporter.warn(
            f"not in the workspace: {', '.join(sources.missing)}; figures of them are left out"
        )
    page = write_page(document, request.output)
    pictures: list[Path] = []
    if request.figures is not None:
        from pipelines.drawing import write_figures

        figures = figures_of(document)
        with reporter.progress("pictures", len(figures), "figures") as progress:
            for figure in figures:
                pictures += write_figures([figure], request.figures)
                progress.advance()
    film = None
    if request.video is not None:
        from pipelines.report.video import film_shots

        film = film_shots(sources, request.video, reporter)
        # The page is there already: a film that cannot be made takes nothing away.
        document["film"] = _embedded(request.video, film, reporter)
        write_page(document, request.output)
    return {
        **summary_document(document),
        "page": str(page),
        "pictures": [str(path) for path in pictures],
        "video": film,
    }


def _embedded(path: Path, film: dict[str, Any], reporter: Reporter) -> dict[str, Any] | None:
    """Return a film as the page holds it: ``caption``, ``media`` and ``data``, base64; JSON."""
    data = path.read_bytes()
    if len(data) > LARGEST_FILM:
        reporter.warn(
            f"{path} has {len(data):,} bytes, more than the {LARGEST_FILM:,} that the page takes "
            "in; it is a file of its own"
        )
        return None
    return {
        "caption": film["caption"],
        "media": _MEDIA[path.suffix.lower()],
        "data": base64.b64encode(data).decode(),
    }
