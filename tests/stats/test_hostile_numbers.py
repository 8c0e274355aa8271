"""Whatever the numbers are, there is an answer, and it never looks more certain than they are."""

from __future__ import annotations

import math

from hypothesis import example, given, settings
from hypothesis import strategies as st

from harness.stats.samples import from_values
from harness.stats.timing import log_ratios
from tests.stats.ask import difference, estimate, ratio

VALUES = st.lists(st.none() | st.floats(allow_nan=True, allow_infinity=True, width=64), max_size=12)
FLAGS = st.lists(st.none() | st.sampled_from([0.0, 1.0]), max_size=12)


def ids(n: int) -> list[str]:
    return [str(index) for index in range(n)]


def is_honest(value: float | None, low: float | None, high: float | None, n: int) -> bool:
    ends = [one for one in (low, high) if one is not None]
    if value is None:
        return not ends
    return math.isfinite(value) and n > 0 and (len(ends) < 2 or (low or 0.0) < (high or 0.0))


@settings(deadline=None, max_examples=60)
@given(VALUES)
def test_any_values_have_an_honest_estimate(values: list[float | None]) -> None:
    made = estimate(from_values(ids(len(values)), values), resamples=200)
    assert is_honest(made.value, made.low, made.high, made.n)
    assert made.low is not None or made.warnings


@settings(deadline=None, max_examples=60)
@given(FLAGS)
def test_any_flags_have_an_honest_rate(flags: list[float | None]) -> None:
    made = estimate(from_values(ids(len(flags)), flags, kind="rate"), resamples=200)
    assert is_honest(made.value, made.low, made.high, made.n)


@settings(deadline=None, max_examples=60)
@given(VALUES, VALUES)
def test_any_two_variants_have_an_honest_difference(one: list[float | None], two: list[float | None]) -> None:
    made = difference(from_values(ids(len(one)), one), from_values(ids(len(two)), two), resamples=200)
    assert is_honest(made.value, made.low, made.high, made.n)
    assert made.low is not None or made.outcome == "undecided"


@settings(deadline=None, max_examples=60)
@given(VALUES, VALUES)
@example([4.977862110084136e-156], [2.015061015468226e168])  # their quotient is 0
@example([1e308], [5e-324])  # it is infinite
@example([1e-140, 1e140] * 4, [1e140, 1e-140] * 4)  # and so is the end of an interval
def test_any_timings_have_an_honest_ratio(one: list[float | None], two: list[float | None]) -> None:
    mine, theirs = (
        {str(index): {0: value} for index, value in enumerate(values) if value is not None} for values in (one, two)
    )
    made = ratio(log_ratios(mine, theirs), resamples=200)
    assert is_honest(made.value, made.low, made.high, made.n)
    assert made.low is not None or made.outcome == "undecided"
