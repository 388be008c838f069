"""Windows of a packed dataset against a NumPy memmap, as a ratio in one run."""

from __future__ import annotations

import time

import numpy as np
import pytest

from pipelines.actions import Box
from pipelines.artifacts.arrays import write_array
from pipelines.artifacts.row_arrays import (
    RowLayout,
    RowWriter,
    chunk_length,
    write_trajectories,
)
from pipelines.artifacts.workspace import Workspace
from pipelines.datasets.reader import STATISTICS, DatasetReader
from pipelines.pack.config import CHUNK_BYTES, CHUNK_ROWS
from pipelines.rows import row_layout

pytestmark = pytest.mark.benchmark

WINDOW = 8193
ROUNDS, READS = 15, 24


def make_dataset(workspace, observation_dim, action_dim, steps):
    """Publish a dataset laid out as `vintix pack` lays it out, and the same rows as raw files."""
    most = min(CHUNK_ROWS, CHUNK_BYTES // (4 * observation_dim))
    layout = RowLayout((steps,), chunk_length((steps,), most))
    fields = row_layout("datasets", observation_dim, Box(action_dim))
    rng = np.random.default_rng(0)
    raw, rows = {}, {}
    for name, (shape, dtype) in fields.items():
        rows[name] = rng.random((steps, *shape), dtype=np.float32).astype(dtype)
        path = workspace.root / f"{name}.raw"
        rows[name].tofile(path)
        raw[name] = np.memmap(path, dtype=dtype, mode="r", shape=rows[name].shape)
    with workspace.stage("datasets", "d", config={"dims": observation_dim}) as staging:
        with staging.work_item("t") as unit:
            task = {"observation_dim": observation_dim, "action_dim": action_dim}
            group = unit.group(
                "t",
                {
                    "task": task,
                    "group": "g",
                    "reward_scale": 1.0,
                    "split": "train",
                    "episode_sparsity": 1,
                    "rows": [steps],
                },
            )
            writer = RowWriter(group, layout, fields, mapped=True)
            writer.create()
            writer.begin(0)
            writer.write(rows)
            writer.flush()
            write_trajectories(group, layout, [{"episode_start": np.zeros(1, np.int64)}])
            for name in STATISTICS:
                size = observation_dim if name.startswith("observation") else action_dim
                write_array(group, name, np.full(size, 0.5))
        return staging.publish(summary={}), raw


@pytest.mark.parametrize(
    ("observation_dim", "action_dim", "steps"), [(39, 4, 1_200_000), (348, 17, 300_000)]
)
def test_windows_against_a_memmap(tmp_path, capsys, observation_dim, action_dim, steps):
    """Issue 2, section 7: a random 8193-step window at 0.7 of a NumPy memmap's speed or better.

    Both read every field into fresh arrays, in turns, from the page cache; the check of each file
    on its first touch is timed apart.
    """
    artifact, raw = make_dataset(Workspace(tmp_path), observation_dim, action_dim, steps)
    reader = DatasetReader(artifact)
    begun = time.perf_counter()
    for start in range(0, steps - WINDOW, WINDOW):
        reader.window("t", 0, start, WINDOW)
    first_touch = time.perf_counter() - begun
    for values in raw.values():
        values.sum()

    def ours(start):
        return reader.window("t", 0, start, WINDOW)

    def memmap(start):
        return {name: np.array(values[start : start + WINDOW]) for name, values in raw.items()}

    rng = np.random.default_rng(1)
    seconds = {ours: [], memmap: []}
    for _ in range(ROUNDS):
        starts = rng.integers(0, steps - WINDOW, READS).tolist()
        for read, found in seconds.items():
            begun = time.process_time()
            for start in starts:
                read(start)
            found.append((time.process_time() - begun) / READS)
    start = int(starts[0])
    for name, values in memmap(start).items():
        np.testing.assert_array_equal(ours(start)[name], values)
    best = {read.__name__: min(found) for read, found in seconds.items()}
    ratio = best["memmap"] / best["ours"]
    with capsys.disabled():
        print(  # noqa: T201 - the number is the point
            f"\n{observation_dim}+{action_dim} dims: {1 / best['ours']:,.0f} windows/s, "
            f"memmap {1 / best['memmap']:,.0f}, ratio {ratio:.2f}; "
            f"checking all files once {first_touch:.2f} s"
        )
    assert ratio >= 0.7
