"""The authors' HDF5 layout in and out: what is read, what it becomes, what is refused."""

from __future__ import annotations

import json
import os
import shutil
import tracemalloc
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pipelines import dependencies
from pipelines.artifacts.verify import verify
from pipelines.artifacts.workspace import Workspace
from pipelines.datasets.reader import DatasetReader
from pipelines.errors import (
    ArtifactCorruptError,
    ArtifactMissingError,
    ConfigError,
    MissingDependencyError,
    StorageError,
    UnsafeContentError,
    UsageError,
)
from pipelines.histories.reader import HistoryReader
from pipelines.interchange.config import ExportConfig, ImportDatasetConfig
from pipelines.interchange.official_dataset import _file_names, export_dataset, import_dataset
from pipelines.methods import cut_tasks
from pipelines.pack.config import PackConfig
from pipelines.pack.stage import run as pack
from pipelines.reporter import NullReporter
from pipelines.stage import StageResult

h5py = pytest.importorskip("h5py", reason="the extra h5 is not installed")

REPORTER = NullReporter()
ROWS = 25


def bring(workspace: Workspace, path: Path, **fields: Any) -> StageResult:
    return import_dataset(ImportDatasetConfig(path=path, **fields), workspace, REPORTER)


def send(workspace: Workspace, output: Path, **fields: Any):
    return export_dataset(ExportConfig(output=output, **fields), workspace, REPORTER)


def steps_of(total: int, episode: int) -> np.ndarray:
    return (np.arange(total) % episode).astype(np.int32)


def write_task(
    folder: Path,
    *,
    lengths: dict[str, int],
    observations: int = 3,
    actions: int = 2,
    name: str | None = None,
    episode: int = 7,
    group_rows: int = 10,
) -> Path:
    """Write a task; groups are short so that files of a few rows have several."""
    folder.mkdir(parents=True)
    for index, (file_name, rows) in enumerate(lengths.items()):
        rng = np.random.default_rng(index)
        columns = {
            "proprio_observation": rng.normal(size=(rows, observations)).astype(np.float32),
            "action": rng.normal(size=(rows, actions)).astype(np.float32),
            "reward": rng.normal(size=rows).astype(np.float32),
            "step_num": steps_of(rows, episode),
        }
        with h5py.File(folder / file_name, "w") as file:
            for first in range(0, rows, group_rows):
                last = min(first + group_rows, rows) - 1
                group = file.create_group(f"{first}-{last}")
                for column, values in columns.items():
                    group[column] = values[first : last + 1]
    description = {
        "task_name": name or folder.name,
        "observation_shape": {"proprio": [observations]},
        "action_dim": actions,
        "action_type": "continuous",
    }
    (folder / f"{folder.name}.json").write_text(json.dumps(description))
    return folder


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """Two tasks; one is the catalogue's, with trajectories of two lengths."""
    write_task(
        tmp_path / "release" / "mj" / "reacher_v4",
        lengths={"10.h5": ROWS, "2.h5": 18, "1.h5": ROWS},
        observations=10,
        name="Reacher-v4",
    )
    write_task(tmp_path / "release" / "other" / "mystery", lengths={"0.h5": ROWS})
    return tmp_path / "release"


def columns(path: Path) -> dict[str, np.ndarray]:
    """The whole columns of a file, read as the release reads them: groups by their first row."""
    with h5py.File(path) as file:
        names = sorted(file, key=lambda name: int(name.split("-")[0]))
        return {
            column: np.concatenate([file[name][column][...] for name in names])
            for column in ("proprio_observation", "action", "reward", "step_num")
        }


def test_histories_hold_every_number_and_say_what_is_not_known(
    workspace: Workspace, release: Path
) -> None:
    artifact = bring(workspace, release).artifact
    reader = HistoryReader(artifact)
    assert reader.tasks() == ["mystery", "reacher"]
    attributes = reader.task("reacher")
    assert attributes["imported"]["files"] == ["1.h5", "2.h5", "10.h5"]
    assert attributes["rows"] == reader.lengths("reacher") == [ROWS, 18, ROWS]
    assert reader.fields("reacher") == ("observation", "action", "reward")
    for number, name in enumerate(("1.h5", "2.h5", "10.h5")):
        stored = columns(release / "mj" / "reacher_v4" / name)
        blocks = [
            {field: values.copy() for field, values in block.items()}
            for block in reader.blocks("reacher", number, reader.fields("reacher"), 4)
        ]
        for field, column in (
            ("observation", "proprio_observation"),
            ("action", "action"),
            ("reward", "reward"),
        ):
            joined = np.concatenate([block[field] for block in blocks])
            np.testing.assert_array_equal(joined, stored[column])
        episodes = reader.episodes("reacher", number)
        starts = np.flatnonzero(stored["step_num"] == 0)
        np.testing.assert_array_equal(episodes["episode_start"], starts)
        sums = np.add.reduceat(stored["reward"].astype(np.float64), starts)
        np.testing.assert_allclose(episodes["episode_return"], sums, rtol=1e-12)
        assert episodes["episode_length"].sum() == len(stored["reward"])
        assert "episode_final_observation" not in episodes
        assert not episodes["complete"][-1]
    with pytest.raises(UsageError, match=r"(?s)'noise'.*observation, action, reward"):
        next(reader.blocks("reacher", 0, ("noise",)))
    assert verify(artifact, deep=True) == []


def test_tasks_of_the_catalogue_get_its_settings(workspace: Workspace, release: Path) -> None:
    result = bring(workspace, release)
    reader = HistoryReader(result.artifact)
    task = reader.task("reacher")["task"]
    assert (task["group"], task["reward_scale"], task["domain"]) == (
        "mujoco-reacher",
        0.1,
        "mujoco",
    )
    assert reader.task("mystery")["task"]["domain"] == "imported"
    assert set(result.report["unmatched"]) == {"mystery"}


def test_other_dimensions_than_the_catalogue_make_another_task(
    workspace: Workspace, tmp_path: Path
) -> None:
    """Their Ant-v4 has 27 observations; it must not be taken for the catalogue's."""
    root = tmp_path / "release"
    write_task(root / "ant", lengths={"0.h5": ROWS}, observations=27, actions=8, name="Ant-v4")
    result = bring(workspace, root)
    assert HistoryReader(result.artifact).tasks() == ["Ant-v4"]
    assert "105 observations" in result.report["unmatched"]["Ant-v4"]


def test_a_description_beside_the_data_settles_groups_and_scales(
    workspace: Workspace, release: Path
) -> None:
    described = {"mystery": {"group": "puzzles", "reward_scale": 5.0, "episode_sparsity": 3}}
    (release / "vintix.json").write_text(json.dumps({"tasks": described}))
    result = bring(workspace, release)
    task = HistoryReader(result.artifact).task("mystery")["task"]
    assert (task["group"], task["reward_scale"], task["episode_sparsity"]) == ("puzzles", 5.0, 3)
    assert result.report["unmatched"] == {}
    (release / "vintix.json").write_text(json.dumps({"tasks": {"mystery": {"colour": "blue"}}}))
    with pytest.raises(ConfigError, match=r"(?s)vintix\.json: mystery.*colour"):
        bring(workspace, release)


def test_packing_the_histories_equals_importing_a_dataset(
    workspace: Workspace, release: Path
) -> None:
    """File by file; unequal trajectories and absent noise included."""
    bring(workspace, release, name="h", chunk_rows=8)
    packed = pack(PackConfig(histories=("h",), chunk_rows=8), workspace, REPORTER).artifact
    direct = bring(workspace, release, as_kind="dataset", name="d", chunk_rows=8).artifact
    files = {name: entry.sha256 for name, entry in packed.manifest.files.items()}
    assert files == {name: entry.sha256 for name, entry in direct.manifest.files.items()}
    reader = DatasetReader(direct)
    assert reader.tasks["reacher"].rows == (ROWS, 18, ROWS)
    window = reader.window("reacher", 1, 3, 15)
    stored = columns(release / "mj" / "reacher_v4" / "2.h5")
    np.testing.assert_array_equal(window["observation"], stored["proprio_observation"][3:])
    np.testing.assert_array_equal(window["episode_step"], stored["step_num"][3:])
    assert "noise" not in window
    joined = np.concatenate(
        [
            columns(release / "mj" / "reacher_v4" / name)["action"].astype(np.float64)
            for name in ("1.h5", "2.h5", "10.h5")
        ]
    )
    statistics = reader.tasks["reacher"].statistics
    np.testing.assert_allclose(statistics["action_mean"], joined.mean(0), rtol=1e-12)
    np.testing.assert_allclose(statistics["action_std"], joined.std(0, ddof=1), rtol=1e-12)
    assert verify(direct, deep=True) == []


def test_expert_distillation_needs_the_noise(workspace: Workspace, release: Path) -> None:
    reader = DatasetReader(bring(workspace, release, as_kind="dataset").artifact)
    tasks = list(reader.tasks.values())
    assert cut_tasks(reader, tasks, context=5)
    with pytest.raises(ConfigError, match="noise of a task's actions is not known"):
        cut_tasks(reader, tasks, context=5, method="ed")


@pytest.mark.parametrize("order", ["natural", "official"])
def test_a_dataset_goes_out_and_comes_back(
    workspace: Workspace, release: Path, tmp_path: Path, order: str
) -> None:
    first = bring(workspace, release, as_kind="dataset", name="first", order=order).artifact
    names = DatasetReader(first).tasks["reacher"].attributes["imported"]["files"]
    expected = ["1.h5", "2.h5", "10.h5"] if order == "natural" else ["1.h5", "10.h5", "2.h5"]
    assert names == expected
    send(workspace, tmp_path / "out", reference="first")
    for name in names:
        ours = columns(tmp_path / "out" / "mujoco" / "Reacher-v4" / name)
        theirs = columns(release / "mj" / "reacher_v4" / name)
        for column, values in theirs.items():
            assert ours[column].dtype == values.dtype
            np.testing.assert_array_equal(ours[column], values)
    second = bring(workspace, tmp_path / "out", as_kind="dataset", name="second", order=order)
    files = {name: entry.sha256 for name, entry in first.manifest.files.items()}
    assert files == {name: entry.sha256 for name, entry in second.artifact.manifest.files.items()}


def test_imports_that_were_joined_go_out_whole(
    workspace: Workspace, release: Path, tmp_path: Path
) -> None:
    """Both have the files 1, 2 and 10."""
    for name, chunk_rows in (("one", 8), ("two", 9)):
        bring(workspace, release, name=name, chunk_rows=chunk_rows)
    pack(PackConfig(histories=("one", "two"), name="both"), workspace, REPORTER)
    send(workspace, tmp_path / "out", reference="both")
    folder = tmp_path / "out" / "mujoco" / "Reacher-v4"
    theirs = columns(release / "mj" / "reacher_v4" / "1.h5")
    assert sorted(path.name for path in folder.glob("*.h5")) == [f"{n}.h5" for n in range(6)]
    for name in ("0.h5", "3.h5"):
        np.testing.assert_array_equal(columns(folder / name)["reward"], theirs["reward"])


@pytest.mark.parametrize("name", ["/x/escaped.h5", "../escaped.h5", "escaped.txt", "1.h5"])
def test_files_are_written_nowhere_but_in_the_export(name: str) -> None:
    """A dataset from elsewhere may say that its files had any names."""
    task: Any = SimpleNamespace(attributes={"imported": {"files": ["1.h5", name]}}, rows=(5, 5))
    assert _file_names(task) == ["0.h5", "1.h5"]


def test_groups_of_an_export_are_named_by_inclusive_rows(
    workspace: Workspace, tmp_path: Path
) -> None:
    root = tmp_path / "long"
    write_task(root / "t", lengths={"0.h5": 20_001}, episode=100, group_rows=20_001)
    bring(workspace, root, as_kind="dataset")
    send(workspace, tmp_path / "out")
    with h5py.File(tmp_path / "out" / "imported" / "t" / "0.h5") as file:
        assert sorted(file) == ["0-9999", "10000-19999", "20000-20000"]
        group = file["10000-19999"]
        found = {name: (str(group[name].dtype), group[name].shape) for name in group}
    assert found == {
        "proprio_observation": ("float32", (10_000, 3)),
        "action": ("float32", (10_000, 2)),
        "reward": ("float32", (10_000,)),
        "step_num": ("int32", (10_000,)),
    }
    described = json.loads((tmp_path / "out" / "imported" / "t" / "t.json").read_text())
    assert described == {
        "task_name": "t",
        "observation_shape": {"proprio": [3]},
        "action_dim": 2,
        "action_type": "continuous",
    }


def test_group_names_that_end_one_past_the_last_row_are_read(
    workspace: Workspace, tmp_path: Path
) -> None:
    folder = write_task(tmp_path / "release" / "t", lengths={"0.h5": ROWS})
    with h5py.File(folder / "0.h5", "a") as file:
        for name in list(file):
            first, last = name.split("-")
            file.move(name, f"{first}-{int(last) + 1}")
    result = bring(workspace, tmp_path / "release")
    assert HistoryReader(result.artifact).lengths("t") == [ROWS]


def test_an_import_holds_no_task_in_memory(workspace: Workspace, tmp_path: Path) -> None:
    """A trajectory of 24 MB goes through in a fraction of that."""
    root = tmp_path / "big"
    write_task(
        root / "t", lengths={"0.h5": 60_000}, observations=100, episode=500, group_rows=10_000
    )
    bring(workspace, root, name="warm", chunk_rows=5_000)
    tracemalloc.start()
    try:
        bring(workspace, root, name="cold", chunk_rows=4_000)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 14e6


def test_an_interrupted_import_goes_on_at_the_next_trajectory(
    workspace: Workspace, release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines.interchange import official_dataset

    whole = bring(workspace, release, name="whole").artifact
    write, written = official_dataset.create_rows, []

    def failing(group: Any, name: str, *args: Any, **fields: Any) -> Any:
        written.append(group.path)
        if len(set(written)) == 3:
            raise StorageError("no space left", where=group.path)
        return write(group, name, *args, **fields)

    monkeypatch.setattr(official_dataset, "create_rows", failing)
    with pytest.raises(StorageError):
        bring(workspace, release, name="cut")
    done = list(dict.fromkeys(written))[:2]
    written.clear()
    monkeypatch.setattr(
        official_dataset,
        "create_rows",
        lambda group, *args, **fields: (written.append(group.path), write(group, *args, **fields))[
            1
        ],
    )
    resumed = bring(workspace, release, name="cut").artifact
    assert not set(done) & set(written)
    assert resumed.digest == whole.digest


def test_the_same_data_is_up_to_date_and_changed_data_is_not(
    workspace: Workspace, release: Path
) -> None:
    assert not bring(workspace, release).up_to_date
    assert bring(workspace, release).up_to_date
    with h5py.File(release / "other" / "mystery" / "0.h5", "a") as file:
        file["0-9"]["reward"][3] = 99.0
    again = bring(workspace, release)
    assert (again.up_to_date, again.artifact.manifest.version) == (False, 2)


def test_tasks_are_chosen_by_name_or_alias(workspace: Workspace, release: Path) -> None:
    result = bring(workspace, release, tasks=("Reacher-v4",))
    assert HistoryReader(result.artifact).tasks() == ["reacher"]
    with pytest.raises(UsageError, match="nonsense"):
        bring(workspace, release, tasks=("nonsense",))


def break_group(folder: Path, change: Any) -> Path:
    with h5py.File(folder / "0.h5", "a") as file:
        change(file)
    return folder.parent


def replace(file: Any, group: str, name: str, values: Any) -> None:
    del file[group][name]
    if values is not None:
        file[group][name] = values


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: replace(f, "10-19", "action", None), r"(?s)0\.h5:/10-19\n.*an array action"),
        (
            lambda f: replace(f, "10-19", "action", np.zeros((10, 5), np.float32)),
            r"(?s)10-19/action.*float32 \(10, 2\).*\(10, 5\)",
        ),
        (
            lambda f: replace(f, "10-19", "reward", np.zeros((10, 1), np.float32)),
            r"(?s)10-19/reward.*\(10,\).*\(10, 1\)",
        ),
        (
            lambda f: replace(f, "0-9", "action", np.full((10, 2), np.nan, np.float32)),
            r"(?s)0-9/action.*finite numbers.*nan at \[0, 0\]",
        ),
        (
            lambda f: replace(f, "0-9", "action", np.full((10, 2), 1 / 3)),
            r"(?s)0-9/action.*fit float32.*float64",
        ),
        (
            lambda f: replace(f, "10-19", "step_num", np.full(10, 4, np.int32)),
            r"(?s)row 10 of step_num.*expected: 0 or 3.*found: 4",
        ),
        (
            lambda f: replace(f, "0-9", "step_num", np.arange(3, 13, dtype=np.int32)),
            r"(?s)row 0 of step_num.*expected: 0\n.*found: 3",
        ),
        (lambda f: f.__delitem__("10-19"), r"(?s)20-24.*begins at row 10.*rows 20 to 24"),
        (lambda f: f.move("10-19", "middle"), r"(?s)groups named by their rows.*/middle"),
        (
            lambda f: replace(f, "20-24", "reward", np.zeros(9, np.float32)),
            r"(?s)20-24.*rows of its name.*9 rows of reward",
        ),
    ],
)
def test_what_is_laid_out_otherwise_is_named(
    workspace: Workspace, tmp_path: Path, change: Any, message: str
) -> None:
    root = break_group(write_task(tmp_path / "r" / "t", lengths={"0.h5": ROWS}), change)
    with pytest.raises(ArtifactCorruptError, match=message):
        bring(workspace, root)
    assert not list(workspace.root.rglob("manifest.json"))


def test_damaged_files_are_named(workspace: Workspace, tmp_path: Path) -> None:
    folder = write_task(tmp_path / "r" / "t", lengths={"0.h5": ROWS})
    whole = (folder / "0.h5").read_bytes()
    for content in (b"", b"no HDF5 at all", whole[: len(whole) // 2]):
        (folder / "0.h5").write_bytes(content)
        with pytest.raises(ArtifactCorruptError, match=r"(?s)cannot be read.*0\.h5"):
            bring(workspace, tmp_path / "r")


def test_missing_data_and_odd_descriptions_are_named(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(ArtifactMissingError, match="no such directory"):
        bring(workspace, tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ArtifactMissingError, match="no task of the authors"):
        bring(workspace, tmp_path / "empty")
    folder = write_task(tmp_path / "r" / "t", lengths={"0.h5": ROWS})
    (folder / "0.h5").unlink()
    with pytest.raises(ArtifactCorruptError, match="trajectories named"):
        bring(workspace, tmp_path / "r")
    (folder / "t.json").write_text('{"task_name": "t", "observation_shape": {"image": [3]}}')
    with pytest.raises(ArtifactCorruptError, match=r"t\.json"):
        bring(workspace, tmp_path / "r")
    (folder / "t.json").write_text("{")
    with pytest.raises(ArtifactCorruptError, match=r"t\.json"):
        bring(workspace, tmp_path / "r")


def test_a_task_twice_is_refused(workspace: Workspace, release: Path) -> None:
    shutil.copytree(release / "other" / "mystery", release / "copy" / "mystery")
    with pytest.raises(UsageError, match="two folders hold the task 'mystery'"):
        bring(workspace, release)


def test_without_h5py_the_extra_is_named(
    workspace: Workspace, release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(module: str) -> None:
        raise ModuleNotFoundError(f"No module named {module!r}")

    monkeypatch.setattr(dependencies, "import_module", missing)
    with pytest.raises(MissingDependencyError, match=r"pip install 'vintix\[h5\]'") as caught:
        bring(workspace, release)
    assert caught.value.exit_code == 5
    with pytest.raises(MissingDependencyError, match="h5py"):
        send(workspace, tmp_path / "out")


def rebuilt(file: Any, name: str = "reward", **fields: Any) -> Any:
    """Make an array of the group 10-19 anew with other settings."""
    del file[f"10-19/{name}"]
    return file.create_dataset(f"10-19/{name}", **fields)


def external(file: Any) -> None:
    rebuilt(file, shape=(10,), dtype="f4", external=[("/etc/passwd", 0, 40)])


def virtual(file: Any) -> None:
    layout = h5py.VirtualLayout((10,), "f4")
    layout[:] = h5py.VirtualSource("elsewhere.h5", "reward", (10,))
    del file["10-19/reward"]
    file["10-19"].create_virtual_dataset("reward", layout)


def linked(target: Any) -> Any:
    def change(file: Any) -> None:
        del file["10-19/reward"]
        file["10-19/reward"] = target

    return change


def linked_group(target: Any) -> Any:
    def change(file: Any) -> None:
        del file["10-19"]
        file["10-19"] = target

    return change


def plugin(file: Any) -> None:
    """A filter that no library here has; 32013 is ZFP's number."""
    del file["10-19/reward"]
    settings = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    settings.set_chunk((10,))
    settings.set_filter(32013, h5py.h5z.FLAG_OPTIONAL)
    space = h5py.h5s.create_simple((10,))
    h5py.h5d.create(file["10-19"].id, b"reward", h5py.h5t.NATIVE_FLOAT, space, settings)


def endless(**fields: Any) -> Any:
    def change(file: Any) -> None:
        rows = 2**40
        for name, width in (("reward", ()), ("action", (2,)), ("step_num", ())):
            rebuilt(file, name, shape=(rows, *width), dtype="f4" if width else "i4", **fields)
        rebuilt(file, shape=(rows,), dtype="f4", **fields)
        file.move("10-19", f"10-{10 + rows - 1}")
        del file["20-24"]

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (external, r"(?s)10-19/reward.*external storage in '?/etc/passwd"),
        (virtual, r"(?s)10-19/reward.*a virtual dataset"),
        (linked(h5py.ExternalLink("other.h5", "/x")), r"(?s)10-19/reward.*external.*other\.h5"),
        (linked(h5py.SoftLink("/0-9/reward")), r"(?s)10-19/reward.*a soft link to '/0-9/reward'"),
        (linked(h5py.SoftLink("/nowhere")), r"(?s)10-19/reward.*a soft link"),
        (linked_group(h5py.ExternalLink("other.h5", "/x")), r"(?s):/10-19.*external.*other\.h5"),
        (linked_group(h5py.SoftLink("/0-9")), r"(?s):/10-19.*a soft link to '/0-9'"),
        (plugin, r"(?s)plug-in.*10-19/reward.*filter 32013"),
    ],
)
def test_numbers_from_elsewhere_are_refused_unread(
    workspace: Workspace, tmp_path: Path, change: Any, message: str
) -> None:
    """A release must not carry other files of this machine into an artifact, nor load code."""
    root = break_group(write_task(tmp_path / "r" / "t", lengths={"0.h5": ROWS}), change)
    with pytest.raises(UnsafeContentError, match=message) as caught:
        bring(workspace, root)
    assert caught.value.exit_code == 4
    assert not list(workspace.root.rglob("manifest.json"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (endless(), r"(?s)at most 1,073,741,824 bytes.*bytes"),
        (endless(chunks=True), r"(?s)at most 1,073,741,824 bytes.*bytes"),
        (
            lambda f: rebuilt(f, "action", shape=(10, 2), dtype="f4"),
            r"(?s)10-19/action.*expected: 80 bytes in the file.*found: 0",
        ),
        (
            lambda f: rebuilt(f, "action", shape=(10, 2), dtype="f4", chunks=(5, 2)),
            r"(?s)10-19/action.*expected: 2 chunks in the file.*found: 0",
        ),
        (lambda f: f["10-19"].move("reward", "x") or f.create_group("10-19/reward"), "an array"),
        (lambda f: f.move("10-19", f"10-{'9' * 5000}"), "groups named by their rows"),
        (lambda f: rebuilt(f, data=h5py.Empty("f4")), "0 rows of reward"),
        (lambda f: rebuilt(f, "action", data=["text"] * 10), r"10-19/action"),
    ],
)
def test_sizes_beyond_reason_and_numbers_never_written_are_refused(
    workspace: Workspace, tmp_path: Path, change: Any, message: str
) -> None:
    """Before anything of that size is built; HDF5 would give zeros for what was not written."""
    root = break_group(write_task(tmp_path / "r" / "t", lengths={"0.h5": ROWS}), change)
    tracemalloc.start()
    try:
        with pytest.raises(ArtifactCorruptError, match=message):
            bring(workspace, root)
        assert tracemalloc.get_traced_memory()[1] < 50e6
    finally:
        tracemalloc.stop()


def test_compressed_and_chunked_data_is_read(workspace: Workspace, tmp_path: Path) -> None:
    folder = write_task(tmp_path / "r" / "t", lengths={"0.h5": ROWS})
    values = np.arange(20, dtype=np.float32).reshape(10, 2)
    for compression in ("gzip", "lzf"):
        with h5py.File(folder / "0.h5", "a") as file:
            rebuilt(
                file, "action", data=values, chunks=(3, 2), compression=compression, shuffle=True
            )
        reader = HistoryReader(bring(workspace, tmp_path / "r").artifact)
        block = next(reader.blocks("t", 0, ("action",)))
        np.testing.assert_array_equal(block["action"][10:20], values)


def test_a_pipe_and_deep_json_do_not_stop_an_import(workspace: Workspace, tmp_path: Path) -> None:
    folder = write_task(tmp_path / "r" / "t", lengths={"0.h5": ROWS})
    os.mkfifo(folder / "1.h5")
    with pytest.raises(ArtifactCorruptError, match=r"(?s)1\.h5.*expected: a file"):
        bring(workspace, tmp_path / "r")
    (folder / "1.h5").unlink()
    (folder / "t.json").write_text("[" * 100_000)
    with pytest.raises(ArtifactCorruptError, match=r"(?s)t\.json.*nested too deeply"):
        bring(workspace, tmp_path / "r")
