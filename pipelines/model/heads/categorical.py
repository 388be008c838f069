"""The head of discrete actions: a probability for each of them.

Shapes: B sequences, L steps, D model, N actions.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from pipelines.actions import ActionSpec
from pipelines.model.heads.base import Draws, Head, at_least_float32, choose, perceptron
from pipelines.model.normalization import ActionUnits


class Categorical(Head):
    """Three hidden layers of the model's width with LeakyReLU, as `mse` has, then N scores."""

    kinds = ("discrete",)
    deterministic = False

    def __init__(self, width: int, actions: ActionSpec) -> None:
        super().__init__(width, actions)
        self.layers = perceptron(width, actions.width)

    def loss(self, hidden_BLD: Tensor, target_BLA: Tensor, units: ActionUnits | None) -> Tensor:
        """Return the cross-entropy of each step (B, L)."""
        scores_BLN = at_least_float32(self.layers(hidden_BLD))
        return functional.cross_entropy(
            scores_BLN.flatten(0, 1), target_BLA.flatten(), reduction="none"
        ).view(target_BLA.shape)

    def act(self, hidden_BLD: Tensor, units: ActionUnits | None, draws: Draws | None) -> Tensor:
        """Return the actions that are drawn (B, L), or the most likely ones."""
        scores_BLN = at_least_float32(self.layers(hidden_BLD))
        number_BL = None if draws is None else draws.uniform(1).to(scores_BLN.device)
        return choose(scores_BLN, number_BL)
