"""The numbers that the paper and the published checkpoint hold the catalogue to."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.distill.schedule import noise_along
from pipelines.pack.card import table
from pipelines.pack.plan import paper_plan
from pipelines.tasks.registry import catalogue

TRAIN = ("train",)


def test_counts_of_tasks_and_variations():
    """102 tasks of which 87 train, and 11 bodies x 4 changes beside them."""
    tasks, variations = catalogue().tasks, catalogue().variations
    assert len(tasks) == 102
    assert len({spec.name for spec in tasks}) == 102
    assert sum(spec.split == "train" for spec in tasks) == 87
    assert len(variations) == 44
    assert {spec.split for spec in variations} == {"validation"}


@pytest.mark.parametrize(
    ("domain", "tasks", "training", "timesteps"),
    [
        ("bidexhands", 20, 15, 31_700_000),
        ("industrial-benchmark", 21, 16, 24_000_000),
        ("metaworld", 50, 45, 67_500_000),
        ("mujoco", 11, 11, 100_000_000),
    ],
)
def test_training_steps_by_domain(domain, tasks, training, timesteps):
    chosen = catalogue().select(domains=[domain])
    trained = [spec for spec in chosen if spec.split == "train"]
    assert (len(chosen), len(trained)) == (tasks, training)
    assert sum(spec.timesteps for spec in trained) == timesteps


def test_the_plan_is_the_papers_table_1():
    """Table 1 rounds: 216k, 96k, 670k (67 M; exactly 675k of 67.5 M) and 665k episodes."""
    plan = paper_plan()
    rows = [*plan.rows, plan.totals]
    assert [(row["domain"], row["tasks"]) for row in rows] == [
        ("bidexhands", 15),
        ("industrial-benchmark", 16),
        ("metaworld", 45),
        ("mujoco", 11),
        ("overall", 87),
    ]
    thousands = [round(row["episodes"] / 1000) for row in rows]
    assert thousands == [216, 96, 675, 665, 1652]
    assert rows[-1]["timesteps"] == 223_200_000
    percent = [round(100 * row["sample_weight"], 1) for row in rows]
    # The paper's 14.2, 10.8, 30.1, 44.9 %, with Meta-World counted whole.
    assert percent == [14.2, 10.8, 30.2, 44.8, 100.0]


def test_a_table_has_the_domains_of_others_last():
    names = ("elsewhere", "mujoco", "mujoco", "metaworld")
    rows = table([{"domain": name, "episodes": 2.4, "steps": 50} for name in names])
    assert [(row["domain"], row["episodes"], row["timesteps"]) for row in rows] == [
        ("metaworld", 2, 50),
        ("mujoco", 5, 100),
        ("elsewhere", 2, 50),
        ("overall", 10, 200),
    ]
    assert sum(row["sample_weight"] for row in rows[:-1]) == pytest.approx(1)
    assert table(()) == []


def members(splits=()):
    """Return the tasks of each group."""
    found = {}
    for spec in catalogue().select(splits=splits):
        found.setdefault(spec.group, []).append(spec)
    return found


def dims(specs):
    return specs[0].observation_dim, specs[0].action_dim


def _encoder_parameters(v4: bool) -> int:
    # By group: observation and action enter 511 channels each through MLPs that else do not depend
    # on the dims (264,187 apiece), the reward enters 2 (4 parameters). Once: the learned paddings
    # of action and reward (511 + 2).
    total = 513
    for spec, *_ in members(TRAIN).values():
        observation_dim = (spec.observation_dim_v4 if v4 else None) or spec.observation_dim
        total += 511 * (observation_dim + spec.action_dim) + 2 * 264_187 + 4
    return total


def test_training_groups_give_the_published_parameter_count():
    """21 groups: with v4 dims the encoder has the published size, with v5 dims that of Table 5."""
    groups = members(TRAIN)
    assert len(groups) == 21
    observed, acted = np.sum([dims(specs) for specs in groups.values()], axis=0)
    assert (observed, acted) == (4342, 481)
    assert _encoder_parameters(v4=True) == 13_551_295
    assert _encoder_parameters(v4=False) == 13_561_004


def test_hand_over_has_a_group_that_no_training_task_shares():
    """Its dims (398, 40) fit no trained encoder: the paper reports 0 for it (Appendix A.2.3)."""
    over = catalogue().get("hand-over")
    assert over.split == "validation"
    groups = members()
    assert groups[over.group] == [over]
    assert dims([over]) == (398, 40)
    assert set(groups) - set(members(TRAIN)) == {over.group}


def test_groups_part_tasks_whose_channels_mean_different_things():
    """Equal dims are not enough: doors name the left handle first, the others the right one."""
    groups = {group: {spec.name for spec in specs} for group, specs in members().items()}
    assert groups["bidexhands-doors"] == {
        "hand-door-close-inward",
        "hand-door-close-outward",
        "hand-door-open-inward",
        "hand-door-open-outward",
    }
    assert groups["bidexhands-points"] == {
        "hand-lift-underarm",
        "hand-pen",
        "hand-scissors",
        "hand-swing-cup",
        "hand-switch",
        "hand-kettle",
    }
    for group in ("bidexhands-doors", "bidexhands-points"):
        assert dims(members()[group]) == (417, 52)
    assert groups["bidexhands-catch"] == {
        "hand-catch-abreast",
        "hand-catch-over-2-underarm",
        "hand-catch-underarm",
    }
    assert groups["bidexhands-blocks"] == {"hand-block-stack", "hand-push-block"}
    assert groups["mujoco-humanoid"] == {"humanoid"}
    assert len(groups["metaworld"]) == 50
    assert len(groups["industrial-benchmark"]) == 21


def test_seven_variations_change_nothing():
    """They stay in the catalogue, marked: a score on them says nothing about adaptation."""
    inert = {spec.name: spec.inert_reason for spec in catalogue().variations if spec.inert}
    assert set(inert) == {
        "pusher-gravity-0.9",
        "pusher-gravity-1.1",
        "reacher-gravity-0.9",
        "reacher-gravity-1.1",
        "swimmer-gravity-0.9",
        "swimmer-gravity-1.1",
        "swimmer-viscosity-0.1",
    }
    assert all(inert.values())


def test_variations_are_their_base_with_one_change():
    """Everything a stage reads, dims and scores included, is that of the base task."""
    changes = {"viscosity": set(), "gravity": set()}
    for spec in catalogue().variations:
        base = catalogue().get(spec.variation_of)
        assert base.variation_of is None and base.domain == "mujoco"
        for field in ("group", "observation_dim", "action_dim", "env_id", "reward_scale", "scores"):
            assert getattr(spec, field) == getattr(base, field)
        ((parameter, value),) = spec.variation.items()
        changes[parameter].add(value)
        assert spec.name == f"{base.name}-{parameter}-{str(value).rstrip('x')}"
    assert changes == {"viscosity": {0.05, 0.1}, "gravity": {"0.9x", "1.1x"}}


def test_schedules_follow_the_response_to_noise():
    """Cliffs under noise need a halt there, early saturation p > 1 (Appendix A.3)."""
    decay = {spec.name: spec.decay for spec in catalogue().tasks}
    for name in ("inverted-pendulum", "inverted-double-pendulum"):
        halted = np.interp([0.2, 0.8], decay[name].progress, decay[name].noise)
        assert 0.5 > halted[0] > halted[1] > 0.2
    assert decay["reacher"].p > 1 and decay["pusher"].p > 1
    # A throw is lost with little noise, pushing is not.
    assert decay["hand-push-block"].p > 1
    throw = decay["hand-catch-underarm"]
    assert np.interp(0.5, throw.progress, throw.noise) < 0.2


def test_every_decay_ends_with_the_demonstrator_alone():
    for spec in (*catalogue().tasks, *catalogue().variations):
        noise = noise_along(1000, spec.decay)
        assert noise[0] == 1 and not noise[951:].any()
        if spec.variation_of is not None:
            assert spec.decay == catalogue().get(spec.variation_of).decay
