from __future__ import annotations

import pytest

from harness.stats.slices import length_bucket, level_of, levels, q_values
from harness.stats.types import Difference


def test_levels_are_the_most_frequent_with_enough_units() -> None:
    values = ["a"] * 12 + ["b"] * 30 + ["c"] * 9 + [None] * 50 + ["d"] * 12
    assert levels(values) == ("b", "a", "d")
    assert levels(values, most=1) == ("b",)


@pytest.mark.parametrize(
    ("value", "level"), [(True, "true"), (3, "3"), (" x ", "x"), ("", None), (None, None), (["a"], None), ({}, None)]
)
def test_level_of(value: object, level: str | None) -> None:
    assert level_of(value) == level


@pytest.mark.parametrize(
    ("words", "bucket"),
    [(0, "≤ 16"), (16, "≤ 16"), (17, "17–32"), (33, "33–64"), (4096, "2049–4096"), (4097, "> 4096")],
)
def test_length_bucket(words: int, bucket: str) -> None:
    assert length_bucket(words) == bucket


def shown(*p_values: float | None) -> list[Difference]:
    return [Difference(0.1, 0.0, 0.2, 60, "made up", "undecided", p_value=p_value) for p_value in p_values]


def test_q_values_hold_the_false_discovery_rate_over_all_that_is_shown() -> None:
    assert q_values(shown(0.01, 0.8, 0.04, 0.03, 0.005)) == pytest.approx((0.025, 0.8, 0.05, 0.05, 0.025))


def test_missing_p_values_stay_missing_and_are_not_counted() -> None:
    assert q_values(shown(None, 0.02, None, 0.03)) == (None, pytest.approx(0.03), None, pytest.approx(0.03))


def test_nothing_to_adjust() -> None:
    assert q_values([]) == ()
    assert q_values(shown(None)) == (None,)


def test_what_is_no_probability_is_refused() -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        q_values(shown(float("nan")))
