"""Values that no option takes are wrong usage: named, and before anything is done."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import pytest
import typer

from pipelines.artifacts.references import MAX_NAME
from vintix_cli.app import app, run

TOO_LONG = ("x" * 5_000, "a/" * 3_000, f"a/{'x' * 300}/b")


def _commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, (*path, name))
        else:
            yield (*path, name), command


_AGES = {"older_than_days": ("1e10", "-1")}
GROUP = typer.main.get_command(app)
COMMANDS = dict(_commands(GROUP))


@pytest.fixture(autouse=True)
def _built_once(monkeypatch):
    """Calls of a Typer application build its commands anew, which takes longer than to parse."""
    monkeypatch.setattr("vintix_cli.app.app", GROUP)


def _wrong(command: Any, name: str) -> tuple[str, ...]:
    """Return values that a parameter cannot have; none where any text may be one."""
    hint = inspect.signature(command.callback, eval_str=True).parameters[name].annotation
    if get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    kinds = (hint, *get_args(hint))
    if int in kinds:
        return (str(2**63), str(-(2**63) - 1))
    if float in kinds:
        return ("nan", "1e400", *_AGES.get(name, ()))
    if Path in kinds:
        return TOO_LONG[1:]
    return ("x" * 300, "a\x1b[31m") if name == "name" else ()


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_number_path_and_name_has_bounds(path, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    parameters: list[Any] = COMMANDS[path].params
    needed = [(each, ["x"]) for each in parameters if each.required]
    for parameter in parameters:
        for value in _wrong(COMMANDS[path], parameter.name):
            others = [word for each, words in needed if each is not parameter for word in words]
            is_option = parameter.param_type_name == "option"
            words = [f"{parameter.opts[-1]}={value}"] if is_option else ["--", value]
            assert run([*path, *others, *words]) == 2, (parameter.name, value[:20])
            told = capsys.readouterr()
            assert told.out == ""
            assert parameter.opts[-1] in told.err and "Traceback" not in told.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "words",
    [
        ["artifacts", "show"],
        ["artifacts", "verify"],
        ["artifacts", "merge"],
        ["report", "histories"],
        ["report", "rollouts"],
        ["pack", "--histories"],
        ["train", "--dataset"],
        ["rollout", "--checkpoint"],
        ["distill", "--demonstrators"],
        ["demonstrators", "--evaluate"],
        ["tasks"],
    ],
    ids=" ".join,
)
def test_references_and_names_beyond_every_file_system(words, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for text in ("x" * (MAX_NAME + 1), *TOO_LONG[1:]):
        assert run([*words, text]) == 2
        told = capsys.readouterr()
        assert told.out == "" and told.err.startswith("error: ")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "words",
    [
        ["report", "histories", "--plot"],
        ["report", "rollouts", "--output"],
        ["report", "rollouts", "--video"],
        ["tasks", "hopper", "--render"],
    ],
    ids=" ".join,
)
def test_a_directory_in_the_place_of_a_file(words, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.png").mkdir()
    for text in (".", "there.png", "/", ""):
        assert run([*words, text]) == 2
        assert "a directory" in capsys.readouterr().err


def test_a_picture_is_refused_before_the_rollout_and_a_file_in_the_place_of_pictures(
    capsys, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "there.png").mkdir()
    for picture in ("curves.bmp", "there.png", "file"):
        assert run(["rollout", "--plot", picture]) == 2
    assert run(["report", "--figures", "file"]) == 2
    assert "the output is a file" in capsys.readouterr().err


@pytest.mark.parametrize(
    "setting",
    [
        f"train.steps={2**63}",
        f"train.context={2**64 - 1}",
        "train.lr=.nan",
        "train.lr=inf",
        f"train.model={{width: {2**70}}}",
        "train.model={width: .nan}",
        r'train.name="a\0b"',
        "demonstrators.train.total_steps=1e400",
    ],
)
def test_settings_have_the_same_bounds(setting, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    stage, _, name = setting.partition("=")[0].partition(".")
    assert run([stage, "--set", setting, "--dry-run"]) == 2
    assert f"where: {stage}." in capsys.readouterr().err
    (tmp_path / "run.yaml").write_text(
        f"{stage}:\n  {name.replace('.', ': {')}: "
        f"{setting.partition('=')[2]}{'}' * name.count('.')}\n"
    )
    assert run([stage, "--config", "run.yaml", "--dry-run"]) == 3
    assert f"where: run.yaml: {stage}." in capsys.readouterr().err
