"""An option of a command is a field of its configuration, and nothing else."""

from __future__ import annotations

import json
import sys
from typing import Literal

import pytest
from pydantic import BaseModel, Field

from pipelines.errors import UsageError
from pipelines.options import EnvironmentOptions, option
from vintix_cli.options import parameters, settings

# What whoever adds an option writes.
WITH_A_NEW_FIELD = """
import sys
from typing import Literal
import pipelines.train.config as config
from pipelines.options import option

class TrainConfig(config.TrainConfig):
    remark: Literal["dull", "bright"] = option("What to think of it.", "dull")

config.TrainConfig = TrainConfig
from vintix_cli.app import main
main()
"""


def test_a_new_field_is_an_option_in_help_and_reaches_the_manifest(shell):
    def vintix(*arguments):
        return shell.run([sys.executable, "-c", WITH_A_NEW_FIELD, *arguments])

    text = " ".join(vintix("train", "--help").stdout.split())
    assert "--remark dull|bright What to think of it. [default: dull]" in text
    assert "Further settings, as --set train.NAME=VALUE: model Overrides of the preset" in text
    train = ("train", "--config", "run.yaml", "--name", "remarked", "--json")
    done = vintix(*train, "--remark", "bright")
    assert done.code == 0, done.stderr
    manifest = shell.workspace / "checkpoints" / "remarked" / "v1" / "manifest.json"
    assert json.loads(manifest.read_bytes())["config"]["remark"] == "bright"
    wrong = vintix(*train, "--remark", "brigt")
    assert wrong.code == 2
    assert wrong.document["fix"].endswith("--remark bright")


class Learner(BaseModel):
    """Nested settings."""

    algorithm: str = option("the learner.", "ppo")
    unseen: int = 3


class Everything(BaseModel):
    """One field of each kind."""

    names: tuple[str, ...] = option("Names.", (), flags=("--name", "-n"))
    level: Literal["low", "high"] = option("How much.", "low")
    steps: int = option("Steps.", 5, ge=1, le=9)
    exact: bool = option("Whether.", False)
    kept: bool = option("Whether not to.", True)
    first: str | None = option("One, then others.", None, rest="others")
    others: tuple[str, ...] = ()
    options: EnvironmentOptions = Field(default_factory=dict)
    train: Learner | None = option("How.", None, lead="With a learner: ")
    hidden: int = Field(3, description="No option.")


def test_what_was_typed_is_put_under_the_names_of_the_fields():
    made = parameters(Everything)
    named = {"_".join(path): parameter for path, parameter in made.items()}
    assert list(named) == [
        "names",
        "level",
        "steps",
        "exact",
        "kept",
        "first",
        "options",
        "options_backend",
        "train_algorithm",
    ]
    nothing = {name: parameter.default for name, parameter in named.items()}
    assert settings(Everything, {**nothing, "quiet": True}) == {}
    given = {
        **nothing,
        "names": ["a"],
        "steps": 0,
        "exact": True,
        "kept": False,
        "first": ["x", "y", "z"],
        "options": ["goal=visible"],
        "options_backend": "mujoco",
        "train_algorithm": "sac",
        "quiet": True,
    }
    assert settings(Everything, given) == {
        "names": ["a"],
        "steps": 0,
        "exact": True,
        "kept": False,
        "first": "x",
        "others": ["y", "z"],
        "options": {"goal": "visible", "backend": "mujoco"},
        "train": {"algorithm": "sac"},
    }
    assert given == {"quiet": True}


def test_an_entry_of_a_mapping_that_is_given_twice_is_refused():
    nothing = {each.name: each.default for each in parameters(Everything).values()}
    with pytest.raises(UsageError, match="the backend is given twice") as caught:
        settings(Everything, {**nothing, "options": ["backend=a"], "options_backend": "b"})
    assert caught.value.where == "--backend and --option"
    assert caught.value.found == "b and a"
