"""Configuration of packing."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

CHUNK_ROWS = 65_536
"""Most rows of a chunk file. A window of the paper's 8,193 steps touches one file of each array,
two in one case of eight; a file is checked against its hash once, on first touch, at the cost of
reading it whole, so files should not be much longer than what is read of them."""

CHUNK_BYTES = 64 << 20
"""Most bytes of a chunk file, which bounds the memory of packing."""


class PackConfig(BaseModel):
    """What ``vintix pack`` joins.

    Attributes:
        name: Name of the artifact; None for one made from the selection.
        histories: References of histories artifacts; none for the newest published one.
        tasks: Names or aliases of the tasks to take; empty for all.
        domains: Names of the domains to take; empty for all.
        chunk_rows: Most rows of a chunk file.
        allow: Names or aliases of tasks to pack although their history is poor, or ``all``; part of
            the artifact only where such a task was packed.
        allow_validation: Give tasks of the validation split a sampling weight, so that training
            draws from them too. They are packed and marked either way.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str | None = None
    histories: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()
    chunk_rows: int = Field(CHUNK_ROWS, ge=1)
    allow: tuple[str, ...] = ()
    allow_validation: bool = False
