"""Finds the domains that are installed, and what may be set on their environments."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from pipelines.artifacts.files import raise_if_failing
from pipelines.domains import registered
from pipelines.domains.base import Domain, OptionSpec
from pipelines.errors import ConfigError, MissingDependencyError, UsageError, unknown
from pipelines.plugins import Kind
from pipelines.tasks.registry import Catalogue, catalogue
from pipelines.tasks.spec import TaskSpec

DOMAINS: Kind[Domain] = Kind(
    group="vintix.domains",
    noun="domain",
    base="pipelines.domains.base:Domain",
    option="--domain",
    own={
        "mujoco": "pipelines.domains.mujoco:MuJoCo",
        "metaworld": "pipelines.domains.metaworld:MetaWorld",
        "industrial-benchmark": "pipelines.domains.industrial_benchmark:IndustrialBenchmark",
        "bidexhands": "pipelines.domains.bidexhands:BiDexHands",
        "hidden-goal": "pipelines.domains.hidden_goal:HiddenGoal",
    },
)
GROUP = DOMAINS.group
"""The entry-point group."""


class _Found(NamedTuple):
    domains: Mapping[str, Domain]
    broken: Mapping[str, MissingDependencyError]
    catalogue: Catalogue


def load_domains() -> Mapping[str, Domain]:
    """Return the domains that work, by name.

    Plugins are imported at the first call in a process. One that fails to import, or is no
    `Domain`, or whose tasks clash with those of others, is left out; `broken_domains` says why.
    """
    return _discover().domains


def broken_domains() -> Mapping[str, MissingDependencyError]:
    """Return, by entry-point name, why the other installed domains do not work."""
    return _discover().broken


def full_catalogue() -> Catalogue:
    """Return the paper's tasks and variations, followed by those of the other domains."""
    return _discover().catalogue


def find_domain(name: str) -> Domain:
    """Return the domain of a name; case, ``-`` and ``_`` do not matter.

    Raises:
        UsageError: No installed distribution declares it.
        MissingDependencyError: One does, but it does not work.
    """
    found = _discover()
    wanted = _squash(name)
    for key, domain in found.domains.items():
        if _squash(key) == wanted:
            return domain
    for key, error in found.broken.items():
        if _squash(key) == wanted:
            raise error
    if wanted == registered.NAME:
        raise registered.not_registered()
    raise DOMAINS.unknown(f"Unknown domain {name!r}.", name, found.domains)


def domain_of(task: TaskSpec) -> Domain:
    """Return the domain that makes a task's environments.

    Raises:
        UsageError: It is not installed.
        MissingDependencyError: It is installed but does not work.
    """
    return find_domain(task.domain)


def register_task(registration: registered.Registration) -> None:
    """Make a task known in this process; one that was registered by this name before is replaced.

    Raises:
        ConfigError: Its name is taken by a task of another domain, or its group has other
            dimensions.
    """
    name = registration.task.name
    before = registered.TASKS.get(name)
    registered.TASKS[name] = registration
    _discover.cache_clear()
    try:
        _discover()
    except ConfigError:
        del registered.TASKS[name]
        if before is not None:
            registered.TASKS[name] = before
        _discover.cache_clear()
        raise


def check_simulators(tasks: Iterable[TaskSpec], options: Mapping[str, Any] | None = None) -> None:
    """Make an environment of each domain's first task, to see whether it can run here.

    Args:
        options: Some options; each domain takes those that it knows.

    Raises:
        UsageError: A domain is not installed.
        ConfigError: An environment does not fit its task.
        MissingDependencyError: A simulator is not there.
    """
    from pipelines.domains.checked import make_env

    first: dict[str, TaskSpec] = {}
    for task in tasks:
        first.setdefault(task.domain, task)
    for task in first.values():
        domain = domain_of(task)
        given = resolve_options(domain, own_options(domain, options or {}))
        make_env(domain, task, given).close()


def own_options(domain: Domain, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of some options that a domain knows."""
    known = {spec.name for spec in domain.options()}
    return {name: value for name, value in given.items() if name in known}


def split_options(domains: Iterable[Domain], given: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return `own_options` of several domains by their names.

    Raises:
        UsageError: None of the domains has one of the options.
    """
    domains = list(domains)
    known = {spec.name: None for domain in domains for spec in domain.options()}
    for name in given:
        if name not in known:
            raise unknown(
                f"None of the selected domains has an option {name!r}.",
                name,
                known,
                where=", ".join(domain.name for domain in domains),
                expected=", ".join(known) or "no options at all",
                fix=_other_option(name, known),
            )
    return {domain.name: own_options(domain, given) for domain in domains}


def simulator_packages(tasks: Iterable[TaskSpec]) -> set[str]:
    """Return the distributions whose versions are recorded with what is made of some tasks."""
    return {name for task in tasks for name in domain_of(task).packages}


def resolve_options(domain: Domain, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of all options of a domain, in the one form that artifacts record.

    Args:
        given: Some of its options, as typed or as numbers; None stands for the default.

    Returns:
        A JSON object with every option of the domain, in its order.

    Raises:
        UsageError: An option is not known or its value is not allowed.
    """
    specs = {spec.name: spec for spec in domain.options()}
    for name in given:
        if name not in specs:
            raise unknown(
                f"Unknown option {name!r} of domain {domain.name}.",
                name,
                specs,
                where=f"option {name}={given[name]}",
                expected="; ".join(f"{spec.name}: {spec.help}" for spec in specs.values())
                or "no options at all",
                fix=_other_option(name, specs),
            )
    return {name: _value(domain, spec, given.get(name)) for name, spec in specs.items()}


def simulators(domain: Domain, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of some options that choose between simulators (`Domain.simulator_options`)."""
    return {name: options[name] for name in domain.simulator_options if name in options}


def _value(domain: Domain, spec: OptionSpec, value: Any) -> Any:
    if value is None or value == spec.default:
        return spec.default
    if spec.choices is not None:
        matches = [choice for choice in spec.choices if choice == str(value).strip().lower()]
        if matches:
            return matches[0]
        raise unknown(
            f"Option {spec.name} of domain {domain.name} cannot be {value!r}.",
            str(value),
            spec.choices,
            where=f"option {spec.name}={value}",
            expected=" or ".join(spec.choices),
            fix=" or ".join(f"{spec.name}={choice}" for choice in spec.choices),
        )
    else:
        try:
            return (spec.parse or _number)(value)
        except (ValueError, TypeError) as error:
            expected = str(error) if spec.parse else "a finite number"
    raise UsageError(
        f"Option {spec.name} of domain {domain.name} cannot be {value!r}.",
        where=f"option {spec.name}={value}",
        expected=expected,
        found=value,
        fix=f"leave the option {spec.name} out, or give another value",
    )


def _other_option(name: str, known: Iterable[str]) -> str:
    named = " or ".join(known)
    return f"leave the option {name} out" + (f", or choose {named}" if named else "")


def _number(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError
    return number


@functools.cache
def _discover() -> _Found:
    domains: dict[str, Domain] = {}
    broken: dict[str, MissingDependencyError] = {}
    tasks = catalogue()
    for entry in DOMAINS.entries():
        try:
            if entry.name in domains:
                if type(domains[entry.name]).__module__ == entry.module:
                    continue  # one distribution, listed twice on the path
                raise ValueError(f"the name {entry.name!r} is taken by another distribution")
            domain = _named(DOMAINS.load(entry)(), entry.name)
            tasks = tasks.extended(_tasks(domain))
        # A plugin can fail in any way; whatever it raises must not take the others down.
        except Exception as error:
            raise_if_failing(error)
            broken.setdefault(entry.name, DOMAINS.unusable(entry, error))
        else:
            domains[entry.name] = domain
    if registered.TASKS:
        domain = registered.Registered()
        tasks, domains[domain.name] = tasks.extended(domain.tasks()), domain
    catalogued = tasks.without(
        {name: error for name, error in broken.items() if name not in domains}
    )
    return _Found(MappingProxyType(domains), MappingProxyType(broken), catalogued)


def _named(domain: Domain, name: str) -> Domain:
    if domain.name != name:
        raise ValueError(f"the domain calls itself {domain.name!r}, its entry point {name!r}")
    return domain


def _tasks(domain: Domain) -> list[TaskSpec]:
    tasks = list(domain.tasks())
    if not tasks:
        raise ValueError("it has no tasks")
    for task in tasks:
        if task.domain != domain.name:
            raise ValueError(f"its task {task.name!r} says that it belongs to {task.domain!r}")
    return tasks


def _squash(name: str) -> str:
    return name.casefold().replace("_", "").replace("-", "")
