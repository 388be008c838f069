"""Artifacts that old releases wrote are read for good: their bytes are in the repository."""

from __future__ import annotations

import itertools
import shutil

import numpy as np
import pytest

from pipelines.artifacts.artifact import Artifact
from pipelines.artifacts.schema import SCHEMA_VERSIONS
from pipelines.artifacts.verify import verify
from pipelines.datasets.reader import DatasetReader
from pipelines.errors import ConfigError
from pipelines.histories.reader import HistoryReader

from .make_golden import GOLDEN, LENGTHS, OBSERVATION, STARTS, STEPS, TASK, make, steps

# What these releases wrote. A line is added with each schema version and never changed.
DIGESTS = {
    ("demonstrators", 1): "e9ff011e3e73ee98aa3415a5661efd48a53679c0e383274548c51aef02655fdc",
    ("parts", 1): "abfa038d4e04be7f65c40d17cac2c363ed932ef95fdecfe5e5a9d842daaaafdc",
    ("histories", 1): "4be50ee011d6edbe3246bf2423d83ab99dd77b69c93991ab7ce3f88a1d4fe201",
    ("histories", 2): "9016d1bee336894e77326b482ce4d949a4d59567f459df63afa1405c73fb8152",
    ("datasets", 1): "42f1d14888253881230556257c9e279252161f239aef43e4e75126ab2f8cd63a",
    ("datasets", 2): "cabe4cd9e98a30f91c4d28fe7fd72c49815c93ecf1edbfc4f49c48d72ed2c956",
    ("checkpoints", 1): "969c3f7641e47319ddea07e0421c24f50faf777ed0aa0ee299cfee7b6cbb3f32",
    ("checkpoints", 2): "6a02a76101bf840ad1eab0c70d1f4fb774924451ae62f28b23e31d562facb408",
    ("rollouts", 1): "df59126ebd4fc4ae80993ef31ae69cabdc7321ad42e7cd9f00c32ea01b09c032",
}


def _open(kind, version):
    return Artifact(GOLDEN / kind / f"v{version}")


def test_every_schema_version_has_a_golden_artifact():
    """Who raises a schema version commits what the release before it wrote, and this one."""
    expected = {(kind, n) for kind, last in SCHEMA_VERSIONS.items() for n in range(1, last + 1)}
    assert expected == DIGESTS.keys()


@pytest.mark.parametrize(("kind", "version"), DIGESTS)
def test_golden_artifact_is_whole_and_upgraded(kind, version):
    artifact = _open(kind, version)
    assert verify(artifact, deep=True) == []
    assert artifact.digest == DIGESTS[kind, version]
    assert (artifact.kind, artifact.reference) == (kind, "golden@v1")
    assert artifact.manifest.schema_version == SCHEMA_VERSIONS[kind]
    assert artifact.config == {"name": "golden", "seed": 1}
    assert artifact.manifest.seeds == {"seed": 1}
    assert artifact.manifest.summary == {"steps": STEPS}


def test_parents_of_golden_artifacts():
    chain = ["demonstrators", "histories", "datasets", "checkpoints", "rollouts"]
    for parent, child in itertools.pairwise(chain):
        (recorded,) = _open(child, 1).manifest.parents
        assert (recorded.kind, recorded.digest) == (parent, DIGESTS[parent, 1])


def test_golden_demonstrators():
    artifact = _open("demonstrators", 1)
    assert artifact.group("inverted-pendulum").attrs["task"] == TASK
    np.testing.assert_array_equal(artifact.read("inverted-pendulum/policy/gain"), steps(1, 4))
    returns = artifact.read("inverted-pendulum/evaluation/random_return")
    np.testing.assert_array_equal(returns, [5.0, 7.0])


@pytest.mark.parametrize("version", [1, 2])
def test_golden_histories(version):
    """Version 1 had arrays for each trajectory."""
    artifact = _open("histories", version)
    reader = HistoryReader(artifact)
    (rows,) = reader.blocks("inverted-pendulum", 0, rows=STEPS)
    assert rows["observation"].dtype == np.float32
    np.testing.assert_array_equal(rows["observation"], steps(STEPS, OBSERVATION))
    np.testing.assert_array_equal(rows["demonstrator_action"], -steps(STEPS, 1))
    np.testing.assert_array_equal(np.flatnonzero(rows["terminated"]), [3])
    assert not rows["truncated"].any()
    if version > 1:
        episodes = reader.episodes("inverted-pendulum", 0)
        assert episodes["complete"].tolist() == [True, False]
        np.testing.assert_array_equal(episodes["episode_final_observation"], steps(2, OBSERVATION))
    path = "inverted-pendulum" + ("/00000" if version == 1 else "")
    np.testing.assert_array_equal(artifact.read(f"{path}/episode_start"), STARTS)
    np.testing.assert_array_equal(artifact.read(f"{path}/episode_length"), LENGTHS)
    assert artifact.read_file("log/timing.jsonl") == b'{"seconds": 0.5}\n'


def test_golden_parts():
    """One of two trajectories, under the attributes of the whole history."""
    artifact = _open("parts", 1)
    attributes = artifact.group("inverted-pendulum").attrs
    assert attributes["task"] == TASK
    assert attributes["trajectories"] == 2
    assert attributes["part"] == {"trajectories": [1], "place": 0}
    assert attributes["last_episode_complete"] == [False]
    observation = artifact.read("inverted-pendulum/00001/observation")
    np.testing.assert_array_equal(observation, steps(STEPS, OBSERVATION))
    (parent,) = artifact.manifest.parents
    assert (parent.kind, parent.digest) == ("demonstrators", DIGESTS["demonstrators", 1])


@pytest.mark.parametrize(("version", "trajectory"), [(1, "/00000"), (2, "")])
def test_golden_datasets_can_be_mapped(version, trajectory):
    """Rows of a dataset are raw little-endian files that NumPy maps as they are."""
    artifact = _open("datasets", version)
    chunk = artifact.file(f"data.zarr/inverted-pendulum{trajectory}/observation/c/1/0")
    mapped = np.memmap(chunk, dtype="<f4", mode="r", shape=(3, OBSERVATION))
    np.testing.assert_array_equal(mapped, steps(STEPS, OBSERVATION)[3:])
    std = artifact.read("inverted-pendulum/observation_std")
    assert std.dtype == np.float64
    np.testing.assert_array_equal(std, np.ones(OBSERVATION))


@pytest.mark.parametrize("version", [1, 2])
def test_golden_datasets_are_read_alike(version):
    """Version 1 had arrays for each trajectory, and no actions of the demonstrator."""
    reader = DatasetReader(_open("datasets", version))
    rows = reader.window("inverted-pendulum", 0, 0, STEPS)
    expected = {"observation", "action", "reward", "episode_step", "noise"}
    assert set(rows) == expected | ({"demonstrator_action"} if version > 1 else set())
    np.testing.assert_array_equal(rows["observation"], steps(STEPS, OBSERVATION))
    np.testing.assert_array_equal(rows["episode_step"], [0, 1, 2, 3, 0, 1])
    np.testing.assert_array_equal(reader.episode_starts("inverted-pendulum", 0), STARTS)
    np.testing.assert_array_equal(reader.episode_returns("inverted-pendulum", 0), [-2.0, -0.5])
    asked = ("reward", "demonstrator_action")
    if version == 1:
        with pytest.raises(ConfigError, match="demonstrator_action") as found:
            reader.window("inverted-pendulum", 0, 0, 2, asked)
        assert "vintix pack" in found.value.fix
    else:
        rows = reader.window("inverted-pendulum", 0, 0, STEPS, asked)
        np.testing.assert_array_equal(rows["demonstrator_action"], -steps(STEPS, 1))


def test_golden_checkpoints():
    artifact = _open("checkpoints", 1)
    weights = artifact.group("model/weights")
    assert sorted(weights.array_keys()) == ["blocks.0.attention.weight", "scale"]
    assert artifact.read("model/weights/scale") == np.float32(0.5)
    assert artifact.group("model").attrs["step"] == 7
    flat = _open("checkpoints", 2)
    assert flat.group("model").attrs["parameters"] == [
        ["blocks.0.attention.weight", 4],
        ["scale", 1],
    ]
    np.testing.assert_array_equal(flat.read("model/weights"), [*steps(4), 0.5])


def test_golden_rollouts():
    artifact = _open("rollouts", 1)
    success = artifact.read("inverted-pendulum/00000/success")
    np.testing.assert_array_equal(success, [False, True])
    returns = artifact.read("inverted-pendulum/00000/episode_return")
    np.testing.assert_array_equal(returns, [-2.0, -0.5])


def test_this_release_writes_the_golden_layout(tmp_path):
    """The files and their sizes but for compressed ones, which depend on the codec's release."""
    for kind, artifact in make(tmp_path).items():
        golden = _open(kind, SCHEMA_VERSIONS[kind])
        assert artifact.manifest.files.keys() == golden.manifest.files.keys()
        metadata = [path for path in artifact.manifest.files if path.endswith("zarr.json")]
        for path in metadata:
            assert artifact.manifest.files[path] == golden.manifest.files[path], path


def test_moved_artifact_is_read(tmp_path):
    """An artifact is found wherever its directory was copied to."""
    shutil.copytree(GOLDEN / "rollouts" / "v1", tmp_path / "elsewhere")
    assert Artifact(tmp_path / "elsewhere").digest == DIGESTS["rollouts", 1]
