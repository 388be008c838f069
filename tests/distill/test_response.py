"""Fits of a decay to a task's response to noise: straight where they can be, never worse."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.distill.response import (
    LINEAR,
    SHORTEST_TAIL,
    Response,
    fit_curve,
    fit_family,
    levels_between,
    predicted_straightness,
)
from pipelines.distill.schedule import noise_along, parse_schedule
from pipelines.errors import ConfigError
from pipelines.tasks.schedule import NoiseCurve, Schedule, schedule_json

LEVELS = [level / 10 for level in range(11)]
numbers = st.floats(-100, 100)


def response(curve):
    return Response.of({level: [curve(level)] for level in LEVELS})


CLIFF = Response.of(
    {**{k / 40: [1000.0] for k in range(11)}, **{k / 10: [5.0] for k in range(3, 11)}}
)
STEEP_EARLY = response(lambda noise: (1 - noise) ** 3)
STEEP_LATE = response(lambda noise: 1 - noise**4)


@given(st.lists(numbers, min_size=11, max_size=11))
@settings(deadline=None, max_examples=15)
def test_auto_is_never_predicted_worse_than_linear(means):
    """Whatever was measured: linear decay is one of those it chooses among."""
    measured = response(dict(zip(LEVELS, means, strict=True)).__getitem__)
    found = fit_family(measured)
    assert predicted_straightness(measured, found) >= predicted_straightness(measured, LINEAR)
    assert found.f >= SHORTEST_TAIL


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
    assert levels_between(flat, 4, 0.1) == []


@given(st.lists(st.tuples(numbers, st.integers(1, 10)), min_size=1, max_size=30))
def test_the_monotone_response_never_rises_with_noise_and_keeps_its_mean(pairs):
    means, counts = (np.array(column) for column in zip(*pairs, strict=True))
    found = Response(np.linspace(0, 1, len(means)), means, counts).monotone
    assert (np.diff(found) <= 1e-9).all()
    assert (found * counts).sum() == pytest.approx((means * counts).sum(), abs=1e-6)
    falling = np.sort(means)[::-1]
    in_order = Response(np.linspace(0, 1, len(means)), falling, counts).monotone
    np.testing.assert_allclose(in_order, falling)


def test_more_levels_where_the_return_falls():
    assert levels_between(CLIFF, 4, 0.1) == [pytest.approx(0.275)]
    found = levels_between(response(lambda noise: 1 - noise), 2, 0.05)
    assert len(found) == 2
    assert levels_between(response(lambda noise: 1 - noise), 20, 0.15) == []


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
    assert schedule_json(Schedule(0.5, 0.2)) == {"p": 0.5, "f": 0.2}
    assert schedule_json(NoiseCurve((0.0, 1.0), (1.0, 0.0))) == {
        "progress": [0.0, 1.0],
        "noise": [1.0, 0.0],
    }
    assert parse_schedule("p=0.5,f=0.2") == Schedule(0.5, 0.2)
