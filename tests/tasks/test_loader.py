"""Reading a domain file: templates, defaults, and mistakes in the data."""

from __future__ import annotations

import pytest

from pipelines.errors import ConfigError
from pipelines.tasks.loader import parse_domain

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
