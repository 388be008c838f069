"""Signals reach a command that a script started in the background."""

from __future__ import annotations

import os
import signal

import pytest

from pipelines.errors import InterruptedRunError
from pipelines.signals import STOP_SIGNALS
from vintix_cli.run import _signals


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
