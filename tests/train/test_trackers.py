"""The real trackers, on this machine alone: what their files hold of a run that was interrupted."""

from __future__ import annotations

import json
import sqlite3
import struct
import sys
from pathlib import Path

import pytest

from pipelines.artifacts.listing import show_artifact

from .support import small_config
from .test_stage import train
from .test_tracking import Crash, held_once

pytestmark = pytest.mark.process


@pytest.fixture
def artifact(request, monkeypatch, tmp_path, workspace):
    """A run of 12 steps that broke off in the 11th, after a checkpoint of the 8th."""
    kind = request.param
    for name in ("WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR", "TRACKIO_DIR", "HF_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setattr(sys, "argv", ["/some/where/vintix", "train", "--name", "two words"])
    pytest.importorskip(kind, reason=f"{kind} is not installed")
    config = small_config(track=kind, steps=12)
    with pytest.raises(RuntimeError, match="crashed"):
        train(workspace, config, Crash(11))
    return train(workspace, config).artifact


def check(facts, artifact):
    """Whether a page leads to the artifact, to what it was made from, and to the command."""
    shown = show_artifact(artifact.path)
    (parent,) = artifact.manifest.parents
    assert facts == {
        "artifact": shown["reference"],
        "configuration": shown["configuration"],
        "command": "vintix train --name 'two words'",
        parent.reference: parent.digest,
    }


@pytest.mark.parametrize("artifact", ["tensorboard"], indirect=True)
def test_tensorboard(artifact, workspace):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (run,) = (workspace.root / "tracking").iterdir()
    events = EventAccumulator(str(run))
    events.Reload()
    rows = [(each.step, {"loss": each.value}) for each in events.Scalars("loss")]
    assert held_once(rows, artifact)
    text = events.Tensors("vintix/text_summary")[-1].tensor_proto.string_val[0].decode()
    cells = [line.split("|")[1:3] for line in text.splitlines()[2:]]
    check({name.strip(): value.strip(" `") for name, value in cells}, artifact)


@pytest.mark.parametrize("artifact", ["wandb"], indirect=True)
def test_wandb_offline(artifact, workspace):
    """Each try is a folder of one run, to be synced; the last one alone has each step."""
    folders = sorted((workspace.root / "tracking" / "wandb").glob("offline-run-*"))
    files = [next(folder.glob("*.wandb")) for folder in folders]
    shown = show_artifact(artifact.path)
    name = f"run-{artifact.manifest.name}-{shown['configuration'][:8]}.wandb"
    assert [file.name for file in files] == [name, name]
    rows, config = wandb_records(files[-1])
    assert held_once(rows, artifact)
    check(config["vintix"], artifact)


@pytest.mark.parametrize("artifact", ["trackio"], indirect=True)
def test_trackio(artifact, tmp_path):
    connection = sqlite3.connect(next((tmp_path / "TRACKIO_DIR").glob("*.db")))
    rows = connection.execute("select step, metrics from metrics order by id").fetchall()
    assert held_once([(step, json.loads(values)) for step, values in rows], artifact)
    ((name, config),) = connection.execute("select run_name, config from configs").fetchall()
    connection.close()
    check(json.loads(config)["vintix"], artifact)
    assert name.startswith(artifact.manifest.name)


def wandb_records(path: Path):
    """Return the rows of a run's file, each with its step, and its configuration."""
    from wandb.proto import wandb_internal_pb2

    rows, config = [], {}
    for data in leveldb_records(path.read_bytes()[7:], 7):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        for update in record.run.config.update:
            config[update.key] = json.loads(update.value_json)
        items = {
            item.key or "/".join(item.nested_key): json.loads(item.value_json)
            for item in record.history.item
        }
        if items:
            rows.append((items.pop("_step"), items))
    return rows, config


def leveldb_records(data: bytes, offset: int):
    """Yield the records of a LevelDB log: blocks of 32 KB, chunks with checksum, length and type.

    Types: 1 a whole record, 2 its first chunk, 3 one between, 4 its last.
    """
    block, header, at, held = 1 << 15, 7, 0, b""
    while at + header <= len(data):
        room = block - (at + offset) % block
        if room < header:
            at += room
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + header])
        held += data[at + header : at + header + length]
        at += header + length
        if kind in (1, 4):
            yield held
            held = b""
