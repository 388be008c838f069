"""What a CPU computes at once is bounded, and bounding it loses nothing."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipelines.artifacts.workspace import Workspace
from pipelines.errors import ConfigError
from pipelines.hardware import Hardware, emulates_bfloat16
from pipelines.model.backbones.transformer import Transformer
from pipelines.model.batch import GroupBatch
from pipelines.model.config import GroupDims
from pipelines.model.presets import preset
from pipelines.reporter import NullReporter
from pipelines.train import assembly
from pipelines.train.config import TrainConfig
from pipelines.train.loader import MicroBatch
from pipelines.train.planning import (
    required_bytes,
    sequences_at_once,
)
from pipelines.train.stage import plan, run

from .support import small_config, write_dataset

GROUPS = {"a": GroupDims(observation_dim=3, action_dim=2)}
CPU, CUDA = Hardware("cpu", "float32", 1), Hardware("cuda", "bfloat16", 1)


def micro_batch(sizes):
    """Batches of so many sequences, numbered through in their observations."""
    numbers = torch.arange(sum(sizes), dtype=torch.float32).split(sizes)
    batches = [
        GroupBatch(
            group=str(index),
            observation_BLO=each[:, None, None],
            previous_action_BLA=each[:, None, None],
            previous_reward_BL=each[:, None],
            episode_step_BL=each[:, None].long(),
        )
        for index, each in enumerate(numbers)
    ]
    return MicroBatch(batches, [f"domain-{place}" for place in range(sum(sizes))])


@given(st.lists(st.integers(0, 5), min_size=1, max_size=5).filter(any), st.integers(1, 9))
def test_parts_are_all_sequences_in_order_and_full_but_for_the_last(sizes, most):
    whole = micro_batch(sizes)
    parts = whole.split(most)
    assert [len(part.domains) for part in parts[:-1]] == [most] * (len(parts) - 1)
    assert 0 < len(parts[-1].domains) <= most
    assert [domain for part in parts for domain in part.domains] == whole.domains
    found = [
        (batch.group, number)
        for part in parts
        for batch in part.batches
        for number in batch.observation_BLO[:, 0, 0].tolist()
    ]
    expected = [
        (batch.group, number)
        for batch in whole.batches
        for number in batch.observation_BLO[:, 0, 0].tolist()
    ]
    assert found == expected
    for part in parts:
        assert sum(batch.batch_size for batch in part.batches) == len(part.domains)
    # Groups of other processes keep their gradients.
    assert {batch.group for part in parts for batch in part.batches} == {
        batch.group for batch in whole.batches
    }


def test_presets_made_for_a_cpu_are_not_split_and_the_papers_is():
    for name in ("tiny", "small"):
        config = TrainConfig(preset=name, device="cpu")
        assert sequences_at_once(preset(name, GROUPS), config, CPU) >= config.batch_size
    paper = TrainConfig(preset="paper", context=256, device="cpu")
    model = preset("paper", GROUPS, context=256)
    assert 1 < sequences_at_once(model, paper, CPU) < 16
    assert sequences_at_once(model, paper, CUDA) is None
    # Of a sequence that does not fit there is still one.
    assert sequences_at_once(preset("paper", GROUPS), TrainConfig(preset="paper"), CPU) == 1
    assert required_bytes(332_110_477, model, paper, CPU) < 14e9


def test_recomputing_activations_takes_a_fraction():
    model = preset("paper", GROUPS)
    kept, recomputed = (
        Transformer.activation_bytes_per_token(model, recomputed=value) for value in (False, True)
    )
    assert recomputed < kept / 10


def test_a_run_that_is_too_large_for_the_machine_is_warned_of(tmp_path, monkeypatch):
    for there, expected in ((10**12, 0), (10**5, 1)):
        workspace = Workspace(tmp_path / str(there))
        write_dataset(workspace)
        monkeypatch.setattr(assembly, "installed_bytes", lambda there=there: there)
        reporter = NullReporter()
        run(small_config(steps=1), workspace, reporter)
        assert len(reporter.warnings) == expected
    assert "gradient_checkpointing" in reporter.warnings[0]


@pytest.mark.parametrize("supported", [True, False])
def test_a_precision_that_the_processor_only_emulates_is_warned_of(
    tmp_path, monkeypatch, supported
):
    """It was seven times slower than float32 on a processor with AVX2 alone."""
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: supported)
    workspace = Workspace(tmp_path)
    write_dataset(workspace)
    reporter = NullReporter()
    config = small_config(steps=1, precision="bfloat16")
    planned = plan(config, workspace).notes
    run(config, workspace, reporter)
    for said in (planned, reporter.warnings):
        assert any("train.precision=float32" in each for each in said) != supported
    assert not emulates_bfloat16("cuda")


@pytest.mark.parametrize("backend", ["flash", "flex"])
@pytest.mark.parametrize("packed", [False, True])
def test_a_plan_refuses_attention_that_this_device_cannot_serve(
    tmp_path, monkeypatch, backend, packed
):
    """As the run would, with a dataset or without one; a plan for GPUs elsewhere is one."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    workspace = Workspace(tmp_path)
    if packed:
        write_dataset(workspace)
    config = TrainConfig(device="cpu", attention=backend, context=16)
    with pytest.raises(ConfigError, match=backend) as found:
        plan(config, workspace)
    # The three dots are the options that were typed.
    assert str(found.value.fix).startswith("vintix train ... --set train.attention=blocked")
    elsewhere = config.model_copy(update={"device": "cuda", "gpus": 8})
    assert plan(elsewhere, workspace).totals["steps"] == config.steps
