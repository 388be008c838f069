"""From the transformer's output to actions: one MLP per group (section 2.3.1).

Shapes: B batch, L sequence, D model, A action.
"""

from __future__ import annotations

from torch import Tensor, nn

from pipelines.model.config import ModelConfig
from pipelines.model.layers import Linear


class ActionDecoder(nn.Module):
    """Three hidden layers of the model's width with LeakyReLU, then the action; no squashing."""

    def __init__(self, width: int, action_dim: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            Linear(width, width),
            nn.LeakyReLU(),
            Linear(width, width),
            nn.LeakyReLU(),
            Linear(width, width),
            nn.LeakyReLU(),
            Linear(width, action_dim),
        )

    def forward(self, hidden: Tensor) -> Tensor:
        """Map (..., D) to (..., A)."""
        return self.layers(hidden)


class Head(nn.Module):
    """The action decoders of every group."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.acs_decoders = nn.ModuleDict(
            {
                group: ActionDecoder(config.width, dims.action_dim)
                for group, dims in config.groups.items()
            }
        )

    def forward(self, group: str, hidden_BLD: Tensor) -> Tensor:
        """Return the actions (B, L, A) of a group's sequences."""
        return self.acs_decoders[group](hidden_BLD)
