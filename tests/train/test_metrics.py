"""The log keeps the lines of durable steps and survives being cut short."""

from __future__ import annotations

import errno
import os

import pytest

from pipelines.errors import StorageError
from pipelines.train.metrics import MetricsLog, read_metrics


def test_lines_beyond_the_checkpoint_are_dropped_on_resume(tmp_path):
    path = tmp_path / "log" / "metrics.jsonl"
    with MetricsLog(path) as log:
        for step in range(1, 8):
            log.add({"step": step, "loss": 0.1 * step})
            if step == 4:
                kept = log.record
    with MetricsLog(path, kept=kept) as log:
        assert not log.damaged
        log.add({"step": 5, "loss": 9.0})
        log.sync()
        assert [row["loss"] for row in read_metrics(path)] == [0.1, 0.2, 0.1 * 3, 0.4, 9.0]


def test_a_torn_line_ends_what_is_read(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1, "loss": 1.0}\n{"step": 2, "lo')
    assert [row["step"] for row in read_metrics(path)] == [1]


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove"])
def test_lines_that_were_damaged_are_not_kept(tmp_path, damage):
    """What a disk made of a line is never published as what was measured."""
    path = tmp_path / "metrics.jsonl"
    with MetricsLog(path) as log:
        log.add({"step": 1, "loss": 0.25})
        kept = log.record
    if damage == "remove":
        path.unlink()
    else:
        data = path.read_bytes()
        path.write_bytes(data.replace(b"0.25", b"0.24") if damage == "flip" else data[:-1])
    with MetricsLog(path, kept=kept) as log:
        assert log.damaged
        log.add({"step": 2, "loss": 0.5})
    assert [row["step"] for row in read_metrics(path)] == [2]


def test_no_file_is_no_lines(tmp_path):
    assert read_metrics(tmp_path / "nothing.jsonl") == []


def test_a_full_disk_is_a_storage_error(tmp_path):
    class Full:
        def write(self, data):
            raise OSError(errno.ENOSPC, "No space left on device")

        def close(self):
            pass

    log = MetricsLog(tmp_path / "metrics.jsonl")
    log._file.close()
    log._file = Full()
    with pytest.raises(StorageError, match="No space left"):
        log.add({"step": 1})


def test_a_log_is_read_while_another_process_writes_it(tmp_path, monkeypatch):
    """It may grow between the look at it and its opening."""
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1, "loss": 1.0}\n')
    opened = os.open

    def grow_and_open(file, *arguments):
        if file == path:
            with path.open("ab") as log:
                log.write(b'{"step": 2, "loss": 0.5}\n')
        return opened(file, *arguments)

    monkeypatch.setattr(os, "open", grow_and_open)
    assert [row["step"] for row in read_metrics(path)] == [1, 2]
