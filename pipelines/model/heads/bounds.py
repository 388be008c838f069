"""The bounds of a group's continuous actions, for heads that have to know them.

Shapes: B sequences, L steps, A action.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pipelines.actions import ActionSpec, box_of
from pipelines.errors import ConfigError


class Bounds:
    """The bounds of a box of actions, for heads that predict where in it an action lies.

    They are constants of the architecture, not state.

    Raises:
        ConfigError: The actions are no box.
    """

    def __init__(self, actions: ActionSpec, head: str) -> None:
        self._actions, self._head = box_of(actions, f"the head {head}"), head

    def place(self, action_BLA: Tensor) -> Tensor:
        """Return where actions lie, 0 at the lower bound and 1 at the upper one, clipped.

        A dimension without extent is 0.
        """
        low_A, high_A = self._tensors(action_BLA)
        extent_A = torch.where(high_A > low_A, high_A - low_A, torch.inf)
        return ((action_BLA - low_A) / extent_A).clamp(0, 1)

    def restore(self, place_BLA: Tensor) -> Tensor:
        """Return the actions that lie there; `place` may be outside of 0 to 1."""
        return torch.lerp(*self._tensors(place_BLA), place_BLA)

    def _tensors(self, like: Tensor) -> tuple[Tensor, Tensor]:
        low_A, high_A = self._actions.low_A, self._actions.high_A
        if low_A is None or high_A is None:
            raise ConfigError(
                f"the head {self._head} does not know the bounds of the actions",
                where="model.groups",
                expected="action_bounds of each group, which vintix train finds in the data",
                found="none",
            )
        return (
            torch.from_numpy(low_A).to(like.device, like.dtype),
            torch.from_numpy(high_A).to(like.device, like.dtype),
        )
