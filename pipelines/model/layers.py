"""Layers that leave their random numbers to :func:`pipelines.model.initialization.init_weights`.

PyTorch draws every layer's first weights from the global generator when the layer is made. Here
weights come from streams keyed by (seed, parameter name) instead, so making a layer draws nothing:
the weights stay unset until `init_weights` or `load_state_dict` sets them, which `Vintix` does.
"""

from __future__ import annotations

from typing import Literal

from torch import nn

#: Epsilon of every norm in the released code.
NORM_EPS = 1e-5


class Linear(nn.Linear):
    """`nn.Linear` whose parameters are not drawn when it is made."""

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
