"""Commands and groups: values that no option takes, and help as plain text.

In a help text options and commands stand in sections, and examples one to a line.

Typer's own help is drawn by Rich, whose import alone takes half of the time that
``vintix --help`` may take.
"""

from __future__ import annotations

import sys
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from pipelines.values import value_problem

WIDTH = 100
_ANY_LENGTH = 1_000
_OPTIONS, _COMMANDS = "Options", "Commands"


def examples(*commands: str, title: str = "Examples") -> str:
    """Return the end of a help text: a title and, below it, commands as they are typed."""
    return "\n".join([title, *commands])


class Command(TyperCommand):
    """A command whose options stand in their sections."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the arguments; what is too large or too long for every use is wrong usage."""
        rest = super().parse_args(ctx, args)
        parameter: Any
        for parameter in self.params:
            given = ctx.params.get(parameter.name)
            for value in given if isinstance(given, list | tuple) else [given]:
                problem = value_problem(value)
                if problem is not None:
                    raise typer.BadParameter(problem, ctx=ctx, param=parameter)
        return rest

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
        if not args and not ctx.resilient_parsing:
            sys.stderr.write(self.get_help(ctx) + "\n")
            ctx.exit(2)
        return super().parse_args(ctx, args)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the commands, then the options."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for name in self.list_commands(ctx):
            command: Any = self.get_command(ctx, name)
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
        record = parameter.get_help_record(ctx)
        if record is None:
            continue
        panel = getattr(parameter, "rich_help_panel", None)
        is_option = parameter.param_type_name == "option"
        title = panel if isinstance(panel, str) else _OPTIONS if is_option else "Arguments"
        sections.setdefault(title, []).append(record)
    _write_sections(sections, formatter)


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
