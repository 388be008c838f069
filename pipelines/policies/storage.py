"""Policies in Zarr groups: kind and configuration as JSON attributes, weights as arrays."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pipelines.errors import ArtifactCorruptError, ConfigError
from pipelines.policies.base import PolicySpec

if TYPE_CHECKING:
    import zarr

_ARRAY_NAME = re.compile(r"[A-Za-z0-9_-]+")


def policy_attributes(spec: PolicySpec) -> dict[str, Any]:
    """Return kind and configuration of a policy as JSON, for the attributes of its group."""
    config: dict[str, Any] = json.loads(json.dumps(dict(spec.config), allow_nan=False))
    return {"kind": spec.kind, "config": config}


def arrays_digest(spec: PolicySpec, before: bytes = b"") -> str:
    """Return the SHA-256 of a policy's arrays by name, after some other bytes."""
    digest = hashlib.sha256(before)
    for name, values in sorted(spec.arrays.items()):
        digest.update(name.encode() + values.tobytes())
    return digest.hexdigest()


def save_policy(group: zarr.Group, spec: PolicySpec) -> None:
    """Write a policy's arrays into a group; its `policy_attributes` go where the caller keeps them.

    Raises:
        ConfigError: An array's name is no plain name.
    """
    from pipelines.artifacts.arrays import write_array

    for name, values in sorted(spec.arrays.items()):
        if not _ARRAY_NAME.fullmatch(name):
            raise ConfigError(
                "The name of a policy's array is not valid.",
                expected="letters, digits, '_' and '-'",
                found=repr(name),
            )
        write_array(group, name, values)


def load_policy(attributes: Mapping[str, Any], group: zarr.Group | None) -> PolicySpec:
    """Read a policy back.

    Args:
        attributes: What `policy_attributes` gave.
        group: The group its arrays were written to; None where it has none.

    Raises:
        ArtifactCorruptError: The attributes are not those of a policy.
    """
    import numpy as np

    kind, config = attributes.get("kind"), attributes.get("config")
    if not isinstance(kind, str) or not isinstance(config, dict):
        raise ArtifactCorruptError(
            "not the attributes of a policy", expected="kind and config", found=dict(attributes)
        )
    arrays = {} if group is None else {name: np.asarray(a[...]) for name, a in group.arrays()}
    return PolicySpec(kind=kind, config=config, arrays=arrays)
