"""Histories are read in blocks of any length, and only as they were written."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.artifacts.artifact import Artifact
from pipelines.artifacts.verify import verify
from pipelines.distill.config import DistillConfig
from pipelines.distill.partition import Partition
from pipelines.distill.stage import run
from pipelines.errors import ArtifactCorruptError, UsageError
from pipelines.histories.reader import HistoryReader
from pipelines.reporter import NullReporter
from pipelines.rows import HISTORY_EPISODES, HISTORY_ROWS

STEPS = 100


@pytest.fixture
def artifact(workspace):
    config = DistillConfig(tasks=("toy-a",), trajectories=2, steps=STEPS, shard_rows=40, workers=1)
    return run(config, workspace, NullReporter()).artifact


@pytest.mark.parametrize("rows", [None, 1, 7, 34, 35, 100, 1000])
def test_blocks_join_to_the_whole(artifact, rows):
    reader = HistoryReader(artifact)
    blocks = [
        {field: values.copy() for field, values in block.items()}
        for block in reader.blocks("toy-a", 1, rows=rows)
    ]
    lengths = [len(block["reward"]) for block in blocks]
    expected = min(rows or 34, STEPS)
    assert set(lengths[:-1]) <= {expected}
    assert sum(lengths) == STEPS == reader.rows("toy-a", 1)
    # Three chunks of 34 rows each, the last with two rows of padding.
    assert artifact.read("toy-a/trajectory_start").tolist() == [0, 102]
    for field in HISTORY_ROWS:
        joined = np.concatenate([block[field] for block in blocks])
        np.testing.assert_array_equal(joined, artifact.read(f"toy-a/{field}")[102 : 102 + STEPS])


def test_episodes_tile_the_trajectory(artifact):
    found = HistoryReader(artifact).episodes("toy-a", 0)
    starts, lengths = found["episode_start"], found["episode_length"]
    assert starts[0] == 0
    np.testing.assert_array_equal(starts[1:], np.cumsum(lengths)[:-1])
    assert lengths.sum() == STEPS
    reward = artifact.read("toy-a/reward")[:STEPS].astype(np.float64)
    sums = np.add.reduceat(reward, starts)
    np.testing.assert_allclose(found["episode_return"], sums, rtol=1e-5, atol=1e-5)
    assert found["complete"][:-1].all()


def test_unknown_names_are_usage_errors(artifact):
    reader = HistoryReader(artifact)
    with pytest.raises(UsageError, match="toy-b"):
        reader.task("toy-b")
    with pytest.raises(UsageError, match="no such trajectory"):
        reader.rows("toy-a", 2)
    with pytest.raises(UsageError, match="colour"):
        next(reader.blocks("toy-a", 0, ["colour"]))


def test_wrong_kind(workspace):
    with pytest.raises(UsageError, match="wrong kind"):
        HistoryReader(workspace.find("demonstrators"))


def test_a_corrupt_chunk_is_never_read(artifact):
    path = artifact.path / "data.zarr/toy-a/observation/c/1/0"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    blocks = HistoryReader(Artifact(artifact.path)).blocks("toy-a", 0)
    next(blocks)
    with pytest.raises(ArtifactCorruptError, match="damaged"):
        next(blocks)


@pytest.mark.parametrize(("steps", "files"), [(30, 45), (90, 200)])
def test_trajectories_are_joined_as_they_were_staged(workspace, steps, files):
    """A part keeps arrays of each trajectory, a history those of each task, with equal rows.

    Trajectories of 30 steps share chunk files; those of 90 were staged in shards of 30, whose files
    are taken over.
    """
    config = DistillConfig(tasks=("toy-a",), trajectories=7, steps=steps, shard_rows=40, workers=1)
    history = run(config, workspace, NullReporter()).artifact
    part = run(
        config.model_copy(update={"shard": Partition(1, 1)}), workspace, NullReporter()
    ).artifact
    assert len(history.manifest.files) < files < len(part.manifest.files)
    assert verify(history, deep=True) == []
    reader = HistoryReader(history)
    assert reader.lengths("toy-a") == [steps] * 7
    for trajectory in (0, 3, 6):
        (rows,) = reader.blocks("toy-a", trajectory, rows=steps)
        rows |= reader.episodes("toy-a", trajectory)
        for field in (*HISTORY_ROWS, *HISTORY_EPISODES):
            expected = part.read(f"toy-a/{trajectory:05d}/{field}")
            np.testing.assert_array_equal(rows[field], expected, err_msg=field)
        window = reader.window("toy-a", trajectory, 5, 20)
        np.testing.assert_array_equal(window["observation"], rows["observation"][5:25])
