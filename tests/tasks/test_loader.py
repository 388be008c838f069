"""Reading a domain file: templates, defaults, and mistakes in the data."""

from __future__ import annotations

import json

import pytest

from pipelines.actions import Discrete
from pipelines.errors import ConfigError
from pipelines.tasks.loader import parse_domain, parse_schedules
from pipelines.tasks.schedule import NoiseCurve, Schedule

FILE = """
domain: mine
groups:
  mine-flat: {observation_dim: 4, action_dim: 2}
defaults:
  env_id: "{stem}-p{wind}"
  aliases: ["{stem}", "{title}", "shadow{lower}", "mine/{name}"]
  group: mine-flat
  horizon: 50
tasks:
  grid-world:
    stem: GridWorld
    aliases: [grid]
    simulator: {wind: 3}
    schedule: {p: 2}
variations:
  split: validation
  changes:
    wind-0.5: {wind: 0.5}
  inert:
    grid-world-wind-0.5: it is indoors
"""


def test_defaults_and_templates():
    task, variation = parse_domain(FILE, "mine.yaml")
    assert task.env_id == "GridWorld-p3"
    assert task.aliases == ("GridWorld", "Grid-World", "shadowgridworld", "mine/grid-world", "grid")
    assert (task.schedule.p, task.schedule.f) == (2, 0.1)
    assert (variation.name, variation.variation_of) == ("grid-world-wind-0.5", "grid-world")
    assert variation.inert and variation.split == "validation"


def test_a_group_may_have_discrete_actions():
    text = FILE.replace("action_dim: 2", "actions: {kind: discrete, n: 5}")
    assert text != FILE
    for task in parse_domain(text, "mine.yaml"):
        assert (task.actions, task.action_dim) == (Discrete(5), 5)
    with pytest.raises(ConfigError, match="kind of actions"):
        parse_domain(text.replace("discrete", "digital"), "mine.yaml")


def test_a_fitted_decay_takes_the_place_of_the_files():
    """Of a task and its variations; tasks without one keep what the file says."""
    family = {"p": 0.5, "f": 0.2}
    curve = {"progress": [0, 0.95], "noise": [1, 0]}

    def tasks(name, chosen):
        text = json.dumps({name: {"auto": family, "schedule": chosen}})
        return parse_domain(FILE, "mine.yaml", parse_schedules(text, "schedules.json"))

    for task in tasks("grid-world", curve):
        assert task.decay == task.noise_curve == NoiseCurve((0.0, 0.95), (1.0, 0.0))
        assert task.schedule == Schedule(0.5, 0.2)
    for task in tasks("grid-world", family):
        assert task.decay == Schedule(0.5, 0.2) and task.noise_curve is None
    for task in tasks("other", curve):
        assert task.decay == Schedule(2, 0.1)


@pytest.mark.parametrize(
    "text",
    [
        "[",
        "[]",
        '{"a": {}}',
        '{"a": {"schedule": {"p": 1}}}',
        '{"a": {"auto": {"q": 1}, "schedule": {"p": 1}}}',
        '{"a": {"auto": {"p": 1}, "schedule": {"p": 0}}}',
    ],
)
def test_mistakes_in_fitted_decays_are_named(text):
    with pytest.raises(ConfigError):
        parse_schedules(text, "schedules.json")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("domain: mine", "domain: [", "YAML"),
        ("domain: mine", "", "sections"),
        ("variations:", "variants:", "variants"),
        ("  changes:", "  change: {}\n  changes:", "change"),
        ("    schedule: {p: 2}", "    color: red", "color"),
        ("group: mine-flat", "group: mine-steep", "mine-steep"),
        ('env_id: "{stem}-p{wind}"', 'env_id: "{steam}"', "steam"),
        ("grid-world-wind-0.5: it", "grid-world-wind-5: it", "grid-world-wind-5"),
        ("horizon: 50", "horizon: 0", "horizon"),
        ("  horizon: 50\n", "", "horizon"),
    ],
)
def test_mistakes_in_a_file_are_named(old, new, message):
    assert FILE.count(old) == 1
    with pytest.raises(ConfigError, match=message):
        parse_domain(FILE.replace(old, new), "mine.yaml")
