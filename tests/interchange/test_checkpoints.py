"""Checkpoints go in and out of other formats without a bit changed, and imported ones play."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from pipelines.artifacts.verify import verify
from pipelines.artifacts.workspace import Workspace
from pipelines.errors import (
    ArtifactCorruptError,
    ArtifactMissingError,
    ArtifactSchemaError,
    ConfigError,
    UnsafeContentError,
    UsageError,
)
from pipelines.interchange.checkpoints import import_checkpoint
from pipelines.interchange.config import ExportConfig, ImportCheckpointConfig
from pipelines.interchange.official_checkpoint import export_official
from pipelines.interchange.safetensors_checkpoint import export_safetensors
from pipelines.model.official import read_official
from pipelines.model.saved import SavedModel, SavedTask, load_model, save_model
from pipelines.model.vintix import Vintix
from pipelines.reporter import NullReporter
from pipelines.stage import StageResult

from .support import task, write_official

REPORTER = NullReporter()
EXPORTS = {"official": export_official, "safetensors": export_safetensors}


def bring(workspace: Workspace, path: Path, name: str | None = None) -> StageResult:
    return import_checkpoint(ImportCheckpointConfig(path=path, name=name), workspace, REPORTER)


def send(workspace: Workspace, form: str, output: Path, reference: str, **fields: bool):
    config = ExportConfig(reference=reference, output=output, **fields)
    return EXPORTS[form](config, workspace, REPORTER)


def content(path: Path) -> dict[str, str]:
    """Digest-relevant content of an artifact: the hash of each file of its hierarchy."""
    from pipelines.artifacts.artifact import Artifact

    return {name: entry.sha256 for name, entry in Artifact(path).manifest.files.items()}


def assert_same_weights(found: Path, wanted: Path) -> None:
    ours = torch.load(found, weights_only=True)
    theirs = torch.load(wanted, weights_only=True)
    assert type(ours) is dict
    assert list(ours) == list(theirs)
    for name, tensor in theirs.items():
        assert ours[name].dtype == tensor.dtype, name
        assert ours[name].numpy(force=True).tobytes() == tensor.numpy(force=True).tobytes(), name


@pytest.mark.parametrize("variant", ["base", "norm_acs", "rms_llama"])
def test_the_authors_folder_comes_back_bit_by_bit(
    conformance: Path, workspace: Workspace, tmp_path: Path, variant: str
) -> None:
    """Import, export, import: every tensor and every byte of the JSON, known to us or not."""
    source = conformance / variant / "ckpt"
    first = bring(workspace, source, "first")
    send(workspace, "official", tmp_path / "out", "first")
    assert_same_weights(tmp_path / "out" / "model.pth", source / "model.pth")
    for name in ("config.json", "metadata.json"):
        assert (tmp_path / "out" / name).read_bytes() == (source / name).read_bytes()
    second = bring(workspace, tmp_path / "out", "second")
    assert content(second.artifact.path) == content(first.artifact.path)
    assert verify(first.artifact, deep=True) == []


def test_an_imported_model_is_the_one_that_was_saved(
    conformance: Path, workspace: Workspace
) -> None:
    source = conformance / "norm_acs" / "ckpt"
    saved = load_model(bring(workspace, source).artifact)
    model, tasks = read_official(source)[:2]
    wanted = model.state_dict()
    assert all(torch.equal(value, wanted[name]) for name, value in saved.model.state_dict().items())
    assert saved.config.model_dump() == model.config.model_dump()
    assert saved.tasks.keys() == tasks.keys()
    for name, each in tasks.items():
        found = saved.tasks[name]
        assert found.group == each.group
        assert found.statistics.reward_scale == each.statistics.reward_scale
        for field in ("observation_mean", "observation_std", "action_mean", "action_std"):
            np.testing.assert_array_equal(
                getattr(found.statistics, field), getattr(each.statistics, field)
            )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_half_precision_goes_back_as_it_was(
    workspace: Workspace, tmp_path: Path, dtype: torch.dtype
) -> None:
    source = write_official(tmp_path / "half", {"a": task(3, 2, "g")}, dtype)
    bring(workspace, source)
    send(workspace, "official", tmp_path / "out", "half")
    ours = torch.load(tmp_path / "out" / "model.pth", weights_only=True)
    theirs = torch.load(source / "model.pth", weights_only=True)
    assert list(ours) == list(theirs)
    assert all(ours[name].dtype == dtype for name in ours)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_weights_that_would_lose_digits_are_refused(workspace: Workspace, tmp_path: Path) -> None:
    source = write_official(tmp_path / "double", {"a": task(3, 2, "g")}, torch.float64)
    with pytest.raises(ConfigError, match=r"(?s)without loss.*float64"):
        bring(workspace, source)


def test_safetensors_round_trip_keeps_the_authors_files(
    conformance: Path, workspace: Workspace, tmp_path: Path
) -> None:
    """Through safetensors and back into the authors' format: still every byte."""
    source = conformance / "rms_llama" / "ckpt"
    first = bring(workspace, source, "first")
    send(workspace, "safetensors", tmp_path / "safe", "first")
    second = bring(workspace, tmp_path / "safe", "second")
    assert content(second.artifact.path) == content(first.artifact.path)
    send(workspace, "official", tmp_path / "out", "second")
    assert_same_weights(tmp_path / "out" / "model.pth", source / "model.pth")
    assert (tmp_path / "out" / "config.json").read_bytes() == (source / "config.json").read_bytes()


def trained_here(workspace: Workspace, tmp_path: Path, random_map: bool = False) -> None:
    """Publish a checkpoint that was never in the authors' format; its groups are not sorted."""
    from pipelines.model.official import official_config

    metadata = {"z": task(4, 1, "zeta", 1), "a": task(3, 2, "alpha", 2)}
    folder = write_official(tmp_path / "source", metadata)
    _, tasks = read_official(folder)[:2]
    config = json.loads((folder / "config.json").read_text())
    model = Vintix(official_config(config, metadata), seed=8)
    with workspace.stage(
        "checkpoints", "own", config={"learning_rate": 0.01, "seed": 4}
    ) as staging:
        with staging.work_item("model") as unit:
            saved = {
                name: SavedTask(name, each.group, each.statistics, trained=name != "z")
                for name, each in tasks.items()
            }
            save_model(unit, SavedModel(model, saved, 70, "ad-no-reward", random_map))
        staging.publish(summary={"steps": 70})


def test_our_own_checkpoint_loads_in_the_authors_format(
    workspace: Workspace, tmp_path: Path
) -> None:
    """With every field that their configuration has, and the settings it was trained with."""
    trained_here(workspace, tmp_path)
    result = send(workspace, "official", tmp_path / "out", "own")
    assert [each["path"] for each in result["files"]] == [
        "config.json",
        "metadata.json",
        "model.pth",
    ]
    model, tasks = read_official(tmp_path / "out")[:2]
    own = load_model(workspace.find("checkpoints", "own"))
    assert model.config.model_dump() == own.config.model_dump()
    ours = own.model.state_dict()
    theirs = torch.load(tmp_path / "out" / "model.pth", weights_only=True)
    assert list(theirs) == list(model.state_dict())
    assert all(torch.equal(value, ours[name]) for name, value in theirs.items())
    for name, each in own.tasks.items():
        np.testing.assert_array_equal(
            tasks[name].statistics.observation_std, each.statistics.observation_std
        )
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (config["lr"], config["seed"], config["name"]) == (0.01, 4, "own")


def test_exported_configuration_has_every_field_of_theirs(
    conformance: Path, workspace: Workspace, tmp_path: Path
) -> None:
    trained_here(workspace, tmp_path)
    send(workspace, "official", tmp_path / "out", "own")
    ours = json.loads((tmp_path / "out" / "config.json").read_text())
    theirs = json.loads((conformance / "base" / "ckpt" / "config.json").read_text())
    assert ours.keys() == theirs.keys()
    entry = next(iter(json.loads((tmp_path / "out" / "metadata.json").read_text()).values()))
    known = json.loads((conformance / "base" / "ckpt" / "metadata.json").read_text())
    assert entry.keys() == known["alpha-v0"].keys()


@pytest.mark.parametrize("random_map", [False, True])
def test_what_the_authors_format_does_not_tell_is_warned_of(
    workspace: Workspace, tmp_path: Path, random_map: bool
) -> None:
    trained_here(workspace, tmp_path, random_map)
    told = NullReporter()
    export_official(ExportConfig(reference="own", output=tmp_path / "out"), workspace, told)
    assert len([each for each in told.warnings if "random maps" in each]) == random_map
    assert any("rewards of 0" in each for each in told.warnings)


@pytest.mark.parametrize("random_map", [False, True])
def test_our_own_checkpoint_round_trips_through_safetensors(
    workspace: Workspace, tmp_path: Path, random_map: bool
) -> None:
    """Steps, method, random maps and which tasks were trained come back too."""
    trained_here(workspace, tmp_path, random_map)
    send(workspace, "safetensors", tmp_path / "out", "own")
    back = load_model(bring(workspace, tmp_path / "out").artifact)
    own = load_model(workspace.find("checkpoints", "own"))
    assert (back.step, back.method) == (own.step, own.method) == (70, "ad-no-reward")
    assert back.random_map == own.random_map == random_map
    assert {name: each.as_json() for name, each in back.tasks.items()} == {
        name: each.as_json() for name, each in own.tasks.items()
    }
    wanted = own.model.state_dict()
    assert all(torch.equal(v, wanted[name]) for name, v in back.model.state_dict().items())
    assert load_file(tmp_path / "out" / "model.safetensors").keys() == wanted.keys()


def test_tasks_that_the_catalogue_knows_get_its_names(workspace: Workspace, tmp_path: Path) -> None:
    """Only where the dimensions agree: `Ant-v4` of the release is not our Ant."""
    metadata = {
        "Reacher-v4": task(10, 2, "reach"),
        "Ant-v4": task(27, 8, "ants"),
        "mystery": task(5, 5, "mystery"),
    }
    result = bring(workspace, write_official(tmp_path / "mixed", metadata))
    saved = load_model(result.artifact)
    assert set(saved.tasks) == {"reacher", "Ant-v4", "mystery"}
    reacher = saved.tasks["reacher"]
    assert (reacher.group, reacher.task["group"]) == ("reach", "mujoco-reacher")
    np.testing.assert_array_equal(
        reacher.statistics.observation_mean, np.float32(metadata["Reacher-v4"]["obs_mean"])
    )
    assert set(result.report["unmatched"]) == {"Ant-v4", "mystery"}
    assert "105 observations" in result.report["unmatched"]["Ant-v4"]


@pytest.mark.simulator
def test_an_imported_checkpoint_plays(workspace: Workspace, tmp_path: Path) -> None:
    from pipelines.rollout.config import RolloutConfig
    from pipelines.rollout.stage import run

    metadata = {"Reacher-v4": task(10, 2, "reach"), "Ant-v4": task(27, 8, "ants")}
    bring(workspace, write_official(tmp_path / "released", metadata))
    config = RolloutConfig(tasks=("reacher",), shots=2, seeds=2, context=24, threads=1)
    result = run(config, workspace, REPORTER)
    returns = result.artifact.read("reacher/00000/episode_return")
    assert returns.shape == (2,)
    assert np.isfinite(returns).all()
    with pytest.raises(ConfigError, match=r"(?s)no group for task 'ant'.*ants \(27 observation"):
        run(RolloutConfig(tasks=("Ant-v4",), shots=1, seeds=1, threads=1), workspace, REPORTER)


def test_the_same_folder_is_up_to_date_and_another_one_the_next_version(
    workspace: Workspace, tmp_path: Path
) -> None:
    source = write_official(tmp_path / "one", {"a": task(3, 2, "g")})
    first = bring(workspace, source)
    again = bring(workspace, source)
    assert (first.up_to_date, again.up_to_date) == (False, True)
    shutil.rmtree(source)
    changed = bring(workspace, write_official(source, {"a": task(3, 2, "g", seed=1)}))
    assert changed.artifact.reference == "one@v2"


def test_an_output_is_replaced_only_when_asked_and_only_if_it_is_an_export(
    workspace: Workspace, tmp_path: Path
) -> None:
    bring(workspace, write_official(tmp_path / "one", {"a": task(3, 2, "g")}))
    out = tmp_path / "out"
    send(workspace, "official", out, "one")
    before = (out / "model.pth").read_bytes()
    with pytest.raises(UsageError, match=r"(?s)there already.*--overwrite"):
        send(workspace, "official", out, "one")
    send(workspace, "official", out, "one", overwrite=True)
    assert (out / "model.pth").read_bytes() == before
    (out / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match=r"(?s)no export of this format.*thesis\.tex"):
        send(workspace, "official", out, "one", overwrite=True)
    assert (out / "thesis.tex").read_text() == "years of work"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "out", "work"]


def test_a_pickle_with_code_is_refused_and_never_run(workspace: Workspace, tmp_path: Path) -> None:
    source = write_official(tmp_path / "evil", {"a": task(3, 2, "g")})
    marker = tmp_path / "ran"

    class Payload:
        def __reduce__(self) -> tuple[object, tuple[object, ...]]:
            return (Path.touch, (marker,))

    torch.save({"weights": Payload()}, source / "model.pth")
    with pytest.raises(UnsafeContentError):
        bring(workspace, source)
    assert not marker.exists()
    assert not (workspace.root / "checkpoints").exists()


def test_statistics_of_other_dimensions_are_refused(workspace: Workspace, tmp_path: Path) -> None:
    metadata = {"a": task(3, 2, "g")}
    source = write_official(tmp_path / "odd", metadata)
    metadata["a"]["obs_mean"] = metadata["a"]["obs_std"] = [0.5]
    (source / "metadata.json").write_text(json.dumps(metadata))
    with pytest.raises(ConfigError, match=r"(?s)metadata\.json: a.*expected: 3 observations"):
        bring(workspace, source)


def test_nothing_there_and_half_a_checkpoint_are_named(
    workspace: Workspace, tmp_path: Path
) -> None:
    with pytest.raises(ArtifactMissingError, match="no such directory"):
        bring(workspace, tmp_path / "nowhere")
    source = write_official(tmp_path / "half", {"a": task(3, 2, "g")})
    (source / "model.pth").unlink()
    with pytest.raises(ArtifactMissingError, match=r"model\.pth"):
        bring(workspace, source)


def test_damaged_safetensors_are_named(workspace: Workspace, tmp_path: Path) -> None:
    bring(workspace, write_official(tmp_path / "one", {"a": task(3, 2, "g")}))
    send(workspace, "safetensors", tmp_path / "safe", "one")
    weights, config = tmp_path / "safe" / "model.safetensors", tmp_path / "safe" / "config.json"
    whole, text = weights.read_bytes(), config.read_text()

    weights.write_bytes(whole[:100])
    with pytest.raises(ArtifactCorruptError, match=r"model\.safetensors"):
        bring(workspace, tmp_path / "safe")
    save_file({"other": torch.zeros(2)}, weights)
    with pytest.raises(ArtifactCorruptError, match="parameters that config"):
        bring(workspace, tmp_path / "safe")
    weights.write_bytes(whole)
    config.write_text(json.dumps({**json.loads(text), "format_version": 99}))
    with pytest.raises(ArtifactSchemaError, match="newer release"):
        bring(workspace, tmp_path / "safe")
    config.write_text("{}")
    with pytest.raises(ArtifactCorruptError, match=r"config\.json"):
        bring(workspace, tmp_path / "safe")
    config.unlink()
    with pytest.raises(ArtifactMissingError, match=r"config\.json"):
        bring(workspace, tmp_path / "safe")
