"""Rows that come in chunks of one length, handed on in blocks of another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class BlockGatherer:
    """Gathers rows of stored chunks into blocks of another length.

    Args:
        layout: Shape of a row and dtype of each field.
        total: Rows that will be given in all.
        rows: Rows of a block; the last may be shorter.
    """

    def __init__(
        self, layout: Mapping[str, tuple[tuple[int, ...], Any]], total: int, rows: int
    ) -> None:
        self._layout, self._left, self._rows = layout, total, rows
        self._buffers: dict[str, np.ndarray[Any, Any]] = {}
        self._filled = 0

    def take(self, chunk: Mapping[str, NDArray[Any]]) -> Iterator[dict[str, NDArray[Any]]]:
        """Take the next rows and yield the blocks that they fill.

        A block may be a buffer that the next one is gathered in: use it before going on.
        """
        import numpy as np

        offset, available = 0, len(next(iter(chunk.values())))
        while offset < available:
            wanted = min(self._rows, self._left)
            if self._filled == 0 and available - offset >= wanted:
                block = {field: rows[offset : offset + wanted] for field, rows in chunk.items()}
                offset, self._left = offset + wanted, self._left - wanted
                yield block
                continue
            if self._filled == 0:
                self._buffers = {
                    field: np.empty((wanted, *shape), dtype)
                    for field, (shape, dtype) in self._layout.items()
                }
            count = min(wanted - self._filled, available - offset)
            for field, rows in chunk.items():
                self._buffers[field][self._filled : self._filled + count] = rows[
                    offset : offset + count
                ]
            self._filled, offset = self._filled + count, offset + count
            if self._filled == wanted:
                self._filled, self._left = 0, self._left - wanted
                yield self._buffers
