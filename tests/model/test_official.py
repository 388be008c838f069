"""Foreign checkpoints that are broken, unsafe or unknown are refused by name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pipelines.errors import (
    ArtifactCorruptError,
    ArtifactMissingError,
    ConfigError,
    UnsafeContentError,
)
from pipelines.model.official import official_config, read_official


@pytest.fixture
def checkpoint(conformance: Path, tmp_path: Path) -> Path:
    """A copy of a released-format checkpoint that a test may break."""
    return Path(shutil.copytree(conformance / "rms_llama" / "ckpt", tmp_path / "ckpt"))


def edit(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_configuration_and_statistics_are_translated(checkpoint: Path) -> None:
    model, tasks = read_official(checkpoint)[:2]
    assert not model.training
    config = model.config
    assert (config.norm, config.mlp, config.qk_norm) == ("rmsnorm", "llama", True)
    assert (config.layers, config.heads, config.width, config.context) == (2, 4, 32, 64)
    assert list(config.groups) == ["grp_a", "grp_b", "grp_c"]
    assert tasks["alpha-v0"].group == tasks["alpha-v1"].group == "grp_a"
    assert tasks["alpha-v0"].statistics.reward_scale == 0.1
    assert tasks["beta-v0"].statistics.observation_std[4] == 0.0


def test_our_state_dict_is_theirs(checkpoint: Path) -> None:
    """Names, order, shapes and bits, so that saving gives a file they can load."""
    model, _, _ = read_official(checkpoint)
    theirs = torch.load(checkpoint / "model.pth", weights_only=True)
    ours = model.state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("name", ["model.pth", "config.json", "metadata.json"])
def test_a_missing_file_is_named(checkpoint: Path, name: str) -> None:
    (checkpoint / name).unlink()
    with pytest.raises(ArtifactMissingError, match=name):
        read_official(checkpoint)


def test_weights_of_another_shape_are_corrupt(checkpoint: Path) -> None:
    edit(checkpoint / "config.json", lambda config: config.update(intermediate_size=65))
    with pytest.raises(ArtifactCorruptError, match=r"(?s)do not fit.*mlp\.fc_1\.weight"):
        read_official(checkpoint)


def test_a_pickle_with_code_is_refused_and_never_run(checkpoint: Path) -> None:
    marker = checkpoint / "ran"

    class Payload:
        def __reduce__(self) -> tuple[object, tuple[object, ...]]:
            return (Path.touch, (marker,))

    torch.save({"weights": Payload()}, checkpoint / "model.pth")
    with pytest.raises(UnsafeContentError, match=r"model\.pth"):
        read_official(checkpoint)
    assert not marker.exists()


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04broken"])
def test_a_file_that_is_no_checkpoint_is_refused(checkpoint: Path, content: bytes) -> None:
    (checkpoint / "model.pth").write_bytes(content)
    with pytest.raises((ArtifactCorruptError, UnsafeContentError), match=r"model\.pth"):
        read_official(checkpoint)


def test_weights_that_are_no_dictionary_of_tensors_are_corrupt(checkpoint: Path) -> None:
    torch.save([1, 2], checkpoint / "model.pth")
    with pytest.raises(ArtifactCorruptError, match="dictionary of tensors"):
        read_official(checkpoint)


@pytest.mark.parametrize("content", ["{", "[]"])
def test_broken_json_is_named(checkpoint: Path, content: str) -> None:
    (checkpoint / "metadata.json").write_text(content)
    with pytest.raises(ArtifactCorruptError, match=r"metadata\.json"):
        read_official(checkpoint)


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("config", lambda c: c.update(mlp_class="MoE"), r"(?s)mlp_class.*found: MoE"),
        ("config", lambda c: c.pop("norm_acs"), r"(?s)lacks a field.*expected: norm_acs"),
        ("metadata", lambda m: m["beta-v0"].pop("obs_mean"), r"(?s)beta-v0.*obs_mean"),
        ("metadata", lambda m: m["alpha-v1"].update(action_dim=3), r"(?s)alpha-v1.*action_dim=2"),
        (
            "metadata",
            lambda m: m["beta-v0"].update(action_type="discrete"),
            r"(?s)beta-v0.*discrete",
        ),
        (
            "metadata",
            lambda m: m["beta-v0"].update(observation_shape={"image": [3, 8, 8]}),
            r"(?s)beta-v0.*image",
        ),
    ],
)
def test_what_cannot_be_translated_is_named(
    checkpoint: Path, file: str, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    edit(checkpoint / f"{file}.json", change)
    with pytest.raises(ConfigError, match=message):
        read_official(checkpoint)


def test_feed_forward_defaults_to_four_widths(checkpoint: Path) -> None:
    """`intermediate_size: null` of their configuration."""
    config = json.loads((checkpoint / "config.json").read_text())
    metadata = json.loads((checkpoint / "metadata.json").read_text())
    config["intermediate_size"] = None
    assert official_config(config, metadata).feed_forward == 128
