"""Text for people: of others, made fit to be shown, and lists of many names."""

from __future__ import annotations

from collections.abc import Iterable


def printable(text: object) -> str:
    """Return text on one line with what cannot be seen spelled out.

    Names of files, tasks and plugins and messages of libraries may hold anything. Control
    characters (escape sequences and line breaks among them), characters that turn the direction of
    writing, and bytes of file names that are no text become escapes such as ``\\x1b``; everything
    else stays as it is.
    """
    text = str(text)
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )


def listed(names: Iterable[str], most: int = 8) -> str:
    """Return names for a message, the first few of many."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
