"""First weights, drawn from streams keyed by (seed, parameter name).

PyTorch draws every layer's first weights from the global generator when the layer is made. Here
making a layer draws nothing: its weights stay unset until `init_weights` or `load_state_dict` sets
them, which `Vintix` does. Because the key is the parameter's name, a model with one more group has
the same first weights everywhere else, and nothing outside the model moves its numbers.

The distributions are the released code's: linear layers as PyTorch draws them unless they say
otherwise, padding vectors and the position table from a standard normal.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pipelines.rng import derive_seed

#: Epsilon of every norm in the released code.
NORM_EPS = 1e-5

#: Gives the generator of a parameter by its name in the module that has it.
Generators = Callable[[str], torch.Generator]


class Linear(nn.Linear):
    """`nn.Linear` whose parameters are not drawn when it is made.

    Args:
        std: Standard deviation of its first weights, whose mean and biases are 0; None for the
            uniform distribution that PyTorch uses.
    """

    def __init__(
        self, features_in: int, features_out: int, bias: bool = True, *, std: float | None = None
    ) -> None:
        self.std = std
        super().__init__(features_in, features_out, bias=bias)

    def reset_parameters(self) -> None:
        """Draw nothing: `init_weights` sets the parameters."""


class Embedding(nn.Embedding):
    """`nn.Embedding` whose table is not drawn when it is made."""

    def reset_parameters(self) -> None:
        """Draw nothing: `init_weights` sets the table."""


def make_norm(kind: Literal["layernorm", "rmsnorm"], width: int) -> nn.Module:
    """Return the norm of the residual stream: LayerNorm, or RMSNorm (no bias), eps 1e-5."""
    if kind == "rmsnorm":
        return nn.RMSNorm(width, eps=NORM_EPS)
    return nn.LayerNorm(width, eps=NORM_EPS)


@torch.no_grad()
def init_weights(model: nn.Module, seed: int) -> None:
    """Set every parameter of a model.

    A module with a method ``draw_parameters(generators)`` sets its own parameters by it, those of
    its submodules not among them; other layers that PyTorch has are drawn as PyTorch draws them.

    Args:
        model: The model; not on the meta device.
        seed: Base seed; equal seeds give equal weights whatever the device.
    """
    for path, module in model.named_modules():

        def generators(name: str, path: str = path) -> torch.Generator:
            # Drawn on the CPU and copied, so that the numbers do not depend on the device.
            key = derive_seed(seed, "model", f"{path}.{name}")
            return torch.Generator(device="cpu").manual_seed(key)

        custom: Any = getattr(module, "draw_parameters", None)
        if custom is not None:
            custom(generators)
        elif isinstance(module, nn.Linear):
            _draw_linear(module, generators)
        elif isinstance(module, nn.LayerNorm | nn.RMSNorm):
            module.reset_parameters()
        elif isinstance(module, nn.Embedding):
            draw_normal(module.weight, 1.0, generators("weight"))
        elif next(module.parameters(recurse=False), None) is not None:
            reset: Any = getattr(module, "reset_parameters", None)
            if reset is not None:
                with torch.random.fork_rng(devices=[]):
                    torch.manual_seed(derive_seed(seed, "model", path))
                    reset()


def _draw_linear(module: nn.Linear, generators: Generators) -> None:
    std = getattr(module, "std", None)
    if std is not None:
        draw_normal(module.weight, std, generators("weight"))
        if module.bias is not None:
            module.bias.zero_()
        return
    bound = 1.0 / math.sqrt(module.in_features)
    for name, parameter in module.named_parameters():
        values = torch.empty(parameter.shape, dtype=torch.float32, device="cpu")
        parameter.copy_(values.uniform_(-bound, bound, generator=generators(name)))


def draw_normal(parameter: Tensor, std: float, generator: torch.Generator) -> None:
    """Set a parameter to normal numbers with mean 0."""
    values = torch.empty(parameter.shape, dtype=torch.float32, device="cpu")
    parameter.copy_(values.normal_(0.0, std, generator=generator))
