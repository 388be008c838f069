"""Fields of configurations that are options of a command.

Whoever adds an option adds a field made by `option`: its name, type, default, bounds and choices
are those of the option, and its description is what ``--help`` prints. `vintix_cli.options` makes
the command line of them; nothing here knows Typer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, Field
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from pipelines.plugins import OneOf

RUN, SELECTION = "Run", "Selection"
"""Sections of a help text; what names none stands under "Options"."""


@dataclass(frozen=True)
class Option:
    """What an option has beyond its field.

    Attributes:
        flags: Its spellings; none for the field's name with dashes.
        metavar: What stands for its value in help; None for the choices or the type.
        values: What a shell completes: kinds of artifact, or lists of `vintix_cli.values`.
        section: Section of the help text.
        check: Raises a `UsageError` for a value that can be refused at once.
        text: Whether the field's validator reads the value from text.
        argument: Whether it is positional.
        rest: The field that takes all values but the first, where the option may be repeated.
        entries: For a mapping, further options that set one entry each: name to help text.
        lead: For a nested configuration: its own options are options of the command, and this
            stands before their help texts. None for no such options.
    """

    flags: tuple[str, ...] = ()
    metavar: str | None = None
    values: tuple[str, ...] = ()
    section: str | None = None
    check: Callable[[Any], Any] | None = None
    text: bool = False
    argument: bool = False
    rest: str | None = None
    entries: Mapping[str, str] = field(default_factory=dict)
    lead: str | None = None


class ConflictError(ValueError):
    """What a configuration's own check raises, such as of settings that do not fit together.

    Args:
        message: What is wrong.
        fix: What puts it right, best a command. ``{name}`` in it is one of the settings, spelled
            as it was given: an option, ``--set``, or its place in a file or the environment.
        settings: Those that do not fit, with their values; an error tells these and no others.
            None for the value of a field whose validator raises.
    """

    def __init__(self, message: str, *, fix: str, **settings: object) -> None:
        super().__init__(message)
        self.fix, self.settings = fix, settings


def setting(description: str, default: Any = PydanticUndefined, **rules: Any) -> Any:
    """Return a pydantic field that is no option: ``--set``, a run file or a variable sets it."""
    return Field(default, description=description, **rules)


def option(description: str, default: Any = PydanticUndefined, **settings: Any) -> Any:
    """Return a pydantic field that is an option of its command.

    Args:
        settings: Attributes of `Option`; everything else goes to ``pydantic.Field``.
    """
    own = {name: settings.pop(name) for name in Option.__dataclass_fields__.keys() & settings}
    extra: Any = {"option": Option(**own)}
    return Field(default, description=description, json_schema_extra=extra, **settings)


def option_of(info: FieldInfo) -> Option | None:
    """Return what makes a field an option; None where it is none."""
    extra = info.json_schema_extra
    found = extra.get("option") if isinstance(extra, dict) else None
    return found if isinstance(found, Option) else None


def flags_of(name: str, option: Option) -> tuple[str, ...]:
    """Return the spellings of a field's option."""
    return option.flags or (f"--{name.replace('_', '-')}",)


def flag_of(model: type[BaseModel], path: Sequence[str]) -> str | None:
    """Return the option that sets a setting; None where ``--set`` alone does.

    Args:
        path: The names that lead to it, through nested configurations.
    """
    name, *rest = path
    field = model.model_fields.get(name)
    found = None if field is None else option_of(field)
    if field is None or found is None:
        return None
    if not rest:
        return flags_of(name, found)[0] if found.lead is None else None
    nested = nested_class(field)
    return None if found.lead is None or nested is None else flag_of(nested, rest)


def nested_class(info: FieldInfo) -> type[BaseModel] | None:
    """Return the configuration within a field; None where there is none."""
    for kind in (info.annotation, *get_args(info.annotation)):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def bound_of(info: FieldInfo, name: str) -> Any:
    """Return a bound of a setting by pydantic's name for it, such as ``ge``; None without one."""
    return next((getattr(each, name) for each in info.metadata if hasattr(each, name)), None)


def choices_of(info: FieldInfo) -> tuple[str, ...]:
    """Return the texts that a setting takes where it takes no others.

    They are those of its type, as in ``Literal``, or of what annotates it
    (`pipelines.plugins.OneOf`). One with None among its types, or a tuple of choices, counts too.
    """
    for annotated in info.metadata:
        if isinstance(annotated, OneOf):
            return annotated.choices
    return _literal_choices(info.annotation)


def _literal_choices(annotation: Any) -> tuple[str, ...]:
    if get_origin(annotation) is Literal:
        return tuple(str(choice) for choice in get_args(annotation))
    found = [_literal_choices(part) for part in get_args(annotation)]
    return next((choices for choices in found if choices), ())


def default_text(model: type[BaseModel], name: str) -> str | None:
    """Return the default of a setting for help; None where there is none to tell."""
    field = model.model_fields[name]
    if not field.is_required():
        value = field.get_default(call_default_factory=True)
        unsaid = value is None or value is False or value in ("", (), {})
        return None if unsaid or isinstance(value, BaseModel) else _text(value)
    if "preset" not in model.model_fields:
        return None
    # What has no default of its own has one for each preset.
    by_value: dict[str, list[str]] = {}
    for preset in choices_of(model.model_fields["preset"]):
        by_value.setdefault(_text(getattr(model(preset=preset), name)), []).append(preset)
    return ", ".join(f"{value} ({', '.join(presets)})" for value, presets in by_value.items())


def _text(value: Any) -> str:
    if value is True:
        return "true"
    return f"{value:,}" if isinstance(value, int) else str(value)


def check_name(name: str) -> str:
    """Return a name; raises a `UsageError` where no artifact can have it."""
    # Help needs none of what reads artifacts.
    from pipelines.artifacts import references

    return references.check_name(name)


Name = Annotated[
    str | None,
    option(
        "Name of the artifact; default after the selection.",
        metavar="NAME",
        check=check_name,
        section=RUN,
    ),
]
Seed = Annotated[int, option("Base seed of every random stream.", ge=0, section=RUN)]
Workers = Annotated[
    int,
    option("Worker processes; 0 for one a core. Results do not depend on it.", ge=0, section=RUN),
]
Strict = Annotated[
    bool, option("Fail where an environment is not the one that was recorded.", section=RUN)
]
Tasks = Annotated[
    tuple[str, ...],
    option(
        "Task, by name or alias.",
        flags=("--task", "-t"),
        metavar="TASK",
        values=("tasks",),
        section=SELECTION,
    ),
]
Domains = Annotated[
    tuple[str, ...],
    option(
        "Domain; vintix tasks lists them.",
        flags=("--domain", "-d"),
        metavar="DOMAIN",
        values=("domains",),
        section=SELECTION,
    ),
]
ENVIRONMENT_OPTION = option(
    "Option of the environments, such as goal=visible; see vintix tasks NAME.",
    flags=("--option", "-o"),
    metavar="NAME=VALUE",
    section=SELECTION,
    entries={
        "backend": "Simulator of the environments, for --option backend=NAME: mujoco or isaacgym "
        "for bidexhands."
    },
)
EnvironmentOptions = Annotated[dict[str, Any], ENVIRONMENT_OPTION]
