"""A history and its Minari dataset hold the same numbers."""

from __future__ import annotations

import shutil
import subprocess
import sys
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from distill.toy import make_demonstrators, toy_installed

from pipelines import dependencies
from pipelines.artifacts.workspace import Workspace
from pipelines.distill.config import DistillConfig
from pipelines.distill.stage import run
from pipelines.errors import ArtifactMissingError, ConfigError, MissingDependencyError, UsageError
from pipelines.histories.reader import HistoryReader
from pipelines.interchange.config import ExportConfig, ImportDatasetConfig
from pipelines.interchange.minari import export_minari
from pipelines.reporter import NullReporter
from pipelines.rows import HISTORY_ROWS
from pipelines.tasks.spec import score_of

REPORTER = NullReporter()


@pytest.fixture(scope="module")
def histories(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Two tasks, two trajectories each, in shards that cut episodes."""
    directory = tmp_path_factory.mktemp("minari")
    workspace = Workspace(directory / "work")
    (directory / "site").mkdir()
    with toy_installed(directory / "site"):
        make_demonstrators(workspace, ("toy-a", "toy-b"))
        config = DistillConfig(trajectories=2, steps=130, shard_rows=40, workers=1, name="toys")
        run(config, workspace, REPORTER)
    return workspace


def export(
    workspace: Workspace, output: Path, reporter: NullReporter = REPORTER, **fields: object
) -> Any:
    config = ExportConfig(output=output, **fields)  # type: ignore[arg-type]
    return export_minari(config, workspace, reporter)


SIMULATED = ("reacher", "reach", "industrial-benchmark-50", "hand-over")


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, Path]:
    """A short history of a task of each domain, with an option that is not the default."""
    pytest.importorskip("minari", reason="the extra minari is not installed")
    directory = tmp_path_factory.mktemp("simulated")
    workspace = Workspace(directory / "work")
    make_demonstrators(workspace, SIMULATED, name="four")
    options = {"viscosity": 0.05, "goal": "visible", "reward": "delta", "clip": "off"}
    config = DistillConfig(trajectories=1, steps=260, workers=1, options=options, name="four")
    run(config, workspace, REPORTER)
    reporter = NullReporter()
    export(workspace, directory / "out", reporter)
    assert reporter.warnings == []
    return workspace, directory / "out"


@pytest.mark.simulator
def test_the_recovered_environment_plays_the_recorded_episodes(
    simulated: tuple[Workspace, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its spaces are bounded as the environment's are, and what was recorded is of them."""
    import minari

    monkeypatch.setenv("MINARI_DATASETS_PATH", str(simulated[1]))
    for name in SIMULATED:
        dataset = minari.load_dataset(f"vintix/{name}/four-v1")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            env = dataset.recover_environment()
        assert not [str(each.message) for each in caught if "install" in str(each.message)]
        assert dataset.env_spec is not None and dataset.env_spec.id == f"vintix/{name}"
        assert dataset.action_space == env.action_space
        assert dataset.observation_space == env.observation_space
        assert np.isfinite(dataset.action_space.low).all()
        seeds = [each["seed"] for each in dataset.storage.get_episode_metadata([0, 1])]
        for episode, seed in zip(dataset.iterate_episodes([0, 1]), seeds, strict=True):
            assert all(map(dataset.action_space.contains, episode.actions))
            seen, rewards = [env.reset(seed=seed)[0]], []
            for action in episode.actions:
                observation, reward, *_ = env.step(action)
                seen.append(observation)
                rewards.append(np.float32(reward))
            np.testing.assert_array_equal(np.stack(seen), episode.observations, err_msg=name)
            np.testing.assert_array_equal(np.stack(rewards), episode.rewards, err_msg=name)


@pytest.mark.simulator
def test_scores_of_minari_are_those_of_the_rollouts(
    simulated: tuple[Workspace, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    import minari

    workspace, output = simulated
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(output))
    returns = np.array([-1000.0, -30.0, -5.0, 3.3, 2500.0])
    for name in SIMULATED:
        scores = workspace.find("histories", "four").group(name).attrs["scores"]
        score = score_of(scores, "measured")  # type: ignore[arg-type]
        assert score is not None
        dataset = minari.load_dataset(f"vintix/{name}/four-v1")
        found = minari.get_normalized_score(dataset, returns)
        np.testing.assert_array_equal(found, score.normalize(returns))
        assert "measured" in dataset.storage.metadata["description"]


@pytest.mark.process
def test_recovery_needs_no_import(
    simulated: tuple[Workspace, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(simulated[1]))
    code = (
        "import sys, minari\n"
        "dataset = minari.load_dataset('vintix/reacher/four-v1')\n"
        "assert not any(name.startswith('pipelines') for name in sys.modules)\n"
        "env = dataset.recover_environment()\n"
        "assert env.unwrapped.model.opt.viscosity == 0.05\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


@pytest.mark.parametrize("toys", ["gone", "larger"])
def test_data_is_exported_where_its_environment_cannot_be_made(
    histories: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, toys: str
) -> None:
    minari = pytest.importorskip("minari", reason="the extra minari is not installed")
    reporter = NullReporter()
    with nullcontext() if toys == "gone" else toy_installed(tmp_path):
        if toys == "larger":
            plugin = tmp_path / "vintix_toy.py"
            text = plugin.read_text().replace('"observation_dim": 3', '"observation_dim": 4')
            text = text.replace("(3,), np.float32", "(4,), np.float32")
            plugin.write_text(text.replace("[*self.x, ", "[*self.x, 0, "))
        export(histories, tmp_path / "out", reporter, tasks=("toy-a",))
    (told,) = reporter.warnings
    assert "toy-a: its environment cannot be made here" in told
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "out"))
    dataset = minari.load_dataset("vintix/toy-a/toys-v1")
    assert dataset.observation_space.shape == (3,) and dataset.action_space.shape == (2,)
    assert not dataset.action_space.is_bounded()
    assert dataset.env_spec is None


def test_another_environment_than_the_recorded_one_is_told(
    histories: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    minari = pytest.importorskip("minari", reason="the extra minari is not installed")
    reporter = NullReporter()
    with toy_installed(tmp_path):
        export(histories, tmp_path / "same", reporter, tasks=("toy-a",))
        assert reporter.warnings == []
        monkeypatch.setenv("VINTIX_TOY_DRIFT", "0.5")
        export(histories, tmp_path / "out", reporter, tasks=("toy-a",))
    (told,) = reporter.warnings
    assert "toy-a: the environment here is not the one that was recorded" in told
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "out"))
    assert minari.load_dataset("vintix/toy-a/toys-v1").env_spec.kwargs["task"] == "toy-a"


def test_every_number_is_there_and_minari_reads_it(
    histories: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    minari = pytest.importorskip("minari", reason="the extra minari is not installed")
    result = export(histories, tmp_path / "out")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "out"))
    reader = HistoryReader(histories.find("histories", "toys"))
    assert set(minari.list_local_datasets()) == {"vintix/toy-a/toys-v1", "vintix/toy-b/toys-v1"}
    assert [row["dataset_id"] for row in result["tasks"]] == [
        "vintix/toy-a/toys-v1",
        "vintix/toy-b/toys-v1",
    ]
    for task in ("toy-a", "toy-b"):
        dataset = minari.load_dataset(f"vintix/{task}/toys-v1")
        assert dataset.total_steps == 260
        episodes = list(dataset.iterate_episodes())
        metadata = list(dataset.storage.get_episode_metadata(range(len(episodes))))
        for trajectory in (0, 1):
            (recorded,) = reader.blocks(task, trajectory, rows=10_000)
            recorded |= reader.episodes(task, trajectory)
            own = [
                e for e, m in zip(episodes, metadata, strict=True) if m["trajectory"] == trajectory
            ]
            joined = {
                "observation": np.concatenate([each.observations[:-1] for each in own]),
                "action": np.concatenate([each.actions for each in own]),
                "reward": np.concatenate([each.rewards for each in own]),
                "terminated": np.concatenate([each.terminations for each in own]),
                "truncated": np.concatenate([each.truncations for each in own]),
                "noise": np.concatenate([each.infos["noise"][:-1] for each in own]),
                "demonstrator_action": np.concatenate(
                    [each.infos["demonstrator_action"][:-1] for each in own]
                ),
            }
            assert joined.keys() == set(HISTORY_ROWS)
            for field, values in joined.items():
                stored = recorded[field]
                assert values.dtype == stored.dtype, field
                np.testing.assert_array_equal(values, stored, err_msg=field)
            final = np.stack([each.observations[-1] for each in own])
            np.testing.assert_array_equal(final, recorded["episode_final_observation"])
            lengths = [len(each.rewards) for each in own]
            assert lengths == recorded["episode_length"].tolist()
            returns = [m["return"] for m in metadata if m["trajectory"] == trajectory]
            assert returns == recorded["episode_return"].tolist()
            for each in own:
                assert len(each.infos["noise"]) == len(each.observations)
                assert np.isnan(each.infos["noise"][-1])
                assert np.isnan(each.infos["demonstrator_action"][-1]).all()


def test_a_dataset_is_exported_from_its_histories(histories: Workspace, tmp_path: Path) -> None:
    """The same files as of the histories themselves, for the tasks that were packed."""
    pytest.importorskip("minari", reason="the extra minari is not installed")
    from pipelines.interchange.minari import export_packed
    from pipelines.pack.config import PackConfig
    from pipelines.pack.stage import run

    packed = run(PackConfig(tasks=("toy-b",), name="packed"), histories, REPORTER).artifact
    config = ExportConfig(reference="packed", output=tmp_path / "packed")
    result = export_packed(config, histories, REPORTER)
    assert result["exported"] == f"datasets/{packed.reference}"
    assert [row["dataset_id"] for row in result["tasks"]] == ["vintix/toy-b/toys-v1"]
    with pytest.raises(UsageError, match="datasets hold no task 'toy-a'"):
        other = config.model_copy(update={"tasks": ("toy-a",), "output": tmp_path / "other"})
        export_packed(other, histories, REPORTER)
    whole = export(histories, tmp_path / "whole", tasks=("toy-b",))
    assert whole["tasks"] == result["tasks"]
    for rows in zip(whole["files"], result["files"], strict=True):
        assert rows[0]["path"] == rows[1]["path"]
        assert rows[0]["bytes"] == rows[1]["bytes"]


def test_every_history_of_a_joined_dataset_is_exported(
    histories: Workspace, tmp_path: Path
) -> None:
    """Each as a Minari dataset of its own; never another history by the same name."""
    pytest.importorskip("minari", reason="the extra minari is not installed")
    from pipelines.interchange.minari import export_packed
    from pipelines.pack.config import PackConfig
    from pipelines.pack.stage import run as pack

    workspace = Workspace(tmp_path / "work")
    shutil.copytree(histories.root, workspace.root)
    (tmp_path / "site").mkdir()
    with toy_installed(tmp_path / "site"):
        config = DistillConfig(tasks=("toy-a",), trajectories=1, steps=65, workers=1, name="more")
        run(config, workspace, REPORTER)
        pack(PackConfig(histories=("toys", "more"), name="joined"), workspace, REPORTER)
        export = ExportConfig(reference="joined", tasks=("toy-a",), output=tmp_path / "out")
        found = export_packed(export, workspace, REPORTER)["tasks"]
        assert {row["dataset_id"]: row["steps"] for row in found} == {
            "vintix/toy-a/toys-v1": 260,
            "vintix/toy-a/more-v1": 65,
        }
        shutil.rmtree(workspace.root / "histories" / "more")
        run(config.model_copy(update={"seed": 9}), workspace, REPORTER)
        with pytest.raises(ArtifactMissingError, match="packed from are not here") as error:
            export_packed(
                export.model_copy(update={"output": tmp_path / "again"}), workspace, REPORTER
            )
    assert "histories/more@v1" in str(error.value.expected)


def test_a_cut_episode_raises_no_flag_and_says_so(
    histories: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    minari = pytest.importorskip("minari", reason="the extra minari is not installed")
    export(histories, tmp_path / "out", tasks=("toy-a",))
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "out"))
    assert set(minari.list_local_datasets()) == {"vintix/toy-a/toys-v1"}
    dataset = minari.load_dataset("vintix/toy-a/toys-v1")
    episodes = list(dataset.iterate_episodes())
    metadata = list(dataset.storage.get_episode_metadata(range(len(episodes))))
    flagged = [bool(e.terminations[-1] or e.truncations[-1]) for e in episodes]
    assert flagged == [bool(each["complete"]) for each in metadata]
    assert all(flagged[: len(flagged) // 2 - 1])


def test_unknown_tasks_and_taken_outputs_are_usage_errors(
    histories: Workspace, tmp_path: Path
) -> None:
    pytest.importorskip("minari", reason="the extra minari is not installed")
    with pytest.raises(UsageError, match="toy-z"):
        export(histories, tmp_path / "out", tasks=("toy-z",))
    export(histories, tmp_path / "out")
    with pytest.raises(UsageError, match="there already"):
        export(histories, tmp_path / "out")
    export(histories, tmp_path / "out", overwrite=True)


def test_imported_histories_lack_what_minari_needs(
    conformance: Path, workspace: Workspace, tmp_path: Path
) -> None:
    pytest.importorskip("minari", reason="the extra minari is not installed")
    from pipelines.interchange.official_dataset import import_dataset

    import_dataset(ImportDatasetConfig(path=conformance / "dataset"), workspace, REPORTER)
    with pytest.raises(ConfigError, match=r"(?s)episode_final_observation.*official-hdf5"):
        export(workspace, tmp_path / "out")


def test_without_minari_the_extra_is_named(
    histories: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(module: str) -> None:
        raise ModuleNotFoundError(f"No module named {module!r}")

    monkeypatch.setattr(dependencies, "import_module", missing)
    with pytest.raises(MissingDependencyError, match=r"pip install 'vintix\[minari\]'") as caught:
        export(histories, tmp_path / "out")
    assert caught.value.exit_code == 5
