"""Streaming moments agree with two passes over all data, wherever it is cut."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipelines.mean_variance import MeanVariance
from pipelines.pack.stage import _reduce

blocks = st.lists(
    hnp.arrays(
        np.float32,
        st.tuples(st.integers(0, 30), st.just(3)),
        elements=st.floats(-1e6, 1e6, width=32),
    ),
    min_size=1,
    max_size=6,
)


def joined(parts):
    so_far = MeanVariance.empty(3)
    for part in parts:
        so_far = so_far.merge(MeanVariance.of(part))
    return so_far


@given(blocks)
def test_equals_numpy_on_all_rows(parts):
    rows = np.concatenate(parts).astype(np.float64)
    found = joined(parts)
    assert found.count == len(rows)
    if len(rows):
        spread = np.abs(rows).max(initial=1.0)
        np.testing.assert_allclose(found.mean_C, rows.mean(axis=0), atol=1e-12 * spread)
    if len(rows) > 1:
        np.testing.assert_allclose(
            found.standard_deviation(), rows.std(axis=0, ddof=1), rtol=1e-9, atol=1e-12 * spread
        )


@given(blocks, blocks)
def test_merge_is_symmetric(one, two):
    a, b = joined(one), joined(two)
    ab, ba = a.merge(b), b.merge(a)
    assert ab.count == ba.count
    np.testing.assert_allclose(ab.mean_C, ba.mean_C, rtol=1e-9, atol=1e-7)
    np.testing.assert_allclose(ab.squares_C, ba.squares_C, rtol=1e-9, atol=1e-7)


def test_a_far_offset_does_not_drift():
    """What float32 sums get wrong by 11 % at 15 M rows: small spread, large mean, many blocks."""
    rng = np.random.default_rng(0)
    block = (rng.normal(size=(4096, 3)) * 0.1 + [1.25, 101.0, -16_000_000.0]).astype(np.float32)
    so_far, once = MeanVariance.empty(3), MeanVariance.of(block)
    for _ in range(3663):  # 15 million rows
        so_far = so_far.merge(once)
    exact = block.astype(np.float64)
    assert so_far.count > 15_000_000
    np.testing.assert_allclose(so_far.mean_C, exact.mean(axis=0), rtol=1e-13)
    np.testing.assert_allclose(so_far.standard_deviation(), exact.std(axis=0), rtol=1e-7)


def test_reducing_in_pieces_is_reducing_at_once():
    rows = np.random.default_rng(1).normal(size=(20_000, 2)).astype(np.float32)
    found = _reduce(MeanVariance.empty(2), rows)
    exact = rows.astype(np.float64)
    np.testing.assert_allclose(found.mean_C, exact.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.standard_deviation(), exact.std(axis=0, ddof=1), rtol=1e-12)


def test_json_gives_the_same_numbers_back():
    found = MeanVariance.of(np.random.default_rng(2).normal(size=(50, 4)).astype(np.float32))
    back = MeanVariance.from_json(json.loads(json.dumps(found.as_json())))
    assert back.count == found.count
    np.testing.assert_array_equal(back.mean_C, found.mean_C)
    np.testing.assert_array_equal(back.squares_C, found.squares_C)


@pytest.mark.parametrize("rows", [0, 1])
def test_too_few_rows_have_no_spread(rows):
    found = MeanVariance.of(np.full((rows, 2), 7.0, np.float32))
    assert found.standard_deviation().tolist() == [0, 0]
