"""Checkpoints that are damaged or made to harm: the code 4, and nothing large is built."""

from __future__ import annotations

import json
import os
import random
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from pipelines.artifacts.workspace import Workspace
from pipelines.errors import ArtifactError, ConfigError, VintixError
from pipelines.interchange.checkpoints import import_checkpoint
from pipelines.interchange.config import ExportConfig, ImportCheckpointConfig
from pipelines.interchange.safetensors_checkpoint import export_safetensors, read_safetensors
from pipelines.model.official import read_official
from pipelines.reporter import NullReporter

from .support import task, write_official

TERABYTE = 2**40


def bring(workspace: Workspace, folder: Path) -> None:
    import_checkpoint(ImportCheckpointConfig(path=folder), workspace, NullReporter())


@pytest.fixture
def official(tmp_path: Path) -> Path:
    return write_official(tmp_path / "official", {"a": task(3, 2, "g"), "b": task(4, 1, "h")})


@pytest.fixture
def safe(workspace: Workspace, official: Path, tmp_path: Path) -> Path:
    bring(workspace, official)
    export_safetensors(ExportConfig(output=tmp_path / "safe"), workspace, NullReporter())
    return tmp_path / "safe"


def first(weights: dict[str, torch.Tensor], value: Any) -> dict[str, Any]:
    name = next(iter(weights))
    return {**weights, name: value(weights[name]) if callable(value) else value}


def poisoned(number: float) -> Callable[[torch.Tensor], torch.Tensor]:
    def change(weight: torch.Tensor) -> torch.Tensor:
        changed = weight.clone()
        changed.view(-1)[1] = number
        return changed

    return change


def write_header(path: Path, shape: list[int], offsets: list[int], size: int | None = None) -> None:
    """Write a safetensors file of one tensor; `size` makes its data a hole of that many bytes."""
    header = json.dumps({"a": {"dtype": "F32", "shape": shape, "data_offsets": offsets}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    if size is not None:
        os.truncate(path, 8 + len(header) + size)


OFFICIAL: dict[str, Any] = {
    "nan": poisoned(float("nan")),
    "infinite": poisoned(float("-inf")),
    "sparse": lambda weight: weight.to_sparse(),
    "meta": lambda weight: weight.to("meta"),
    "expanded": lambda weight: torch.zeros(1).expand(2**20, 2**20),
    "complex": lambda weight: weight.to(torch.complex64),
    "number": 3,
    "shape": lambda weight: weight.flatten()[:1],
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", OFFICIAL)
def test_weights_of_the_authors_that_are_no_finite_tensors(
    workspace: Workspace, official: Path, name: str
) -> None:
    weights = torch.load(official / "model.pth", weights_only=True)
    torch.save(first(weights, OFFICIAL[name]), official / "model.pth")
    with pytest.raises(ArtifactError) as caught:
        bring(workspace, official)
    assert caught.value.exit_code == 4
    assert "model.pth" in str(caught.value.where)
    if name in ("nan", "infinite"):
        assert next(iter(weights)) in str(caught.value.where)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_weights_in_safetensors_that_are_not_finite(
    workspace: Workspace, safe: Path, number: float
) -> None:
    weights = load_file(safe / "model.safetensors")
    save_file(first(weights, poisoned(number)), safe / "model.safetensors")
    with pytest.raises(ArtifactError, match=f"(?s){next(iter(weights))}.*are NaN or infinite"):
        bring(workspace, safe)


CLAIMS: dict[str, Callable[[Path], object]] = {
    "header of exabytes": lambda path: path.write_bytes(struct.pack("<Q", 2**60) + b"{}"),
    "tensor beyond the file": lambda path: write_header(path, [2**38], [0, TERABYTE]),
    "negative": lambda path: write_header(path, [-1], [0, 4], 4),
    "overflow": lambda path: write_header(path, [2**40, 2**40], [0, 4], 4),
    "hole of a terabyte": lambda path: write_header(path, [2**38], [0, TERABYTE], TERABYTE),
    "pipe": os.mkfifo,
    "empty": lambda path: path.touch(),
}


@pytest.mark.parametrize("file", ["model.safetensors", "model.pth"])
@pytest.mark.parametrize("claim", CLAIMS)
def test_sizes_beyond_reason_are_refused(
    workspace: Workspace, official: Path, safe: Path, claim: str, file: str
) -> None:
    path = (safe if file == "model.safetensors" else official) / file
    path.unlink()
    try:
        CLAIMS[claim](path)
    except OSError as error:
        pytest.skip(f"the file system has no holes of a terabyte: {error}")
    if claim == "pipe" and file == "model.safetensors":
        # A folder without the file is one of the authors'.
        return
    with pytest.raises(ArtifactError) as caught:
        bring(workspace, path.parent)
    assert caught.value.exit_code == 4


@pytest.mark.parametrize(
    "changes",
    [
        {"transformer_depth": 10**9},
        {"transformer_depth": 3},
        {"hidden_dim": 2**40, "observation_emb_dim": 2**40 - 17},
        {"intermediate_size": 10**30},
    ],
)
def test_an_architecture_beyond_reason_is_not_built(
    workspace: Workspace, official: Path, changes: dict[str, int]
) -> None:
    path = official / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    tracemalloc.start()
    try:
        with pytest.raises(ArtifactError, match="do not fit its configuration"):
            bring(workspace, official)
        assert tracemalloc.get_traced_memory()[1] < 50e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["config.json", "metadata.json"])
@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "[]", "\ud800", "1" * 5000])
def test_json_that_is_no_object_is_refused(
    workspace: Workspace, official: Path, safe: Path, name: str, text: str
) -> None:
    for folder in (official, safe):
        if (folder / name).exists():
            (folder / name).write_bytes(text.encode(errors="surrogatepass"))
            with pytest.raises(ArtifactError) as caught:
                bring(workspace, folder)
            assert caught.value.exit_code == 4


ODD: list[Any] = [
    None,
    True,
    -1,
    0,
    2.5,
    10**30,
    "",
    "text",
    [],
    {},
    [[1]],
    {"a": []},
    float("nan"),
]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path to every value inside a JSON value, the first three of long lists."""
    items = value.items() if isinstance(value, dict) else enumerate(value[:3])
    found = []
    for key, each in items:
        found.append((*path, key))
        if isinstance(each, dict | list):
            found += places(each, (*path, key))
    return found


def with_value(value: Any, path: tuple[Any, ...], odd: Any) -> Any:
    copy = json.loads(json.dumps(value))
    parent = copy
    for key in path[:-1]:
        parent = parent[key]
    if odd is ODD:
        del parent[path[-1]]
    else:
        parent[path[-1]] = odd
    return copy


@pytest.mark.parametrize("share", [0.02, pytest.param(1.0, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "name", ["official/config.json", "official/metadata.json", "safe/config.json"]
)
def test_any_value_of_the_json_may_be_anything(
    workspace: Workspace, official: Path, safe: Path, name: str, share: float
) -> None:
    """Missing, or of another type or size: an error of ours, or a checkpoint."""
    path = safe.parent / name
    content = json.loads(path.read_text())
    cases = [(place, odd) for place in places(content) for odd in (*ODD, ODD)]
    random.Random(0).shuffle(cases)
    for place, odd in cases[: int(share * len(cases)) + 1]:
        path.write_text(json.dumps(with_value(content, place, odd)))
        try:
            bring(workspace, path.parent)
        except VintixError as error:
            assert error.exit_code in (3, 4), (place, odd)
        except Exception as error:
            raise AssertionError(f"{name}: {place} as {odd!r}") from error


@pytest.mark.parametrize("step", [4001, pytest.param(31, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["official/model.pth", "safe/model.safetensors"])
def test_weights_may_be_damaged_anywhere(official: Path, safe: Path, name: str, step: int) -> None:
    """Cut or changed: an error of ours, or finite weights."""
    path = safe.parent / name
    read: Any = read_official if name.startswith("official") else read_safetensors
    whole = path.read_bytes()
    generator = np.random.default_rng(0)
    for place in [
        *range(0, len(whole), step),
        *range(len(whole) - 300, len(whole), step // 20 + 1),
    ]:
        other = bytes([whole[place] ^ int(generator.integers(1, 256))])
        for damaged in (whole[:place], whole[:place] + other + whole[place + 1 :]):
            path.write_bytes(damaged)
            try:
                read(path.parent)
            except (ArtifactError, ConfigError):
                continue
            except Exception as error:
                raise AssertionError(f"{name}: byte {place:,}") from error
