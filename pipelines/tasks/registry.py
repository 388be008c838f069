"""Finds tasks by name, domain, group and split."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence

from pipelines.errors import ConfigError, VintixError, unknown
from pipelines.tasks.names import fold
from pipelines.tasks.spec import SPLITS, TaskSpec


class Catalogue:
    """An immutable, ordered set of tasks and their variations.

    Args:
        specs: Tasks and variations in any order of mixing; the order within each is kept.
        unavailable: What is wrong with domains that should be here, by name.

    Raises:
        ConfigError: A name or alias is used twice, a variation lacks its base, or two tasks of
            one group differ in their dimensions or kind of actions.
    """

    def __init__(
        self,
        specs: Iterable[TaskSpec],
        unavailable: Mapping[str, VintixError] | None = None,
    ) -> None:
        specs = tuple(specs)
        self.tasks = tuple(spec for spec in specs if spec.variation_of is None)
        self.variations = tuple(spec for spec in specs if spec.variation_of is not None)
        self._unavailable = dict(unavailable or {})
        self._index: dict[str, TaskSpec] = {}
        for spec in specs:
            for name in (spec.name, *spec.aliases):
                holder = self._index.setdefault(fold(name), spec)
                if holder is not spec:
                    raise ConfigError(
                        f"Two tasks answer to the name {name!r}.",
                        where=f"{_describe(holder)} and {_describe(spec)}",
                        expected="names and aliases that differ by more than case",
                        fix="rename one of them in the domain that declares it",
                    )
        self._check_variations()
        self._check_groups()

    @property
    def domains(self) -> tuple[str, ...]:
        """Names of the domains that have tasks, in catalogue order."""
        return tuple(dict.fromkeys(spec.domain for spec in self._all))

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the groups, in catalogue order."""
        return tuple(dict.fromkeys(spec.group for spec in self._all))

    @property
    def _all(self) -> tuple[TaskSpec, ...]:
        return (*self.tasks, *self.variations)

    def get(self, name: str) -> TaskSpec:
        """Return the task or variation of a name or alias; case and ``_`` for ``-`` do not matter.

        Raises:
            UsageError: No task answers to it; the message names the nearest ones.
        """
        spec = self._index.get(fold(name))
        if spec is None:
            raise unknown(
                f"Unknown task {name!r}.",
                name,
                (),
                aliases={key: each.name for key, each in self._index.items()},
                expected="a task name or alias",
                fix="vintix tasks",
            )
        return spec

    def select(
        self,
        *,
        tasks: Sequence[str] = (),
        domains: Sequence[str] = (),
        groups: Sequence[str] = (),
        splits: Sequence[str] = (),
        variations: bool = False,
    ) -> tuple[TaskSpec, ...]:
        """Return the tasks that pass every filter, in catalogue order, each once.

        Args:
            tasks: Names or aliases. A variation named here is taken whatever `variations` says.
            domains: Domain names; case, ``-`` and ``_`` do not matter.
            groups: Group names, likewise.
            splits: ``train``, ``validation``.
            variations: Whether variations belong to the choice; with `tasks`, those of the named
                tasks.

        Returns:
            The choice; an empty filter passes everything, and filters that contradict each other
            give an empty tuple.

        Raises:
            UsageError: A task, domain, group or split is not known.
            VintixError: A domain is one of those that are not available.
        """
        named = {self.get(name).name for name in tasks}
        for name in domains:
            for known, error in self._unavailable.items():
                if _squash(known) == _squash(name):
                    raise error
        chosen_domains = _resolve("domain", domains, self.domains)
        chosen_groups = _resolve("group", groups, self.groups)
        chosen_splits = _resolve("split", splits, SPLITS)

        def passes(spec: TaskSpec) -> bool:
            if spec.name not in named:
                if spec.variation_of is not None and not variations:
                    return False
                if named and spec.variation_of not in named:
                    return False
            return (
                (not chosen_domains or spec.domain in chosen_domains)
                and (not chosen_groups or spec.group in chosen_groups)
                and (not chosen_splits or spec.split in chosen_splits)
            )

        return tuple(spec for spec in self._all if passes(spec))

    def extended(self, specs: Iterable[TaskSpec]) -> Catalogue:
        """Return a catalogue that also holds these tasks, after its own.

        A task that is already here, equal in every field, is not added twice.

        Raises:
            ConfigError: A name or alias is taken by another task, or a group has other dims.
        """
        held = {spec.name: spec for spec in self._all}
        added = (spec for spec in specs if held.get(spec.name) != spec)
        return Catalogue((*self._all, *added), self._unavailable)

    def without(self, unavailable: Mapping[str, VintixError]) -> Catalogue:
        """Return a catalogue that tells why domains are not in it where they are asked for.

        Args:
            unavailable: What `select` raises, by the domain's name.
        """
        return Catalogue(self._all, unavailable)

    def _check_variations(self) -> None:
        names = {spec.name for spec in self.tasks}
        for spec in self.variations:
            if spec.variation_of not in names:
                raise ConfigError(
                    f"The base task {spec.variation_of!r} of a variation does not exist.",
                    where=_describe(spec),
                )

    def _check_groups(self) -> None:
        first: dict[str, TaskSpec] = {}
        for spec in self._all:
            other = first.setdefault(spec.group, spec)
            dims, other_dims = (
                f"{each.observation_dim} observation dims, {each.actions}" for each in (spec, other)
            )
            if dims != other_dims:
                raise ConfigError(
                    f"Tasks of group {spec.group!r} differ in observation dimensions or actions.",
                    where=f"{_describe(other)} and {_describe(spec)}",
                    expected=other_dims,
                    found=dims,
                    fix="give the task a group of its own",
                )


@functools.cache
def catalogue() -> Catalogue:
    """Return the project's own catalogue: the paper's 102 tasks and their 44 variations."""
    from pipelines.tasks.loader import load_builtin

    return Catalogue(load_builtin())


def _resolve(kind: str, wanted: Sequence[str], known: Sequence[str]) -> set[str]:
    found = set()
    for value in wanted:
        # An exact name first: two plugins may be called "a-b" and "ab".
        matches = [name for name in known if name == value] or [
            name for name in known if _squash(name) == _squash(value)
        ]
        if not matches:
            raise unknown(
                f"Unknown {kind} {value!r}.",
                value,
                known,
                expected=", ".join(known),
                fix="vintix tasks",
            )
        found.update(matches)
    return found


def _squash(name: str) -> str:
    return fold(name).replace("-", "")


def _describe(spec: TaskSpec) -> str:
    return f"task {spec.name!r} of domain {spec.domain!r}"
