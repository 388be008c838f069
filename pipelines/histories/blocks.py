"""Rows that come in chunks of one length, handed on in blocks of another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray


def regroup(
    chunks: Iterable[Mapping[str, NDArray[Any]]], rows: int
) -> Iterator[dict[str, NDArray[Any]]]:
    """Yield rows by field in blocks of `rows`, the last of which may be shorter.

    Only blocks that no chunk holds whole are copied.
    """
    import numpy as np

    gathered: dict[str, NDArray[Any]] = {}
    filled = 0
    for chunk in chunks:
        offset, available = 0, len(next(iter(chunk.values())))
        while offset < available:
            count = min(rows - filled, available - offset)
            taken = {field: values[offset : offset + count] for field, values in chunk.items()}
            offset += count
            if count == rows:
                yield taken
                continue
            if filled == 0:
                gathered = {
                    field: np.empty((rows, *values.shape[1:]), values.dtype)
                    for field, values in taken.items()
                }
            for field, values in taken.items():
                gathered[field][filled : filled + count] = values
            filled += count
            if filled == rows:
                filled = 0
                yield gathered
    if filled:
        yield {field: values[:filled] for field, values in gathered.items()}
