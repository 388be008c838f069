"""Parameters, gradients and moments split over the processes (FSDP2), for what fits no one GPU.

Each section of the backbone is a unit: its parameters are gathered for its part of the forward
and of the backward pass and given back. Everything else is the root unit. Gradients come out of
the backward pass as sums over the processes, as `pipelines.train.reduction` makes them otherwise.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from pipelines.errors import ConfigError

if TYPE_CHECKING:
    from pipelines.model.vintix import Vintix
    from pipelines.train.world import World


def shard(model: Vintix, world: World, device: str) -> None:
    """Split a model's parameters over the processes, in place.

    Args:
        model: With its first weights, on its device, equal in all processes.
        world: The processes.
        device: ``cpu`` or ``cuda``.

    Raises:
        ConfigError: There is only one process.
    """
    if world.alone:
        raise ConfigError(
            "there is nothing to split the parameters over",
            where="train.shard",
            expected="two processes or more",
            found="one",
            fix="train with --gpus N, or without --shard",
        )
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    # It warns of writing in place to what the model returns, which nothing here does.
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module")
    mesh = init_device_mesh(device, (world.size,))
    units = [*model.backbone.sections, model]
    for unit in units:
        fully_shard(unit, mesh=mesh)  # type: ignore[arg-type]
    register_fsdp_forward_method(model, "loss")
    for unit in units:
        # A step's loss is weighted as part of the global mean already: sums, no averages. Plain
        # sums, since gloo knows no others.
        unit.set_force_sum_reduction_for_comms(True)  # type: ignore[union-attr, operator]
        unit.set_gradient_divide_factor(1.0)  # type: ignore[union-attr, operator]
