"""Makes policies from their specs."""

from __future__ import annotations

from collections.abc import Mapping
from pkgutil import resolve_name
from typing import TYPE_CHECKING

from pipelines.errors import ConfigError

if TYPE_CHECKING:
    from pipelines.actions import ActionSpec
    from pipelines.policies.base import Policy, PolicyBuilder, PolicySpec

KINDS = {
    "mlp": "pipelines.policies.networks:build_mlp",
    "linear": "pipelines.policies.networks:build_linear",
    "state_feedback": "pipelines.policies.feedback:build_state_feedback",
    "reacher": "pipelines.policies.reacher:build_reacher",
    "phases": "pipelines.policies.phases:build_phases",
    "metaworld_script": "pipelines.policies.metaworld_script:build_metaworld_script",
}
"""Module and function of each kind's builder."""


def build_policy(
    spec: PolicySpec,
    actions: ActionSpec,
    domain_policies: Mapping[str, PolicyBuilder] | None = None,
) -> Policy:
    """Make a policy.

    Args:
        actions: What the actions of the task are, with their bounds.
        domain_policies: The kinds that the task's domain adds (`Domain.policies`).

    Raises:
        ConfigError: The kind is unknown, or spec and task do not fit.
    """
    added = dict(domain_policies or {})
    if clash := sorted(added.keys() & KINDS.keys()):
        raise ConfigError(
            "A domain names a policy kind as one that is already there.",
            found=", ".join(clash),
            fix="rename it in the domain's policies()",
        )
    if spec.kind in added:
        return added[spec.kind](spec, actions)
    if spec.kind not in KINDS:
        raise ConfigError(
            f"Unknown kind of policy {spec.kind!r}.",
            expected=", ".join([*KINDS, *sorted(added)]),
            found=spec.kind,
            fix="install the domain plugin that made it, or a newer release of vintix",
        )
    builder: PolicyBuilder = resolve_name(KINDS[spec.kind])
    return builder(spec, actions)
