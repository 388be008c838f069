"""What was typed and is not there is told with what was probably meant, as a command to run."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from pathlib import Path

import pytest

from pipelines.errors import ArtifactMissingError, UsageError, VintixError, nearest, unknown
from vintix_cli.app import run
from vintix_cli.hints import Typed

GOLDEN = Path(__file__).parents[1] / "artifacts" / "golden"


@pytest.fixture
def told(tmp_path, monkeypatch, capfd):
    """Runs a command line in this process; returns its exit code and its error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["vintix"])
    monkeypatch.setenv("VINTIX_WORKSPACE", "work")
    for kind in ("checkpoints", "datasets"):
        shutil.copytree(GOLDEN / kind / "v1", tmp_path / "work" / kind / "quickstart" / "v1")
    (tmp_path / "nightly.yaml").write_text("train: {steps: 1}\n")

    def ask(line: str) -> tuple[int, str]:
        capfd.readouterr()
        code = run(shlex.split(line))
        return code, capfd.readouterr().err

    return ask


@pytest.mark.parametrize(
    ("line", "code", "fix"),
    [
        ("train --lr 3e-4 --preset paper", 2, "train --learning-rate 3e-4 --preset paper"),
        ("train --lr=3e-4", 2, "train --learning-rate=3e-4"),
        ("train --epochs 5 --shard", 2, "train --steps 5 --shard"),
        ("train --resume --preset small", 2, "train --preset small"),
        ("train --bach-size 5", 2, "train --batch-size 5"),
        (
            "train --gradient-accumulation 2 --dry-run",
            2,
            "train --set train.gradient_accumulation=2 --dry-run",
        ),
        ("train --set train.methd=ed --dry-run", 2, "train --set train.method=ed --dry-run"),
        ("train --preset tny --steps 3", 2, "train --preset tiny --steps 3"),
        ("train --preset=tny", 2, "train --preset=tiny"),
        ("train --config nightley.yaml", 3, "train --config nightly.yaml"),
        ("train --dataset qickstart --steps 3", 4, "train --dataset quickstart --steps 3"),
        ("eval --task reach", 2, "rollout --task reach"),
        ("collect --domain mujoco", 2, "distill --domain mujoco"),
        ("tran --steps 3", 2, "train --steps 3"),
        ("artifacts lst --json", 2, "artifacts ls --json"),
        ("gc --keep 2", 2, "artifacts gc --keep 2"),
        ("distill metaworld --dry-run", 2, "distill --domain metaworld --dry-run"),
        ("rollout Hopper --shots 2", 2, "rollout --task hopper --shots 2"),
        ("rollout quikstart --shots 2", 2, "rollout --checkpoint quickstart --shots 2"),
        ("train small", 2, "train --preset small"),
        ("distill --domain metawrld --dry-run", 2, "distill --domain metaworld --dry-run"),
        ("tasks hoper", 2, "tasks hopper"),
        ("tasks --group mujoco-hoper", 2, "tasks --group mujoco-hopper"),
        ("rollout --checkpoint qickstart -q", 4, "rollout --checkpoint quickstart -q"),
        ("rollout --checkpoint quickstart@v7", 4, "rollout --checkpoint quickstart@v1"),
        (
            "rollout --checkpoint work/checkpoints/quickstart/ -q",
            4,
            "rollout --checkpoint work/checkpoints/quickstart/v1 -q",
        ),
        (
            "artifacts show checkpoint/quickstart",
            4,
            "artifacts show checkpoints/quickstart",
        ),
        ("artifacts ls --kind checkpoint", 2, "artifacts ls --kind checkpoints"),
        ("export checkpoint qickstart", 4, "export checkpoint quickstart"),
        ("import dataset x --as histores", 2, "import dataset x --as histories"),
        ("rollout --baseline randm", 2, "rollout --baseline random"),
    ],
)
def test_the_fix_is_the_command_with_what_was_meant(told, line, code, fix):
    found, err = told(line)
    assert (found, err.split("fix: ")[-1].strip()) == (code, f"vintix {fix}"), err


def test_the_fix_keeps_the_options_that_were_typed(told):
    """The golden dataset's trajectories are far shorter than the paper's context."""
    code, err = told("train --preset paper --context 8192 --name 'a b' --dry-run")
    assert code == 2, err
    code, err = told("train --preset paper --context 8192 --name ab --dry-run")
    assert code == 3
    assert "fix: vintix train --preset paper --name ab --dry-run --context 5, or" in err


def test_json_tells_the_same_fix(told, capfd):
    run(["train", "--preset", "tny", "--json"])
    assert json.loads(capfd.readouterr().out)["fix"] == "vintix train --preset tiny --json"


def _line(*arguments: str) -> Typed:
    values = {"--task": True, "--gpus": True, "--device": True, "--set": True, "--json": False}
    values |= {"--schedule": True, "--workspace": True, "--option": True}
    return Typed("vintix", "train", arguments, values)


@pytest.mark.parametrize(
    ("typed", "fix", "expected"),
    [
        (("--json",), "vintix pack", "vintix pack"),
        (("--json",), "vintix train", "vintix train"),
        (("--json",), "vintix train --help", "vintix train --help"),
        (("--task", "a", "--json"), "vintix train --task b", "vintix train --json --task b"),
        (("--gpus", "8"), "vintix train --device cpu (or 2)", "vintix train --device cpu (or 2)"),
        (
            ("--set", "train.a=1", "--set=train.b=2"),
            "vintix train --set train.a=3, or less",
            "vintix train --set=train.b=2 --set train.a=3, or less",
        ),
        (
            ("--option", "a=1", "--option", "b=1"),
            "vintix train --option b=2",
            "vintix train --option a=1 --option b=2",
        ),
        (
            ("--json",),
            "vintix train ... --schedule p=0.7,f=0.1, or wait",
            "vintix train --json --schedule p=0.7,f=0.1, or wait",
        ),
        (("--task", "a b"), "vintix train --json.", "vintix train --task 'a b' --json."),
    ],
)
def test_a_fix_of_the_same_command_is_laid_over_what_was_typed(typed, fix, expected):
    assert _line(*typed).completed(fix, str) == expected


def test_names_are_compared_without_case_and_told_once():
    assert nearest("REACH_WAL", ["push", "reach-wall", "reach"]) == ["reach-wall", "reach"]
    error = unknown("no such thing", "rech", ["reach", "push"], kind=ArtifactMissingError)
    assert isinstance(error, VintixError)
    assert str(error) == "no such thing. Did you mean reach?\n  found: rech"
    assert error.instead == ("rech", "reach")
    nothing = unknown("no such thing", "xyzzy", ["reach"], kind=UsageError)
    assert (nothing.message, nothing.instead) == ("no such thing", None)
