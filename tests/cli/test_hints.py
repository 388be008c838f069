"""What was typed and is not there is told with what was probably meant, as a command to run."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

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


@pytest.fixture
def mended(told, monkeypatch):
    """Runs a command line, and then the command of its fix, as far as its configuration is right.

    Returns the fix of the first, without the name of the program where it begins with that.
    """
    stage = SimpleNamespace(run=lambda *given: SimpleNamespace(silent=True))
    monkeypatch.setattr("vintix_cli.commands.stages.import_module", lambda name: stage)

    def ask(line: str) -> str:
        code, err = told(line)
        assert code == 2, err
        fix = err.split("fix: ")[-1].strip()
        if fix.startswith("vintix "):
            command = re.split(r", or | \(or ", fix.replace("HOST:PORT", "a:1"))[0]
            code, err = told(command.removeprefix("vintix "))
            assert code == 0, err
        return fix.removeprefix("vintix ")

    return ask


@pytest.mark.parametrize(
    ("line", "fix"),
    [
        (
            "rollout --suite reward-use --rewards zero",
            "rollout --suite reward-use --rewards true, or leave --suite out",
        ),
        ("rollout --prompt x --suite reward-use", "leave --prompt out, or --suite"),
        (
            "rollout --prompt x --rewards zero",
            "rollout --prompt x --rewards true, or leave --prompt out",
        ),
        ("rollout --seeds 1 --rewards other", "rollout --rewards other --seeds 2"),
        (
            "rollout --rewards other --set rollout.max_streams=2",
            "rollout --rewards other --set rollout.max_streams=2 --seeds 4",
        ),
        (
            "rollout --rewards other --set rollout.max_streams=1",
            "rollout --rewards other --seeds 3 --set rollout.max_streams=3",
        ),
        ("rollout --stats foo", "rollout --stats group (or running, or task:NAME)"),
        (
            "demonstrators --path 'a b.zip'",
            "demonstrators --source import --path 'a b.zip'",
        ),
        ("demonstrators --source import", "demonstrators --source import --path FILE.zip"),
        (
            "demonstrators --set demonstrators.normalization_path=x.npz",
            "demonstrators --set demonstrators.normalization_path=x.npz --source import "
            "--path FILE.zip, or leave --set demonstrators.normalization_path out",
        ),
        ("demonstrators --source train", "demonstrators --source train --task NAME"),
        (
            "demonstrators --task a --algorithm es --set demonstrators.train.observation_prefix=2",
            "leave --set demonstrators.train.observation_prefix out, or choose another algorithm",
        ),
        (
            "train --fidelity release --set train.sampling=task",
            "train --fidelity release --set train.sampling=window",
        ),
        (
            "train --fidelity release --set train.random_map=true",
            "train --fidelity release --set train.random_map=false",
        ),
        (
            "train --fidelity release --set train.context_order=shuffled",
            "train --fidelity release --set train.context_order=recorded",
        ),
        (
            "train --set train.model.context=3",
            "leave --set train.model.context out, and give --context N",
        ),
        ("train --set train.betas=[1,2]", "train --set 'train.betas=[0.9,0.99]'"),
        (
            "train --gpus 2 --device cpu --shard",
            "train --shard --device auto --gpus 2, or leave --gpus out",
        ),
        (
            "train --processes 3",
            "train --device cpu --processes 3, or --gpus 3 in their place",
        ),
        ("train --nodes 3", "train --nodes 3 --rendezvous HOST:PORT, or neither of the two"),
        (
            "train --rendezvous a:1",
            "train --nodes 2 --rendezvous a:1, or neither of the two",
        ),
        (
            "train --shard --set train.rollout_every=3",
            "train --shard --set train.rollout_every=0, or leave --shard out",
        ),
        (
            "train --method dpt --fidelity release",
            "train --method dpt --fidelity corrected, or --method ad",
        ),
        ("distill --steps 5 --scale 0.2", "leave --scale out, or --steps"),
        (
            "distill --decoy-tasks 2",
            "distill --decoy-tasks 2 --decoys task, or leave --decoy-tasks out",
        ),
        (
            "distill --decoys task --source model",
            "distill --decoys task --source noise, or leave --decoys out",
        ),
        (
            "distill --set distill.train.algorithm=sac",
            "distill --set distill.train.algorithm=sac --source learning-history, or leave --set "
            "distill.train out",
        ),
        (
            "distill --checkpoint x --json",
            "distill --checkpoint x --json --source model, or leave --checkpoint out",
        ),
        (
            "distill --source model --schedule auto",
            "distill --schedule auto --source noise, or leave --schedule out",
        ),
        ("distill --schedule foo", "distill --schedule p=0.7,f=0.1"),
        (
            "distill --source model --set distill.shard_rows=3",
            "leave --set distill.shard_rows out",
        ),
        (
            "distill --source learning-history --set distill.shard_rows=3",
            "leave --set distill.shard_rows out, and give --set distill.train.segment_steps=3",
        ),
        (
            "distill --source learning-history --set distill.train.environment_options.delta=1",
            "give --option NAME=VALUE in place of --set distill.train.environment_options",
        ),
    ],
)
def test_settings_that_do_not_fit_together_have_a_fix_that_works(mended, line, fix):
    assert mended(line) == fix


@pytest.mark.parametrize(
    ("line", "fix"),
    [
        ("rollout --rewards wrong", "rollout --rewards true"),
        ("rollout --rewards zro --name zro", "rollout --rewards zero --name zro"),
        (
            "rollout --baseline demonstrator --baseline foo",
            "rollout --baseline demonstrator --baseline random",
        ),
        ("rollout --gravity 1.1xx", "rollout --gravity 1.1"),
        ("rollout --set rollout.seeds=0 --seed 0", "rollout --seed 0 --set rollout.seeds=1"),
        ("rollout --set rollout.workers=many", "rollout --set rollout.workers=1"),
        ("rollout --set rollout.foo=1", "rollout --help"),
        ("distill --scale -1", "distill --scale 1.0"),
        ("distill --set distill.pilot_episodes=5000", "distill --set distill.pilot_episodes=1000"),
        ("train --learning-rate 0", "train --help"),
        ("train --set steps=3", "train --set train.steps=3"),
        ("train --set lr=3e-4", "train --set train.learning_rate=3e-4"),
        ("train --set=trian.model.layers=1", "train --set=train.model.layers=1"),
        ("train --set foo=1", "train --help"),
        ("rollout --shots 0 --seed 0", "rollout --seed 0 --shots 1"),
        ("rollout --seeds=0", "rollout --seeds 1"),
        ("rollout --seed -1", "rollout --seed 0"),
        ("rollout --seed 2.5", "rollout --seed 2"),
        ("rollout --seed x", "rollout --help"),
        ("rollout --setpoint 200", "rollout --setpoint 100"),
        ("rollout --name 3/", "rollout --help"),
        ("demonstrators --task a --total-steps 0", "demonstrators --task a --total-steps 1"),
        ("distill --steps 1000000000000000", "distill --steps 1000000000"),
        ("artifacts show --workspace w", "artifacts ls --workspace w"),
        ("artifacts merge", "artifacts ls"),
        ("artifacts verify --deep", "artifacts verify --deep --all"),
    ],
)
def test_a_wrong_value_has_a_fix_with_one_that_is_taken(mended, line, fix):
    assert mended(line) == fix


def test_a_fix_names_settings_as_they_stand_in_a_file_and_the_environment(told, monkeypatch):
    Path("gpus.yaml").write_text("train: {gpus: 2, device: cpu}\n")
    code, err = told("train --config gpus.yaml")
    fix = "vintix train --config gpus.yaml --device auto --gpus 2, or leave gpus.yaml: train.gpus"
    assert code == 3 and f"fix: {fix} out" in err
    Path("steps.yaml").write_text("train: {steps: 0}\n")
    code, err = told("train --config steps.yaml")
    assert code == 3 and "fix: vintix train --config steps.yaml --steps 1" in err
    Path("name.yaml").write_text("train: {stpes: 0}\n")
    code, err = told("train --config name.yaml")
    assert code == 3 and "fix: write train.steps in place of train.stpes" in err
    monkeypatch.setenv("VINTIX_DISTILL_SCALE", "0.5")
    code, err = told("distill --steps 5")
    assert code == 2 and "fix: leave VINTIX_DISTILL_SCALE out, or --steps" in err


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
