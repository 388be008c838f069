"""Running a command: errors become messages and exit codes, signals become resumable ends."""

from __future__ import annotations

import functools
import os
import re
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from pipelines.errors import Reported, UsageError, VintixError
from pipelines.signals import interruptible
from vintix_cli.hints import describe_usage, running_command
from vintix_cli.render import print_error, print_json, print_traceback
from vintix_cli.streams import results_only, unanswered

# Commands that take a workspace, where a message names one to run. Help needs none.
_TAKES_WORKSPACE = re.compile(
    r"\bvintix (?:demonstrators|distill|pack|train|rollout|quickstart|doctor|push|pull"
    r"|(?:artifacts|report|export|import) \w+)\b(?! --help| --workspace)"
)


def guarded(function: Callable[..., None]) -> Callable[..., None]:
    """Wrap a command so that every way to end has its exit code and its message.

    A traceback is shown only under ``--debug``. Under ``--json`` the error is the one document on
    stdout; what others print while the command works goes to stderr.
    """

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        as_json = bool(kwargs.get("json"))
        with results_only():
            try:
                _check_assertions()
                with interruptible():
                    function(*args, **kwargs)
            except Reported as error:
                _end(error, _named(error, kwargs), "error", as_json)
            except (typer.Exit, typer.Abort, SystemExit):
                raise
            except Exception as error:
                from pipelines.artifacts.files import failure_of

                refused = failure_of(error)
                if refused is not None:
                    refused.__cause__ = error
                    _end(refused, _named(refused, kwargs), "error", as_json)
                shown = VintixError(
                    str(error), fix="run again with --debug and report what it prints"
                )
                _end(error, shown, f"error: unexpected {type(error).__name__}", as_json)

    return wrapped


def _check_assertions() -> None:
    if sys.flags.optimize:
        raise UsageError(
            "Python runs without assertions, and Zarr cannot read its own files then",
            where="-O, or the variable PYTHONOPTIMIZE",
            fix="run the same command without it",
        )


def _named(error: Reported, options: Mapping[str, Any]) -> Reported:
    """Return an error whose way to mend it keeps the options that were typed."""
    line, corrected = running_command(), None
    if line is not None and error.instead is not None:
        given, meant = error.instead
        corrected = line.with_instead(given, [meant])
    if corrected is not None:
        error.fix = str(corrected)
    elif error.fix is not None:
        name = functools.partial(name_workspace, workspace=options.get("workspace"))
        error.fix = name(error.fix) if line is None else line.completed(error.fix, name)
    return error


def name_workspace(fix: str, workspace: Path | None) -> str:
    """Return how to mend an error with ``--workspace``, if it was given, in each command."""
    if workspace is None:
        return fix
    option = f" --workspace {shlex.quote(str(workspace))}"
    return _TAKES_WORKSPACE.sub(lambda found: found[0] + option, fix)


def report_usage(error: Any, arguments: Sequence[str], as_json: bool) -> int:
    """Print what the parser could not read, like every other error; returns the exit code."""
    shown = describe_usage(error, arguments)
    if as_json:
        print_json(shown.as_dict())
    print_error(shown)
    return shown.exit_code


def _end(error: BaseException, shown: Reported, kind: str, as_json: bool) -> None:
    # What --debug sets, too.
    if os.environ.get("VINTIX_DEBUG", "") not in ("", "0"):
        print_traceback(error)
    if as_json and unanswered() is not None:
        print_json(shown.as_dict() | {"error": type(error).__name__})
    print_error(shown, kind)
    raise typer.Exit(shown.exit_code) from None
