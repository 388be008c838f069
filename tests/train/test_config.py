"""The configuration is complete whatever is given, and says what is wrong where."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from pipelines.config import resolve_config
from pipelines.errors import ConfigError, UsageError, VintixError
from pipelines.train.config import DEFAULTS, TrainConfig


def test_every_preset_fills_in_its_defaults():
    for preset, defaults in DEFAULTS.items():
        config = TrainConfig(preset=preset)
        assert {name: getattr(config, name) for name in defaults} == defaults


def test_paper_preset_is_appendix_d():
    config = TrainConfig(preset="paper")
    assert (config.learning_rate, config.betas) == (3e-4, (0.9, 0.99))
    assert (config.batch_size, config.gradient_accumulation, config.context) == (64, 2, 8192)
    assert config.sequences_per_step == 128


def test_none_means_the_default_and_a_value_wins():
    config = TrainConfig(context=None, steps=None, learning_rate=0.5)
    assert (config.context, config.steps, config.learning_rate) == (512, 800, 0.5)


def test_lr_is_a_spelling_of_learning_rate():
    config = resolve_config("train", TrainConfig, command_line={}, assignments=["train.lr=3e-4"])
    assert config.learning_rate == 3e-4


def test_unknown_preset_is_a_usage_error_that_names_the_presets():
    with pytest.raises(UsageError) as caught:
        resolve_config("train", TrainConfig, command_line={"preset": "huge"})
    assert "tiny" in str(caught.value) and "huge" in str(caught.value)


def test_unknown_preset_in_the_environment_is_a_config_error():
    with pytest.raises(ConfigError) as caught:
        resolve_config(
            "train", TrainConfig, command_line={}, environment={"VINTIX_TRAIN_PRESET": "huge"}
        )
    assert "VINTIX_TRAIN_PRESET" in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"steps": 0}, "steps"),
        ({"context": 1}, "context"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"betas": (0.9, 1.0)}, "betas"),
        ({"warmup_fraction": 1.0}, "warmup_fraction"),
        ({"method": "gail"}, "method"),
        ({"model": {"groups": {}}}, "model"),
        ({"model": {"context": 3}}, "model"),
        ({"stepz": 3}, "stepz"),
    ],
)
def test_a_value_out_of_range_is_refused_by_its_field(changes, field):
    with pytest.raises(ValidationError) as caught:
        TrainConfig(**changes)
    assert caught.value.errors()[0]["loc"][0] == field


@pytest.mark.parametrize(
    ("setting", "meant"),
    [
        ("model.head=bin", "bins"),
        ("model.backbone=transfomer", "transformer"),
        ("model.layer=2", "train.model.layers"),
        ("method=dtp", "dpt"),
        ("attention=flas", "flash"),
    ],
)
def test_names_that_need_no_data_are_refused_before_any_is_looked_for(setting, meant):
    """With what was probably meant, for the command to print."""
    with pytest.raises(VintixError, match="Did you mean") as caught:
        resolve_config(
            "train", TrainConfig, command_line={}, assignments=[f"train.{setting}"], environment={}
        )
    name = setting.partition("=")[0]
    assert caught.value.where == f"train.{name}"
    assert caught.value.instead[1] == meant
    assert caught.value.instead[0] in (f"train.{name}", setting.partition("=")[2])


def test_an_architecture_that_fits_no_dataset_is_refused_without_one():
    with pytest.raises(ConfigError, match="multiple of the number of heads") as caught:
        TrainConfig(model={"heads": 3})
    assert caught.value.where == "train.model.heads"


def test_random_maps_and_shuffled_episodes_are_not_the_releases():
    assert TrainConfig(random_map=True).random_map
    with pytest.raises(ValidationError, match="random maps"):
        TrainConfig(random_map=True, fidelity="release")
    with pytest.raises(ValidationError, match="as recorded"):
        TrainConfig(context_order="shuffled", fidelity="release")


def test_gpus_and_the_cpu_contradict_each_other():
    with pytest.raises(ValidationError, match="gpus"):
        TrainConfig(device="cpu", gpus=1)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"processes": 2}, "device cpu"),
        ({"processes": 2, "device": "cuda"}, "device cpu"),
        ({"nodes": 2}, "rendezvous"),
        ({"rendezvous": "host:1"}, "nodes"),
        ({"nodes": 2, "rendezvous": "host"}, "rendezvous"),
        ({"shard": True, "rollout_every": 5}, "shard"),
    ],
)
def test_processes_and_machines_that_do_not_fit_are_refused(changes, word):
    with pytest.raises(ValidationError, match=word):
        TrainConfig(**changes)


def test_processes_of_a_machine_are_its_gpus_or_what_was_asked_for():
    assert TrainConfig().local_processes == 1
    assert TrainConfig(gpus=8).local_processes == 8
    assert TrainConfig(device="cpu", processes=3).local_processes == 3
    assert TrainConfig(nodes=2, rendezvous="host:29500", gpus=4).local_processes == 4
