from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from pipelines.domains.mujoco import physics
from pipelines.domains.registry import full_catalogue
from pipelines.errors import ConfigError, UsageError
from pipelines.rollout.config import RolloutConfig
from pipelines.rollout.selection import Target, select_targets
from pipelines.tasks.registry import catalogue

from .toy import EVEN, UNEVEN, UNSEEN, WIDE, install, saved_task, tiny_model

HOPPER = catalogue().get("hopper")
PUSHER = catalogue().get("pusher")
SETPOINT_20 = catalogue().get("industrial-benchmark-20")
SETPOINT_50 = catalogue().get("industrial-benchmark-50")


@pytest.fixture(autouse=True)
def _toy(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)


def select(config: dict[str, Any], *known: Any) -> list[Target]:
    saved = {spec.name: saved_task(spec) for spec in known}
    model: Any = SimpleNamespace(config=tiny_model().config, tasks=saved)
    return select_targets(RolloutConfig(**config), model, full_catalogue())


def names(targets: list[Target]) -> list[str]:
    return [target.spec.name for target in targets]


def test_without_a_selection_all_trained_tasks_are_played() -> None:
    assert names(select({}, WIDE, EVEN, HOPPER)) == ["hopper", "toy-even", "toy-wide"]
    held_out = replace(saved_task(UNSEEN, trained=False))
    model: Any = SimpleNamespace(
        config=tiny_model().config, tasks={"toy-even": saved_task(EVEN), "toy-unseen": held_out}
    )
    catalogue_ = full_catalogue()
    assert names(select_targets(RolloutConfig(), model, catalogue_)) == ["toy-even"]
    validation = RolloutConfig(splits=("validation",))
    assert names(select_targets(validation, model, catalogue_)) == ["toy-unseen"]


def test_filters_by_task_alias_domain_and_split() -> None:
    assert names(select({"tasks": ("Hopper-v4",)}, EVEN, HOPPER)) == ["hopper"]
    assert names(select({"domains": ("toy",)}, EVEN, HOPPER)) == ["toy-even"]
    variations = select({"splits": ("validation",), "domains": ("mujoco",)}, EVEN, HOPPER)
    assert len(variations) == 4
    assert all(each.known == "hopper" and each.spec.variation_of for each in variations)


def test_shots_follow_the_horizon_unless_given() -> None:
    assert [each.shots for each in select({}, HOPPER, EVEN)] == [8, 20]
    assert [each.shots for each in select({"shots": 3}, HOPPER, EVEN)] == [3, 3]


def test_gravity_is_the_catalogues_variation_with_the_base_tasks_statistics() -> None:
    (target,) = select({"tasks": ("hopper",), "gravity": 1.1}, HOPPER)
    assert target.spec == catalogue().get("hopper-gravity-1.1")
    assert target.known == "hopper"
    assert target.scores["measured"] == {"random": 1.0, "expert": 5.0}


def test_physics_that_the_catalogue_does_not_list_becomes_a_variation_of_its_own() -> None:
    (target,) = select({"tasks": ("hopper",), "gravity": 1.25, "viscosity": 0.2}, HOPPER)
    assert target.spec.name == "hopper-gravity-1.25-viscosity-0.2"
    assert dict(target.spec.variation or {}) == {"gravity": "1.25x", "viscosity": 0.2}
    assert target.spec.variation_of == "hopper"
    assert not target.spec.inert


def test_a_variation_is_played_as_it_is_whatever_the_data_was_recorded_under() -> None:
    """Data of hopper at 1.2 times its gravity gives hopper-gravity-1.1 its statistics alone."""
    heavy = {"gravity": "1.2x", "viscosity": 0.3}
    saved = {"hopper": replace(saved_task(HOPPER), options=heavy)}
    model: Any = SimpleNamespace(config=tiny_model().config, tasks=saved)
    for config, played in (
        ({"gravity": 1.1}, {"gravity": "1.1x", "viscosity": 0.3}),
        ({"tasks": ("hopper-viscosity-0.05",)}, {"gravity": "1.2x", "viscosity": 0.05}),
        ({}, heavy),
    ):
        (target,) = select_targets(RolloutConfig(**config), model, full_catalogue())
        assert physics(target.spec, target.options) == played


def test_an_option_that_a_variation_changes_is_refused() -> None:
    for config in ({"gravity": 1.1}, {"tasks": ("hopper-gravity-1.1",)}):
        with pytest.raises(UsageError, match="what makes it a variation") as caught:
            select({**config, "options": {"gravity": "1.3"}}, HOPPER)
        assert caught.value.fix == "leave --option gravity out"
    (target,) = select({"gravity": 1.1, "options": {"viscosity": "0.2"}}, HOPPER)
    assert physics(target.spec, target.options) == {"gravity": "1.1x", "viscosity": 0.2}


def test_inert_physics_is_marked_for_any_factor() -> None:
    (listed,) = select({"gravity": 1.1}, PUSHER)
    (unlisted,) = select({"gravity": 3.0}, PUSHER)
    (viscous,) = select({"viscosity": 0.3}, PUSHER)
    assert listed.spec.inert and unlisted.spec.inert and not viscous.spec.inert


def test_changed_physics_without_a_selection_takes_what_has_that_physics() -> None:
    assert names(select({"gravity": 0.9}, EVEN, HOPPER)) == ["hopper-gravity-0.9"]


@pytest.mark.parametrize(
    ("config", "domain"),
    [
        ({"tasks": ("toy-even",), "gravity": 1.1}, "mujoco"),
        ({"tasks": ("toy-even", "hopper"), "viscosity": 0.1}, "mujoco"),
        ({"tasks": ("hopper",), "setpoint": 85}, "industrial-benchmark"),
    ],
)
def test_changed_physics_of_another_domain_is_a_usage_error(
    config: dict[str, Any], domain: str
) -> None:
    with pytest.raises(UsageError, match=f"domain {domain} alone"):
        select(config, EVEN, HOPPER, SETPOINT_20)


@pytest.mark.parametrize(
    ("config", "fix"),
    [
        (
            {"tasks": ("hopper",)},
            "vintix rollout --task industrial-benchmark-20, or leave --setpoint out",
        ),
        (
            {"domains": ("mujoco",)},
            "vintix rollout --domain industrial-benchmark, or leave --setpoint out",
        ),
    ],
)
def test_the_fix_of_a_changed_physics_names_what_has_it(config: dict[str, Any], fix: str) -> None:
    """It takes the place of what was typed, so it must not leave a task of another domain there."""
    with pytest.raises(UsageError) as caught:
        select({**config, "setpoint": 50}, HOPPER, SETPOINT_20)
    assert caught.value.fix == fix
    with pytest.raises(UsageError) as caught:
        select({"tasks": ("hopper",), "setpoint": 50}, HOPPER)
    assert caught.value.fix == "leave --setpoint out"


def test_a_gravity_is_played_to_its_last_digit() -> None:
    (target,) = select({"gravity": 1.2345678}, HOPPER)
    assert target.spec.name == "hopper-gravity-1.23457"
    assert physics(target.spec, target.options) == {"gravity": "1.2345678x"}


def test_a_variation_is_not_varied_again() -> None:
    with pytest.raises(UsageError, match="variation already"):
        select({"tasks": ("hopper-gravity-0.9",), "gravity": 1.1}, HOPPER)


def test_a_setpoint_takes_the_nearest_known_statistics_and_its_own_scores() -> None:
    (target,) = select({"setpoint": 85}, SETPOINT_20, SETPOINT_50)
    assert target.known == "industrial-benchmark-50"
    assert target.spec.simulator["setpoint"] == 85
    assert set(target.scores) == {"paper"}
    twin = catalogue().get("industrial-benchmark-85").scores["paper"]
    assert target.scores["paper"]["expert"] == twin.expert
    (off_grid,) = select({"setpoint": 83.5}, SETPOINT_50)
    assert off_grid.scores == {}
    (same,) = select({"setpoint": 50}, SETPOINT_20, SETPOINT_50)
    assert same.spec == SETPOINT_50


def test_an_unseen_task_of_a_known_group_names_the_groups_known_tasks() -> None:
    with pytest.raises(ConfigError, match=r"toy-even, toy-uneven") as caught:
        select({"tasks": ("toy-unseen",)}, EVEN, UNEVEN, WIDE)
    assert "toy-wide" not in str(caught.value)


def test_a_task_of_an_unknown_group_names_the_groups_and_their_dims() -> None:
    with pytest.raises(ConfigError, match=r"toy \(3 observation dims, .* 2 dim.*toy-wide \(4"):
        select({"tasks": ("toy-foreign",)}, EVEN)


def test_unknown_tasks_domains_and_empty_choices_are_usage_errors() -> None:
    for config in ({"tasks": ("no-such",)}, {"domains": ("no-such",)}, {"domains": ("mujoco",)}):
        with pytest.raises(UsageError):
            select(config, EVEN)


def test_a_checkpoints_task_that_nobody_declares_any_more_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="no installed domain declares"):
        select({}, EVEN, replace(EVEN, name="toy-gone"))


def test_options_are_those_of_the_data_unless_given() -> None:
    (recorded,) = select({}, EVEN)
    assert recorded.options == {"goal": "hidden"}
    given = select({"options": {"goal": "visible"}}, EVEN, HOPPER)
    assert given[1].options == {"goal": "visible"}
    assert "goal" not in given[0].options
    with pytest.raises(UsageError, match="'no-such'"):
        select({"options": {"no-such": 1}}, EVEN)
