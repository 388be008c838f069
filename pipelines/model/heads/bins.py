"""A head that chooses among bins of each action dimension, one dimension after the other.

The distribution may have several modes, and dimensions may depend on each other: that of a
dimension is conditioned on the bins of those before it, as in Metz et al. (2017), "Discrete
sequential prediction of continuous actions for deep RL".

Shapes: B sequences, L steps, D model, A action, N bins.
"""

from __future__ import annotations

import math
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from pipelines.actions import ActionSpec
from pipelines.model.heads.base import Draws, Head, at_least_float32, choose
from pipelines.model.heads.bounds import Bounds
from pipelines.model.initialization import Generators, Linear, draw_normal
from pipelines.model.normalization import ActionUnits


class Bins(Head):
    """A categorical distribution over each dimension's bins, given the bins of those before.

    A dimension's centres are evenly spread from its lower bound to its upper one, both included, so
    that the actions of a controller that saturates are among them. A target counts as the nearest
    centre. Acting passes through two small layers once a dimension.
    """

    deterministic = False
    needs_bounds = True

    def __init__(
        self,
        width: int,
        actions: ActionSpec,
        *,
        bins: Annotated[int, Field(ge=2, le=4096)] = 21,
    ) -> None:
        """Make the head.

        Args:
            actions: A box.
            bins: N of each dimension.
        """
        super().__init__(width, actions)
        self.bins = bins
        self.bounds = Bounds(actions, "bins")
        self.first = nn.Sequential(Linear(width, width), nn.LeakyReLU(), Linear(width, width))
        self.second = nn.Sequential(
            nn.LeakyReLU(), Linear(width, width), nn.LeakyReLU(), Linear(width, bins)
        )
        #: Which dimension is to be predicted, and what was chosen in those before.
        self.dimension_AD = nn.Parameter(torch.empty(actions.width, width))
        before = actions.width - 1
        self.chosen_AND = nn.Parameter(torch.empty(before, bins, width)) if before else None

    def draw_parameters(self, generators: Generators) -> None:
        """Draw normal numbers, so small that a sum over all dimensions is of the order of 1."""
        draw_normal(self.dimension_AD, 1.0, generators("dimension_AD"))
        if self.chosen_AND is not None:
            std = 1 / math.sqrt(len(self.chosen_AND))
            draw_normal(self.chosen_AND, std, generators("chosen_AND"))

    def loss(self, hidden_BLD: Tensor, target_BLA: Tensor, units: ActionUnits | None) -> Tensor:
        """Return the cross-entropy of each dimension's bin (B, L, A)."""
        bin_BLA = self._bins_of(target_BLA)
        inner_BLAD = self.first(hidden_BLD)[:, :, None] + self.dimension_AD
        if self.chosen_AND is not None:
            dimension_A = torch.arange(len(self.chosen_AND), device=bin_BLA.device)
            before_BLAD = self.chosen_AND[dimension_A, bin_BLA[..., :-1]].cumsum(2)
            inner_BLAD = inner_BLAD + functional.pad(before_BLAD, (0, 0, 1, 0))
        scores_BLAN = at_least_float32(self.second(inner_BLAD))
        return functional.cross_entropy(
            scores_BLAN.flatten(0, 2), bin_BLA.flatten(), reduction="none"
        ).view(bin_BLA.shape)

    def act(self, hidden_BLD: Tensor, units: ActionUnits | None, draws: Draws | None) -> Tensor:
        """Return the centres of the bins that are drawn, or of the most likely ones."""
        inner_BLD = self.first(hidden_BLD)
        last = len(self.dimension_AD) - 1
        number_B1A = None if draws is None else draws.uniform(1, last + 1).to(hidden_BLD.device)
        chosen = []
        for dimension, which_D in enumerate(self.dimension_AD):
            scores_BLN = at_least_float32(self.second(inner_BLD + which_D))
            bin_BL = choose(scores_BLN, None if number_B1A is None else number_B1A[..., dimension])
            chosen.append(bin_BL)
            if dimension < last and self.chosen_AND is not None:
                inner_BLD = inner_BLD + self.chosen_AND[dimension][bin_BL]
        place_BLA = torch.stack(chosen, dim=-1).to(hidden_BLD.dtype) / (self.bins - 1)
        return self.bounds.restore(place_BLA)

    def _bins_of(self, action_BLA: Tensor) -> Tensor:
        """Return the numbers of the bins with the nearest centres."""
        return (self.bounds.place(action_BLA) * (self.bins - 1)).round().long()
