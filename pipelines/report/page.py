"""A report as one HTML page that needs nothing else: no network, no other file.

Style and script stand in the page; the numbers stand in it as JSON, and the script draws them as
SVG at the width that there is, as `pipelines.drawing` has decided. The page's own policy forbids it
to load anything.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipelines.drawing import BAND_OPACITY, COLOURS, DARK_COLOURS, DARK_MUTED, GUIDES, MUTED
from pipelines.output_files import MARK, write_output
from pipelines.text import printable

_ASSETS = Path(__file__).parent / "assets"
_SCRIPTS = ("plot.js", "page.js")
_PLACE = re.compile(r"\{\{(\w+)\}\}")
#: Significant digits of the page's numbers: more than any of its places shows.
DIGITS = 7


def page_html(document: dict[str, Any]) -> str:
    """Return a report as a page.

    Args:
        document: As `pipelines.report.document.report_document` makes it.
    """
    parts = {
        "title": html.escape(printable(f"vintix: {', '.join(document['rollouts'])}")),
        "mark": MARK,
        "style": (_ASSETS / "page.css").read_text(encoding="utf-8"),
        "light": _palette(COLOURS, MUTED),
        "dark": _palette(DARK_COLOURS, DARK_MUTED),
        "script": "\n".join((_ASSETS / name).read_text(encoding="utf-8") for name in _SCRIPTS),
        "report": _embedded({**document, "guides": GUIDES, "band_opacity": BAND_OPACITY}),
    }
    template = (_ASSETS / "page.html").read_text(encoding="utf-8")
    return _PLACE.sub(lambda match: parts[match[1]], template)


def _palette(colours: Sequence[str], muted: str) -> str:
    """Return the colours of lines as properties that the style names."""
    named = {f"c{place}": colour for place, colour in enumerate(colours)} | {"guide": muted}
    return " ".join(f"--{name}: {colour};" for name, colour in named.items())


def write_page(document: dict[str, Any], path: Path) -> Path:
    """Write a report as a page.

    Raises:
        UsageError: There is a file that vintix did not make.
        StorageError: The file system refused.
    """
    return write_output(path, page_html(document).encode())


def _embedded(document: dict[str, Any]) -> str:
    """Return JSON that no browser can take for the end of the element it stands in."""
    text = json.dumps(_shown(document), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


def _shown(value: Any) -> Any:
    """Return a value of the document as the page shows it: numbers rounded, text printable."""
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        return {_shown(key): _shown(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_shown(each) for each in value]
    return value
