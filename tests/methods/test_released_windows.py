"""Under `--fidelity release` the windows are those of the released loader, value by value."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.actions import Box
from pipelines.artifacts.workspace import Workspace
from pipelines.datasets.reader import DatasetReader
from pipelines.interchange.config import ImportDatasetConfig
from pipelines.interchange.official_dataset import import_dataset
from pipelines.methods import cut_tasks
from pipelines.methods.release import WINDOW_STRIDE, ReleaseSampler
from pipelines.methods.windows import Subsequence, Window, WindowSampler, last_part
from pipelines.reporter import NullReporter
from pipelines.train.data import select_tasks
from tests.train.support import MemoryData, ToyTask, read_subsequence

pytest.importorskip("h5py", reason="the extra h5 is not installed")

TASKS = ("task-x-v0", "task-y-v0")
CONTEXT = 512


@pytest.fixture(scope="module")
def reader(conformance: Path, tmp_path_factory: pytest.TempPathFactory) -> DatasetReader:
    config = ImportDatasetConfig(
        path=conformance / "dataset", as_kind="dataset", order="official", chunk_rows=7_000
    )
    workspace = Workspace(tmp_path_factory.mktemp("official") / "work")
    return DatasetReader(import_dataset(config, workspace, NullReporter()).artifact)


@pytest.fixture(scope="module")
def expected(conformance: Path) -> dict[str, Any]:
    found = json.loads((conformance / "dataset" / "expected.json").read_text())
    assert (found["trajectory_sparsity"], found["context_len"]) == (WINDOW_STRIDE, CONTEXT)
    return found


def released(
    reader: DatasetReader, sparsity: dict[str, int], last_fraction: float | None = None
) -> tuple[dict[str, list[Subsequence]], ReleaseSampler]:
    tasks = [
        replace(task, episode_sparsity=sparsity[task.name])
        for task in select_tasks(reader, tuple(sparsity))
    ]
    subsequences = cut_tasks(
        reader, tasks, context=CONTEXT, fidelity="release", last_fraction=last_fraction
    )
    return subsequences, ReleaseSampler(subsequences, context=CONTEXT, batch_size=1, seed=0)


def tokens(
    reader: DatasetReader, subsequences: dict[str, list[Subsequence]], window: Window
) -> dict[str, Any]:
    """A window in the released layout: its first row gives the first token's past only."""
    found = read_subsequence(
        subsequences[window.task][window.subsequence], reader, window.start, CONTEXT + 1
    )
    return {
        "observation": found["observation"][1:],
        "prev_action": found["action"][:-1],
        "prev_reward": found["reward"][:-1, None],
        "action": found["action"][1:],
        "step_num": found["episode_step"][1:],
    }


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
    subsequences, sampler = released(reader, {task: sparsity}, last_fraction)
    assert sampler.windows == expected[key]["len"]
    assert [one.rows for one in subsequences[task]] == expected[key]["n_rows_kept"]
    assert reader.tasks[task].attributes["imported"]["files"] == expected[key]["files"]
    windows = [sampler.window(index) for index in range(sampler.windows)]
    splits = samples[f"{key}|splits"]
    assert [window.trajectory for window in windows] == splits[:, 0].tolist()
    assert [window.start for window in windows] == splits[:, 1].tolist()
    assert expected[key]["idx"]
    for index in expected[key]["idx"]:
        for field, values in tokens(reader, subsequences, windows[index]).items():
            recorded = samples[f"{key}|{index}|{field}"]
            assert values.dtype == recorded.dtype
            np.testing.assert_array_equal(values, recorded, err_msg=f"{key}|{index}|{field}")


def test_windows_of_several_tasks_equal_the_released_ones(
    conformance: Path, reader: DatasetReader, expected: dict[str, Any]
) -> None:
    samples = np.load(conformance / "dataset" / "multitask_samples.npz")
    wanted = expected["multitask"]
    subsequences, sampler = released(reader, dict(zip(TASKS, wanted["ep_sparsity"], strict=True)))
    assert sampler.windows == wanted["len"]
    shares = np.cumsum([0, *(share * sampler.windows for share in sampler.shares().values())])
    assert np.rint(shares).tolist() == wanted["cumsum"]
    for index in wanted["idx"]:
        window = sampler.window(index)
        assert window.task == str(samples[f"{index}|task_name"])
        for field, values in tokens(reader, subsequences, window).items():
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
        assert task.actions == Box(theirs["action_dim"])


@pytest.mark.parametrize("every", [1, 2])
def test_the_last_fraction_bounds_every_window_in_either_fidelity(every: int) -> None:
    """Rows are counted before thinning, and expert distillation asks for no noise then."""
    data = MemoryData([ToyTask(episode_sparsity=every, rows=(4000,))])
    begin = last_part(4000, 0.3)
    assert begin == 2800
    common = {"context": 32, "method": "ed", "last_fraction": 0.3}
    for fidelity in ("corrected", "release"):
        subsequences = cut_tasks(data, select_tasks(data), fidelity=fidelity, **common)
        if fidelity == "release":
            sampler = ReleaseSampler(subsequences, context=32, batch_size=1, seed=0)
            windows = [sampler.window(index) for index in range(sampler.windows)]
        else:
            drawn = WindowSampler(subsequences, context=32, batch_size=64, seed=0)
            windows = drawn.batch(0)
        assert windows
        for window in windows:
            subsequence = subsequences["toy-a"][window.subsequence]
            first = int(subsequence.trajectory_rows(np.array([window.start]))[0])
            assert first >= begin
            rows = read_subsequence(subsequence, data, window.start, 33)["observation"]
            all_rows = data.window("toy-a", 0, 0, 4000)["observation"]
            kept = subsequence.trajectory_rows(np.arange(window.start, window.start + 33))
            np.testing.assert_array_equal(rows, all_rows[kept])
