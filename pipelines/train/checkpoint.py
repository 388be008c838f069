"""Training checkpoints: weights, optimizer and step, durable in the staging directory.

All parameters lie one behind the other in three flat float32 arrays (weights and the two moments
of AdamW), so that a checkpoint is a few files however many parameters the model has. Which is
where follows from the model's own order of parameters, kept beside them. There is nothing else to
save: the learning rate and the data of a step are functions of the step, and first weights and
dropout of the seed.

Shapes: N all parameters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from pipelines.artifacts.arrays import create_rows, write_array
from pipelines.errors import ConfigError
from pipelines.train.optimizer import MOMENTS, moments, set_moments

if TYPE_CHECKING:
    import zarr

    from pipelines.artifacts.staging import Staging

#: Checkpoints kept in the staging directory: the newest, and one to fall back on.
KEEP = 2
_PREFIX = "checkpoint/"
_CHUNK_ELEMENTS = 1 << 24


def save_checkpoint(
    staging: Staging,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    step: int,
    note: Any = None,
) -> None:
    """Make the state after `step` optimizer steps durable, then drop all but the last `KEEP`.

    Args:
        staging: Where.
        model: Its parameters.
        optimizer: AdamW over these parameters.
        step: Optimizer steps made.
        note: Small JSON that `load_checkpoint` gives back.

    Raises:
        StorageError: The file system refused; earlier checkpoints are as they were.
    """
    name = _unit_name(step)
    with staging.unit(name) as unit:
        group = unit.scratch(name)
        write_flat(group, "weights", _flat_weights(model))
        write_optimizer(group, model, optimizer)
        unit.data["step"] = step
        unit.data["parameters"] = layout(model)
        unit.data["note"] = note
    for old in checkpoints(staging)[:-KEEP]:
        staging.drop(_unit_name(old))


def checkpoints(staging: Staging) -> list[int]:
    """Return the steps of the durable checkpoints, ascending."""
    return sorted(
        int(unit.removeprefix(_PREFIX)) for unit in staging.units() if unit.startswith(_PREFIX)
    )


def load_checkpoint(
    staging: Staging, model: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[int, Any]:
    """Put the newest durable checkpoint into model and optimizer.

    Returns:
        The optimizer steps it has behind it and its note; 0 and None, and nothing changed, where
        there is no checkpoint.

    Raises:
        ConfigError: It belongs to a model with other parameters.
    """
    steps = checkpoints(staging)
    if not steps:
        return 0, None
    name = _unit_name(steps[-1])
    data = staging.data(name)
    if data["parameters"] != layout(model):
        raise ConfigError(
            "the staged checkpoint belongs to a model with other parameters",
            where=staging.directory,
            expected=f"{len(layout(model))} parameters as the configuration says",
            found=f"{len(data['parameters'])} parameters",
            fix="vintix artifacts gc, then train again",
        )
    group = staging.scratch(name)
    weights_N = _read(group, "weights")
    exp_avg_N, exp_avg_sq_N = (_read(group, moment) for moment in MOMENTS)
    updates = _read(group, "updates").tolist()
    start = 0
    with torch.no_grad():
        for count, parameter in zip(updates, model.parameters(), strict=True):
            stop = start + parameter.numel()
            shape = parameter.shape
            parameter.copy_(torch.from_numpy(weights_N[start:stop]).view(shape))
            if count:
                set_moments(
                    optimizer,
                    parameter,
                    count,
                    torch.from_numpy(exp_avg_N[start:stop]).view(shape),
                    torch.from_numpy(exp_avg_sq_N[start:stop]).view(shape),
                )
            start = stop
    return int(data["step"]), data["note"]


def drop_checkpoints(staging: Staging) -> None:
    """Drop all durable checkpoints, once the model itself is durable."""
    for step in checkpoints(staging):
        staging.drop(_unit_name(step))


def layout(model: nn.Module) -> list[list[Any]]:
    """Return name and number of elements of each parameter, in order; JSON."""
    return [[name, parameter.numel()] for name, parameter in model.named_parameters()]


def write_optimizer(group: zarr.Group, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Write AdamW's state: `exp_avg` (N,) and `exp_avg_sq` (N,) float32, and `updates` int64, how
    often each parameter was updated.
    """
    state = moments(model, optimizer)
    write_array(group, "updates", np.array([each[0] for each in state.values()], dtype=np.int64))
    sizes = dict(layout(model))
    for place, moment in enumerate(MOMENTS, start=1):
        parts = []
        for name, each in state.items():
            tensor = each[place]
            parts.append(
                np.zeros(sizes[name], dtype=np.float32) if tensor is None else _to_numpy(tensor)  # type: ignore[arg-type]
            )
        write_flat(group, moment, np.concatenate(parts))


def write_flat(group: zarr.Group, name: str, values_N: npt.NDArray[np.float32]) -> None:
    """Write a long vector uncompressed: float32 noise does not shrink."""
    array = create_rows(
        group, name, values_N.shape, values_N.dtype, chunk_rows=_CHUNK_ELEMENTS, mapped=True
    )
    array[...] = values_N


def _flat_weights(model: nn.Module) -> npt.NDArray[np.float32]:
    return np.concatenate([_to_numpy(parameter) for parameter in model.parameters()])


def _to_numpy(tensor: torch.Tensor) -> npt.NDArray[np.float32]:
    values: npt.NDArray[np.float32] = tensor.detach().float().cpu().numpy().reshape(-1)
    return values


def _read(group: zarr.Group, name: str) -> npt.NDArray[Any]:
    return np.asarray(group[name][...])  # type: ignore[index]


def _unit_name(step: int) -> str:
    return f"{_PREFIX}{step:08d}"
