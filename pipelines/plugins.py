"""Named things that packages add through entry points: domains, methods, heads, backbones.

Each kind has a table of the project's own, which are there without any installation; installed
distributions add to it with an entry point of the kind's group. Nothing is imported for a name
alone.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module, metadata
from typing import Any, Generic, TypeVar

from pipelines.errors import MissingDependencyError, VintixError, unknown

OWN_DISTRIBUTION = "vintix"

Base = TypeVar("Base")


@dataclass(frozen=True)
class Kind(Generic[Base]):
    """A kind of thing that has names.

    Attributes:
        group: The entry-point group.
        noun: What one of them is called in messages.
        base: The class that they derive from, as ``module:class``.
        option: How a user chooses another one.
        own: The project's own, name to ``module:class``.
    """

    group: str
    noun: str
    base: str
    option: str
    own: Mapping[str, str]

    def entries(self) -> list[metadata.EntryPoint]:
        """Return all entries by name, the project's own first: no other can take their names."""
        own = [metadata.EntryPoint(name, value, self.group) for name, value in self.own.items()]
        found = metadata.entry_points(group=self.group)
        others = [entry for entry in found if distribution(entry) != OWN_DISTRIBUTION]
        return sorted(own, key=_by_name) + sorted(others, key=_by_name)

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        """The names there are: the project's own in their order, then those of others."""
        return tuple(dict.fromkeys([*self.own, *(entry.name for entry in self.entries())]))

    def load(self, entry: metadata.EntryPoint) -> type[Base]:
        """Import what an entry stands for.

        Raises:
            TypeError: It is no class of this kind.
            Exception: Whatever its module raises.
        """
        module, _, name = self.base.partition(":")
        base = getattr(import_module(module), name)
        loaded = entry.load()
        if not (isinstance(loaded, type) and issubclass(loaded, base)):
            raise TypeError(f"{entry.value} is no subclass of {self._base_name}")
        return loaded

    def find(self, name: str, package: str | None = None) -> type[Base]:
        """Return the class of a name.

        Args:
            name: The name.
            package: The distribution that is known to bring it, for the message.

        Raises:
            UsageError: No installed distribution declares it.
            MissingDependencyError: One does, but it cannot be used.
        """
        if name in self.own:
            return self.load(metadata.EntryPoint(name, self.own[name], self.group))
        entry = next((entry for entry in self.entries() if entry.name == name), None)
        if entry is None:
            raise self.unknown(
                f"there is no {self.noun} {name!r}", name, self.names, package=package
            )
        try:
            return self.load(entry)
        # A plugin can fail in any way.
        except Exception as error:
            raise self.unusable(entry, error) from error

    def package(self, name: str) -> str | None:
        """Return the distribution that brings a name; None for the project's own."""
        if name in self.own:
            return None
        return next((distribution(one) for one in self.entries() if one.name == name), None)

    def unknown(
        self, message: str, name: str, known: Any, *, package: str | None = None
    ) -> VintixError:
        """Return the error of a name that nothing answers to."""
        fix = f"pip install {package}"
        if package is None:
            fix = (
                "choose one of these, or install the package that provides it "
                f"(entry point {self.group})"
            )
        return unknown(message, name, known, expected=", ".join(known), fix=fix)

    def unusable(self, entry: metadata.EntryPoint, error: Exception) -> MissingDependencyError:
        """Return the error of an entry that does not load."""
        package = distribution(entry)
        reason = error.message if isinstance(error, VintixError) else str(error)
        described = MissingDependencyError(
            f"The {self.noun} {entry.name!r} cannot be used.",
            where=f"entry point {entry.name} = {entry.value} of the distribution {package}",
            expected=f"an importable class derived from {self._base_name}",
            found=f"{type(error).__name__}: {reason}",
            fix=f"pip install --upgrade {package}, or uninstall it, or choose another "
            f"{self.option}",
        )
        described.__cause__ = error
        return described

    @property
    def _base_name(self) -> str:
        return self.base.replace(":", ".")


@dataclass(frozen=True)
class OneOf:
    """Annotates a setting whose values are the names of a kind."""

    kind: Kind[Any]

    @property
    def choices(self) -> tuple[str, ...]:
        """The names."""
        return self.kind.names

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def _check(self, value: str) -> str:
        if value not in self.kind.own and value not in self.choices:
            from pydantic_core import PydanticCustomError

            *most, last = map(repr, self.choices)
            expected = f"{', '.join(most)} or {last}" if most else last
            raise PydanticCustomError("literal_error", "Input should be {one}", {"one": expected})
        return value


def distribution(entry: metadata.EntryPoint) -> str:
    """Return the name of the distribution that declares an entry; the project's own is named so."""
    if entry.dist is None:
        return OWN_DISTRIBUTION
    return entry.dist.name


def _by_name(entry: metadata.EntryPoint) -> str:
    return entry.name
