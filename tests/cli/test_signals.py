"""A stop signal at any import, at the exit, and one after another: the code, and no traceback."""

from __future__ import annotations

import json
import random
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from cli.support import Done, Shell

# Python imports it before the program. The signals come at the n-th import of the command, which
# the process sends to itself, or at its exit, after everything else.
SITE = """
import atexit, os, sys

at, numbers = os.environ.pop("SIGNAL_AT", ""), os.environ.pop("SIGNALS", "").split()
count = 0

def send():
    for number in numbers:
        os.kill(os.getpid(), int(number))

class Finder:
    def find_spec(self, name, path=None, target=None):
        global count
        if count or name == "vintix_cli.app":
            count += 1
            if str(count) == at:
                send()

def end():
    if at == "exit":
        send()
    if at == "count":
        os.write(2, b"imports %d" % count)

if at:
    sys.meta_path.insert(0, Finder())
    atexit.register(end)
"""
COMMANDS = {
    "doctor": ["doctor"],
    "verify": ["artifacts", "verify", "--all", "--deep"],
    "tasks": ["tasks"],
    "distill": ["distill", "--config", "run.yaml", "--steps", "300"],
}
NUMBERS = [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1]
POINTS = 25


def run(shell: Shell, words: list[str], at: object, *numbers: int) -> Done:
    """Run a command that gets signals at a point."""
    site = shell.directory / "signals"
    site.mkdir(exist_ok=True)
    (site / "sitecustomize.py").write_text(SITE)
    variables = {
        "SIGNAL_AT": str(at),
        "SIGNALS": " ".join(str(int(number)) for number in numbers),
        "PYTHONPATH": f"{site}:{shell.environment.get('PYTHONPATH', '')}:{Path.cwd()}",
    }
    return shell.run([sys.executable, "-m", "vintix_cli", *words, "--json"], variables)


def check(done: Done, *numbers: int) -> Any:
    """Check that a command ended by one of the signals, as the table of exit codes says."""
    assert done.code in [128 + number for number in numbers], done
    for word in ("Traceback", "Exception ignored", "unlocked"):
        assert word not in done.stderr, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("at", "number"), [(1, signal.SIGINT), (40, signal.SIGTERM), (400, signal.SIGUSR1)]
)
def test_a_signal_while_modules_are_imported(shell, at, number):
    done = run(shell, COMMANDS["tasks"], at, number)
    assert check(done, number)["exit_code"] == 128 + number
    assert "run the same command again" in done.stderr


def test_two_signals_at_once(shell):
    check(run(shell, COMMANDS["tasks"], 300, signal.SIGINT, signal.SIGTERM), 2, 15)


def test_a_signal_at_the_exit_adds_nothing_to_what_was_answered(shell):
    document = check(run(shell, COMMANDS["tasks"], "exit", signal.SIGTERM), signal.SIGTERM)
    assert "tasks" in document


def test_the_console_script_begins_where_signals_are_handled_first():
    pyproject = Path(__file__).parents[2] / "pyproject.toml"
    assert 'vintix = "vintix_cli.__main__:main"' in pyproject.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_signals_all_over_the_imports(shell, command):
    """One after the other, and what was interrupted is done in the end."""
    words = COMMANDS[command]
    done = run(shell, words, "count")
    assert done.code == 0, done.stderr
    total = int(done.stderr.split("imports ")[-1])
    if command == "distill":
        words = [*words, "--name", "again"]
    chosen = random.Random(0)
    for at in sorted(chosen.sample(range(1, total), POINTS)):
        numbers = chosen.sample(NUMBERS, chosen.choice([1, 1, 2]))
        check(run(shell, words, at, *numbers), *numbers)
    assert run(shell, words, "never").code == 0
