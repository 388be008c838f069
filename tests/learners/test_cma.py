"""The search finds minima, and its stored state goes on as if it had never stopped."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pipelines.learners.cma import SeparableCMA


def minimise(search, function, generations, seed=0):
    for generation in range(generations):
        candidates = search.ask(np.random.default_rng((seed, generation)))
        search.tell(candidates[np.argsort([function(each) for each in candidates])])
    return search


@pytest.mark.parametrize("condition", [1.0, 1e4])
def test_the_search_finds_the_minimum_of_a_quadratic(condition):
    """Also where one coordinate matters 10,000 times as much: the variances adapt."""
    scale = np.geomspace(1, condition, 12)
    centre = np.linspace(-2, 3, 12)

    def quadratic(x):
        return float((scale * (x - centre) ** 2).sum())

    search = minimise(SeparableCMA.start(np.zeros(12), 0.5), quadratic, 400)
    assert quadratic(search.mean_D) < 1e-8
    deviation = np.sqrt(search.variance_D)
    assert deviation[0] / deviation[-1] > 0.2 * np.sqrt(condition)


def test_the_first_candidate_of_all_is_the_start():
    search = SeparableCMA.start(np.arange(3.0), 0.5)
    first = search.ask(np.random.default_rng(0))
    assert first.shape == (14, 3)
    np.testing.assert_array_equal(first[0], np.arange(3.0))
    search.tell(first)
    assert not (search.ask(np.random.default_rng(0))[0] == search.mean_D).any()


def test_a_stored_search_goes_on_to_the_last_bit():
    def quadratic(x):
        return float((x**2).sum())

    whole = minimise(SeparableCMA.start(np.ones(5), 0.3), quadratic, 20)
    half = minimise(SeparableCMA.start(np.ones(5), 0.3), quadratic, 8)
    half = SeparableCMA.from_json(json.loads(json.dumps(half.as_json())))
    for generation in range(8, 20):
        candidates = half.ask(np.random.default_rng((0, generation)))
        half.tell(candidates[np.argsort([quadratic(each) for each in candidates])])
    assert half.as_json() == whole.as_json()
