"""A signal ends a command whatever stands around it; a stage takes the first as a wish."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading

import pytest

from pipelines.errors import InterruptedRunError
from pipelines.signals import STOP_SIGNALS, StopSignal, interruptible


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


def test_a_wish_that_nobody_looked_at_is_told_at_the_end():
    with pytest.raises(InterruptedRunError) as caught, StopSignal():
        os.kill(os.getpid(), signal.SIGUSR1)
    assert caught.value.exit_code == 138


def test_a_wish_within_a_command_counts_though_the_stage_went_on():
    wish = pytest.raises(InterruptedRunError)
    with pytest.raises(InterruptedRunError), interruptible(), wish, StopSignal():
        os.kill(os.getpid(), signal.SIGTERM)


def _handled() -> None:
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    except Exception:
        pytest.fail("taken for a failure")


def _swallowed() -> None:
    with contextlib.suppress(BaseException):
        os.kill(os.getpid(), signal.SIGTERM)


def _replaced() -> None:
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    finally:
        raise ImportError("initialization failed")


@pytest.mark.parametrize("library", [_handled, _swallowed, _replaced])
def test_a_signal_ends_a_command_whatever_a_library_makes_of_it(library):
    with pytest.raises(InterruptedRunError) as caught, interruptible():
        library()
    assert caught.value.exit_code == 143


AT_ONCE = {
    "while the first unwinds": """
with interruptible():
    try:
        os.kill(os.getpid(), signal.SIGINT)
    finally:
        os.kill(os.getpid(), signal.SIGTERM)
        print("went on")
""",
    "while the second unwinds": """
with interruptible(), StopSignal():
    os.kill(os.getpid(), signal.SIGINT)
    try:
        os.kill(os.getpid(), signal.SIGINT)
    finally:
        os.kill(os.getpid(), signal.SIGTERM)
        print("went on")
""",
    "in a destructor": """
class Destroyed:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)

with interruptible():
    Destroyed()
    print("went on")
""",
    "outside of a command": """
os.kill(os.getpid(), signal.SIGTERM)
print("went on")
""",
}


@pytest.mark.process
@pytest.mark.parametrize("when", AT_ONCE)
def test_where_a_signal_cannot_unwind_it_ends_the_process(when):
    program = """
import os, signal
from pipelines.signals import StopSignal, end_on_signals, interruptible
from vintix_cli.streams import end
end_on_signals(end)
"""
    words = [sys.executable, "-c", program + AT_ONCE[when], "--json"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 143, done.stderr
    assert done.stderr.startswith("error: ")
    assert not {"Traceback", "ignored"} & set(done.stderr.split())
    assert json.loads(done.stdout)["exit_code"] == 143


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
