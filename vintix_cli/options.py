"""Options: made of the fields of a configuration, and shared ones, spelled and explained once.

An option goes this way: a field of a configuration, made by `pipelines.options.option`;
`parameters` makes Typer's option of it, and `settings` puts what was typed under the field's name.
"""

from __future__ import annotations

import functools
import inspect
import pkgutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Union, get_args, get_origin

import typer

from pipelines.errors import UsageError, unknown
from vintix_cli import values
from vintix_cli.render import ConsoleReporter
from vintix_cli.run import guarded

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

    from pipelines.artifacts.workspace import Workspace
    from pipelines.options import Option

_run = functools.partial(typer.Option, rich_help_panel="Run")
_select = functools.partial(typer.Option, rich_help_panel="Selection")
_output = functools.partial(typer.Option, rich_help_panel="Output")

Settings = Mapping[str, Any]
"""Settings that were given as options."""

Tasks = Annotated[
    list[str] | None,
    _select(
        "--task", "-t", metavar="TASK", help="Task, by name or alias.", autocompletion=values.tasks
    ),
]
Domains = Annotated[
    list[str] | None,
    _select(
        "--domain",
        "-d",
        metavar="DOMAIN",
        help="Domain; vintix tasks lists them.",
        autocompletion=values.domains,
    ),
]
Json = Annotated[
    bool, _output("--json", help="One JSON document on stdout and nothing else there.")
]


@dataclass(frozen=True)
class Place:
    """Options of a command that only looks at a workspace."""

    workspace: Annotated[
        Path | None,
        _run(
            metavar="DIRECTORY",
            help="Directory of artifacts; default $VINTIX_WORKSPACE, else ./artifacts.",
        ),
    ] = None
    json: Json = False

    @property
    def space(self) -> Workspace:
        """The workspace."""
        from pipelines.artifacts.workspace import Workspace

        return Workspace.resolve(self.workspace)


@dataclass(frozen=True)
class Work(Place):
    """Options of a command that works on a workspace and reports progress."""

    quiet: Annotated[bool, _output("--quiet", "-q", help="Only warnings and errors.")] = False

    @functools.cached_property
    def reporter(self) -> ConsoleReporter:
        """Prints progress and messages on stderr."""
        return ConsoleReporter(self.quiet)


@dataclass(frozen=True)
class Run(Work):
    """Options of a stage besides its configuration."""

    config: Annotated[
        Path | None, _run(metavar="FILE", help="Run file (YAML) with a section a stage.")
    ] = None
    set: Annotated[
        list[str] | None,
        _run(
            metavar="STAGE.FIELD=VALUE",
            help="Set any setting, such as train.lr=3e-4.",
            autocompletion=values.assignments,
        ),
    ] = None
    dry_run: Annotated[bool, _run("--dry-run", help="Print the plan and stop.")] = False


def command(function: Callable[..., None]) -> Any:
    """Return a function as a command: its errors are messages, and each has its exit code.

    A parameter of the type `Place`, `Work` or `Run` stands for all options in it.
    """
    return _made(function, None)


def configured(name: str) -> Callable[[Callable[..., None]], Any]:
    """Return a decorator like `command` that also gives the options of a configuration.

    The function is handed the settings that were typed before its own options. The configuration
    class, ``module:class``, is imported when the command is asked for (`vintix_cli.help.Group`):
    importing pydantic takes longer than ``vintix --help`` may.
    """
    return functools.partial(_made, model=functools.partial(pkgutil.resolve_name, name))


def _made(function: Callable[..., None], model: Callable[[], type[BaseModel]] | None) -> Any:
    own = list(inspect.signature(function, eval_str=True).parameters.values())
    own = own if model is None else own[1:]
    bundles = {each.name: each.annotation for each in own if _is_bundle(each.annotation)}

    @guarded
    @functools.wraps(function)
    def wrapped(**given: Any) -> None:
        first = () if model is None else (settings(model(), given),)
        for name, bundle in bundles.items():
            fields = bundle.__dataclass_fields__.keys() & given
            given[name] = bundle(**{field: given.pop(field) for field in fields})
        function(*first, **given)

    def with_options() -> Callable[..., None]:
        @functools.wraps(wrapped)
        def complete(**given: Any) -> None:
            wrapped(**given)

        made = {} if model is None else parameters(model())
        complete.__dict__ = {
            "__signature__": inspect.Signature([*made.values(), *_expanded(own)]),
            "settings": [] if model is None or Run not in bundles.values() else _others(model()),
        }
        return complete

    wrapped.__annotations__ = {}
    if model is None:
        return with_options()
    wrapped.__signature__ = inspect.Signature()  # type: ignore[attr-defined]
    wrapped.with_options = with_options  # type: ignore[attr-defined]
    return wrapped


def _is_bundle(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Place)


def _expanded(own: Iterable[inspect.Parameter]) -> Iterator[inspect.Parameter]:
    for each in sorted(own, key=lambda each: _is_bundle(each.annotation)):
        among = [each]
        if _is_bundle(each.annotation):
            among = list(inspect.signature(each.annotation, eval_str=True).parameters.values())
        for parameter in among:
            yield parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)


def parameters(
    model: type[BaseModel], path: tuple[str, ...] = (), lead: str = ""
) -> dict[tuple[str, ...], inspect.Parameter]:
    """Return Typer's options of a configuration, each by the path of the setting that it sets."""
    from pipelines.options import default_text, nested_class, option_of

    made: dict[tuple[str, ...], inspect.Parameter] = {}
    for name, field in model.model_fields.items():
        option, place, nested = option_of(field), (*path, name), nested_class(field)
        if option is None:
            continue
        if option.lead is not None and nested is not None:
            made |= parameters(nested, place, option.lead)
            continue
        default = None if path else default_text(model, name)
        made[place] = _parameter(place, field, option, lead, default)
        for entry, text in option.entries.items():
            info = typer.Option(
                f"--{entry}", metavar="NAME", help=text, rich_help_panel=option.section
            )
            made[*place, entry] = _named((*place, entry), str | None, info)
    return made


def _others(model: type[BaseModel]) -> list[tuple[str, str]]:
    """Return the settings that have no option, and what help says of them."""
    from pipelines.options import default_text, option_of

    rows = []
    for name, field in model.model_fields.items():
        if option_of(field) is None and field.description:
            default = default_text(model, name)
            extra = "" if default is None else f"  [default: {default}]"
            rows.append((name, field.description + extra))
    return rows


def _parameter(
    path: tuple[str, ...], field: FieldInfo, option: Option, lead: str, default: str | None
) -> inspect.Parameter:
    from pipelines.options import bound_of, flags_of

    kind = _kind(field.annotation, option)
    info: dict[str, Any] = {
        "help": lead + (field.description or ""),
        "metavar": option.metavar,
        "autocompletion": _completion(field, option),
        "rich_help_panel": option.section,
    }
    if kind in (int, float):
        info |= {"min": bound_of(field, "ge"), "max": bound_of(field, "le")}
    if option.check is not None:
        info["callback"] = _refusing(option.check)
    if option.argument:
        required = field.is_required()
        argument = typer.Argument(**info, show_default=False)
        return _named(path, kind if required else kind | None, argument, ... if required else None)
    flags = flags_of(path[-1], option)
    if kind is bool and field.default is not True:
        return _named(path, bool, typer.Option(*flags, **info), False)
    if kind is bool:
        flags = (f"{flags[0]}/--no-{flags[0][2:]}", *flags[1:])
    return _named(path, kind | None, typer.Option(*flags, **info, show_default=default or False))


def _named(path: tuple[str, ...], kind: Any, info: Any, default: Any = None) -> inspect.Parameter:
    return inspect.Parameter(
        "_".join(path),
        inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if default is ... else default,
        annotation=Annotated[kind, info],
    )


def _kind(annotation: Any, option: Option) -> Any:
    """Return what Typer is to read: a plain type, texts, or one text for the field to read."""
    parts = [annotation]
    if get_origin(annotation) in (Union, UnionType):
        parts = [each for each in get_args(annotation) if each is not NoneType]
    if option.rest is not None or get_origin(parts[0]) in (tuple, dict):
        return list[str]
    plain = len(parts) == 1 and parts[0] in (bool, int, float, Path) and not option.text
    return parts[0] if plain else str


def _completion(field: FieldInfo, option: Option) -> Any:
    from pipelines.options import choices_of

    if option.values:
        return values.LISTS.get(option.values[0]) or values.artifacts(*option.values)
    choices = choices_of(field)
    return values.fixed(*choices) if choices else None


def check_name(name: str | None) -> str | None:
    """Return what ``--name`` was given, if an artifact can be called so."""
    from pipelines.artifacts import references

    return _refusing(references.check_name)(name)


def _refusing(check: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return a check whose errors are the parser's."""

    def checked(value: Any) -> Any:
        try:
            return value if value is None else check(value)
        except UsageError as error:
            raise typer.BadParameter(f"{error.message}, expected {error.expected}") from error

    return checked


def settings(model: type[BaseModel], given: dict[str, Any]) -> dict[str, Any]:
    """Take the options of a configuration out of a command's arguments, and return the settings."""
    from pipelines.options import Option, option_of

    found: dict[str, Any] = {}
    for path, parameter in parameters(model).items():
        value = given.pop(parameter.name, None)
        if value in (None, parameter.default, [], ()):
            continue
        *outer, name = path
        option = Option() if outer else option_of(model.model_fields[name]) or Option()
        if option.rest is not None:
            value, *others = value
            found |= {option.rest: others} if others else {}
        holder = found
        for part in outer:
            holder = holder.setdefault(part, {})
        if name in holder:
            raise UsageError(
                f"the {name} is given twice",
                where=f"--{name} and --{outer[-1].removesuffix('s')}",
                found=f"{value} and {holder[name]}",
                fix="leave one of them out",
            )
        holder[name] = parse_pairs(value) if option.entries else value
    return found


def parse_pairs(texts: Iterable[str], option: str = "--option") -> dict[str, str]:
    """Read NAME=VALUE texts; raises a `UsageError` for one without an equals sign or a name."""
    pairs = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise UsageError(f"malformed {option}", expected="NAME=VALUE", found=text)
        pairs[name.strip()] = value.strip()
    return pairs


def check_choices(model: type[BaseModel], settings: Settings) -> None:
    """Raise a `UsageError` where a setting that has choices is none of them."""
    from pipelines.options import choices_of, flags_of, option_of

    for name, value in settings.items():
        choices, option = choices_of(model.model_fields[name]), option_of(model.model_fields[name])
        if option is not None and choices and value not in choices:
            raise unknown(
                f"{flags_of(name, option)[0]} has no such value",
                value,
                choices,
                expected=" or ".join(choices),
            )
