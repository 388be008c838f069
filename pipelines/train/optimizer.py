"""AdamW as released, and a learning rate that is a pure function of the step."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from pipelines.train.config import TrainConfig

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
    """Return the rate of an optimizer step, in [0, config.steps), by the run's rules."""
    return config.rules.learning_rate(step, config.schedule)


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
