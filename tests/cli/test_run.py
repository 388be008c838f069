"""How commands end: signals reach those in the background, and messages name what to run."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from pipelines.errors import InterruptedRunError
from pipelines.signals import STOP_SIGNALS, interruptible
from vintix_cli.app import app
from vintix_cli.run import name_workspace


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_an_ignored_signal_stops_the_command_and_is_ignored_again(number):
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with pytest.raises(InterruptedRunError) as told, interruptible():
            os.kill(os.getpid(), number)
        assert told.value.exit_code == 128 + number
        assert signal.getsignal(number) == signal.SIG_IGN
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize(
    ("fix", "expected"),
    [
        ("vintix distill --task hopper", "vintix distill --workspace 'a b' --task hopper"),
        ("(vintix artifacts gc), then", "(vintix artifacts gc --workspace 'a b'), then"),
        (
            "vintix demonstrators, or leave it",
            "vintix demonstrators --workspace 'a b', or leave it",
        ),
        ("vintix train --help", "vintix train --help"),
        ("vintix tasks", "vintix tasks"),
    ],
)
def test_the_command_that_mends_an_error_looks_into_the_workspace_that_was_given(fix, expected):
    assert name_workspace(fix, Path("a b")) == expected
    assert name_workspace(fix, None) == fix


def _commands(group: Any, path: str = "vintix") -> Iterator[tuple[str, Any]]:
    for name in group.commands:
        command = group.get_command(None, name)
        if hasattr(command, "commands"):
            yield from _commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


def test_exactly_the_commands_that_take_a_workspace_are_given_it():
    for path, command in _commands(typer.main.get_command(app)):
        takes = any("--workspace" in parameter.opts for parameter in command.params)
        given = name_workspace(f"{path} --task hopper", Path("w"))
        expected = f"{path} --workspace w --task hopper" if takes else f"{path} --task hopper"
        assert given == expected
