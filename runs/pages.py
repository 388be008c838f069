"""Puts what the scripts of this folder measure into the pages of docs."""

from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"


def write_table(page: str, name: str, text: str) -> None:
    """Put a table between its two marks, ``<!-- table: NAME -->`` and ``<!-- end: NAME -->``.

    Raises:
        ValueError: The page does not have them.
    """
    path, begin, end = DOCS / page, f"<!-- table: {name} -->", f"<!-- end: {name} -->"
    before, found, rest = path.read_text(encoding="utf-8").partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"{path} has no place for the table {name}: {begin} and {end}")
    path.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")
