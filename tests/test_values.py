"""What no setting can be, and what is put in its place."""

from __future__ import annotations

import pytest

from pipelines.values import nearest_number


@pytest.mark.parametrize(
    ("text", "bounds", "whole", "expected"),
    [
        ("0", (1, None), True, "1"),
        ("-1", (0, None), False, "0"),
        ("200", (0, 100), False, "100"),
        ("1.1xx", (0, None), False, "1.1"),
        ("3x", (1, None), True, "3"),
        ("2.5", (1, None), True, "2"),
        ("1e12", (None, 10**9), True, "1000000000"),
        ("1.5", (None, None), False, None),
        ("7", (1, 9), True, None),
        ("many", (1, 9), True, None),
        ("", (1, 9), True, None),
        ("1e400", (1, 9), True, None),
        (str(2**63), (1, None), True, None),
    ],
)
def test_the_nearest_number_is_within_bounds_and_another_one(text, bounds, whole, expected):
    assert nearest_number(text, *bounds, whole=whole) == expected
