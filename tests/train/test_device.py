"""The device is what was asked for, or the error names what is there and what to type."""

from __future__ import annotations

import pytest
import torch

from pipelines.errors import MissingDependencyError, UsageError
from pipelines.train import device
from pipelines.train.device import resolve_device, resolve_hardware, torch_threads, usable_cpus


@pytest.fixture
def gpus(monkeypatch):
    """Pretends that the machine has some GPUs."""

    def pretend(*names):
        monkeypatch.setattr(device, "_gpu_names", lambda: list(names))

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
    monkeypatch.setattr(device, "usable_cpus", lambda: 8)
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
    assert resolve_hardware("auto", None, "auto", 0).threads == usable_cpus()
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
