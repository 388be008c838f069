"""The decay of Appendix A.3 and its text form."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.distill.schedule import (
    default_noise,
    draw_level,
    epsilons,
    noise_of_trajectory,
    parse_schedule,
)
from pipelines.errors import ConfigError, UsageError
from pipelines.rng import stream
from pipelines.tasks.schedule import (
    EpisodeNoise,
    HistoryNoise,
    decay_from_json,
    schedule_from_json,
    schedule_json,
    schedule_text,
)
from pipelines.tasks.spec import Schedule

totals = st.integers(2, 3000)
curvatures = st.floats(0.05, 20)
tails = st.floats(0, 0.95)


@given(totals, curvatures, tails)
def test_ends(total, p, f):
    """The first step is all noise; beyond (1 - f) N there is none."""
    found = epsilons(total, p, f)
    assert found.dtype == np.float64
    assert found.shape == (total,)
    assert found[0] == 1.0
    steps = np.arange(total)
    assert (found[steps > (1 - f) * total] == 0).all()
    assert ((found >= 0) & (found <= 1)).all()


@given(totals, curvatures, tails)
def test_never_rises(total, p, f):
    """Noise never rises, up to a rounding of the power function."""
    assert (np.diff(epsilons(total, p, f)) <= 1e-12).all()


@given(totals, curvatures, tails)
def test_satisfies_the_equation(total, p, f):
    """epsilon^p + (n / ((1 - f) N))^p = 1 while there is noise: the formula, turned round."""
    fraction = np.arange(total) / ((1 - f) * total)
    noisy = fraction <= 1
    found = epsilons(total, p, f)
    # Small p raises epsilon to a high power: compare in the domain where numbers are kept.
    assert found[noisy] ** p + fraction[noisy] ** p == pytest.approx(1, abs=1e-9)


@given(totals, tails)
def test_p_one_is_linear(total, f):
    expected = np.clip(1 - np.arange(total) / ((1 - f) * total), 0, None)
    assert epsilons(total, 1.0, f) == pytest.approx(expected, abs=1e-12)


@given(totals, tails, st.floats(1.05, 10), st.floats(0.1, 0.95))
def test_p_on_both_sides_of_one(total, f, above, below):
    """p > 1 keeps the noise above the straight line, p < 1 below it (Appendix A.3)."""
    line = epsilons(total, 1.0, f)
    assert (epsilons(total, above, f) >= line - 1e-12).all()
    assert (epsilons(total, below, f) <= line + 1e-12).all()


def test_p_bends_where_the_paper_says():
    """p > 1: flat at the start and steep at the end; p < 1 the other way round."""
    high, low = epsilons(1000, 2.0, 0.1), epsilons(1000, 0.5, 0.1)
    assert high[0] - high[100] < 0.02 < 0.2 < high[800] - high[899]
    assert low[0] - low[100] > 0.4 > 0.02 > low[800] - low[899]


@given(totals, curvatures, st.floats(0, 0.4), st.floats(0.45, 0.95))
def test_larger_f_has_less_noise(total, p, small, large):
    assert (epsilons(total, p, large) <= epsilons(total, p, small) + 1e-12).all()


@given(totals, curvatures, tails, st.data())
def test_each_step_has_the_papers_number(total, p, f, data):
    step, end = data.draw(st.integers(0, total - 1)), (1 - f) * total
    expected = (1 - (step / end) ** p) ** (1 / p) if step <= end else 0.0
    assert epsilons(total, p, f)[step] == pytest.approx(expected, abs=1e-9)


def test_no_tail():
    """f = 0: noise until the last step, which is not yet free of it."""
    assert epsilons(10, 1.0, 0.0)[-1] == pytest.approx(0.1)


def test_parse():
    assert parse_schedule("p=0.7,f=0.1") == Schedule(p=0.7, f=0.1)
    assert parse_schedule(" f=0 , p=3 ") == Schedule(p=3, f=0)
    assert parse_schedule("p=2") == Schedule(p=2, f=Schedule().f)
    assert parse_schedule("per=episode,max=0.5,pure=0.1") == EpisodeNoise(0.5, 0.1)
    assert parse_schedule(" pure=1 , per=episode ") == EpisodeNoise(1.0, 1.0)
    assert parse_schedule("per=history,max=0.7,p=2,f=0") == HistoryNoise(0.7, 2.0, 0.0)
    assert parse_schedule("per=history") == HistoryNoise()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0.7",
        "p=",
        "p=x",
        "p=0,f=0.1",
        "p=-1",
        "p=nan",
        "p=inf",
        "f=1",
        "f=-0.1",
        "f=nan",
        "q=1",
        "p=1,p=2",
        "p=1;f=0",
        "max=0.5",
        "per=step",
        "per=episode,per=history",
        "per=episode,p=1",
        "per=episode,max=1.1",
        "per=episode,pure=-0.1",
        "per=episode,max=nan",
        "per=history,pure=0.1",
        "per=history,max=x",
        "per=history,p=0",
        "per=history,f=1",
    ],
)
def test_parse_rejects(text):
    with pytest.raises(UsageError) as found:
        parse_schedule(text)
    assert found.value.expected
    assert "--schedule" in found.value.fix


@pytest.mark.parametrize(
    "arguments",
    [(0, 1, 0.1), (10, 0, 0.1), (10, 1, 1)],
)
def test_out_of_range(arguments):
    with pytest.raises(UsageError):
        epsilons(*arguments)


shares = st.floats(0, 1)
drawn = st.one_of(
    st.builds(EpisodeNoise, max=shares, pure=shares),
    st.builds(HistoryNoise, max=shares, p=curvatures, f=tails),
)


@given(st.one_of(drawn, st.builds(Schedule, p=curvatures, f=tails)))
def test_as_recorded_and_as_typed(schedule):
    """Artifacts, run files and the command line give back what was meant."""
    assert schedule_from_json(schedule_json(schedule)) == schedule
    typed = ",".join(f"{name}={value}" for name, value in schedule_json(schedule).items())
    assert parse_schedule(typed) == schedule


def test_drawn_noise_is_no_decay():
    """A task of the catalogue has a decay, which a pilot can fit."""
    assert schedule_text(schedule_json(EpisodeNoise(0.5, 0.1))) == "per=episode,max=0.5,pure=0.1"
    assert schedule_text(schedule_json(HistoryNoise())) == "per=history,max=1,p=1,f=0.1"
    with pytest.raises(ConfigError, match="no decay"):
        decay_from_json(schedule_json(HistoryNoise()))
    for wrong in ({"per": "step"}, {"per": "episode", "f": 0.1}, {"per": "history", "max": "x"}):
        with pytest.raises(ConfigError, match="no decay"):
            schedule_from_json(wrong)


@given(st.integers(1, 500), drawn, st.integers(0, 2**31 - 1))
def test_noise_that_is_drawn(total, schedule, seed):
    """Within its largest value, or all noise; along a trajectory it is never more than at first."""
    level = draw_level(schedule, stream(seed, "level"))
    assert level == draw_level(schedule, stream(seed, "level"))
    noise = level * noise_of_trajectory(total, schedule)
    assert noise.shape == (total,) and (noise >= 0).all() and (noise <= 1).all()
    assert (np.diff(noise) <= 1e-12).all()
    if isinstance(schedule, HistoryNoise):
        assert noise[0] == level <= schedule.max
        assert (noise[np.arange(total) > (1 - schedule.f) * total] == 0).all()
    else:
        assert (noise == level).all() and (level <= schedule.max or level == 1)


def test_the_share_of_episodes_of_pure_noise():
    levels = np.array(
        [draw_level(EpisodeNoise(0.5, 0.3), stream(0, "level", each)) for each in range(2000)]
    )
    assert (levels == 1).mean() == pytest.approx(0.3, abs=0.04)
    assert levels[levels < 1].mean() == pytest.approx(0.25, abs=0.02)
    assert levels[levels < 1].max() <= 0.5


def test_the_noise_of_a_task_follows_what_its_demonstrators_know():
    own = Schedule(2, 0.3)
    assert default_noise(own, None) is default_noise(own, "demonstrator") is own
    assert default_noise(own, "decoy") == EpisodeNoise(0.5, 0.1)
    assert default_noise(own, "belief") == HistoryNoise(1.0, 1.0, 0.1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("max=0.5", "per=episode.*or per=history"), ("max=0.5,f=0.1", "per=history"), ("q=1", "p, f")],
)
def test_what_belongs_to_drawn_noise_is_told_with_per(text, expected):
    """Who leaves per= out is not told that there is no such parameter."""
    with pytest.raises(UsageError) as refused:
        parse_schedule(text)
    assert re.match(expected, refused.value.expected)
