"""The device is what was asked for, or the error names what is there and what to type."""

from __future__ import annotations

import pytest
import torch

from pipelines import hardware
from pipelines.errors import MissingDependencyError, UsageError
from pipelines.hardware import (
    available_cores,
    available_threads,
    resolve_device,
    resolve_hardware,
    torch_threads,
    yield_while_waiting,
)


@pytest.fixture
def gpus(monkeypatch):
    """Pretends that the machine has some GPUs."""

    def pretend(*names):
        monkeypatch.setattr(hardware, "_gpu_names", lambda: list(names))

    return pretend


def test_auto_takes_a_gpu_where_there_is_one(gpus):
    gpus()
    assert resolve_device("auto") == "cpu"
    gpus("H100")
    assert resolve_device("auto") == "cuda"
    assert resolve_device("auto", gpus=1) == "cuda"
    assert resolve_device("cuda") == "cuda"
    assert resolve_device("cpu") == "cpu"


@pytest.mark.parametrize("choice", ["auto", "cuda"])
def test_more_gpus_than_present(gpus, choice):
    gpus("H100", "H100")
    with pytest.raises(MissingDependencyError) as caught:
        resolve_device(choice, gpus=8)
    assert caught.value.exit_code == 5
    assert "8 CUDA GPUs" in str(caught.value) and "2 CUDA GPUs (H100, H100)" in str(caught.value)
    assert "vintix train --device cpu" in str(caught.value)


def test_no_gpu_at_all(gpus):
    gpus()
    for arguments in ({"choice": "cuda"}, {"choice": "auto", "gpus": 1}):
        with pytest.raises(MissingDependencyError) as caught:
            resolve_device(**arguments)
        assert "no CUDA GPU" in str(caught.value)
        assert caught.value.fix == "vintix train --device cpu"


def test_as_many_gpus_as_present_are_taken(gpus):
    gpus("H100", "H100")
    assert resolve_device("cuda", gpus=2) == "cuda"
    assert resolve_device("auto", gpus=2) == "cuda"


def test_processes_share_the_threads_of_the_machine(gpus, monkeypatch):
    gpus()
    monkeypatch.setattr(hardware, "available_threads", lambda: 8)
    assert resolve_hardware("cpu", None, "auto", 0, processes=2).threads == 4
    assert resolve_hardware("cpu", None, "auto", 0, processes=16).threads == 1
    assert resolve_hardware("cpu", None, "auto", 3, processes=16).threads == 3


def test_unknown_device_and_no_gpus_are_usage_errors():
    with pytest.raises(UsageError):
        resolve_device("tpu")
    with pytest.raises(UsageError):
        resolve_device("auto", gpus=0)


def test_precision_and_threads_follow_the_device(gpus):
    gpus()
    assert resolve_hardware("auto", None, "auto", 0).precision == "float32"
    assert resolve_hardware("auto", None, "auto", 0).threads == available_threads()
    assert resolve_hardware("cpu", None, "bfloat16", 3).precision == "bfloat16"
    gpus("H100")
    assert resolve_hardware("auto", None, "auto", 1).precision == "bfloat16"
    assert resolve_hardware("auto", None, "float32", 1).precision == "float32"


def test_threads_are_put_back_after_an_error():
    before = torch.get_num_threads()
    with pytest.raises(RuntimeError), torch_threads(before + 1):
        assert torch.get_num_threads() == before + 1
        raise RuntimeError
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("told", "threads"), [("1", 1), ("3", 3), ("4,2", 4), ("", None), ("many", None), ("0", None)]
)
def test_omp_num_threads_is_honoured(monkeypatch, told, threads):
    """A number is taken; anything else means what the machine has."""
    monkeypatch.setattr(hardware, "available_cores", lambda: 8)
    monkeypatch.setenv("OMP_NUM_THREADS", told)
    assert available_threads() == (threads or 8)
    assert resolve_hardware("cpu", None, "auto", 0).threads == (threads or 8)


@pytest.mark.parametrize(
    ("limits", "cores"),
    [
        ({"": "max 100000"}, 64),
        ({"": "200000 100000"}, 2),
        ({"": "50000 100000"}, 1),
        ({"": "800000 100000", "job": "300000 100000"}, 3),
        ({}, 64),
    ],
    ids=str,
)
def test_the_quota_of_a_container_limits_the_cores(monkeypatch, tmp_path, limits, cores):
    """Docker's --cpus and Slurm's cgroups leave the affinity alone."""
    for group, text in limits.items():
        (tmp_path / group).mkdir(exist_ok=True)
        (tmp_path / group / "cpu.max").write_text(f"{text}\n")
    own = tmp_path / "own"
    own.write_text("0::/job\n")

    def path(name):
        return {"/proc/self/cgroup": own, "/sys/fs/cgroup": tmp_path}[name]

    monkeypatch.setattr(hardware, "Path", path)
    monkeypatch.setattr(hardware.os, "sched_getaffinity", lambda _: range(64), raising=False)
    assert available_cores() == cores


def test_threads_sleep_at_barriers_unless_the_user_has_said(monkeypatch):
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    yield_while_waiting()
    assert hardware.os.environ["GOMP_SPINCOUNT"] == "1000"
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    yield_while_waiting()
    assert hardware.os.environ["GOMP_SPINCOUNT"] == "7"
    monkeypatch.delenv("GOMP_SPINCOUNT")
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    yield_while_waiting()
    assert "GOMP_SPINCOUNT" not in hardware.os.environ
