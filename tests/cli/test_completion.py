"""What a shell offers at the tabulator key, quickly."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys

import pytest
import typer
from typer._completion_classes import BashComplete

from vintix_cli.app import app

from .support import VINTIX

NEVER = ("torch", "zarr", "mujoco", "metaworld", "matplotlib", "gymnasium", "rich")


@pytest.fixture
def workspace(tmp_path):
    for kind, name in (("checkpoints", "mine"), ("datasets", "packed"), ("rollouts", "played")):
        version = tmp_path / kind / name / "v3"
        version.mkdir(parents=True)
        (version / "manifest.json").touch()
    return tmp_path


def offered(line: str) -> list[str]:
    """Return what the shell is told for a command line that ends at the cursor."""
    *words, incomplete = [*shlex.split(line), *([""] if line.endswith(" ") else [])]
    complete = BashComplete(typer.main.get_command(app), {}, "vintix", "_VINTIX_COMPLETE")
    return [item.value for item in complete.get_completions(words, incomplete)]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("train --preset ", ["tiny", "small", "base", "paper"]),
        ("train --method e", ["ed"]),
        ("train --track w", ["wandb"]),
        ("train --set train.lea", ["train.learning_rate="]),
        ("distill --source l", ["learning-history"]),
        ("distill --schedule ", ["auto", "fitted", "playable"]),
        ("distill --domain meta", ["metaworld"]),
        ("demonstrators --algorithm t", ["td3", "tqc", "trpo", "thompson"]),
        ("rollout --task hopper-gravity-1", ["hopper-gravity-1.1"]),
        ("rollout --suite ", ["paper", "reward-use"]),
        ("rollout --stats task:door-o", ["task:door-open"]),
        ("rollout --split t", ["train"]),
        ("tasks door-o", ["door-open"]),
        ("tasks --group mujoco-half", ["mujoco-half-cheetah"]),
        ("artifacts ls --kind d", ["demonstrators", "datasets"]),
        ("export dataset --format ", ["official", "minari"]),
        ("import dataset --order ", ["natural", "official"]),
        ("report --ref", []),
        ("report ro", ["rollouts"]),
        ("report rollouts --reference ", ["measured", "paper", "release"]),
        ("rollout --workspace {} --checkpoint mi", ["mine"]),
        ("rollout --workspace {} --checkpoint mine@", ["mine@v3"]),
        ("train --workspace {} --dataset ", ["packed"]),
        ("report rollouts --workspace {} ", ["played"]),
        ("artifacts show --workspace {} datasets/", ["datasets/packed"]),
        ("export checkpoint --workspace {} m", ["mine"]),
    ],
)
def test_values_are_completed(workspace, line, expected):
    assert offered(line.format(workspace)) == expected


def test_every_option_of_a_stage_that_takes_a_name_or_a_choice_completes():
    """What takes one of few values, or the name of something, is never left to be typed."""
    named = ("ARTIFACT", "TASK", "DOMAIN", "GROUP", "ROLLOUT", "HISTORY", "PARTS...")
    missing = []
    for path, command in _commands(typer.main.get_command(app)):
        for parameter in command.params:
            if parameter.metavar in named and parameter._custom_shell_complete is None:
                missing.append(f"{path} {parameter.opts[0]}")
    assert missing == []


def _commands(group, path=""):
    for name in group.commands:
        command = group.get_command(None, name)
        if hasattr(command, "commands"):
            yield from _commands(command, f"{path}{name} ")
        else:
            yield path + name, command


@pytest.mark.process
@pytest.mark.parametrize(
    "line", ["rollout --task hop", "rollout --checkpoint m", "train --preset t"]
)
def test_completion_imports_nothing_heavy(workspace, line):
    code = (
        "import sys\n"
        "from vintix_cli.app import app\n"
        "try:\n"
        "    app(prog_name='vintix')\n"
        "finally:\n"
        f"    print([name for name in {NEVER!r} if name in sys.modules], file=sys.stderr)\n"
    )
    words = f"vintix {line}"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={
            **os.environ,
            "VINTIX_WORKSPACE": str(workspace),
            "_VINTIX_COMPLETE": "complete_bash",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split()) - 1),
        },
    )
    assert done.stdout.splitlines()[:1] in (["hopper"], ["mine"], ["tiny"]), done.stderr
    assert done.stderr.strip().splitlines()[-1] == "[]"


@pytest.mark.process
def test_the_command_answers_a_shell(workspace):
    """Through the installed command, as the line of a shell's configuration asks it."""
    done = subprocess.run(
        VINTIX,
        capture_output=True,
        text=True,
        check=False,
        env={
            **os.environ,
            "_VINTIX_COMPLETE": "complete_bash",
            "COMP_WORDS": "vintix train --preset pa",
            "COMP_CWORD": "3",
        },
    )
    assert done.stdout.split() == ["paper"]
