"""What a run would be: parameters, tokens, memory, and how long it may take on this machine."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pipelines.hardware import Hardware, emulates_bfloat16, resolve_hardware, torch_threads
from pipelines.model.backbones import BACKBONES
from pipelines.model.config import GroupDims, ModelConfig
from pipelines.stage import LONGEST_ESTIMATE, Plan
from pipelines.text import counted
from pipelines.train.config import TrainConfig
from pipelines.train.data import chosen_embedding, with_head
from pipelines.train.run import attention_backend, describe_size, describe_start, find_init

if TYPE_CHECKING:
    import torch

    from pipelines.artifacts.workspace import Workspace

#: Part of a large matrix product's speed that a training step reaches. Two cores trained `tiny` at
#: about a third of theirs, and H100s are run at 30 to 50 %.
_EFFICIENCY = 1 / 3
#: Dense bfloat16 operations an H100 (SXM) makes in a second by its data sheet, and a third of them.
_GPU_FLOPS = 989e12 * _EFFICIENCY
#: Weights, gradients and two moments, and a checkpoint's copy of all but the gradients; float32.
_BYTES_PER_PARAMETER = 4 * (4 + 3)
#: What the activations of the sequences that are computed at once may take on a CPU.
_ACTIVATION_BYTES = 4 << 30
_PROBE_SECONDS = 0.2
_PROBE_SIZE = {"cpu": 768, "cuda": 4096}


def make_plan(
    config: TrainConfig, model: ModelConfig, hardware: Hardware, notes: Sequence[str] = ()
) -> Plan:
    """Return the plan of a run: one row a part of the model, tokens and time in the totals.

    The time is the arithmetic of a training step divided by a third of the speed of a matrix
    product, measured here and now: a guess within a factor of about two. There is none for GPUs
    that are not here.

    Raises:
        ConfigError, MissingDependencyError: The device is here and does not serve the attention.
    """
    import torch

    attention_backend(config, model, hardware)
    parts = parameters_by_part(model)
    # The probe has the threads of one process.
    processes = config.local_processes * config.nodes
    tokens = config.steps * config.tokens_per_step
    seconds, notes = None, list(notes)
    memory = required_bytes(sum(parts.values()), model, config, hardware)
    if hardware.device == "cpu" or torch.cuda.is_available():
        rate = _EFFICIENCY * _matmul_flops(hardware) * processes
        operations = tokens * flops_per_token(model)
        seconds = float(f"{operations / rate:.2g}")
        if seconds > LONGEST_ESTIMATE:
            notes.append(
                f"{operations:.1e} operations at {rate:.1e} a second here: this is work for GPUs, "
                f"about {operations / _GPU_FLOPS / 3600:,.0f} GPU-hours of an H100"
            )
    else:
        notes.append("no estimate of the time: this machine has no GPU to try")
    return Plan(
        rows=[{"part": part, "parameters": count} for part, count in parts.items()],
        totals={
            "part": "total",
            "parameters": sum(parts.values()),
            "steps": config.steps,
            "tokens": tokens,
            "memory_bytes": memory,
            **({} if seconds is None else {"estimated_seconds": seconds}),
        },
        notes=[
            *notes,
            *doubts(config, hardware),
            f"{counted(len(model.groups), 'group')}; "
            f"{hardware.device}, {hardware.precision}, {counted(hardware.threads, 'thread')}"
            + (f", {processes} processes" if processes > 1 else ""),
        ],
    )


def doubts(config: TrainConfig, hardware: Hardware) -> list[str]:
    """Return what is to be said before a run that its machine serves badly."""
    found = []
    gpus = 1 if config.device == "cpu" else config.local_processes * config.nodes
    if gpus > 1 and config.preset == "tiny":
        found.append(
            f"the preset tiny is a model for a laptop and leaves {gpus} GPUs idle most of the "
            "time: --preset small, base or paper are larger, or leave --gpus out"
        )
    if hardware.precision == "bfloat16" and emulates_bfloat16(hardware.device):
        found.append(
            "this processor has no instructions for bfloat16 and emulates it: "
            "--set train.precision=float32 is several times faster"
        )
    return found


def plan_from_catalogue(config: TrainConfig, workspace: Workspace) -> Plan:
    """Return the plan of a run on the catalogue's training tasks, where there is no dataset.

    Raises:
        UsageError: The catalogue has no selected task or domain.
        ArtifactMissingError, ConfigError: As `find_init`.
    """
    from pipelines.domains.registry import full_catalogue
    from pipelines.model.presets import preset
    from pipelines.tasks.registry import catalogue

    # Without a selection the plan is the paper's, whatever plugins are installed.
    known = full_catalogue() if config.tasks or config.domains else catalogue()
    tasks = list(known.select(tasks=config.tasks, domains=config.domains, splits=["train"]))
    groups, groups_v4 = {}, {}
    if chosen_embedding(config.model) is not None:
        tasks = [replace(task, group=task.set_group or task.group) for task in tasks]
    # Of a set of several sizes the dims of the largest stay.
    for task in sorted(tasks, key=lambda task: (task.group, task.actions.width, task.name)):
        dims = GroupDims.of(task.observation_dim, task.actions)
        groups[task.group] = dims
        groups_v4[task.group] = dims.model_copy(
            update={"observation_dim": task.observation_dim_v4 or task.observation_dim}
        )
    overrides = with_head({**config.model, "context": config.context}, groups)
    model = preset(config.preset, groups, **overrides)
    notes = [
        "no dataset in this workspace: the groups are those of the catalogue's training tasks",
        describe_size(config, model),
        describe_start(config, model, find_init(config, workspace, model)),
    ]
    if groups_v4 != groups and config.preset == "paper":
        count = sum(parameters_by_part(preset(config.preset, groups_v4, **overrides)).values())
        notes.append(
            f"{count:,} parameters with the observation dims of Gymnasium v4's MuJoCo tasks; "
            "the count the paper publishes is made with those, the catalogue has v5's"
        )
    hardware = resolve_hardware(
        config.device,
        config.gpus,
        config.precision,
        config.threads,
        processes=config.local_processes,
        planned=True,
    )
    return make_plan(config, model, hardware, notes)


def parameters_by_part(config: ModelConfig) -> dict[str, int]:
    """Return the number of parameters of encoders, backbone and heads; allocates none."""
    import torch

    from pipelines.model.vintix import Vintix

    with torch.device("meta"):
        model = Vintix(config)
    modules = {"encoders": model.encoder, config.backbone: model.backbone, "heads": model.head}
    return {
        part: sum(one.numel() for one in module.parameters()) for part, module in modules.items()
    }


def flops_per_token(config: ModelConfig) -> float:
    """Return the operations of a training step per token, forward and backward.

    Six per parameter of encoders and heads that the token meets, those of one group, and what the
    backbone takes.
    """
    parts = parameters_by_part(config)
    met = (parts["encoders"] + parts["heads"]) / len(config.groups)
    backbone = BACKBONES.find(config.backbone)
    return 6.0 * met + backbone.flops_per_token(config, parts[config.backbone])


def sequences_at_once(model: ModelConfig, config: TrainConfig, hardware: Hardware) -> int | None:
    """Return how many sequences a forward pass may have; None for all of a micro-batch.

    A GPU's user chooses the micro-batch for its memory. A CPU gains nothing from large ones, and
    64 sequences of `paper` would take more memory than most have; a step's gradients are the same
    sums, however it is split.
    """
    if hardware.device != "cpu":
        return None
    per_token = _activation_bytes(model, config)
    return max(1, _ACTIVATION_BYTES // (per_token * config.context))


def required_bytes(
    parameters: int, model: ModelConfig, config: TrainConfig, hardware: Hardware
) -> int:
    """Return about how much memory one process of a run needs."""
    shards = config.local_processes * config.nodes if config.shard else 1
    sequences = -(-config.batch_size // (config.local_processes * config.nodes))
    most = sequences_at_once(model, config, hardware)
    at_once = sequences if most is None else min(most, sequences)
    per_token = _activation_bytes(model, config)
    return _BYTES_PER_PARAMETER * parameters // shards + per_token * config.context * at_once


def _activation_bytes(model: ModelConfig, config: TrainConfig) -> int:
    return BACKBONES.find(model.backbone).activation_bytes_per_token(
        model, recomputed=config.gradient_checkpointing
    )


def installed_bytes() -> int | None:
    """Return the memory of this machine, if the system says."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None


def _matmul_flops(hardware: Hardware) -> float:
    """Return the operations per second of a matrix product, from a probe of a fifth of a second."""
    import torch

    size = _PROBE_SIZE[hardware.device]
    dtype = torch.bfloat16 if hardware.precision == "bfloat16" else torch.float32
    with torch_threads(hardware.threads):
        left = torch.ones(size, size, device=hardware.torch_device, dtype=dtype)
        result = left @ left
        _wait_for(result)
        begin, products = time.perf_counter(), 0
        while time.perf_counter() - begin < _PROBE_SECONDS:
            result = left @ left
            _wait_for(result)
            products += 1
        return products * 2.0 * size**3 / (time.perf_counter() - begin)


def _wait_for(values: torch.Tensor) -> None:
    values[0, 0].item()
