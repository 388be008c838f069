"""A head that carries noise to actions: rectified flow (Liu et al., 2022, arXiv 2209.03003).

A network gives the velocity at which a point moves from standard normal noise, at time 0, to an
action, at time 1; it is trained on the straight line between the two. Vintix II (arXiv 2604.05112)
has such a head, and integrates it with Heun's method.

Shapes: B sequences, L steps, D model, A action, F features of the time.
"""

from __future__ import annotations

import math
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from pipelines.actions import ActionSpec
from pipelines.model.heads.base import Draws, Head
from pipelines.model.heads.bounds import Bounds
from pipelines.model.initialization import Linear
from pipelines.model.normalization import ActionUnits

#: Frequencies of the sines and cosines that tell the network the time.
FREQUENCIES = 4


class Flow(Head):
    """A velocity network on the backbone's output, a point and a time, and its integration.

    Points are actions scaled so that their bounds are -1 and 1. The most likely action is taken to
    be the one that noise of 0, its own most likely value, is carried to.
    """

    deterministic = False
    needs_bounds = True
    random_loss = True

    def __init__(
        self,
        width: int,
        actions: ActionSpec,
        *,
        steps: Annotated[int, Field(ge=1, le=1000)] = 8,
    ) -> None:
        """Make the head.

        Args:
            actions: A box.
            steps: Steps of Heun's method, of two evaluations each; Vintix II makes 32.
        """
        super().__init__(width, actions)
        self.steps, self.actions = steps, actions.width
        self.bounds = Bounds(actions, "flow")
        self.hidden = nn.Sequential(Linear(width, width), nn.GELU(), Linear(width, width))
        # As large as what is added to it, so that the network bends where noise has to part.
        self.point = Linear(actions.width + 1 + 2 * FREQUENCIES, width, bias=False, std=1.0)
        self.velocity = nn.Sequential(
            nn.GELU(),
            Linear(width, width),
            nn.GELU(),
            Linear(width, width),
            nn.GELU(),
            Linear(width, actions.width),
        )

    def loss(self, hidden_BLD: Tensor, target_BLA: Tensor, units: ActionUnits | None) -> Tensor:
        """Return the squared error of the velocity (B, L, A), at one random time and noise each."""
        end_BLA = 2 * self.bounds.place(target_BLA) - 1
        noise_BLA = torch.randn_like(end_BLA)
        time_BL1 = torch.rand_like(end_BLA[..., :1])
        point_BLA = torch.lerp(noise_BLA, end_BLA, time_BL1)
        velocity_BLA = self._velocity(self.hidden(hidden_BLD), point_BLA, time_BL1)
        return (velocity_BLA - (end_BLA - noise_BLA)).square()

    def act(self, hidden_BLD: Tensor, units: ActionUnits | None, draws: Draws | None) -> Tensor:
        """Return where normal noise, or noise of 0, is carried to, within the bounds."""
        inner_BLD = self.hidden(hidden_BLD)
        shape = (*hidden_BLD.shape[:-1], self.actions)
        if draws is None:
            point_BLA = hidden_BLD.new_zeros(shape, dtype=torch.float32)
        else:
            point_BLA = draws.normal(*shape[1:]).to(hidden_BLD.device)
        if hidden_BLD.dtype == torch.float64:
            point_BLA = point_BLA.double()
        size = 1 / self.steps
        for step in range(self.steps):
            now_BL1, then_BL1 = (
                torch.full_like(point_BLA[..., :1], each * size) for each in (step, step + 1)
            )
            first_BLA = self._velocity(inner_BLD, point_BLA, now_BL1)
            second_BLA = self._velocity(inner_BLD, point_BLA + size * first_BLA, then_BL1)
            point_BLA = point_BLA + size / 2 * (first_BLA + second_BLA)
        return self.bounds.restore((point_BLA.clamp(-1, 1) + 1) / 2)

    def _velocity(self, inner_BLD: Tensor, point_BLA: Tensor, time_BL1: Tensor) -> Tensor:
        """Return the velocity of points (B, L, A), in their dtype."""
        angle_BLF = time_BL1 * torch.arange(1, FREQUENCIES + 1, device=time_BL1.device) * math.pi
        parts = (point_BLA, time_BL1, angle_BLF.sin(), angle_BLF.cos())
        moved_BLD = inner_BLD + self.point(torch.cat(parts, dim=-1).to(inner_BLD.dtype))
        velocity_BLA: Tensor = self.velocity(moved_BLD)
        return velocity_BLA.to(point_BLA.dtype)
