"""AdamW as released, and a learning rate that is a pure function of the step."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from pipelines.train.config import TrainConfig
from pipelines.train.fidelity import release_learning_rate

MOMENTS = ("exp_avg", "exp_avg_sq")


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """Return AdamW with weight decay on the weights of linear layers only.

    Biases, norms, padding vectors and position tables are not decayed, as in the released code.
    Parameters of groups that a batch does not hold get no gradient, and AdamW leaves them and
    their moments as they are.
    """
    decayed = {id(module.weight) for module in model.modules() if isinstance(module, nn.Linear)}
    parameters = list(model.parameters())
    return torch.optim.AdamW(
        [
            {
                "params": [one for one in parameters if id(one) in decayed],
                "weight_decay": config.weight_decay,
            },
            {
                "params": [one for one in parameters if id(one) not in decayed],
                "weight_decay": 0.0,
            },
        ],
        lr=config.learning_rate,
        betas=config.betas,
        fused=True,
    )


def learning_rate(step: int, config: TrainConfig) -> float:
    """Return the rate of an optimizer step: linear warm-up, then a cosine.

    The released schedule counts micro-steps where the optimizer makes one of several, so that it
    stops half-way (facts of the release, quirk 18) and its first step has rate 0. This one counts
    optimizer steps, rises from 1 / warm-up and ends at `final_lr_fraction` on the last step.

    Args:
        step: Optimizer step, in [0, config.steps).
        config: Peak, warm-up, end and number of steps, and whose rules.
    """
    if config.fidelity == "release":
        return release_learning_rate(step, config)
    warmup = round(config.warmup_fraction * config.steps)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    progress = (step - warmup + 1) / max(1, config.steps - warmup)
    cosine = 0.5 * (1.0 + math.cos(math.pi * progress))
    floor = config.final_lr_fraction
    return config.learning_rate * (floor + (1.0 - floor) * cosine)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the rate of all parameters."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def moments(
    model: nn.Module, optimizer: torch.optim.Optimizer
) -> dict[str, tuple[int, Tensor | None, Tensor | None]]:
    """Return each parameter's update count and two moments; 0 and None before its first update."""
    state: dict[str, tuple[int, Tensor | None, Tensor | None]] = {}
    for name, parameter in model.named_parameters():
        own: dict[str, Any] = optimizer.state.get(parameter, {})
        if own:
            state[name] = (int(own["step"]), own["exp_avg"], own["exp_avg_sq"])
        else:
            state[name] = (0, None, None)
    return state


def set_moments(
    optimizer: torch.optim.Optimizer,
    parameter: nn.Parameter,
    updates: int,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
) -> None:
    """Put back what `moments` gave for a parameter that has been updated."""
    optimizer.state[parameter] = {
        # Fused AdamW counts on the parameter's device, in float32.
        "step": torch.tensor(float(updates), dtype=torch.float32, device=parameter.device),
        "exp_avg": torch.empty_like(parameter, memory_format=torch.preserve_format).copy_(exp_avg),
        "exp_avg_sq": torch.empty_like(parameter, memory_format=torch.preserve_format).copy_(
            exp_avg_sq
        ),
    }
