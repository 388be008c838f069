"""Named things that packages add through entry points: domains, methods, heads, backbones.

Each kind has a table of the project's own, which are there without any installation; installed
distributions add to it with an entry point of the kind's group, and a script with `Kind.add` for
its own process. Nothing is imported for a name alone.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pkgutil import resolve_name
from types import SimpleNamespace
from typing import Any, Generic, TypeVar, get_type_hints

from pipelines.errors import MissingDependencyError, UsageError, VintixError, unknown

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
        reserved: Keywords of their constructors that are no options.
    """

    group: str
    noun: str
    base: str
    option: str
    own: Mapping[str, str]
    reserved: tuple[str, ...] = ()
    _added: dict[str, type[Base]] = field(default_factory=dict, init=False)

    def add(self, name: str, added: type[Base]) -> None:
        """Give a class a name in this process; the same name again replaces it.

        Args:
            name: The name; not one of the project's own.
            added: A class derived from `base`, which is not checked.

        Raises:
            UsageError: The name is one of the project's own.
        """
        if name in self.own:
            raise UsageError(
                f"there is a {self.noun} {name!r} already",
                expected="another name",
                found=name,
                fix=f"choose another name than {', '.join(self.own)}",
            )
        self._added[name] = added

    def entries(self) -> list[metadata.EntryPoint]:
        """Return all entries by name, the project's own first: no other can take their names."""
        own = [metadata.EntryPoint(name, value, self.group) for name, value in self.own.items()]
        found = metadata.entry_points(group=self.group)
        others = [entry for entry in found if distribution(entry) != OWN_DISTRIBUTION]
        return sorted(own, key=_by_name) + sorted(others, key=_by_name)

    @property
    def names(self) -> tuple[str, ...]:
        """The names there are: the project's own in their order, then those of others."""
        return tuple(dict.fromkeys([*self.own, *self._added, *self._installed]))

    @functools.cached_property
    def _installed(self) -> list[str]:
        return [entry.name for entry in self.entries()]

    def load(self, entry: metadata.EntryPoint) -> type[Base]:
        """Import what an entry stands for.

        Raises:
            TypeError: It is no class of this kind.
            Exception: Whatever its module raises.
        """
        loaded = entry.load()
        if not (isinstance(loaded, type) and issubclass(loaded, resolve_name(self.base))):
            raise TypeError(f"{entry.value} is no subclass of {self._base_name}")
        return loaded

    def find(self, name: str, package: str | None = None) -> type[Base]:
        """Return the class of a name.

        Args:
            package: The distribution that is known to bring it, for the message.

        Raises:
            UsageError: No installed distribution declares it.
            MissingDependencyError: One does, but it cannot be used.
        """
        if name in self.own:
            return self.load(metadata.EntryPoint(name, self.own[name], self.group))
        if name in self._added:
            return self._added[name]
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

    def options(self, name: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options of one of them, JSON; what is not given has its default.

        Options are the keyword-only parameters of its constructor. Their annotations say what they
        may be, such as ``bins: Annotated[int, pydantic.Field(ge=2)] = 21``.

        Args:
            given: Values by option.

        Raises:
            ValueError: It has no such option, or a value is not of the annotation.
            UsageError, MissingDependencyError: As `find`.
        """
        from pydantic import ConfigDict, ValidationError, create_model

        made = self.find(name).__init__  # type: ignore[misc]
        known = {
            each.name: each
            for each in inspect.signature(made).parameters.values()
            if each.kind is each.KEYWORD_ONLY and each.name not in self.reserved
        }
        for option in given:
            if option not in known:
                has = f"it has {', '.join(known)}" if known else "it has none"
                raise ValueError(f"the {self.noun} {name} has no option {option!r}: {has}")
        # The other annotations may name what is imported for type checkers alone.
        annotations = SimpleNamespace(
            __annotations__={option: each.annotation for option, each in known.items()}
        )
        hints = get_type_hints(annotations, made.__globals__, include_extras=True)
        fields: Any = {option: (hints[option], each.default) for option, each in known.items()}
        model = create_model(name, __config__=ConfigDict(extra="forbid"), **fields)
        try:
            found: dict[str, Any] = model(**given).model_dump(mode="json")
        except ValidationError as error:
            first = error.errors()[0]
            option = ".".join(map(str, first["loc"]))
            raise ValueError(
                f"option {option} of the {self.noun} {name}: {first['msg']}"
            ) from error
        return found

    def package(self, name: str) -> str | None:
        """Return the distribution that brings a name; None for the project's own."""
        if name in self.own or name in self._added:
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
