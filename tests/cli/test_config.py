"""Command line over environment over file over default, and what it came to in the manifest."""

from __future__ import annotations

import inspect
import json

import pytest

from pipelines.config import STAGES, config_class, resolve_config
from pipelines.errors import ConfigError, UsageError, VintixError
from pipelines.train.config import TrainConfig


def steps(shell, *words: str, **variables: str) -> int:
    """Return the steps that a run of ``vintix train`` would make."""
    # A plan times a few steps: on a busy machine a second thread makes them a hundred times slower.
    given = {"VINTIX_TRAIN_THREADS": "1", **variables}
    done = shell.vintix("train", "--dry-run", "--json", *words, variables=given)
    assert done.code == 0, done.stderr
    return done.document["totals"]["steps"]


@pytest.fixture
def layered(shell):
    (shell.directory / "layers.yaml").write_text("train: {context: 40, steps: 11}")
    return shell


def test_each_layer_is_over_the_one_below(layered):
    file, variable = ["--config", "layers.yaml"], {"VINTIX_TRAIN_STEPS": "12"}
    assert steps(layered, "--context", "40") == 800
    assert steps(layered, *file) == 11
    assert steps(layered, *file, **variable) == 12
    assert steps(layered, *file, "--set", "train.steps=13", **variable) == 13
    assert steps(layered, *file, "--set", "train.steps=13", "--steps", "14", **variable) == 14


def test_set_reads_numbers_as_people_type_them(shell):
    done = shell.vintix(
        *("train", "--config", "run.yaml", "--set", "train.lr=3e-4"),
        *("--set", "train.model.layers=2", "--set", "distill.steps=9", "--json"),
    )
    assert done.code == 0, done.stderr
    manifest = json.loads(
        (shell.workspace / "checkpoints/point-mass-tiny/v2/manifest.json").read_bytes()
    )
    assert manifest["digest"] == done.document["artifact"]["digest"]
    config = manifest["config"]
    assert config["learning_rate"] == 3e-4
    assert config["model"]["layers"] == 2
    assert config["model"]["width"] == 32  # the file's, beside what --set says
    assert config["weight_decay"] == 0.01  # a default
    assert config["tasks"] == ["point-mass-north-east", "point-mass-south-west"]


def test_lr_on_any_layer(tmp_path):
    """The short spelling and the long one are one setting: the upper layer wins."""
    file = tmp_path / "run.yaml"
    file.write_text("train: {learning_rate: 0.5}")
    resolved = resolve_config(
        "train",
        TrainConfig,
        command_line={},
        assignments=["train.lr=3e-4"],
        file=file,
        environment={},
    )
    assert resolved.learning_rate == 3e-4
    resolved = resolve_config(
        "train",
        TrainConfig,
        command_line={"learning_rate": 0.25},
        assignments=["train.lr=3e-4"],
        environment={},
    )
    assert resolved.learning_rate == 0.25


@pytest.mark.parametrize(
    "text", ["lr=3", "train", "train.=3", "train.model..width=3", "=3", "trian.steps=3"]
)
def test_malformed_assignments_are_refused(text):
    with pytest.raises(UsageError) as caught:
        resolve_config("train", TrainConfig, command_line={}, assignments=[text], environment={})
    assert caught.value.where == text


def test_malformed_assignments_tell_the_setting_that_was_meant():
    for text, meant in (
        ("lr=3", "train.learning_rate=3"),
        ("train.model..width=3", "train.model.width=3"),
        ("trian.steps=3", "train.steps=3"),
        ("steps", "train.steps=VALUE"),
    ):
        with pytest.raises(UsageError, match="Did you mean train") as caught:
            resolve_config("train", TrainConfig, command_line={}, assignments=[text])
        assert caught.value.fix == f"vintix train ... --set {meant}"


def test_a_short_spelling_is_among_what_may_be_meant():
    with pytest.raises(UsageError, match=r"Did you mean lr\?"):
        resolve_config("train", TrainConfig, command_line={}, assignments=["train.lrr=3"])


def test_assignment_of_an_unknown_setting_names_those_there_are():
    with pytest.raises(UsageError) as caught:
        resolve_config(
            "train", TrainConfig, command_line={}, assignments=["train.stpes=3"], environment={}
        )
    assert caught.value.where == "train.stpes"
    assert "steps" in (caught.value.expected or "")


def test_variable_with_a_wrong_value_is_named():
    with pytest.raises(ConfigError) as caught:
        resolve_config(
            "train", TrainConfig, command_line={}, environment={"VINTIX_TRAIN_STEPS": "many"}
        )
    assert caught.value.where == "VINTIX_TRAIN_STEPS"
    assert caught.value.found == "'many'"


def test_variable_that_names_no_setting_is_refused():
    with pytest.raises(ConfigError) as caught:
        resolve_config(
            "train", TrainConfig, command_line={}, environment={"VINTIX_TRAIN_STPES": "3"}
        )
    assert caught.value.where == "VINTIX_TRAIN_STPES"
    assert "VINTIX_TRAIN_STEPS" in (caught.value.expected or "")
    resolve_config("train", TrainConfig, command_line={}, environment={"VINTIX_DISTILL_STEPS": "3"})


def test_error_of_the_file_is_the_files_also_beside_options(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("train: {steps: -1}")
    with pytest.raises(ConfigError) as caught:
        resolve_config("train", TrainConfig, command_line={"seed": 1}, file=file, environment={})
    assert caught.value.where == f"{file}: train.steps"


def test_nested_settings_are_joined_over_the_layers(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("train: {model: {layers: 1, width: 32}}")
    resolved = resolve_config(
        "train",
        TrainConfig,
        command_line={},
        assignments=["train.model.layers=2"],
        file=file,
        environment={"VINTIX_TRAIN_MODEL": "{action_embedding: 15, observation_embedding: 15}"},
    )
    embeddings = {"action_embedding": 15, "observation_embedding": 15}
    assert resolved.model == {"layers": 2, "width": 32, **embeddings}


def test_settings_that_do_not_fit_together_are_told_and_no_others(tmp_path):
    """Each with its value and the place it is from; those of defaults have none."""

    def refused(stage, given, **more):
        with pytest.raises(VintixError) as caught:
            resolve_config(stage, config_class(stage), command_line=given, environment={}, **more)
        return caught.value

    both = refused("distill", {"tasks": ("hopper",), "steps": 100, "scale": 0.5, "workers": 2})
    assert (both.exit_code, both.where) == (2, "distill.steps, distill.scale")
    assert both.found == "steps=100, scale=0.5"
    file = tmp_path / "run.yaml"
    file.write_text("train: {gpus: 2, device: cpu, seed: 7}")
    of_file = refused("train", {"steps": 5}, file=file)
    assert (of_file.exit_code, of_file.found) == (3, "gpus=2, device=cpu")
    assert of_file.where == f"{file}: train.gpus, {file}: train.device"
    default = refused("train", {"processes": 3})
    assert (default.where, default.found) == ("train.processes", "processes=3, device=auto")
    nested = refused("train", {}, assignments=["train.model.context=3", "train.model.layers=2"])
    assert (nested.where, nested.found) == ("train.model.context", "context=3")
    learner = refused(
        "demonstrators",
        {"tasks": ("hopper",), "source": "train"},
        assignments=["demonstrators.train={algorithm: es, observation_prefix: 2, total_steps: 9}"],
    )
    assert learner.where == (
        "demonstrators.train.algorithm, demonstrators.train.observation_prefix"
    )
    assert learner.found == "algorithm=es, observation_prefix=2"


def test_no_check_of_a_whole_configuration_hides_what_it_is_about():
    """A plain ValueError there would leave nothing to tell but the whole configuration."""
    found = 0
    for stage in STAGES:
        validators = config_class(stage).__pydantic_decorators__.model_validators.values()
        for validator in validators:
            if validator.info.mode == "after":
                source = inspect.getsource(validator.func)
                assert "raise ValueError" not in source, validator.func.__qualname__
                found += "ConflictError" in source
    assert found >= 5


def test_a_setting_within_settings_is_named(shell):
    """The list of what there is, is that of the place where the setting is missing."""
    wrong = shell.vintix("demonstrators", "--dry-run", "--set", "demonstrators.train.lr=1")
    assert wrong.code == 2 and "where: demonstrators.train.lr" in wrong.stderr
    assert "total_steps" in wrong.stderr and "import_path" not in wrong.stderr
    wrong = shell.vintix("demonstrators", "--dry-run", "--algorithm", "dqn")
    assert wrong.code == 2 and "where: demonstrators.train.algorithm" in wrong.stderr


def test_a_part_in_place_of_a_history_tells_how_to_join_it(shell):
    split = ("--trajectories", "2", "--steps", "50", "--name", "halves", "--shard", "1/2")
    made = shell.vintix("distill", "--task", "point-mass-north-east", *split)
    assert made.code == 0, made.stderr
    for reference, code in (("halves-1-of-2", 4), ("parts/halves-1-of-2", 2)):
        wrong = shell.vintix("pack", "--histories", reference)
        assert wrong.code == code and "vintix artifacts merge" in wrong.stderr
