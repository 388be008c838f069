"""Commands and groups: values that no option takes, and help as plain text.

In a help text options and commands stand in sections, and examples one to a line.

Typer's own help is drawn by Rich, whose import alone takes half of the time that
``vintix --help`` may take.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import PurePath
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from pipelines.values import value_problem
from vintix_cli.hints import remember, running

WIDTH = 100
_TYPES = {"int": "INTEGER", "float": "NUMBER", "path": "PATH", "file": "PATH", "dir": "PATH"}
_ANY_LENGTH = 1_000
_OPTIONS, _COMMANDS = "Options", "Commands"


def examples(*commands: str, title: str = "Examples") -> str:
    """Return the end of a help text: a title and, below it, commands as they are typed."""
    return "\n".join([title, *commands])


def group(text: str, *commands: str, cls: type[TyperGroup] | None = None) -> typer.Typer:
    """Return a group of commands, with examples at the end of its help."""
    return typer.Typer(
        help=text, cls=cls or Group, rich_markup_mode=None, epilog=examples(*commands)
    )


def add(app: typer.Typer, *commands: str, name: str | None = None) -> Callable[[Any], Any]:
    """Return a decorator that adds a command to a group, with examples at the end of its help."""

    def added(function: Any) -> Any:
        name_ = name or function.__name__
        return app.command(name_, cls=Command, epilog=examples(*commands))(function)

    return added


class Command(TyperCommand):
    """A command whose options stand in their sections."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the arguments; what is too large or too long for every use is wrong usage."""
        remember(ctx, args)
        rest = super().parse_args(ctx, args)
        parameter: Any
        for parameter in self.params:
            given = ctx.params.get(parameter.name)
            for value in given if isinstance(given, list | tuple) else [given]:
                problem = value_problem(value)
                if problem is not None:
                    raise typer.BadParameter(problem, ctx=ctx, param=parameter)
        return rest

    def invoke(self, ctx: Any) -> Any:
        """Run the command; its errors can tell how it should have been typed."""
        with running(ctx):
            return super().invoke(ctx)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the options, section by section."""
        _write_options(self, ctx, formatter)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the examples as they are typed, not wrapped."""
        _write_examples(self, formatter)


class Group(TyperGroup):
    """A group whose commands stand in their sections."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the arguments; without any, show the help and end as wrong usage."""
        remember(ctx, args)
        if not args and not ctx.resilient_parsing:
            sys.stderr.write(self.get_help(ctx) + "\n")
            ctx.exit(2)
        return super().parse_args(ctx, args)

    def get_command(self, ctx: Any, name: str) -> Any:
        """Return a command; one of a configuration gets its options now, when it is asked for."""
        found: Any = super().get_command(ctx, name)
        make = getattr(getattr(found, "callback", None), "with_options", None)
        if make is None:
            return found
        app = typer.Typer(
            add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None
        )
        app.command(
            name,
            cls=type(found),
            help=found.help,
            epilog=found.epilog,
            rich_help_panel=found.rich_help_panel,
        )(make())
        self.commands[name] = made = typer.main.get_command(app)
        return made

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the commands, then the options."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for name in self.list_commands(ctx):
            command: Any = self.commands[name]
            panel = getattr(command, "rich_help_panel", None)
            title = panel if isinstance(panel, str) else _COMMANDS
            sections.setdefault(title, []).append((name, command.get_short_help_str(_ANY_LENGTH)))
        _write_sections(sections, formatter)
        _write_options(self, ctx, formatter)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the examples as they are typed, not wrapped."""
        _write_examples(self, formatter)


def _write_options(command: Any, ctx: Any, formatter: Any) -> None:
    sections: dict[str, list[tuple[str, str]]] = {}
    for parameter in command.get_params(ctx):
        if getattr(parameter, "hidden", False):
            continue
        panel = getattr(parameter, "rich_help_panel", None)
        is_option = parameter.param_type_name == "option"
        title = panel if isinstance(panel, str) else _OPTIONS if is_option else "Arguments"
        row = (_spelled(parameter, ctx), _explained(parameter, ctx))
        sections.setdefault(title, []).append(row)
    _write_sections(sections, formatter)


def _spelled(parameter: Any, ctx: Any) -> str:
    """Return how a parameter is written: its names, then what it takes."""
    if parameter.param_type_name == "argument":
        return _metavar(parameter, ctx)
    names = " / ".join([", ".join(sorted(parameter.opts, key=len)), *parameter.secondary_opts])
    return names if parameter.is_flag else f"{names} {_metavar(parameter, ctx)}"


def _metavar(parameter: Any, ctx: Any) -> str:
    """Return what stands for the value of a parameter: the choices where there are no others."""
    if parameter.metavar:
        return str(parameter.metavar)
    choices = [item.value for item in parameter.shell_complete(ctx, "") if item.type == "plain"]
    if choices:
        return "|".join(choices)
    kind = parameter.get_help_record(ctx)[0].split(parameter.opts[-1])[-1].strip(" <>").lower()
    return next((told for begin, told in _TYPES.items() if kind.startswith(begin)), "TEXT")


def _explained(parameter: Any, ctx: Any) -> str:
    """Return what a parameter is for, whether it may be repeated, and its default and bounds."""
    text = (getattr(parameter, "help", None) or "").rstrip()
    if parameter.param_type_name == "option" and parameter.multiple:
        text = f"{text.removesuffix('.')}; may be repeated."
    # Typer keeps the bounds at the parameter itself, and did so at its type before.
    bounded = getattr(parameter, "type", parameter)
    lowest, highest = getattr(bounded, "min", None), getattr(bounded, "max", None)
    told = [
        _default(parameter),
        f"{lowest:,} to {highest:,}" if highest is not None else None,
        f"at least {lowest}" if lowest and highest is None else None,
        "required" if parameter.required else None,
    ]
    extra = "; ".join(filter(None, told))
    return f"{text}  [{extra}]" if extra else text


def _default(parameter: Any) -> str | None:
    """Return the default of an option: its own, or what it was told to show."""
    if parameter.secondary_opts:
        return f"default: {(parameter.opts if parameter.default else parameter.secondary_opts)[0]}"
    own = parameter.default
    if isinstance(own, str | int | float | PurePath) and not isinstance(own, bool):
        return f"default: {own}"
    if parameter.param_type_name == "argument" or parameter.is_flag:
        return None
    told = getattr(parameter, "show_default", None)
    return f"default: {told}" if isinstance(told, str) else None


def _write_sections(sections: dict[str, list[tuple[str, str]]], formatter: Any) -> None:
    for title, rows in sections.items():
        with formatter.section(title):
            formatter.write_dl(rows)


def _write_examples(command: Any, formatter: Any) -> None:
    if command.epilog:
        title, *lines = command.epilog.splitlines()
        with formatter.section(title):
            for line in lines:
                formatter.write(f"{'':>{formatter.current_indent}}{line}\n")
