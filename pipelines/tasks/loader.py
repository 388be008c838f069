"""Reads the catalogue's YAML files into task specifications.

A file holds one domain: ``domain``, ``groups`` (dims by group, with ``action_dim`` or, where the
actions are discrete, ``actions: {kind: discrete, n: 5}``), ``defaults`` (fields of every task, with
``{name}``, ``{stem}`` and the like filled in), ``tasks`` (what is particular to each) and, for
MuJoCo, ``variations`` (changes applied to every task). Beside them, ``schedules.json`` holds the
decays that were fitted to the package's demonstrators (runs/schedule_fits.py); a task that is not
in it keeps the ``schedule`` of its domain's file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib import resources
from typing import Any

from pipelines.actions import from_json
from pipelines.errors import ConfigError
from pipelines.tasks.schedule import NoiseCurve, Schedule, decay_from_json
from pipelines.tasks.spec import ScoreReference, TaskSpec
from pipelines.yaml_text import YamlTextError, parse_yaml

# The order of the catalogue.
FILES = ("mujoco.yaml", "metaworld.yaml", "industrial_benchmark.yaml", "bidexhands.yaml")

SCHEDULES = "schedules.json"

_SECTIONS = {"domain", "groups", "defaults", "tasks", "variations"}


def load_builtin() -> tuple[TaskSpec, ...]:
    """Read the project's own files; tasks in file order, each file's variations after its tasks."""
    folder = resources.files("pipelines.tasks") / "data"
    fitted = parse_schedules((folder / SCHEDULES).read_text(encoding="utf-8"), SCHEDULES)
    return tuple(
        spec
        for file in FILES
        for spec in parse_domain((folder / file).read_text(encoding="utf-8"), file, fitted)
    )


def parse_schedules(text: str, source: str) -> dict[str, dict[str, Any]]:
    """Return the fitted decays: ``schedule`` and ``noise_curve`` of each task's specification.

    Args:
        text: JSON, an object by task: ``auto``, the best p and f, and ``schedule``, the decay that
            the task has by default: the same, or a curve.

    Raises:
        ConfigError: It is not of this form.
    """
    try:
        return {name: _fitted(entry) for name, entry in json.loads(text).items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ConfigError(
            "The fitted decays cannot be read.",
            where=source,
            expected="an object by task, each with auto and schedule",
            found=error,
        ) from error


def _fitted(entry: Mapping[str, Any]) -> dict[str, Any]:
    chosen = decay_from_json(entry["schedule"])
    curve = chosen if isinstance(chosen, NoiseCurve) else None
    return {"schedule": Schedule(**entry["auto"]), "noise_curve": curve}


def parse_domain(
    text: str, source: str, fitted: Mapping[str, Mapping[str, Any]] | None = None
) -> tuple[TaskSpec, ...]:
    """Parse one domain file.

    Args:
        fitted: Decays by task, as of `parse_schedules`, that take the place of the file's.

    Returns:
        The tasks in file order, then their variations, which have their task's decay.

    Raises:
        ConfigError: Not YAML, an unknown section or field, or a value out of range.
    """
    document = _parse_yaml(text, source)
    _check_keys(document, _SECTIONS, source)
    domain = document["domain"]
    groups = document["groups"]
    defaults = document.get("defaults", {})
    tasks = []
    for name, own in document["tasks"].items():
        entry = {**defaults, **(own or {})}
        entry["aliases"] = [*defaults.get("aliases", ()), *(own or {}).get("aliases", ())]
        task = _task(name, domain, entry, groups, source)
        if fitted and name in fitted:
            task = replace(task, **fitted[name])
        tasks.append(task)
    return (*tasks, *_variations(tasks, document.get("variations"), source))


def _task(
    name: str, domain: str, entry: dict[str, Any], groups: Mapping[str, Any], source: str
) -> TaskSpec:
    stem = str(entry.pop("stem", name))
    simulator = entry.pop("simulator", {})
    # Release keys are the lower-cased class names, the paper's tables capitalise each word.
    names = {"name": name, "title": name.title(), "stem": stem, "lower": stem.lower()}
    names |= {key: str(value) for key, value in simulator.items()}
    group = entry.pop("group").format(**names)
    if group not in groups:
        raise ConfigError(
            "A task names a group that the file does not define.",
            where=f"{source}, task {name}",
            expected=", ".join(groups),
            found=group,
        )
    try:
        return TaskSpec(
            name=name,
            domain=domain,
            group=group,
            env_id=entry.pop("env_id").format(**names),
            aliases=tuple(dict.fromkeys(a.format(**names) for a in entry.pop("aliases"))),
            schedule=Schedule(**entry.pop("schedule", {})),
            scores={key: ScoreReference(**s) for key, s in entry.pop("scores", {}).items()},
            simulator=simulator,
            **_dims(groups[group]),
            **entry,
        )
    except (TypeError, KeyError) as error:
        raise ConfigError(
            f"A catalogue entry does not fit a task: {error}.", where=f"{source}, task {name}"
        ) from error


def _dims(group: Mapping[str, Any]) -> dict[str, Any]:
    """Return a group's entry with its actions, where it names their kind, as a spec."""
    actions = group.get("actions")
    return {**group} if actions is None else {**group, "actions": from_json(actions)}


def _variations(
    bases: list[TaskSpec], section: Mapping[str, Any] | None, source: str
) -> Iterator[TaskSpec]:
    if not section:
        return
    _check_keys(section, {"split", "changes", "inert"}, f"{source}, variations")
    inert = dict(section.get("inert", {}))
    for base in bases:
        for suffix, change in section["changes"].items():
            name = f"{base.name}-{suffix}"
            yield replace(
                base,
                name=name,
                aliases=(f"{base.domain}/{name}",),
                split=section["split"],
                variation_of=base.name,
                variation=change,
                inert_reason=inert.pop(name, None),
            )
    if inert:
        raise ConfigError(
            "Inert variations are listed that do not exist.",
            where=f"{source}, variations",
            found=", ".join(inert),
        )


def _parse_yaml(text: str, source: str) -> dict[str, Any]:
    try:
        document = parse_yaml(text)
    except YamlTextError as error:
        raise ConfigError(
            "The task file is not valid YAML.", where=error.where(source), found=error
        ) from error
    if not isinstance(document, dict) or not {"domain", "groups", "tasks"} <= document.keys():
        raise ConfigError(
            "The task file lacks its sections.", where=source, expected="domain, groups, tasks"
        )
    return document


def _check_keys(found: Mapping[str, Any], known: set[str], where: str) -> None:
    unknown = sorted(set(found) - known)
    if unknown:
        raise ConfigError(
            "The task file has unknown sections.",
            where=where,
            expected=", ".join(sorted(known)),
            found=", ".join(unknown),
        )
