"""``vintix tasks``: filters, one task in full, and output that scripts and pipes can take."""

from __future__ import annotations

import re
import subprocess

import pytest
from rich.cells import cell_len

from pipelines.domains.hidden_goal import HiddenGoal
from vintix_cli.app import run

from .support import VINTIX


def names(done) -> list[str]:
    assert done.code == 0, done.stderr
    return [task["name"] for task in done.document["tasks"]]


@pytest.mark.parametrize(
    ("words", "count"),
    [
        (["--domain", "metaworld"], 50),
        (["--domain", "metaworld", "--split", "validation"], 5),
        (["--domain", "mujoco"], 55),
        (["--domain", "mujoco", "--no-variations"], 11),
        (["--group", "mujoco-hopper", "--no-variations"], 1),
        (["--domain", "mujoco", "--domain", "metaworld", "--no-variations"], 61),
        (["--domain", "industrial-benchmark"], 21),
        (["--domain", "bidexhands"], 20),
        (["--split", "train"], 87 + 2 + len(HiddenGoal().tasks())),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_filters(empty, words, count):
    assert len(names(empty.vintix("tasks", *words, "--json"))) == count


def test_table_counts_tasks_and_variations(empty):
    done = empty.vintix("tasks")
    assert done.code == 0
    beside = len(HiddenGoal().tasks()) + 2
    told = f"{102 + beside} tasks ({87 + beside} for training) and 44 variations"
    assert f"{told}, {beside} of the tasks beside the paper's" in done.stdout
    assert "changes nothing" in done.stdout


def test_one_task_in_full_by_its_alias(empty):
    done = empty.vintix("tasks", "hopper")
    assert done.code == 0
    for words in ("mujoco", "Hopper-v5", "score, paper", "random", "expert", "--option"):
        assert words in done.stdout
    assert names(empty.vintix("tasks", "hopper", "--json")) == ["hopper"]


def test_a_decay_is_told_in_a_line(empty):
    """The paper's family by its numbers, a curve by its noise at some shares of the way."""
    assert "p=1.2589,f=0.05" in empty.vintix("tasks", "shadowhandpushblock").stdout
    shown = empty.vintix("tasks", "inverted-pendulum").stdout
    assert re.search(r"noise curve +curve 1@0% 0\.\d+@19% .* 0@95%$", shown, re.MULTILINE)


def test_plugin_tasks_are_tasks(empty):
    done = empty.vintix("tasks", "point-mass-north-east")
    assert "--option speed=0.1: Distance of a full step." in done.stdout


def test_output_without_a_terminal_is_not_cut(empty):
    done = empty.vintix("tasks")
    assert "…" not in done.stdout
    longest = max(done.stdout.splitlines(), key=len)
    assert len(longest) > 80
    listed = {line.split()[0] for line in done.stdout.splitlines() if line.strip()}
    assert {"point-mass-north-east", "half-cheetah-viscosity-0.05"} <= listed


def test_output_without_a_terminal_is_as_wide_as_columns_says(empty):
    """As in a script that prints for people; what is no width leaves the output whole."""
    done = empty.vintix("tasks", variables={"COLUMNS": "72"})
    assert max(map(cell_len, done.stdout.splitlines())) <= 72
    assert "point-mass-north-east" in done.stdout
    whole = empty.vintix("tasks", variables={"COLUMNS": "0"})
    assert whole.stdout == empty.vintix("tasks").stdout


@pytest.mark.parametrize("words", [["tasks"], ["tasks", "--json"]], ids=" ".join)
def test_reader_that_goes_away(empty, words):
    """As with ``| head -1``: no traceback, no complaint."""
    process = subprocess.Popen(
        [*VINTIX, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=empty.environment,
        bufsize=1,
    )
    process.stdout.readline()
    process.stdout.close()
    stderr = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=60) == 0
    assert stderr == ""


def test_the_table_says_which_actions_are_choices(capfd):
    run(["tasks", "--domain", "hidden-goal"])
    lines = {line.split()[0]: line for line in capfd.readouterr().out.splitlines() if line.strip()}
    assert " 5 discrete " in lines["dark-room"]
    assert "discrete" not in lines["point-ring"]
