"""Domains are found as plugins, a broken one harms nobody else, and options have one form."""

from __future__ import annotations

import types
from collections.abc import Iterator, Sequence
from importlib import metadata
from typing import Any

import gymnasium
import numpy as np
import pytest

from pipelines.domains import registry
from pipelines.domains.base import Domain, Options, OptionSpec
from pipelines.errors import MissingDependencyError, UsageError
from pipelines.playing.fingerprint import fingerprint
from pipelines.tasks.spec import TaskSpec


class Corridor(gymnasium.Env[np.ndarray, np.ndarray]):
    """A point on a line."""

    observation_space = gymnasium.spaces.Box(-10, 10, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.x = self.np_random.uniform(-1, 1, 1).astype(np.float32)
        return self.x, {}

    def step(self, action: np.ndarray) -> Any:
        self.x = self.x + action
        return self.x, float(-abs(self.x[0])), bool(abs(self.x[0]) > 5), False, {}


class Corridors(Domain):
    name = "corridors"
    packages = ("numpy",)

    def tasks(self) -> Sequence[TaskSpec]:
        return (
            TaskSpec(
                name="corridor",
                domain="corridors",
                group="corridor",
                observation_dim=1,
                action_dim=1,
                horizon=20,
            ),
        )

    def options(self) -> Sequence[OptionSpec]:
        return (OptionSpec("width", 1.0, "in metres"), OptionSpec("floor", "wood", "its material"))

    def make_env(self, task: TaskSpec, options: Options) -> gymnasium.Env[Any, Any]:
        return Corridor()


class Thief(Corridors):
    name = "thief"

    def tasks(self) -> Sequence[TaskSpec]:
        return (
            TaskSpec(
                name="hopper",
                domain="thief",
                group="thief",
                observation_dim=1,
                action_dim=1,
                horizon=20,
            ),
        )


class NoDomain:
    pass


def entry(name: str, attribute: str, distribution: str) -> metadata.EntryPoint:
    point = metadata.EntryPoint(name, f"{__name__}:{attribute}", registry.GROUP)
    vars(point)["dist"] = types.SimpleNamespace(name=distribution)
    return point


@pytest.fixture
def plugins(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[metadata.EntryPoint]]:
    """Further entry points of the group, as if their distributions were installed."""
    further: list[metadata.EntryPoint] = []
    real = metadata.entry_points

    def entry_points(**selection: Any) -> Any:
        return [*real(**selection), *further]

    monkeypatch.setattr(metadata, "entry_points", entry_points)
    registry._discover.cache_clear()
    yield further
    registry._discover.cache_clear()


def test_the_papers_four_are_registered_as_plugins_are() -> None:
    assert {"mujoco", "metaworld", "industrial-benchmark", "bidexhands"} <= set(
        registry.load_domains()
    )
    for task in registry.full_catalogue().tasks:
        assert registry.domain_of(task).name == task.domain


def test_the_catalogue_of_all_domains_begins_with_the_papers() -> None:
    from pipelines.tasks.registry import catalogue

    full = registry.full_catalogue()
    assert full.tasks[:102] == catalogue().tasks
    assert full.variations[:44] == catalogue().variations


def test_a_plugin_brings_its_tasks_and_runs_as_the_others(
    plugins: list[metadata.EntryPoint],
) -> None:
    plugins.append(entry("corridors", "Corridors", "corridor-tasks"))
    task = registry.full_catalogue().get("corridor")
    domain = registry.domain_of(task)
    batch = domain.make_batch(task, 3, registry.resolve_options(domain, {}), [0, 1, 2])
    first = batch.reset([0, 1, 2], [7, 8, 7])
    assert first.shape == (3, 1)
    assert first.dtype == np.float32
    assert first[0] == first[2] != first[1]
    done = batch.step(np.ones((3, 1), np.float32))
    np.testing.assert_array_equal(done.observation_BO, first + 1)
    assert done.success_B is None
    print_ = fingerprint(task, registry.resolve_options(domain, {"width": 2}))
    assert print_["options"] == {"width": 2.0, "floor": "wood"}
    assert print_["packages"] == {"numpy": np.__version__}


@pytest.mark.parametrize(
    ("name", "attribute", "reason"),
    [
        ("nothing", "Missing", "AttributeError"),
        ("no-domain", "NoDomain", "no subclass"),
        ("misnamed", "Corridors", "calls itself 'corridors'"),
        ("thief", "Thief", "hopper"),
    ],
)
def test_a_broken_plugin_harms_no_other_domain(
    plugins: list[metadata.EntryPoint], name: str, attribute: str, reason: str
) -> None:
    plugins.append(entry(name, attribute, "bad-tasks"))
    assert set(registry.load_domains()) >= {"mujoco", "metaworld"}
    assert registry.full_catalogue().get("hopper").domain == "mujoco"
    with pytest.raises(MissingDependencyError) as caught:
        registry.find_domain(name)
    assert caught.value.exit_code == 5
    assert name in str(caught.value)
    assert "bad-tasks" in str(caught.value)
    assert reason in str(caught.value)
    assert set(registry.broken_domains()) == {name}


def test_a_plugin_cannot_take_the_name_of_a_domain_of_the_paper(
    plugins: list[metadata.EntryPoint],
) -> None:
    plugins.insert(0, entry("mujoco", "Corridors", "aaa-tasks"))
    assert type(registry.find_domain("mujoco")).__name__ == "MuJoCo"
    assert "taken" in str(registry.broken_domains()["mujoco"])


def test_an_unknown_domain_is_a_usage_error_that_lists_the_known() -> None:
    with pytest.raises(UsageError, match="metaworld"):
        registry.find_domain("atari")


def test_domain_names_may_be_written_with_either_separator() -> None:
    assert registry.find_domain("Industrial_Benchmark").name == "industrial-benchmark"


@pytest.mark.parametrize(
    ("domain", "given", "expected"),
    [
        ("mujoco", {}, {"gravity": "default", "viscosity": "default"}),
        ("mujoco", {"gravity": 1.1}, {"gravity": "1.1x", "viscosity": "default"}),
        ("mujoco", {"gravity": "1.10x"}, {"gravity": "1.1x", "viscosity": "default"}),
        ("mujoco", {"gravity": "1.1"}, {"gravity": "1.1x", "viscosity": "default"}),
        ("mujoco", {"gravity": 1}, {"gravity": "1x", "viscosity": "default"}),
        ("mujoco", {"gravity": "-0"}, {"gravity": "0x", "viscosity": "default"}),
        ("mujoco", {"gravity": None}, {"gravity": "default", "viscosity": "default"}),
        ("mujoco", {"viscosity": "0.050"}, {"gravity": "default", "viscosity": 0.05}),
        ("mujoco", {"viscosity": "2.0X"}, {"gravity": "default", "viscosity": "2x"}),
        ("mujoco", {"viscosity": "DEFAULT"}, {"gravity": "default", "viscosity": "default"}),
        ("metaworld", {}, {"goal": "hidden", "goal_reset": "episode"}),
        ("metaworld", {"goal": "Visible"}, {"goal": "visible", "goal_reset": "episode"}),
        ("hidden-goal", {"goals": "Held-Out"}, {"goal": "demonstrator", "goals": "held-out"}),
        (
            "bidexhands",
            {"base_damping": "4.5", "copies_per_simulation": 2, "euler": "Signed"},
            {
                "backend": "mujoco",
                "copies_per_simulation": 2.0,
                "base_damping": 4.5,
                "push_block_goals": "left",
                "reorientation_goal": "second",
                "kettle_target": "below",
                "switch_success": "reference",
                "door_spring": "stiff",
                "euler": "signed",
                "clip": "on",
                "first_step": "random",
            },
        ),
    ],
)
def test_options_have_one_form_however_they_are_written(
    domain: str, given: dict[str, Any], expected: dict[str, Any]
) -> None:
    resolved = registry.resolve_options(registry.find_domain(domain), given)
    assert resolved == expected
    assert [type(v) for v in resolved.values()] == [type(v) for v in expected.values()]
    assert registry.resolve_options(registry.find_domain(domain), resolved) == expected


@pytest.mark.parametrize(
    ("domain", "given", "named"),
    [
        ("mujoco", {"gravity": "-1"}, "factor >= 0"),
        ("mujoco", {"gravity": "heavy"}, "factor >= 0"),
        ("mujoco", {"gravity": "nan"}, "factor >= 0"),
        ("mujoco", {"gravity": True}, "factor >= 0"),
        ("mujoco", {"viscosity": -0.1}, "viscosity >= 0"),
        ("mujoco", {"viscosity": "inf"}, "viscosity >= 0"),
        ("mujoco", {"viscosity": ""}, "viscosity >= 0"),
        ("mujoco", {"density": 1}, "gravity"),
        ("metaworld", {"goal": "shown"}, "hidden or visible"),
        ("bidexhands", {"gravity": 1}, "push_block_goals"),
        ("bidexhands", {"backend": "physx"}, "mujoco or isaacgym"),
        ("bidexhands", {"base_damping": 0}, "number > 0"),
        ("bidexhands", {"copies_per_simulation": 1.5}, "whole number"),
    ],
)
def test_a_value_that_is_not_allowed_is_a_usage_error_naming_what_is(
    domain: str, given: dict[str, Any], named: str
) -> None:
    with pytest.raises(UsageError) as caught:
        registry.resolve_options(registry.find_domain(domain), given)
    assert named in str(caught.value)
    assert next(iter(given)) in str(caught.value)
    assert caught.value.fix is not None


def test_the_fix_of_a_wrong_option_is_what_would_be_accepted() -> None:
    metaworld = registry.find_domain("metaworld")
    with pytest.raises(UsageError) as caught:
        registry.resolve_options(metaworld, {"goal": "nobody"})
    assert str(caught.value.fix).startswith("goal=hidden or goal=visible or ")
    with pytest.raises(UsageError) as caught:
        registry.split_options([registry.find_domain("mujoco")], {"backlog": "1"})
    assert caught.value.fix == "leave the option backlog out, or choose gravity or viscosity"


def test_a_free_option_without_a_parser_is_a_number(plugins: list[metadata.EntryPoint]) -> None:
    with pytest.raises(UsageError, match="finite number"):
        registry.resolve_options(Corridors(), {"width": "wide"})
