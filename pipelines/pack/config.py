"""Configuration of packing."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from pipelines.options import Domains, Name, Tasks, option, setting

CHUNK_ROWS = 65_536
"""Most rows of a chunk file. A window of the paper's 8,193 steps touches one file of each array,
two in one case of eight; a file is checked against its hash once, on first touch, at the cost of
reading it whole, so files should not be much longer than what is read of them."""

CHUNK_BYTES = 64 << 20
"""Most bytes of a chunk file, which bounds the memory of packing."""


class PackConfig(BaseModel):
    """What ``vintix pack`` joins."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    histories: tuple[str, ...] = option(
        "Histories artifact; default the newest.", (), metavar="ARTIFACT", values=("histories",)
    )
    tasks: Tasks = ()
    domains: Domains = ()
    # Part of the artifact only where such a task was packed.
    allow: tuple[str, ...] = option(
        "Pack this task although its history is poor, or 'all'.",
        (),
        metavar="TASK",
        values=("tasks",),
    )
    name: Name = None
    chunk_rows: int = setting("Most rows of a chunk file.", CHUNK_ROWS, ge=1)
    allow_validation: bool = setting(
        "Give tasks of the validation split a sampling weight, so that training draws "
        "from them too. They are packed and marked either way.",
        False,
    )
