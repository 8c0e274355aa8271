"""The jackknife that takes the bootstrap's place above 10,000 units."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from harness.stats import intervals, paired
from harness.stats.bootstrap import Resamples, bca
from harness.stats.jackknife import LARGE, jackknife
from harness.stats.samples import from_values, ratio_of_sums
from harness.stats.types import FloatArray


def rows(values: FloatArray) -> FloatArray:
    return np.stack([values, np.ones(len(values))], axis=1)


def not_asked() -> FloatArray:
    raise AssertionError("more units than LARGE were resampled")


def test_the_standard_error_of_a_mean_is_that_of_scipy() -> None:
    values = np.random.default_rng(1).normal(size=70_000)  # more than one block
    made = jackknife([rows(values)], ratio_of_sums)
    assert made is not None
    assert made.value == pytest.approx(values.mean(), rel=1e-12)
    assert made.standard_error == pytest.approx(stats.sem(values), rel=1e-6)


def test_test_and_interval_agree() -> None:
    made = jackknife([rows(np.random.default_rng(2).exponential(size=20_000))], ratio_of_sums)
    assert made is not None
    low, high = made.interval(0.95)
    assert made.p_below(low) == pytest.approx(0.025, rel=1e-6)
    assert made.p_above(high) == pytest.approx(0.025, rel=1e-6)


@pytest.mark.parametrize("value", [0.1, 1e9, -3.0])
def test_equal_values_have_no_interval(value: float) -> None:
    assert jackknife([rows(np.full(20_000, value))], ratio_of_sums) is None


def test_equal_differences_of_large_values_have_no_interval() -> None:
    values = np.random.default_rng(3).normal(1e6, 1.0, size=20_000)

    def difference(sums: FloatArray) -> FloatArray:
        gap: FloatArray = ratio_of_sums(sums[..., 2:]) - ratio_of_sums(sums[..., :2])
        return gap

    assert jackknife([rows(values), rows(values + 0.125)], difference, magnitude=1e6) is None


@pytest.mark.parametrize(
    ("draw", "limit"),
    [
        (lambda random: random.normal(size=LARGE), 0.03),
        (lambda random: random.exponential(size=LARGE), 0.06),
        (lambda random: random.lognormal(size=LARGE), 0.15),
    ],
    ids=["normal", "exponential", "lognormal"],
)
def test_at_the_limit_its_ends_are_those_of_bca_within_a_small_part_of_the_width(
    draw: Callable[[np.random.Generator], FloatArray], limit: float
) -> None:
    statistics = rows(draw(np.random.default_rng(4)))
    made = jackknife([statistics], ratio_of_sums)
    resampled = bca(statistics, ratio_of_sums, Resamples(LARGE, resamples=2000).sums(statistics))
    assert made is not None
    assert resampled is not None
    (low, high), (kept_low, kept_high) = made.interval(0.95), resampled.interval(0.95)
    half = (kept_high - kept_low) / 2
    assert max(abs(low - kept_low), abs(high - kept_high)) < limit * half


def test_more_units_than_the_limit_are_not_resampled() -> None:
    random = np.random.default_rng(5)
    ids = [str(number) for number in range(LARGE + 1)]
    one, two = (from_values(ids, random.normal(size=LARGE + 1).tolist()) for _ in range(2))
    value = intervals.weigh(one, not_asked).estimate()
    gap = paired.weigh_difference(one, two, lambda: (not_asked(), not_asked())).difference()
    assert value.method.startswith("jackknife")
    assert gap.method.startswith("paired jackknife")
    assert value.low is not None
    assert gap.low is not None
    assert gap.low < 0.0 < (gap.high or 0.0)
