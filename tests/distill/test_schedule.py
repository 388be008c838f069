"""The decay of Appendix A.3 and its text form."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.distill.schedule import epsilons, parse_schedule
from pipelines.errors import UsageError
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
