"""Checks of policy specs that come from files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from pydantic import BaseModel, ValidationError

from pipelines.actions import ActionSpec, box_of
from pipelines.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pipelines.policies.base import PolicySpec

Model = TypeVar("Model", bound=BaseModel)


def parse_config(model: type[Model], spec: PolicySpec) -> Model:
    """Validate the configuration of a spec.

    Raises:
        ConfigError: A field is unknown, missing or out of range.
    """
    try:
        return model.model_validate(dict(spec.config))
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(
            f"The configuration of a policy of kind {spec.kind!r} is not valid.",
            where=".".join(str(part) for part in first["loc"]) or "config",
            expected=first["msg"],
            found=repr(first["input"]),
        ) from error


def box_bounds(
    spec: PolicySpec, actions: ActionSpec, dim: int | None = None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the bounds (A,) of continuous actions, for a policy that has no others.

    Args:
        dim: The A that the policy has; None for any.

    Raises:
        ConfigError: The task's actions are others.
    """
    return box_of(actions, f"a policy of kind {spec.kind!r}", dim).bounds


def check_arrays(spec: PolicySpec, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Return the arrays of a spec: exactly these, all numbers, all finite.

    Raises:
        ConfigError: An array is missing, superfluous, or holds a NaN or an infinity.
    """
    if set(spec.arrays) != set(names):
        raise ConfigError(
            f"A policy of kind {spec.kind!r} has other arrays than its configuration needs.",
            expected=", ".join(sorted(names)) or "none",
            found=", ".join(sorted(spec.arrays)) or "none",
        )
    arrays = {name: np.asarray(spec.arrays[name]) for name in names}
    for name, array in arrays.items():
        if array.dtype.kind not in "fiu" or not np.isfinite(array).all():
            raise ConfigError(
                f"An array of a policy of kind {spec.kind!r} is not all finite numbers.",
                where=name,
                found=f"dtype {array.dtype}",
            )
    return arrays
