"""Fits of a decay to a task's response to noise: straight where they can be, never worse."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.distill.response import (
    LINEAR,
    MOST_PURE,
    PLAYED_IN_ALL,
    SHORTEST_TAIL,
    Response,
    choose_decay,
    fit_curve,
    fit_family,
    fit_levels,
    levels_along,
    predicted_straightness,
    share_played,
)
from pipelines.distill.schedule import noise_along, parse_schedule
from pipelines.errors import ConfigError
from pipelines.tasks.schedule import (
    EpisodeNoise,
    NoiseCurve,
    Schedule,
    schedule_from_json,
    schedule_json,
    schedule_text,
)

LEVELS = [level / 10 for level in range(11)]
numbers = st.floats(-100, 100)


def response(curve):
    return Response.of({level: [curve(level)] for level in LEVELS})


CLIFF = Response.of(
    {**{k / 40: [1000.0] for k in range(11)}, **{k / 10: [5.0] for k in range(3, 11)}}
)
STEEP_EARLY = response(lambda noise: (1 - noise) ** 3)
STEEP_LATE = response(lambda noise: 1 - noise**4)


@settings(max_examples=settings.default.max_examples // 5)
@given(st.lists(numbers, min_size=11, max_size=11))
def test_auto_is_never_predicted_worse_than_linear(means):
    """Whatever was measured: linear decay is one of those it chooses among."""
    measured = response(dict(zip(LEVELS, means, strict=True)).__getitem__)
    found = fit_family(measured)
    assert predicted_straightness(measured, found) >= predicted_straightness(measured, LINEAR)
    assert found.f >= SHORTEST_TAIL


def test_auto_keeps_to_linear_decay_where_nothing_is_to_be_gained():
    """A pilot's chance must not move a task away from what is straight already."""
    rng = np.random.default_rng(0)
    for _ in range(5):
        noise = dict(zip(LEVELS, 0.02 * rng.standard_normal(11), strict=True))
        nearly_straight = response(lambda level, noise=noise: 1 - level + noise[level])
        assert fit_family(nearly_straight) == LINEAR


def test_auto_straightens_what_the_family_can():
    """Appendix A.3: a return that rises early wants p > 1, one that rises late p < 1."""
    assert fit_family(STEEP_LATE).p > 1
    assert fit_family(STEEP_EARLY).p < 1
    for measured in (STEEP_LATE, STEEP_EARLY):
        linear = predicted_straightness(measured, LINEAR)
        auto = predicted_straightness(measured, fit_family(measured))
        fitted = predicted_straightness(measured, fit_curve(measured))
        assert linear + 0.02 < auto <= fitted + 0.005
        assert fitted > 0.99


def test_fitted_straightens_a_cliff_better_than_the_family():
    """Random below noise 0.3, perfect under 0.25: most of the trajectory is spent in between."""
    auto = predicted_straightness(CLIFF, fit_family(CLIFF))
    assert predicted_straightness(CLIFF, LINEAR) < auto
    assert predicted_straightness(CLIFF, fit_curve(CLIFF)) > max(auto, 0.98)
    noise = noise_along(1000, fit_curve(CLIFF))
    assert ((noise > 0.24) & (noise < 0.31)).mean() > 0.85


@given(st.lists(numbers, min_size=11, max_size=11), st.integers(1, 3000))
def test_a_fitted_curve_is_a_decay(means, total):
    """From all noise to none, never rising, with the demonstrator alone at the end."""
    curve = fit_curve(response(dict(zip(LEVELS, means, strict=True)).__getitem__))
    noise = noise_along(total, curve)
    assert noise.shape == (total,)
    assert noise[0] == 1
    assert (np.diff(noise) <= 1e-12).all()
    assert (noise[np.arange(total) / total >= 1 - SHORTEST_TAIL + 1e-5] == 0).all()


def test_a_flat_response_gives_linear_decay():
    flat = response(lambda _: 3.0)
    assert fit_family(flat) == LINEAR
    curve = fit_curve(flat)
    np.testing.assert_allclose(noise_along(500, curve), noise_along(500, LINEAR), atol=1e-9)
    assert levels_along(flat, [0.25, 0.75]) == []


def as_measured(means, counts):
    return Response(np.linspace(0, 1, len(means)), means, counts, np.ones(len(means)))


@given(st.lists(st.tuples(numbers, st.integers(1, 10)), min_size=1, max_size=30))
def test_the_monotone_response_never_rises_with_noise_and_keeps_its_mean(pairs):
    means, counts = (np.array(column) for column in zip(*pairs, strict=True))
    found = as_measured(means, counts).monotone
    assert (np.diff(found) <= 1e-9).all()
    assert (found * counts).sum() == pytest.approx((means * counts).sum(), abs=1e-6)
    falling = np.sort(means)[::-1]
    in_order = as_measured(falling, counts).monotone
    np.testing.assert_allclose(in_order, falling)


def test_more_levels_where_the_return_falls():
    """A cliff is measured where it falls, a line everywhere; what is known is not asked again."""
    assert all(0.25 <= level <= 0.3 for level in levels_along(CLIFF, [0.1, 0.5, 0.9]))
    line = response(lambda noise: 1 - noise)
    assert levels_along(line, [0.25, 0.75]) == [pytest.approx(0.25), pytest.approx(0.75)]
    assert levels_along(line, [0.5, 0.55]) == [pytest.approx(0.45)]


def test_fitted_is_straight_in_truth_where_few_episodes_were_played():
    """The fit has to hold for the task, not for the chance of a pilot of eight episodes a level.

    Half of this response is lost by a noise of 0.08, as of a grasp. Read off level by level, its
    inverse came to 0.73 at worst.
    """

    def truth(noise):
        return np.exp(-np.asarray(noise) / 0.12)

    fine = np.linspace(0, 1, 401)
    exact = as_measured(truth(fine), np.ones(401, dtype=np.int64))
    found = []
    for seed in range(10):
        rng = np.random.default_rng(seed)

        def play(level, rng=rng):
            mean = truth(level)
            return mean + 0.64 * np.sqrt(max(mean * (1.2 - mean), 0.01)) * rng.standard_normal(8)

        returns = {level: play(level) for level in LEVELS}
        for between in (1 / 6, 3 / 6, 5 / 6):
            shares = [(step + between) / 4 for step in range(4)]
            returns |= {level: play(level) for level in levels_along(Response.of(returns), shares)}
        found.append(predicted_straightness(exact, fit_curve(Response.of(returns))))
    assert np.mean(found) > 0.95
    assert min(found) > 0.9


def test_short_failures_count_as_often_as_they_are_played():
    """Where a failed episode is a tenth as long, a bin of a cliff holds ten times as many."""
    levels = np.linspace(0, 1, 11)
    means = 1 - levels
    even = Response(levels, means, np.ones(11, dtype=np.int64), np.ones(11))
    lengths = Response(levels, means, np.ones(11, dtype=np.int64), 1000 * means + 1)
    assert predicted_straightness(lengths, LINEAR) == pytest.approx(
        predicted_straightness(even, LINEAR), abs=0.01
    )
    # All of the way within one bin: its mean is that of its episodes, not of its steps.
    step = NoiseCurve((0.0, 0.5, 0.55, 1.0), (1.0, 1.0, 0.0, 0.0))
    assert predicted_straightness(lengths, step) != pytest.approx(
        predicted_straightness(even, step), abs=1e-3
    )


def test_drawn_noise_leaves_a_task_played_and_no_more():
    """In line with noise, the default with decoys; a cliff and a steep fall get less, a task that
    stands noise more."""
    found = {
        name: fit_levels(each)
        for name, each in {
            "line": response(lambda noise: 100 - 100 * noise),
            "cliff": CLIFF,
            "early": STEEP_EARLY,
            "late": response(lambda noise: float(noise < 0.95)),
            "flat": response(lambda noise: 3.0),
        }.items()
    }
    assert found["line"] == found["flat"] == EpisodeNoise(0.5, 0.1)
    # Played up to some 0.27: three quarters of the levels up to 0.36 are.
    assert found["cliff"].max == pytest.approx(0.275 / 0.75, abs=0.02)
    assert found["early"].max < 0.2 and found["late"].max == 1.0
    assert found["late"].pure == pytest.approx(1 - PLAYED_IN_ALL / 0.95, abs=0.02)


@given(st.lists(numbers, min_size=11, max_size=11), st.floats(0.1, 10), numbers)
def test_drawn_noise_keeps_its_promise_whatever_was_measured(means, scale, shift):
    """More noise would not, and neither unit nor origin of the reward has a part in it."""
    measured = response(dict(zip(LEVELS, means, strict=True)).__getitem__)
    found = fit_levels(measured)
    assert 0 < found.max <= 1 and 0 <= found.pure <= MOST_PURE
    if np.ptp(measured.monotone) < 1e-3:
        return
    assert found.max == 0.01 or share_played(measured, found) >= PLAYED_IN_ALL - 1e-6
    if found.max <= 0.98:
        more = EpisodeNoise(found.max + 0.02, 0.0)
        assert share_played(measured, more) < 0.75
    others = {level: scale * mean + shift for level, mean in zip(LEVELS, means, strict=True)}
    again = fit_levels(response(others.__getitem__))
    assert again.max == pytest.approx(found.max, abs=0.0101)


def test_the_catalogue_keeps_to_p_and_f_where_they_will_do():
    """A curve of knots only where the paper's family cannot be straight."""
    assert isinstance(choose_decay(STEEP_LATE), Schedule)
    assert isinstance(choose_decay(response(lambda noise: 1 - noise)), Schedule)
    assert isinstance(choose_decay(CLIFF), NoiseCurve)
    assert choose_decay(response(lambda _: 3.0)) == LINEAR


def test_a_response_is_recorded_whole():
    returns = {0.0: [3.0, 5.0], 0.5: [1.0], 1.0: [0.5]}
    lengths = {0.0: [100.0, 50.0], 0.5: [10.0], 1.0: [4.0]}
    measured = Response.of(returns, lengths)
    assert measured.lengths_L.tolist() == [75, 10, 4]
    again = Response.from_json(json.loads(json.dumps(measured.as_json())))
    for name in ("levels_L", "means_L", "counts_L", "lengths_L"):
        np.testing.assert_array_equal(getattr(again, name), getattr(measured, name))


def test_knots_are_checked():
    for progress, noise in [
        ((0.0,), (1.0,)),
        ((0.1, 1.0), (1.0, 0.0)),
        ((0.0, 0.0), (1.0, 0.0)),
        ((0.0, 1.0), (0.5, 0.6)),
        ((0.0, 1.5), (1.0, 0.0)),
        ((0.0, 0.5, 1.0), (1.0, 0.0)),
    ]:
        with pytest.raises(ConfigError, match="knots"):
            NoiseCurve(progress, noise)


def test_schedules_as_recorded():
    """What artifacts and the catalogue record is read back as what it was."""
    curve = NoiseCurve((0.0, 0.5, 0.95), (1.0, 0.25, 0.0))
    assert schedule_json(Schedule(0.5, 0.2)) == {"p": 0.5, "f": 0.2}
    assert schedule_json(curve) == {"progress": [0.0, 0.5, 0.95], "noise": [1.0, 0.25, 0.0]}
    for decay in (curve, Schedule(0.5, 0.2)):
        assert schedule_from_json(json.loads(json.dumps(schedule_json(decay)))) == decay
    for wrong in ({"p": "x"}, {"q": 1}, {"progress": [0, 1]}, {"progress": [0, 1], "noise": 3}):
        with pytest.raises(ConfigError, match="no decay"):
            schedule_from_json(wrong)
    assert schedule_text(schedule_json(Schedule(0.5, 0.2))) == "p=0.5,f=0.2"
    assert schedule_text(schedule_json(curve)) == "curve 1@0% 0.25@50% 0@95%"
    assert parse_schedule("p=0.5,f=0.2") == Schedule(0.5, 0.2)
