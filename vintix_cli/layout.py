"""How a table fits a terminal: one rule for all of them.

Numbers and short texts stay whole. Texts of several words wrap, and a long name is shortened in the
middle, both ends kept, unless it would then look like another. Columns that do not fit beside the
others follow in further tables under it, each beside the names of its rows again.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from rich.cells import cell_len, chop_cells

GAP = 2
"""Characters between two columns."""
_SHORT = 20
"""Texts of this width are left whole."""
_LEAST = 8
"""Names are not made shorter than this."""
_NUMBER = re.compile(r"[-+(]?\d[\d.,]*(e[-+]?\d+)?[%),;:]*")


@dataclass(frozen=True, eq=False)
class Column:
    """A column of a table: its header and, row by row, its cells; numbers stand at the right."""

    header: str
    cells: Sequence[str]
    number: bool

    @cached_property
    def natural(self) -> int:
        """The width at which nothing of it is shortened or wrapped."""
        return max(map(cell_len, (self.header, *self.cells)))

    @cached_property
    def least(self) -> int:
        """The width that it is given at least."""
        words = max(map(_word_width, self.header.split()), default=0)
        return max(words, *(_least_width(cell) for cell in self.cells)) if self.cells else words

    def fitted(self, width: int) -> tuple[str, list[str]]:
        """Return header and cells whose names are shortened to a width.

        What would then look like another stays as long as it is, and is folded over lines.
        """
        short = {cell: _shorten_names(cell, width) for cell in self.cells}
        alike = Counter(short.values())
        cells = [short[cell] if alike[short[cell]] == 1 else cell for cell in self.cells]
        return _shorten_names(self.header, width), cells


def arrange(columns: Sequence[Column], width: int | None) -> list[list[tuple[Column, int]]]:
    """Return the tables that a table becomes at a width, each as its columns and their widths.

    Without a width it is one, as wide as it is.
    """
    if width is None:
        return [[(column, column.natural) for column in columns]]
    if _total([column.least for column in columns]) <= width:
        return [_widen([(column, column.least) for column in columns], width)]
    names = naming_columns(columns)
    others = [column for column in columns if column not in names]
    widest = max((column.least for column in others), default=0)
    lead = _narrowed(names, width - GAP - widest)
    room = max(_LEAST, width - _total([taken for _, taken in lead]) - GAP)
    tables: list[list[tuple[Column, int]]] = []
    for column in others:
        entry = (column, min(column.least, room))
        if not tables or _total([taken for _, taken in (*tables[-1], entry)]) > width:
            tables.append([*lead])
        tables[-1].append(entry)
    return [_widen(table, width) for table in tables or [lead]]


def naming_columns(columns: Sequence[Column]) -> list[Column]:
    """Return the first column, and those further ones of text that tell its rows apart."""
    names = [*columns[:1]]
    seen: list[tuple[str, ...]] = [(cell,) for column in names for cell in column.cells]
    for column in columns[1:]:
        known = len(set(seen))
        if known == len(seen):
            break
        more = [(*row, cell) for row, cell in zip(seen, column.cells, strict=True)]
        if not column.number and len(set(more)) > known:
            names.append(column)
            seen = more
    return names


def _narrowed(names: Sequence[Column], room: int) -> list[tuple[Column, int]]:
    """Return columns of names with widths that leave room for the rest, the widest cut first."""
    widths = [column.least for column in names]
    while _total(widths) > room and max(widths) > _LEAST:
        widths[widths.index(max(widths))] -= 1
    return list(zip(names, widths, strict=True))


def _widen(table: Sequence[tuple[Column, int]], width: int) -> list[tuple[Column, int]]:
    """Share out what is left of a line: the first column first, then what lacks least."""
    widths = [taken for _, taken in table]
    spare = width - _total(widths)
    lacking = [column.natural - taken for column, taken in table]
    for index in sorted(range(len(table)), key=lambda each: (each > 0, lacking[each])):
        more = max(0, min(spare, lacking[index]))
        widths[index] += more
        spare -= more
    return [(column, each) for (column, _), each in zip(table, widths, strict=True)]


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + GAP * (len(widths) - 1)


def _least_width(text: str) -> int:
    whole = cell_len(text)
    return whole if whole <= _SHORT else max(_SHORT, *map(_word_width, text.split()))


def _word_width(word: str) -> int:
    return cell_len(word) if _is_whole(word) else min(cell_len(word), _SHORT)


def _is_whole(word: str) -> bool:
    """Whether a word must not be shortened: a number, or the bars of a curve."""
    return not any(map(str.isalpha, word)) or _NUMBER.fullmatch(word) is not None


def _shorten_names(text: str, width: int) -> str:
    return " ".join(
        word if cell_len(word) <= width or _is_whole(word) else _shorten(word, width)
        for word in text.split(" ")
    )


def _shorten(name: str, width: int) -> str:
    """Return a name with an ellipsis in the middle, `width` characters wide."""
    kept = max(2, width - 1)
    head = chop_cells(name, (kept + 1) // 2)[0]
    tail = chop_cells(name[::-1], kept // 2)[0][::-1]
    return f"{head}…{tail}"
