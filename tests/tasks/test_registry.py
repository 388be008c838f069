"""Finding tasks: names, filters, plugins, and what is said when nothing is found."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import ConfigError, UsageError
from pipelines.tasks.registry import Catalogue, catalogue
from pipelines.tasks.spec import TaskSpec

ALL = (*catalogue().tasks, *catalogue().variations)


def _spec(name: str = "gridworld", **fields: object) -> TaskSpec:
    given = {"domain": "mine", "group": "mine", "observation_dim": 4, "action_dim": 2, "horizon": 9}
    return TaskSpec(name=name, **{**given, **fields})


def test_no_name_answers_for_two_tasks():
    """Aliases, names and both of any case: one owner each."""
    owners = defaultdict(set)
    for spec in ALL:
        for name in (spec.name, *spec.aliases):
            owners[name.lower()].add(spec.name)
    assert {name: held for name, held in owners.items() if len(held) > 1} == {}


@given(st.sampled_from(ALL), st.data())
def test_every_name_finds_its_task(spec, data):
    """Case and underscores do not matter, so that names survive shells and file systems."""
    name = data.draw(st.sampled_from([spec.name, *spec.aliases]))
    spelled = data.draw(st.sampled_from([name, name.upper(), name.lower(), name.replace("-", "_")]))
    assert catalogue().get(spelled) is spec


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("Hopper-v4", "hopper"),
        ("Hopper-v5", "hopper"),
        ("mujoco/hopper", "hopper"),
        ("HalfCheetah", "half-cheetah"),
        ("Walker2d-v4", "walker2d"),
        ("reach-v2", "reach"),
        ("reach-v3", "reach"),
        ("metaworld/reach", "reach"),
        ("IB-p-50", "industrial-benchmark-50"),
        ("ib-50", "industrial-benchmark-50"),
        ("industrial-benchmark-50-v1", "industrial-benchmark-50"),
        ("Hand-Push-Block", "hand-push-block"),
        ("ShadowHandPushBlock", "hand-push-block"),
        ("shadowhandcatchover2underarm", "hand-catch-over-2-underarm"),
        ("hand-re-orientation", "hand-reorientation"),
        ("hopper-gravity-0.9", "hopper-gravity-0.9"),
    ],
)
def test_names_of_other_sources(alias, name):
    assert catalogue().get(alias).name == name


def test_unknown_task_names_the_nearest():
    with pytest.raises(UsageError) as caught:
        catalogue().get("hoper")
    assert caught.value.exit_code == 2
    assert "Did you mean hopper" in caught.value.message
    assert caught.value.fix == "vintix tasks"


def test_unknown_task_without_a_neighbour_suggests_nothing():
    with pytest.raises(UsageError) as caught:
        catalogue().get("qqqqqqqq")
    assert "mean" not in caught.value.message


@pytest.mark.parametrize(
    ("filters", "known"),
    [
        ({"domains": ["atari"]}, "metaworld"),
        ({"groups": ["atari"]}, "mujoco-hopper"),
        ({"splits": ["test"]}, "validation"),
    ],
)
def test_unknown_filter_names_the_known_ones(filters, known):
    with pytest.raises(UsageError) as caught:
        catalogue().select(**filters)
    assert known in caught.value.expected
    assert caught.value.fix == "vintix tasks"


@pytest.mark.parametrize(
    ("spelling", "domain"),
    [
        ("industrial_benchmark", "industrial-benchmark"),
        ("Industrial-Benchmark", "industrial-benchmark"),
        ("meta-world", "metaworld"),
        ("Meta-World", "metaworld"),
        ("bi-dexhands", "bidexhands"),
        ("MuJoCo", "mujoco"),
    ],
)
def test_domain_spellings(spelling, domain):
    chosen = catalogue().select(domains=[spelling])
    assert chosen and {spec.domain for spec in chosen} == {domain}


NAMES = st.sampled_from([spec.name for spec in ALL])
FILTERS = st.fixed_dictionaries(
    {
        "tasks": st.lists(NAMES, max_size=4),
        "domains": st.lists(st.sampled_from(catalogue().domains), max_size=2),
        "groups": st.lists(st.sampled_from(catalogue().groups), max_size=2),
        "splits": st.lists(st.sampled_from(["train", "validation"]), max_size=2),
        "variations": st.booleans(),
    }
)


@given(FILTERS, st.randoms())
def test_select_is_an_ordered_subset_whatever_the_order_of_its_arguments(filters, random):
    """Resume depends on it: the same choice lists the same tasks in the same order."""
    chosen = catalogue().select(**filters)
    positions = [ALL.index(spec) for spec in chosen]
    assert positions == sorted(set(positions))
    shuffled = {
        key: random.sample(value, len(value)) if isinstance(value, list) else value
        for key, value in filters.items()
    }
    assert catalogue().select(**shuffled) == chosen


@given(FILTERS)
def test_select_keeps_exactly_what_passes(filters):
    """Each filter by its plain definition: union within a filter, intersection across them."""
    named = set(filters["tasks"])
    expected = [
        spec
        for spec in ALL
        if (
            spec.name in named
            or (
                (spec.variation_of is None or filters["variations"])
                and (not named or spec.variation_of in named)
            )
        )
        and (not filters["domains"] or spec.domain in filters["domains"])
        and (not filters["groups"] or spec.group in filters["groups"])
        and (not filters["splits"] or spec.split in filters["splits"])
    ]
    assert list(catalogue().select(**filters)) == expected


def test_select_takes_the_variations_of_named_tasks_on_request():
    chosen = catalogue().select(tasks=["hopper"], variations=True)
    assert [spec.name for spec in chosen] == [
        "hopper",
        "hopper-viscosity-0.05",
        "hopper-viscosity-0.1",
        "hopper-gravity-0.9",
        "hopper-gravity-1.1",
    ]
    assert len(catalogue().select(variations=True)) == 146
    assert catalogue().select() == catalogue().tasks


def test_select_takes_a_variation_that_is_named():
    (chosen,) = catalogue().select(tasks=["hopper-gravity-1.1"])
    assert chosen.variation == {"gravity": "1.1x"}


def test_extended_holds_the_tasks_of_a_plugin():
    own = _spec(aliases=("grid",))
    windy = _spec("gridworld-wind-2", variation_of="gridworld", variation={"wind": 2})
    wider = catalogue().extended([own, windy])
    assert wider.get("GRID") is own
    assert wider.tasks == (*catalogue().tasks, own)
    assert wider.variations == (*catalogue().variations, windy)
    assert wider.domains == (*catalogue().domains, "mine")
    with pytest.raises(UsageError):
        catalogue().get("grid")


def test_extended_takes_an_equal_task_once():
    """The built-in domains list their tasks like any plugin; that must not be a clash."""
    again = catalogue().extended(catalogue().select(domains=["mujoco"], variations=True))
    assert (again.tasks, again.variations) == (catalogue().tasks, catalogue().variations)


@pytest.mark.parametrize(
    "clash",
    [_spec("hopper"), _spec("Hopper"), _spec(aliases=("REACH-v2",)), _spec("HOPPER_v5")],
)
def test_extended_refuses_a_name_that_is_taken_and_names_both(clash):
    with pytest.raises(ConfigError) as caught:
        catalogue().extended([clash])
    assert caught.value.exit_code == 3
    assert f"'{clash.name}' of domain 'mine'" in caught.value.where
    assert "'hopper' of domain 'mujoco'" in caught.value.where or "'reach'" in caught.value.where


def test_a_group_has_one_pair_of_dims():
    """One encoder serves the group; a plugin that joins with other dims would break it later."""
    with pytest.raises(ConfigError, match="metaworld"):
        catalogue().extended([_spec(group="metaworld")])


def test_a_variation_needs_its_base():
    with pytest.raises(ConfigError, match="gridworld"):
        Catalogue([_spec("windy", variation_of="gridworld", variation={"wind": 2})])


@pytest.mark.process
def test_catalogue_loads_without_heavy_imports():
    """`vintix --help` has 0.3 s; the catalogue must not bring the simulators or pydantic."""
    heavy = ["torch", "numpy", "pydantic", "mujoco", "gymnasium", "zarr", "matplotlib", "typer"]
    code = (
        "import sys; import pipelines.tasks.registry as t; assert 'yaml' not in sys.modules; "
        f"t.catalogue(); print([m for m in {heavy} if m in sys.modules])"
    )
    # A bare interpreter: site hooks of the test environment are not ours to count.
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )
    assert done.stdout.strip() == "[]"
