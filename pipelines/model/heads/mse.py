"""The paper's head (section 2.3.1): an MLP that regresses the action."""

from __future__ import annotations

from torch import Tensor

from pipelines.actions import ActionSpec
from pipelines.model.heads.base import Draws, Head, at_least_float32, perceptron
from pipelines.model.normalization import ActionUnits


class MSE(Head):
    """Three hidden layers of the model's width with LeakyReLU, then the action; no squashing.

    Its loss is the squared error of the action (section 2.3.2).
    """

    def __init__(self, width: int, actions: ActionSpec) -> None:
        super().__init__(width, actions)
        self.layers = perceptron(width, actions.width)

    def loss(self, hidden_BLD: Tensor, target_BLA: Tensor, units: ActionUnits | None) -> Tensor:
        """Return the squared error of each channel (B, L, A) in the environment's units."""
        prediction_BLA = at_least_float32(self.act(hidden_BLD, units, None))
        return (prediction_BLA - target_BLA.to(prediction_BLA.dtype)).square()

    def act(self, hidden_BLD: Tensor, units: ActionUnits | None, draws: Draws | None) -> Tensor:
        """Return the predicted action."""
        action_BLA: Tensor = self.layers(hidden_BLD)
        return action_BLA if units is None else units.restore(action_BLA)
