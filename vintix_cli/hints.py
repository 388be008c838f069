"""What the user typed, and how it should have been typed: the fix that an error prints."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from pipelines.errors import UsageError, did_you_mean, nearest
from pipelines.values import nearest_number

_ARGUMENTS = "vintix_cli.hints"
_RUNNING: ContextVar[Typed | None] = ContextVar("running", default=None)

# Options that settle the same thing: one of them takes the place of the others.
_ONE_OF = (("--device", "--gpus", "--processes"), ("--steps", "--scale"))

_OPTION = re.compile(r"\s+(--?[a-z][\w-]*)")
_VALUE = re.compile(r"(?:=|\s+)('[^']*'|\"[^\"]*\"|[^\s'\"]+)")
_ENDS = ".,;:)"

# What other tools call the same thing. Of several, the first that the command has is meant.
_OPTIONS = {
    "--batch": "--batch-size",
    "--ckpt": "--checkpoint",
    "--data": "--dataset --histories --demonstrators",
    "--env --env-id": "--task",
    "--epochs --iterations --max-steps": "--steps",
    "--episodes": "--shots --trajectories",
    "--lr": "--learning-rate",
    "--model": "--checkpoint --preset",
    "--out --save": "--output --plot --name",
    "--output-dir": "--output --workspace",
    "--seq-len": "--context",
    "--size": "--preset",
    "--tracker": "--track",
    "--trials": "--seeds",
    "--weights": "--checkpoint --init",
}
_COMMANDS = {
    "check": "doctor",
    "collect generate": "distill",
    "demo run": "quickstart",
    "envs": "tasks",
    "eval evaluate play test": "rollout",
    "fit": "train",
    "gc": "artifacts gc",
    "list ls": "artifacts ls",
    "merge": "artifacts merge",
    "plot": "report",
    "show": "artifacts show",
    "verify": "artifacts verify",
}
_ARTIFACTS = ("ARTIFACT", "PARTS...")
"""What stands in help for an argument that names artifacts."""
_RESUME = ("--resume", "--continue", "--restart", "--resume-from")


@dataclass(frozen=True)
class Typed:
    """A command line: the program, its command (such as ``artifacts ls``), what was typed after it.

    `values` says for each spelling of each option whether a value follows.
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
        """Return it with `new` for the argument `old`, or for `old` beside an equals sign.

        None where nothing like `old` was typed.
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
        parts = replace(self, values={**self.values, option: True}).parts()
        new = (
            ("--set", f"{setting}={value}") if name == option else typed
            for name, value, typed in parts
        )
        return replace(self, arguments=tuple(each for typed in new for each in typed))

    def without(self, option: str) -> Typed:
        """Return it without an option that takes no value."""
        kept = tuple(each for each in self.arguments if each.partition("=")[0] != option)
        return replace(self, arguments=kept)

    def with_options(self, options: Sequence[tuple[str, str | None]]) -> Typed:
        """Return it with options, each with its value, in the place of those of the same name."""
        dropped = {_setting(name, value) for name, value in options}
        for group in _ONE_OF:
            if dropped & set(group):
                dropped |= set(group)
        kept = [
            each
            for name, value, typed in self.parts()
            if _setting(name, value) not in dropped
            for each in typed
        ]
        new = [part for pair in options for part in pair if part is not None]
        return replace(self, arguments=(*kept, *new))

    def parts(self) -> Iterator[tuple[str, str, Sequence[str]]]:
        """Yield each option or word, its value, and all of it as it was typed."""
        waiting = list(self.arguments)
        while waiting:
            name, equals, value = waiting[0].partition("=")
            taken = 1 + (bool(self.values.get(name)) and not equals and len(waiting) > 1)
            yield name, waiting[1] if taken == 2 else value, waiting[:taken]
            del waiting[:taken]

    def completed(self, fix: str, other: Callable[[str], str]) -> str:
        """Return a fix in which this command, if it is named, keeps its other options.

        `other` completes what is said of other commands.
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
    """Return what an option sets: for ``--set`` and ``--option NAME=VALUE``, that name alone."""
    name = "--option" if name == "-o" else name
    if name not in ("--set", "--option"):
        return name
    return f"{name} {(value or '').partition('=')[0]}"


def describe_usage(error: Any, arguments: Sequence[str]) -> UsageError:
    """Return the error to print of the parser's error, and of all that was typed."""
    ctx = error.ctx
    if ctx is not None:
        line = typed(ctx)
        extra = re.search(
            r"unexpected extra argument(?:s|\(s\))? \((.*)\)", error.message, re.DOTALL
        )
        if hasattr(error, "possibilities"):
            return _no_option(ctx, line, error.option_name)
        if hasattr(ctx.command, "commands") and line.arguments:
            return _no_command(ctx, line)
        if extra is not None:
            return _no_argument(ctx, line, extra[1].split())
    path = ctx.command_path if ctx is not None else "vintix"
    parameter = getattr(error, "param", None)
    names = getattr(parameter, "opts", ())
    found = [value for name, value in pairwise(arguments) if name in names]
    split = [text.partition("=") for text in arguments]
    found += [value for name, equals, value in split if equals and name in names]
    fix = f"{path} --help"
    if ctx is not None and found:
        fix = _in_range(error, line, found[-1]) or fix
    elif ctx is not None and getattr(parameter, "metavar", None) in _ARTIFACTS:
        place = [each for name, _, typed in line.parts() if name == "--workspace" for each in typed]
        fix = str(replace(line, command="artifacts ls", arguments=tuple(place)))
    return UsageError(error.format_message(), where=path, found=", ".join(found) or None, fix=fix)


def _in_range(error: Any, line: Typed, value: str) -> str | None:
    """Return the command with the nearest number that an option takes; None if it takes none."""
    # Typer keeps the bounds at the parameter itself, and did so at its type before.
    bounded = getattr(error.param, "type", error.param)
    bounds = (getattr(bounded, "min", None), getattr(bounded, "max", None))
    if bounds == (None, None) and re.search("integer|number|float", error.message) is None:
        return None
    number = nearest_number(value, *bounds, whole="integer" in error.message)
    names = [name for name, _, _ in line.parts() if name in error.param.opts]
    return str(line.with_options([(name, number) for name in names[-1:]])) if number else None


def _no_option(ctx: Any, line: Typed, name: str) -> UsageError:
    message, there = f"No such option: {name}", [each for each in line.values if each[:2] == "--"]
    settings = _settings(ctx)
    meant = [each for each in _elsewhere(_OPTIONS, name).split() if each in there][:1]
    if name in _RESUME:
        message += ". Running the same command again resumes."
        return UsageError(message, where=line.path, found=name, fix=str(line.without(name)))
    if name in settings:
        meant, line = [f"--set {settings[name]}=VALUE"], line.with_setting(name, settings[name])
    elif meant or (meant := nearest(name, there)[:1]):
        line = line.with_instead(name, meant[:1]) or line
    return _meant(line, message, meant, name)


def _meant(
    line: Typed,
    message: str,
    meant: Sequence[str],
    found: str,
    fixed: Typed | None = None,
    **more: Any,
) -> UsageError:
    """Return the error of what is not there, mended where it is known what was meant."""
    fix = str(fixed or line) if meant else f"{line.path} --help"
    return UsageError(did_you_mean(message, meant), where=line.path, found=found, fix=fix, **more)


def _settings(ctx: Any) -> dict[str, str]:
    """Return the settings of a stage that have no option, by the name that it would have."""
    from pipelines.config import STAGES, config_class

    stage = ctx.command.name
    if stage not in STAGES:
        return {}
    taken = {parameter.name for parameter in ctx.command.params}
    return {
        "--" + field.replace("_", "-"): f"{stage}.{field}"
        for field in config_class(stage).model_fields
        if field not in taken
    }


def _elsewhere(table: Mapping[str, str], name: str) -> str:
    return next((ours for theirs, ours in table.items() if name in theirs.split()), "")


def _no_command(ctx: Any, line: Typed) -> UsageError:
    place = next((at for at, each in enumerate(line.arguments) if each[:1] != "-"), 0)
    wanted, rest = line.arguments[place], line.arguments[place + 1 :]
    known = _elsewhere(_COMMANDS, wanted) if ctx.parent is None else ""
    meant = [known] if known else nearest(wanted, _paths(ctx.command))
    fixed = replace(line, command=f"{line.command} {(meant or [''])[0]}".strip(), arguments=rest)
    there = ", ".join(ctx.command.commands)
    return _meant(line, f"No such command {wanted!r}", meant, wanted, fixed, expected=there)


def _paths(group: Any) -> Iterator[str]:
    for name, command in group.commands.items():
        yield from (name, *(f"{name} {inner}" for inner in getattr(command, "commands", ())))


def _no_argument(ctx: Any, line: Typed, words: Sequence[str]) -> UsageError:
    """Return the error of words that no option takes, with an option that could take them."""
    message = f"{line.path} takes no argument {' '.join(map(repr, words))}"
    taken = [
        (max(parameter.opts, key=len), [item.value for item in parameter.shell_complete(ctx, "")])
        for parameter in ctx.command.params
        if parameter.param_type_name == "option" and line.values[parameter.opts[0]]
    ]
    meant: list[str] = []
    fixed: Typed | None = None
    for alike in (_exactly, nearest):
        for option, values in taken:
            found = [(word, value) for word in words for value in alike(word, values)[:1]]
            if found and not meant:
                meant, fixed = [f"{option} {found[0][1]}"], line
                for word, value in found:
                    fixed = fixed and fixed.with_instead(word, [option, value])
    fix = f"{line.path} --help" if fixed is None else str(fixed)
    said = " ".join(words)
    return UsageError(did_you_mean(message, meant), where=line.path, found=said, fix=fix)


def _exactly(word: str, values: Sequence[str]) -> list[str]:
    folded = word.casefold().replace("_", "-")
    return [value for value in values if value.casefold().replace("_", "-") == folded]
