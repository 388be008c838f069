"""What the user typed, and the same with what has to change in it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

_ARGUMENTS = "vintix_cli.typed"
_RUNNING: ContextVar[Typed | None] = ContextVar("running", default=None)

# Options that settle the same thing: one of them takes the place of the others.
_ONE_OF = (("--device", "--gpus", "--processes"), ("--steps", "--scale"))

_OPTION = re.compile(r"\s+(--?[a-z][\w-]*)")
_VALUE = re.compile(r"(?:=|\s+)('[^']*'|\"[^\"]*\"|[^\s'\"]+)")
_ENDS = ".,;:)"


@dataclass(frozen=True)
class Typed:
    """A command line.

    Attributes:
        program: What the program was called by.
        command: The command, such as ``artifacts ls``; empty for none.
        arguments: What was typed after it.
        values: For each spelling of each of its options, whether a value follows.
    """

    program: str
    command: str
    arguments: tuple[str, ...]
    values: Mapping[str, bool]

    @property
    def path(self) -> str:
        """Program and command."""
        return f"{self.program} {self.command}".rstrip()

    def __str__(self) -> str:
        return " ".join([self.path, *map(shlex.quote, self.arguments)])

    def with_instead(self, old: str, new: Sequence[str]) -> Typed | None:
        """Return it with arguments in the place of one, or its part before or after an equals sign.

        Returns:
            The command line; None where nothing like that was typed.
        """
        arguments = list(self.arguments)
        for place, argument in enumerate(arguments):
            before, equals, after = argument.partition("=")
            if _same(argument, old):
                # A path stays as it was typed, from the working directory or the home on.
                kept = [each.replace(old, argument.rstrip("/")) for each in new]
                arguments[place : place + 1] = kept
            elif equals and _same(after, old):
                arguments[place] = f"{before}={new[0]}"
            elif equals and before == old:
                arguments[place : place + 1] = [*new[:-1], f"{new[-1]}={after}"]
            else:
                continue
            return replace(self, arguments=tuple(arguments))
        return None

    def with_setting(self, option: str, setting: str) -> Typed:
        """Return it with ``--set`` in the place of an option that is none, and its value."""
        arguments = list(self.arguments)
        for place, argument in enumerate(arguments):
            name, equals, value = argument.partition("=")
            if name == option:
                value = value if equals else "".join(arguments[place + 1 : place + 2])
                arguments[place : place + (1 if equals else 2)] = ["--set", f"{setting}={value}"]
                break
        return replace(self, arguments=tuple(arguments))

    def without(self, option: str) -> Typed:
        """Return it without an option that takes no value."""
        kept = tuple(each for each in self.arguments if each.partition("=")[0] != option)
        return replace(self, arguments=kept)

    def with_options(self, options: Sequence[tuple[str, str | None]]) -> Typed:
        """Return it with options, each with its value, in the place of those of the same name."""
        new = [part for pair in options for part in pair if part is not None]
        dropped = {_setting(name, value) for name, value in options}
        for group in _ONE_OF:
            if dropped & set(group):
                dropped |= set(group)
        kept: list[str] = []
        waiting = list(self.arguments)
        while waiting:
            argument = waiting.pop(0)
            name, equals, value = argument.partition("=")
            following = bool(self.values.get(name)) and not equals and bool(waiting)
            text = waiting[0] if following else value
            if _setting(name, text) in dropped:
                del waiting[: int(following)]
                continue
            kept += [argument, *waiting[: int(following)]]
            del waiting[: int(following)]
        return replace(self, arguments=(*kept, *new))

    def completed(self, fix: str, other: Callable[[str], str]) -> str:
        """Return how to mend an error where the command that was typed keeps its other options.

        Args:
            fix: Text that may name the same command with the options that have to change.
            other: What to do with the text that is of other commands.
        """
        path = " ".join(["vintix", self.command]).rstrip()
        found = re.search(rf"\b{re.escape(path)}\b(\s+\.\.\.)?(?=\s+-)(?!\s+(?:--help|-h)\b)", fix)
        if found is None:
            return other(fix)
        options, end = self._read_options(fix, found.end())
        return f"{other(fix[: found.start()])}{self.with_options(options)}{other(fix[end:])}"

    def _read_options(self, text: str, end: int) -> tuple[list[tuple[str, str | None]], int]:
        options: list[tuple[str, str | None]] = []
        while (option := _OPTION.match(text, end)) and option[1] in self.values:
            end = option.end()
            value = _VALUE.match(text, end) if self.values[option[1]] else None
            if value is None:
                options.append((option[1], None))
                continue
            word = value[1] if value[1][0] in "'\"" else value[1].rstrip(_ENDS)
            options.append((option[1], "".join(shlex.split(word))))
            end = value.start(1) + len(word)
        return options, end


def remember(ctx: Any, arguments: Sequence[str]) -> None:
    """Keep what was typed after a command, before its parser takes it apart."""
    ctx.meta[_ARGUMENTS] = tuple(arguments)


def typed(ctx: Any) -> Typed:
    """Return the command line of a parser's context."""
    values = {
        name: not (getattr(parameter, "is_flag", False) or getattr(parameter, "count", False))
        for parameter in ctx.command.params
        if parameter.param_type_name == "option"
        for name in (*parameter.opts, *parameter.secondary_opts)
    }
    program = str(ctx.find_root().info_name)
    command = str(ctx.command_path).removeprefix(program).strip()
    return Typed(program, command, ctx.meta.get(_ARGUMENTS, ()), values)


@contextmanager
def running(ctx: Any) -> Iterator[None]:
    """Make the command line of a context the one that `running_command` returns."""
    token = _RUNNING.set(typed(ctx))
    try:
        yield
    finally:
        _RUNNING.reset(token)


def running_command() -> Typed | None:
    """Return the command line of the command that runs; None outside of one."""
    return _RUNNING.get()


def _same(argument: str, text: str) -> bool:
    if argument == text or "/" not in argument or argument.startswith("-"):
        return argument == text
    return Path(argument).expanduser().absolute() == Path(text).absolute()


def _setting(name: str, value: str | None) -> str:
    """Return what an option sets: for ``--set STAGE.FIELD=VALUE``, that setting alone."""
    return f"{name} {(value or '').partition('=')[0]}" if name == "--set" else name
