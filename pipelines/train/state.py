"""The state of training as flat arrays: taken from a model and its optimizer, and put back.

Parameters lie one behind the other in the model's own order. A snapshot is a copy on the CPU that
nothing else writes to, so that a thread can make it durable while training goes on.

Shapes: N all parameters, P number of parameter tensors.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from pipelines.model.saved import layout
from pipelines.train.optimizer import MOMENTS, moments, set_moments
from pipelines.train.world import World

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class State:
    """Weights and AdamW's state.

    Attributes:
        weights_N: The parameters, float32.
        exp_avg_N: First moments; 0 where a parameter was never updated.
        exp_avg_sq_N: Second moments, likewise.
        updates_P: How often each parameter was updated.
    """

    weights_N: Floats
    exp_avg_N: Floats
    exp_avg_sq_N: Floats
    updates_P: npt.NDArray[np.int64]

    @property
    def moments(self) -> dict[str, Floats]:
        """The two moments by their names in PyTorch."""
        return dict(zip(MOMENTS, (self.exp_avg_N, self.exp_avg_sq_N), strict=True))


def empty_state(model: nn.Module) -> State:
    """Return room for the state of a model."""
    sizes = [size for _, size in layout(model)]
    weights_N, exp_avg_N, exp_avg_sq_N = (np.zeros(sum(sizes), np.float32) for _ in range(3))
    return State(weights_N, exp_avg_N, exp_avg_sq_N, np.zeros(len(sizes), np.int64))


def take_snapshot(
    model: nn.Module, optimizer: torch.optim.Optimizer, into: State | None = None
) -> State:
    """Copy weights and moments to the CPU.

    Where parameters are sharded every process has to call this, since each has a part.

    Args:
        model: The model.
        optimizer: AdamW over its parameters.
        into: Room to use again: fresh memory of this size costs as much as the copy.
    """
    state = empty_state(model) if into is None else into
    start = 0
    found = moments(model, optimizer)
    for place, (name, parameter) in enumerate(model.named_parameters()):
        stop = start + parameter.numel()
        count, *own = found[name]
        state.updates_P[place] = count
        _fill(state.weights_N[start:stop], parameter)
        for flat_N, moment in zip((state.exp_avg_N, state.exp_avg_sq_N), own, strict=True):
            if moment is None:
                flat_N[start:stop] = 0.0
            else:
                _fill(flat_N[start:stop], moment)  # type: ignore[arg-type]
        start = stop
    return state


@torch.no_grad()
def put_back(state: State, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Set weights and moments; parameters that were never updated get no moments."""
    start = 0
    for count, parameter in zip(state.updates_P.tolist(), model.parameters(), strict=True):
        stop = start + parameter.numel()
        parameter.copy_(_part(state.weights_N[start:stop], parameter))
        if count:
            first = _part(state.exp_avg_N[start:stop], parameter)
            second = _part(state.exp_avg_sq_N[start:stop], parameter)
            set_moments(optimizer, parameter, count, first, second)
        start = stop


def spread_state(state: State, world: World, device: torch.device) -> None:
    """Replace a state by rank 0's in every process."""
    for values in (state.weights_N, state.exp_avg_N, state.exp_avg_sq_N, state.updates_P):
        tensor = torch.from_numpy(values).to(device)
        world.spread(tensor)
        values[...] = tensor.cpu().numpy()


def _fill(flat: Floats, tensor: Tensor) -> None:
    values = tensor.detach()
    if hasattr(values, "full_tensor"):
        values = values.full_tensor()
    torch.from_numpy(flat).copy_(values.reshape(-1))


def _part(flat: Floats, parameter: Tensor) -> Tensor:
    values = torch.from_numpy(flat).view(parameter.shape)
    mesh = getattr(parameter, "device_mesh", None)
    if mesh is None:
        return values
    from torch.distributed.tensor import distribute_tensor

    placements = parameter.placements  # type: ignore[attr-defined]
    return distribute_tensor(values.to(mesh.device_type), mesh, placements)
