"""Our windows of an imported dataset are those of the released loader, value by value."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.artifacts.workspace import Workspace
from pipelines.datasets.reader import DatasetReader
from pipelines.errors import ConfigError, UsageError
from pipelines.interchange.config import ImportDatasetConfig
from pipelines.interchange.official_dataset import import_dataset
from pipelines.interchange.official_windows import OfficialWindows, kept_rows, window_starts
from pipelines.reporter import NullReporter

pytest.importorskip("h5py", reason="the extra h5 is not installed")

TASKS = ("task-x-v0", "task-y-v0")


@pytest.fixture(scope="module")
def reader(conformance: Path, tmp_path_factory: pytest.TempPathFactory) -> DatasetReader:
    config = ImportDatasetConfig(
        path=conformance / "dataset", as_kind="dataset", order="official", chunk_rows=7_000
    )
    workspace = Workspace(tmp_path_factory.mktemp("official") / "work")
    return DatasetReader(import_dataset(config, workspace, NullReporter()).artifact)


@pytest.fixture(scope="module")
def expected(conformance: Path) -> dict[str, Any]:
    return json.loads((conformance / "dataset" / "expected.json").read_text())


def windows(reader: DatasetReader, expected: dict[str, Any], *tasks: str, **fields: Any):
    stride = expected["trajectory_sparsity"]
    context = expected["context_len"]
    return OfficialWindows(reader, tasks, context=context, stride=stride, **fields)


@pytest.mark.parametrize("last_fraction", [None, 0.3])
@pytest.mark.parametrize("sparsity", [1, 2, 3])
@pytest.mark.parametrize("task", TASKS)
def test_windows_of_a_task_equal_the_released_ones(
    conformance: Path,
    reader: DatasetReader,
    expected: dict[str, Any],
    task: str,
    sparsity: int,
    last_fraction: float | None,
) -> None:
    """Number, place and content; the files are numbered as the release sorts them, 10 before 2."""
    samples = np.load(conformance / "dataset" / "foundation_samples.npz")
    key = f"{task}|ep{sparsity}|lf{last_fraction}"
    found = windows(reader, expected, task, sparsity=[sparsity], last_fraction=last_fraction)
    assert len(found) == expected[key]["len"]
    splits = samples[f"{key}|splits"]
    places = [found.place(index) for index in range(len(found))]
    assert [number for _, number, _ in places] == splits[:, 0].tolist()
    kept = [
        kept_rows(reader.episode_starts(task, number), rows, sparsity)
        for number, rows in enumerate(reader.tasks[task].rows)
    ]
    assert [len(each) for each in kept] == expected[key]["n_rows_kept"]
    starts = [int(np.searchsorted(kept[number], rows[0])) for _, number, rows in places]
    assert starts == splits[:, 1].tolist()
    assert reader.tasks[task].attributes["imported"]["files"] == expected[key]["files"]
    assert expected[key]["idx"]
    for index in expected[key]["idx"]:
        name, tokens = found.read(index)
        assert name == task
        for field, values in tokens.items():
            recorded = samples[f"{key}|{index}|{field}"]
            assert values.dtype == recorded.dtype
            np.testing.assert_array_equal(values, recorded, err_msg=f"{key}|{index}|{field}")


def test_windows_of_several_tasks_equal_the_released_ones(
    conformance: Path, reader: DatasetReader, expected: dict[str, Any]
) -> None:
    samples = np.load(conformance / "dataset" / "multitask_samples.npz")
    wanted = expected["multitask"]
    found = windows(reader, expected, *TASKS, sparsity=wanted["ep_sparsity"])
    assert len(found) == wanted["len"]
    assert np.cumsum([0, *found.counts().values()]).tolist() == wanted["cumsum"]
    for index in wanted["idx"]:
        name, tokens = found.read(index)
        assert name == str(samples[f"{index}|task_name"])
        for field, values in tokens.items():
            np.testing.assert_array_equal(values, samples[f"{index}|{field}"], err_msg=field)


def test_statistics_are_the_exact_ones_of_the_released_float32_reduction(
    reader: DatasetReader, expected: dict[str, Any]
) -> None:
    """50,000 rows are few enough for float32 to be right to 1e-3."""
    for name, theirs in expected["compute_stats"].items():
        ours = reader.tasks[name].statistics
        for field, other in (
            ("observation_mean", "obs_mean"),
            ("observation_std", "obs_std"),
            ("action_mean", "acs_mean"),
            ("action_std", "acs_std"),
        ):
            np.testing.assert_allclose(ours[field], theirs[other], rtol=1e-3, atol=1e-4)


def test_dims_equal_the_released_metadata(reader: DatasetReader, expected: dict[str, Any]) -> None:
    for name, theirs in expected["multitask"]["metadata"].items():
        task = reader.tasks[name]
        assert [task.observation_dim] == theirs["observation_shape"]["proprio"]
        assert task.action_dim == theirs["action_dim"]


def test_the_last_start_that_would_fit_is_left_out() -> None:
    """Quirk 27: their range excludes it, and what is as long as a window gives none."""
    kept = np.arange(20)
    assert window_starts(kept, 20, 9, stride=5).tolist() == [0, 5]
    assert window_starts(np.arange(10), 10, 9, stride=5).tolist() == []
    assert window_starts(np.arange(11), 11, 9, stride=5).tolist() == [0]
    assert window_starts(np.arange(3), 3, 9, stride=5).tolist() == []


def test_last_fraction_counts_rows_before_thinning() -> None:
    kept = np.array([0, 1, 2, 3, 16, 17, 18, 19])
    assert window_starts(kept, 20, 1, stride=1, last_fraction=0.5).tolist() == [4, 5]


def test_unknown_tasks_and_impossible_numbers_are_refused(
    reader: DatasetReader, expected: dict[str, Any]
) -> None:
    with pytest.raises(UsageError, match="task-z"):
        windows(reader, expected, "task-z")
    with pytest.raises(ConfigError, match="cannot be cut"):
        windows(reader, expected, TASKS[0], sparsity=[0])
    with pytest.raises(ConfigError, match="cannot be cut"):
        windows(reader, expected, TASKS[0], last_fraction=0.0)
    found = windows(reader, expected, TASKS[0])
    with pytest.raises(IndexError):
        found.place(len(found))
