"""What MkDocs does to the pages that are written to be read in the repository.

README, CONTRIBUTING and CHANGELOG lie above docs: they become pages, and links between them and
docs are turned. A link to a file of the repository that is no page stays as its text.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mkdocs.structure.files import File

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

ABOVE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
LINK = re.compile(r"\[([^\]]*)\]\((?!https?:|#|mailto:)([^)\s#]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages from above docs."""
    root = Path(config.docs_dir).parent
    for name, page in ABOVE.items():
        text = (root / name).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=turned(text, "", files)))
    return files


def on_page_markdown(markdown: str, *, page: Any, files: Files, **_: Any) -> str:
    """Turn the links of a page of docs that lead above it."""
    if page.file.src_uri in ABOVE.values() or not page.file.src_uri.endswith(".md"):
        return markdown
    return turned(markdown, "docs", files)


def turned(text: str, folder: str, files: Files) -> str:
    """Return a text of a folder of the repository with its links as the site has them."""

    def link(found: re.Match[str]) -> str:
        said, target, anchor = found[1], found[2], found[3] or ""
        path = posixpath.normpath(posixpath.join(folder, target))
        if path in ABOVE:
            return f"[{said}]({ABOVE[path]}{anchor})"
        if path.startswith("docs/") and files.get_file_from_path(path.removeprefix("docs/")):
            return f"[{said}]({path.removeprefix('docs/')}{anchor})"
        return said

    return LINK.sub(link, text)
