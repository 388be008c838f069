"""How commands end: signals reach those in the background, and messages name what to run."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from pipelines.errors import InterruptedRunError
from pipelines.signals import STOP_SIGNALS
from vintix_cli.run import _signals, name_workspace


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_an_ignored_signal_stops_the_command_and_is_ignored_again(number):
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with pytest.raises(InterruptedRunError) as told, _signals():
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
