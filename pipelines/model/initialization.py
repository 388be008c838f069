"""First weights, drawn from streams keyed by (seed, parameter name).

The distributions are the released code's: encoders and heads as PyTorch draws linear layers,
padding vectors and the position table from a standard normal, and the transformer as GPT-NeoX
(Black et al., 2022). Because the key is the parameter's name, a model with one more group has the
same first weights everywhere else, and nothing outside the model moves its numbers.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from pipelines.model.blocks import GptNeoxMLP, LlamaMLP, SelfAttention
from pipelines.model.encoders import Encoder
from pipelines.rng import derive_seed

if TYPE_CHECKING:
    from pipelines.model.vintix import Vintix


@torch.no_grad()
def init_weights(model: Vintix, seed: int) -> None:
    """Set every parameter of a model.

    Args:
        model: The model; not on the meta device.
        seed: Base seed; equal seeds give equal weights whatever the device.
    """
    width, layers = model.config.width, model.config.layers
    trunk_std = math.sqrt(0.4 / width)
    output_std = 1.0 / (math.sqrt(width) * layers)
    outputs = {
        id(linear) for module in model.transformer.modules() for linear in _residual_outputs(module)
    }
    trunk = {id(module) for module in model.transformer.modules()}
    for path, module in model.named_modules():
        if isinstance(module, nn.Linear):
            if id(module) in trunk:
                std = output_std if id(module) in outputs else trunk_std
                _normal(module.weight, std, seed, f"{path}.weight")
                if module.bias is not None:
                    module.bias.zero_()
            else:
                bound = 1.0 / math.sqrt(module.in_features)
                _uniform(module.weight, bound, seed, f"{path}.weight")
                _uniform(module.bias, bound, seed, f"{path}.bias")
        elif isinstance(module, nn.LayerNorm | nn.RMSNorm):
            module.reset_parameters()
        elif isinstance(module, nn.Embedding):
            _normal(module.weight, 1.0, seed, f"{path}.weight")
        elif isinstance(module, Encoder):
            _normal(module.prev_acs_padding, 1.0, seed, f"{path}.prev_acs_padding")
            _normal(module.prev_rew_padding, 1.0, seed, f"{path}.prev_rew_padding")


def _residual_outputs(module: nn.Module) -> list[nn.Module]:
    """Return the layers of a module whose output is added to the residual stream."""
    if isinstance(module, SelfAttention):
        return [module.out_proj]
    if isinstance(module, GptNeoxMLP | LlamaMLP):
        return [module.proj]
    return []


def _generator(seed: int, name: str) -> torch.Generator:
    # Drawn on the CPU and copied, so that the numbers do not depend on the device.
    return torch.Generator(device="cpu").manual_seed(derive_seed(seed, "model", name))


def _normal(parameter: Tensor, std: float, seed: int, name: str) -> None:
    values = torch.empty(parameter.shape, dtype=torch.float32, device="cpu")
    parameter.copy_(values.normal_(0.0, std, generator=_generator(seed, name)))


def _uniform(parameter: Tensor, bound: float, seed: int, name: str) -> None:
    values = torch.empty(parameter.shape, dtype=torch.float32, device="cpu")
    parameter.copy_(values.uniform_(-bound, bound, generator=_generator(seed, name)))
