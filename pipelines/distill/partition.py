"""Splitting a plan over machines that do not talk to each other: ``--shard i/n``.

Every machine resolves the whole plan and takes its partition of the jobs. The split follows from
the plan alone, so that n runs of one command do every job once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from _typeshed import SupportsRichComparison

    Key = TypeVar("Key", bound=SupportsRichComparison)

_FORM = "a shard is i/n with i from 1 to n, such as 1/4 to 4/4, and not {}"
_TEXT = re.compile(r"([0-9]{1,6})/([0-9]{1,6})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Partition:
    """One partition of a plan.

    Raises:
        ValueError: The number is not from 1 to `count`.
    """

    index: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.index <= self.count:
            raise ValueError(_FORM.format(self))

    @classmethod
    def parse(cls, text: str) -> Partition:
        """Read ``i/n``.

        Raises:
            ValueError: It is not of this form, or i is not from 1 to n.
        """
        match = _TEXT.fullmatch(text.strip())
        if match is None:
            raise ValueError(_FORM.format(repr(text)))
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def as_config(self) -> dict[str, Any]:
        """Return it as a part's configuration records it."""
        return {"index": self.index, "count": self.count}

    def part_name(self, name: str) -> str:
        """Return the name of this partition's artifact, for a history of some name."""
        return f"{name}{self._suffix}"

    def history_name(self, part: str) -> str:
        """Return the name of the history that a part of this partition belongs to."""
        return part.removesuffix(self._suffix)

    @property
    def _suffix(self) -> str:
        return f"-{self.index}-of-{self.count}"


def split(seconds: Mapping[Key, float], count: int) -> tuple[tuple[Key, ...], ...]:
    """Split jobs into partitions of about equal time.

    The longest job goes to the partition with the least time so far, and so on (longest processing
    time first): two partitions differ by no more than the longest job. Equal jobs go in the order
    of their keys, equal partitions are taken with the one of fewer jobs, then of lower number,
    first.

    Args:
        seconds: Expected time of each job; its order does not matter.
        count: Number of partitions, >= 1.

    Returns:
        The keys of each partition, sorted; with fewer jobs than partitions some are empty.
    """
    partitions: list[list[Key]] = [[] for _ in range(count)]
    load = [0.0] * count
    for key, duration in sorted(seconds.items(), key=lambda item: (-item[1], item[0])):
        least = min(range(count), key=lambda index: (load[index], len(partitions[index])))
        partitions[least].append(key)
        load[least] += duration
    return tuple(tuple(sorted(partition)) for partition in partitions)
