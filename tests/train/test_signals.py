"""The first signal sets a flag, the second raises, and handlers are put back."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from pipelines.errors import InterruptedRunError
from pipelines.signals import STOP_SIGNALS, StopSignal


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_the_first_signal_is_a_flag(number):
    with StopSignal() as stop:
        assert not stop.requested
        stop.raise_if_requested()
        os.kill(os.getpid(), number)
        assert stop.requested and stop.number == number
        with pytest.raises(InterruptedRunError) as caught:
            stop.raise_if_requested("stopped", fix="again")
    assert caught.value.exit_code == 128 + number
    assert caught.value.fix == "again"


def test_the_second_signal_raises_at_once():
    with pytest.raises(InterruptedRunError) as caught, StopSignal():
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
    assert caught.value.exit_code == 130


def test_handlers_are_put_back():
    before = [signal.getsignal(number) for number in STOP_SIGNALS]
    with StopSignal():
        assert [signal.getsignal(number) for number in STOP_SIGNALS] != before
    assert [signal.getsignal(number) for number in STOP_SIGNALS] == before


def test_outside_the_main_thread_it_is_only_a_flag():
    seen = []

    def work():
        with StopSignal() as stop:
            seen.append(stop.requested)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False]
