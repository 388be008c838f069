"""The one table of fields: what artifacts of a kind have, and how large a step is."""

from __future__ import annotations

import numpy as np

from pipelines.actions import Box
from pipelines.artifacts.schema import SCHEMA_VERSIONS
from pipelines.rows import EPISODE_FIELDS, STEP_FIELDS, names, row_bytes, row_layout


def test_every_field_has_a_name_of_its_own_and_a_version_that_there_is():
    fields = (*STEP_FIELDS, *EPISODE_FIELDS)
    assert len({field.name for field in fields}) == len(fields)
    for field in fields:
        assert field.filled_by
        for kind in ("histories", "datasets"):
            since = getattr(field, kind)
            assert since is None or 1 <= since <= SCHEMA_VERSIONS[kind]


def test_layout_follows_the_dims_and_the_actions():
    layout = row_layout("histories", 39, Box(4))
    assert tuple(layout) == names("histories")
    assert layout["observation"] == ((39,), "float32")
    assert layout["action"] == layout["demonstrator_action"] == ((4,), "float32")
    assert layout["truncated"] == ((), "bool")


def test_row_bytes_are_those_of_the_layout():
    for kind in ("histories", "datasets"):
        layout = row_layout(kind, 39, Box(4))
        assert row_bytes(kind, 39, Box(4)) == sum(
            np.zeros(shape, dtype).nbytes for shape, dtype in layout.values()
        )
    assert row_bytes("histories", 39, Box(4)) == 4 * (39 + 2 * 4 + 2) + 2
