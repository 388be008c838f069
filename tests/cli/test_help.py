"""Help: quick, complete, and with examples that run."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer

from pipelines.config import STAGES, config_class
from pipelines.model.presets import PRESETS
from pipelines.options import choices_of
from pipelines.rollout.config import DEFAULT_SHOTS_MAX, DEFAULT_SHOTS_MIN, DEFAULT_STREAM_STEPS
from pipelines.train.config import DEFAULTS
from vintix_cli.app import app

from .support import TINY_RUN, VINTIX, Shell

COMMANDS = (
    "demonstrators",
    "distill",
    "pack",
    "train",
    "rollout",
    "quickstart",
    "tasks",
    "doctor",
    "push",
    "pull",
    "artifacts",
    "artifacts ls",
    "artifacts show",
    "artifacts verify",
    "artifacts merge",
    "artifacts gc",
    "import",
    "import checkpoint",
    "import dataset",
    "export",
    "export checkpoint",
    "export dataset",
    "export histories",
    "report",
    "report rollouts",
    "report histories",
)
LONG = ("demonstrators", "distill", "train", "rollout")
MODULES_THAT_WAIT = ("torch", "mujoco", "zarr", "matplotlib", "metaworld", "pydantic", "rich")

TINY_REWARD = """
demonstrators: {tasks: [point-ring], episodes: 20, workers: 1}
distill: {tasks: [point-ring], options: {goal: belief}, trajectories: 4, steps: 60, workers: 1}
pack: {tasks: [point-ring]}
train: {method: dpt, context: 40, steps: 2, batch_size: 2, model: {layers: 1, head: bins}}
rollout: {tasks: [point-ring], options: {goals: held-out}, seeds: 2, shots: 3}
"""
QUICKSTART = """
import sys
from pathlib import Path
import pipelines.quickstart.run as quickstart
if __name__ == "__main__":
    directory = Path(sys.argv.pop(1))
    quickstart.run_file = lambda name="quickstart.yaml": directory / name
    from vintix_cli.app import main
    main()
"""


def help_of(shell: Shell, command: str) -> str:
    done = shell.vintix(*command.split(), "--help")
    assert (done.code, done.stderr) == (0, "")
    return done.stdout


def command_of(path: str) -> Any:
    """Return a command of the app, with its options."""
    found: Any = typer.main.get_command(app)
    for word in path.split():
        found = found.get_command(None, word)
    return found


def examples_of(command: str) -> list[str]:
    """Return the examples that the command's help ends with."""
    title, *examples = command_of(command).epilog.splitlines()
    assert title == "Examples"
    return examples


@pytest.mark.process
def test_help_imports_nothing_heavy():
    code = (
        "import sys, contextlib, io\n"
        "from vintix_cli.app import app\n"
        "with contextlib.redirect_stdout(io.StringIO()):\n"
        "    app(args=['--help'], standalone_mode=False)\n"
        f"print([name for name in {MODULES_THAT_WAIT!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_overview_names_every_command(empty):
    overview = help_of(empty, "")
    listed = {line.split()[0] for line in overview.splitlines() if line.startswith("  ")}
    assert {command for command in COMMANDS if " " not in command} <= listed
    assert (
        overview.index("The five stages:")
        < overview.index("  rollout  ")
        < overview.index("Around")
    )


@pytest.mark.parametrize("stage", STAGES)
def test_the_help_of_a_stage_shows_each_choice_and_each_default_of_its_configuration(stage):
    sections = re.split(r"\n(?=Selection:|Options:)", _help_here(stage), maxsplit=1)[1]
    text = " ".join(sections.split())
    model = config_class(stage)
    options = {
        parameter.name: max(parameter.opts, key=len)
        for parameter in command_of(stage).params
        if not parameter.is_flag
    }
    compared = 0
    for name, field in model.model_fields.items():
        option = options.get(name)
        if option is None:
            continue
        # From the option's name to the next option's.
        told = re.split(r" -(?:\w,|-\w)", text.partition(f"{option} ")[2])[0]
        choices = choices_of(field)
        if choices and name != "schedule":
            assert told.startswith("|".join(choices) + " "), option
        if field.is_required():
            for preset, values in DEFAULTS.items():
                value = values.get(name, PRESETS[preset]["context"])
                assert f"{value:,}" in told.partition("[default: ")[2], (option, preset)
        elif field.get_default(call_default_factory=True) not in (None, (), {}):
            assert f"[default: {field.default}" in told, option
        compared += bool(choices or "[default: " in told)
    assert compared >= {"pack": 0}.get(stage, 3)


def test_the_default_number_of_shots_is_told_as_it_is():
    text = " ".join(_help_here("rollout").split())
    told = (
        f"default {DEFAULT_STREAM_STEPS:,} steps of them, at least {DEFAULT_SHOTS_MIN} and at most "
        f"{DEFAULT_SHOTS_MAX}."
    )
    assert told in text


def test_no_help_shows_the_types_of_the_code():
    for path in COMMANDS:
        text = _help_here(path)
        assert "<" not in text and "list[" not in text, path


def _help_here(path: str) -> str:
    command: Any = typer.main.get_command(app)
    context = command.make_context("vintix", [], resilient_parsing=True)
    for word in path.split():
        command = command.get_command(context, word)
        context = command.make_context(word, [], parent=context, resilient_parsing=True)
    return command.get_help(context)


@pytest.mark.process
def test_without_a_command_it_is_wrong_usage_and_shows_the_help():
    done = subprocess.run(VINTIX, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert "The five stages:" in done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_two_examples(empty, command):
    text = help_of(empty, command)
    assert text.startswith(f"Usage: vintix {command} ")
    printed = text.partition("\nExamples:\n")[2].splitlines()
    assert [line.strip() for line in printed] == examples_of(command)
    assert len(printed) >= 2
    for example in printed:
        words = shlex.split(example)
        assert words[:2] == ["vintix", command.split()[0]]
        if words[1:] and command == " ".join(words[1 : 1 + len(command.split())]):
            # What an example uses, the help explains.
            assert all(word in text for word in words if word.startswith("--")), example


@pytest.mark.parametrize(
    "example",
    [
        pytest.param(example, id=example)
        for command in COMMANDS
        # Those of the hub run before a stand-in: tests/hub.
        if command not in ("quickstart", "push", "pull")
        for example in examples_of(command)
    ],
)
def test_examples_run(gallery_shell, example, request):
    """As printed; what would take minutes is planned instead."""
    words = shlex.split(example)[1:]
    for word, package in (
        ("dataset", "h5py"),
        ("minari", "minari"),
        ("tensorboard", "tensorboard"),
    ):
        if word in words:
            pytest.importorskip(package, reason=f"{package} is not installed")
    if "--render" in words:
        request.getfixturevalue("opengl")
    if words[0] == "train" and "paper" in words:
        # Its context is longer than the gallery's trajectories.
        gallery_shell = replace(gallery_shell, workspace=gallery_shell.directory / "none")
    if words[0] in LONG and "--dry-run" not in words:
        words.append("--dry-run")
    done = gallery_shell.vintix(*words)
    assert done.code == 0, done.stderr
    assert done.stdout.strip()
    if "--dry-run" in words and words[0] in LONG:
        assert "steps" in done.stdout or "parameters" in done.stdout


def quickstart(shell, *arguments: str):
    """Run it on the point mass and on a goal that only reward tells, both as small as can be."""
    run = TINY_RUN.replace("{workers: 1}", "{workers: 1, domains: [point-mass]}")
    (shell.directory / "quickstart.yaml").write_text(run)
    (shell.directory / "reward.yaml").write_text(TINY_REWARD)
    return shell.script(QUICKSTART, shell.directory, *arguments)


@pytest.mark.slow
def test_quickstart_examples_run(empty):
    """On the point mass; ``--workspace`` of the second one points into the test's directory.

    Running the first again says of each stage that it is up to date, and makes nothing.
    """
    first, second = examples_of("quickstart")
    done = quickstart(empty, *shlex.split(first)[1:])
    assert done.code == 0, done.stderr
    assert "1/5 demonstrators" in done.stderr
    lines = done.stdout.strip().splitlines()
    assert lines[-2].startswith("The picture: ")
    assert Path(lines[-2].removeprefix("The picture: ")).is_file()
    again = quickstart(empty, *shlex.split(first)[1:])
    assert again.stderr.count("up to date: ") == 11
    assert "making" not in again.stderr
    words = shlex.split(second)[1:]
    words[words.index("--workspace") + 1] = str(empty.directory / "other")
    done = quickstart(empty, *words)
    assert done.code == 0, done.stderr
    assert set(done.document["artifacts"]) == {
        "demonstrators",
        "distill",
        "pack",
        "train",
        "rollout",
    }
