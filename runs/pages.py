"""Puts what the scripts of this folder measure into the pages of docs.

In a script that imports it, what vintix refuses is told as its commands do, without a traceback.
"""

import sys
from pathlib import Path
from types import TracebackType

from pipelines.errors import VintixError
from vintix_cli.render import print_error

DOCS = Path(__file__).parents[1] / "docs"


def _tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if isinstance(error, VintixError):
        print_error(error)
    else:
        sys.__excepthook__(kind, error, trace)


sys.excepthook = _tell


def write_table(page: str, name: str, text: str) -> None:
    """Put a table between its two marks, ``<!-- table: NAME -->`` and ``<!-- end: NAME -->``.

    Raises:
        ValueError: The page does not have them.
    """
    before, _, after = _parts(page, name)
    (DOCS / page).write_text(f"{before}\n{text}\n{after}", encoding="utf-8")


def read_table(page: str, name: str) -> str:
    """Return the table between its two marks.

    Raises:
        ValueError: The page does not have them.
    """
    return _parts(page, name)[1].strip()


def _parts(page: str, name: str) -> tuple[str, str, str]:
    """Return what stands before a table, with its mark, the table, and what stands after it."""
    path, begin, end = DOCS / page, f"<!-- table: {name} -->", f"<!-- end: {name} -->"
    before, found, rest = path.read_text(encoding="utf-8").partition(begin)
    table, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"{path} has no place for the table {name}: {begin} and {end}")
    return before + begin, table, end + after
