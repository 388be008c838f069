"""Commands and groups: values that no option takes, and help as plain text.

In a help text options and commands stand in sections, and examples one to a line.

Typer's own help is drawn by Rich, whose import alone takes half of the time that
``vintix --help`` may take.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import PurePath
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from pipelines.values import value_problem
from vintix_cli.hints import remember, running

WIDTH = 100
_TYPES = {"int": "INTEGER", "float": "NUMBER", "path": "PATH", "file": "PATH", "dir": "PATH"}
_ANY_LENGTH = 1_000
_Section = tuple[str, list[tuple[str, str]]]


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


class _PlainHelp:
    """Help as plain text, with the examples as they are typed, not wrapped."""

    epilog: str | None

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the examples."""
        title, *lines = (self.epilog or "").splitlines() or [""]
        if lines:
            with formatter.section(title):
                for line in lines:
                    formatter.write(f"{'':>{formatter.current_indent}}{line}\n")


class Command(_PlainHelp, TyperCommand):
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
        """Run the command; its errors can say how it should have been typed."""
        with running(ctx):
            return super().invoke(ctx)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the options, section by section."""
        settings = getattr(self.callback, "settings", [])
        title = f"Further settings, as --set {self.name}.NAME=VALUE"
        _write_sections([*_options(self, ctx), (title, settings)], formatter)


class Group(_PlainHelp, TyperGroup):
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
        kept = {each: getattr(found, each) for each in ("help", "epilog", "rich_help_panel")}
        app.command(name, cls=type(found), **kept)(make())
        self.commands[name] = made = typer.main.get_command(app)
        return made

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the commands, then the options."""
        rows: Any = (
            (command, (name, command.get_short_help_str(_ANY_LENGTH)))
            for name, command in self.commands.items()
        )
        _write_sections([*_sections(rows, "Commands"), *_options(self, ctx)], formatter)


def _options(command: Any, ctx: Any) -> list[_Section]:
    shown = [each for each in command.get_params(ctx) if not getattr(each, "hidden", False)]
    rows = [(each, (_spelled(each, ctx), _explained(each))) for each in shown]
    return _sections(rows, "Options")


def _sections(rows: Iterable[tuple[Any, tuple[str, str]]], title: str) -> list[_Section]:
    """Group rows by the section of their command or option, in order of appearance."""
    sections: dict[str, list[tuple[str, str]]] = {}
    for each, row in rows:
        panel = getattr(each, "rich_help_panel", None)
        own = "Arguments" if getattr(each, "param_type_name", "") == "argument" else title
        sections.setdefault(panel if isinstance(panel, str) else own, []).append(row)
    return list(sections.items())


def _write_sections(sections: Iterable[_Section], formatter: Any) -> None:
    for title, rows in sections:
        if rows:
            with formatter.section(title):
                formatter.write_dl(rows)


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
    return next((name for begin, name in _TYPES.items() if kind.startswith(begin)), "TEXT")


def _explained(parameter: Any) -> str:
    """Return what a parameter is for, whether it may be repeated, and its default and bounds."""
    text = (getattr(parameter, "help", None) or "").rstrip()
    if parameter.param_type_name == "option" and parameter.multiple:
        text = f"{text.removesuffix('.')}; may be repeated."
    # Typer keeps the bounds at the parameter itself, and did so at its type before.
    bounded = getattr(parameter, "type", parameter)
    lowest, highest = getattr(bounded, "min", None), getattr(bounded, "max", None)
    parts = [
        _default(parameter),
        f"{lowest:,} to {highest:,}" if highest is not None else None,
        f"at least {lowest}" if lowest and highest is None else None,
        "required" if parameter.required else None,
    ]
    extra = "; ".join(filter(None, parts))
    return f"{text}  [{extra}]" if extra else text


def _default(parameter: Any) -> str | None:
    shown = getattr(parameter, "show_default", None)
    own = parameter.default
    if parameter.secondary_opts and own is not None:
        shown = (parameter.opts if own else parameter.secondary_opts)[0]
    elif isinstance(own, str | int | float | PurePath) and not isinstance(own, bool):
        shown = str(own)
    return f"default: {shown}" if isinstance(shown, str) else None
