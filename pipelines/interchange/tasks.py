"""Which task of the catalogue a foreign name means."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from pipelines.errors import ConfigError, UsageError
from pipelines.tasks.spec import TaskSpec

if TYPE_CHECKING:
    from pipelines.actions import ActionSpec
    from pipelines.tasks.registry import Catalogue

#: Domain of tasks that no installed domain declares.
UNKNOWN_DOMAIN = "imported"

#: What a description beside foreign data may say about a task.
DESCRIBED = (
    "name",
    "domain",
    "group",
    "split",
    "horizon",
    "reward_scale",
    "episode_sparsity",
    "env_id",
    "aliases",
)


def match_task(
    name: str, observation_dim: int, action_dim: int, catalogue: Catalogue
) -> tuple[TaskSpec | None, str | None]:
    """Return the task that a foreign name is an alias of, or why there is none.

    Dimensions have to agree: ``Ant-v4`` of the release has 27 observations where this catalogue's
    task, made with Gymnasium v5, has 105, and a model of one cannot act in the other.
    """
    try:
        spec = catalogue.get(name)
    except UsageError:
        return None, "no task of the catalogue answers to this name"
    expected = (spec.observation_dim, spec.action_dim)
    if not spec.actions.continuous:
        return None, f"{spec.name} of the catalogue has {spec.actions}"
    if expected != (observation_dim, action_dim):
        return None, (
            f"{spec.name} of the catalogue has {expected[0]} observations and {expected[1]} "
            f"actions, here there are {observation_dim} and {action_dim}"
        )
    return spec, None


def unknown_task(name: str, observation_dim: int, action_dim: int, horizon: int) -> TaskSpec:
    """Return a specification for data of a task that no domain declares."""
    plain = safe_name(name)
    return TaskSpec(
        name=plain,
        domain=UNKNOWN_DOMAIN,
        group=f"{UNKNOWN_DOMAIN}-{plain}",
        observation_dim=observation_dim,
        action_dim=action_dim,
        horizon=horizon,
        aliases=(name,) if name != plain and not any(c.isspace() for c in name) else (),
    )


def describe_task(spec: TaskSpec, description: Mapping[str, Any], where: object) -> TaskSpec:
    """Return a task with what a description beside the data says about it.

    Raises:
        ConfigError: The description has unknown fields or values out of range.
    """
    strange = sorted(set(description) - set(DESCRIBED))
    if strange:
        raise ConfigError(
            "the description of a task has a field that is not known",
            where=where,
            expected=", ".join(DESCRIBED),
            found=", ".join(strange),
        )
    changes = dict(description)
    if "aliases" in changes:
        changes["aliases"] = tuple(changes["aliases"])
    try:
        return replace(spec, **changes)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            "the description of a task cannot be used", where=where, found=error
        ) from error


def description_of(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return the description that gives a task's JSON its settings back."""
    known = {entry.name for entry in fields(TaskSpec)}
    return {name: spec[name] for name in DESCRIBED if name in spec and name in known}


def safe_name(text: str) -> str:
    """Return a text as a name of an artifact or task: letters, digits, ``-`` and ``_``."""
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", text).strip("-_")
    return plain or UNKNOWN_DOMAIN


def check_continuous(actions: ActionSpec, where: str, fix: str) -> None:
    """Check that the authors' formats can say what actions are.

    Raises:
        ConfigError: They are not continuous.
    """
    if not actions.continuous:
        raise ConfigError(
            "the authors' format knows continuous actions only",
            where=where,
            expected="continuous actions",
            found=actions,
            fix=fix,
        )
