"""How much memory training takes, and how many sequences go through the model at once on a CPU.

Estimates; the largest parts only.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipelines.hardware import Hardware
    from pipelines.model.config import ModelConfig
    from pipelines.train.config import TrainConfig

#: Weights, gradients and two moments, and a checkpoint's copy of all but the gradients; float32.
_BYTES_PER_PARAMETER = 4 * (4 + 3)
#: What the activations of the sequences that are computed at once may take on a CPU.
_ACTIVATION_BYTES = 4 << 30


def activation_bytes_per_token(model: ModelConfig, *, recomputed: bool = False) -> int:
    """Return what the backward pass needs of a token's forward pass, in float32.

    Each block keeps about nine vectors of the width and four of the feed-forward layer: 52 kB for
    `tiny` and 147 kB for `small`, where 53 and 147 were measured
    (`tests/benchmarks/test_train_released.py`).

    Args:
        model: The architecture.
        recomputed: Gradient checkpointing: each block keeps its input, and one of them the rest.
    """
    block = 9 * model.width + 4 * model.feed_forward
    kept = model.layers * model.width + block if recomputed else model.layers * block
    return 4 * kept


def sequences_at_once(model: ModelConfig, config: TrainConfig, hardware: Hardware) -> int | None:
    """Return how many sequences a forward pass may have; None for all of a micro-batch.

    A GPU's user chooses the micro-batch for its memory. A CPU gains nothing from large ones, and
    64 sequences of `paper` would take more memory than most have; a step's gradients are the same
    sums, however it is split.
    """
    if hardware.device != "cpu":
        return None
    per_token = activation_bytes_per_token(model, recomputed=config.gradient_checkpointing)
    return max(1, _ACTIVATION_BYTES // (per_token * config.context))


def required_bytes(
    parameters: int, model: ModelConfig, config: TrainConfig, hardware: Hardware
) -> int:
    """Return about how much memory one process of a run needs."""
    shards = config.local_processes * config.nodes if config.shard else 1
    sequences = -(-config.batch_size // (config.local_processes * config.nodes))
    most = sequences_at_once(model, config, hardware)
    at_once = sequences if most is None else min(most, sequences)
    per_token = activation_bytes_per_token(model, recomputed=config.gradient_checkpointing)
    return _BYTES_PER_PARAMETER * parameters // shards + per_token * config.context * at_once


def installed_bytes() -> int | None:
    """Return the memory of this machine, if the system says."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None
