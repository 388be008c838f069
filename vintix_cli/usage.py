"""What the parser could not read, told like every other error and with what was probably meant."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from pipelines.errors import UsageError
from pipelines.nearest import did_you_mean, nearest
from vintix_cli.typed import Typed, typed

# What other tools call the same thing. Of several, the first that the command has is meant.
_OPTIONS: Mapping[str, tuple[str, ...]] = {
    "--batch": ("--batch-size",),
    "--ckpt": ("--checkpoint",),
    "--data": ("--dataset", "--histories", "--demonstrators"),
    "--env": ("--task",),
    "--env-id": ("--task",),
    "--epochs": ("--steps",),
    "--episodes": ("--shots", "--trajectories"),
    "--iterations": ("--steps",),
    "--lr": ("--learning-rate",),
    "--max-steps": ("--steps",),
    "--model": ("--checkpoint", "--preset"),
    "--out": ("--output", "--plot", "--name"),
    "--output-dir": ("--output", "--workspace"),
    "--save": ("--output", "--plot", "--name"),
    "--seq-len": ("--context",),
    "--size": ("--preset",),
    "--tracker": ("--track",),
    "--trials": ("--seeds",),
    "--weights": ("--checkpoint", "--init"),
}
_RESUME = ("--resume", "--continue", "--restart", "--resume-from")
_COMMANDS: Mapping[str, str] = {
    "check": "doctor",
    "collect": "distill",
    "demo": "quickstart",
    "envs": "tasks",
    "eval": "rollout",
    "evaluate": "rollout",
    "fit": "train",
    "gc": "artifacts gc",
    "generate": "distill",
    "list": "artifacts ls",
    "ls": "artifacts ls",
    "merge": "artifacts merge",
    "play": "rollout",
    "plot": "report",
    "run": "quickstart",
    "show": "artifacts show",
    "test": "rollout",
    "verify": "artifacts verify",
}


def describe_usage(error: Any, arguments: Sequence[str]) -> UsageError:
    """Return the error to tell of what the parser could not read.

    Args:
        error: The parser's error, with the context it was found in.
        arguments: All that was typed.
    """
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
    names = getattr(getattr(error, "param", None), "opts", ())
    found = [value for name, value in pairwise(arguments) if name in names]
    split = [text.partition("=") for text in arguments]
    found += [value for name, equals, value in split if equals and name in names]
    return UsageError(
        error.format_message(),
        where=path,
        found=", ".join(found) or None,
        fix=f"{path} --help",
    )


def _no_option(ctx: Any, line: Typed, name: str) -> UsageError:
    message, there = f"No such option: {name}", [each for each in line.values if each[:2] == "--"]
    settings = _settings(ctx)
    if name in _RESUME:
        return UsageError(
            f"{message}. Running the same command again resumes.",
            where=line.path,
            found=name,
            fix=str(line.without(name)),
        )
    meant = [each for each in _OPTIONS.get(name, ()) if each in there][:1]
    if name in settings:
        meant, line = [f"--set {settings[name]}=VALUE"], line.with_setting(name, settings[name])
    elif meant or (meant := nearest(name, there)[:1]):
        line = line.with_instead(name, meant[:1]) or line
    return UsageError(
        did_you_mean(message, meant),
        where=line.path,
        found=name,
        fix=str(line) if meant else f"{line.path} --help",
    )


def _settings(ctx: Any) -> dict[str, str]:
    """Return the settings of a stage that have no option, by the name that it would have."""
    from pipelines.config import STAGES, config_class

    stage = ctx.command.name
    if stage not in STAGES:
        return {}
    taken = {parameter.name.rstrip("_") for parameter in ctx.command.params}
    return {
        "--" + field.replace("_", "-"): f"{stage}.{field}"
        for field in config_class(stage).model_fields
        if field not in taken
    }


def _no_command(ctx: Any, line: Typed) -> UsageError:
    place = next((at for at, each in enumerate(line.arguments) if each[:1] != "-"), 0)
    wanted, rest = line.arguments[place], line.arguments[place + 1 :]
    there = list(_paths(ctx.command))
    known = _COMMANDS.get(wanted) if ctx.parent is None else None
    meant = [known] if known else nearest(wanted, there)
    fixed = replace(line, command=f"{line.command} {(meant or [''])[0]}".strip(), arguments=rest)
    return UsageError(
        did_you_mean(f"No such command {wanted!r}", meant),
        where=line.path,
        expected=", ".join(ctx.command.commands),
        found=wanted,
        fix=str(fixed) if meant else f"{line.path} --help",
    )


def _paths(group: Any) -> Iterable[str]:
    for name, command in group.commands.items():
        yield name
        for inner in getattr(command, "commands", ()):
            yield f"{name} {inner}"


def _no_argument(ctx: Any, line: Typed, words: Sequence[str]) -> UsageError:
    """Tell of words that no option takes; what one of its options could take is meant for it."""
    message = f"{line.path} takes no argument {' '.join(map(repr, words))}"
    taken = [
        (parameter, [item.value for item in parameter.shell_complete(ctx, "")])
        for parameter in ctx.command.params
        if parameter.param_type_name == "option" and line.values[parameter.opts[0]]
    ]
    for alike in (_exactly, nearest):
        for parameter, values in taken:
            option = max(parameter.opts, key=len)
            found = [(word, value) for word in words for value in alike(word, values)[:1]]
            if found:
                fixed: Typed | None = line
                for word, value in found:
                    fixed = fixed and fixed.with_instead(word, [option, value])
                return UsageError(
                    did_you_mean(message, [f"{option} {value}" for _, value in found[:1]]),
                    where=line.path,
                    found=" ".join(words),
                    fix=f"{line.path} --help" if fixed is None else str(fixed),
                )
    return UsageError(message, where=line.path, found=" ".join(words), fix=f"{line.path} --help")


def _exactly(word: str, values: Sequence[str]) -> list[str]:
    folded = word.casefold().replace("_", "-")
    return [value for value in values if value.casefold().replace("_", "-") == folded]
