from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats

from harness.stats.timing import (
    estimate_quantile,
    log_ratios,
    needed_for_quantile,
    order_statistic_bounds,
    weigh_ratio,
)
from harness.stats.types import FloatArray, TimingSamples
from tests.stats.ask import ratio


def requests(values: FloatArray, quantile: float) -> TimingSamples:
    """One row of values a request."""
    rows = np.atleast_2d(values.T).T
    return TimingSamples(tuple(f"r{i:04}" for i in range(len(rows))), tuple(rows), quantile)


@pytest.mark.parametrize(("quantile", "needed"), [(0.5, 6), (0.95, 72), (0.99, 368), (0.05, 72)])
def test_needed_for_quantile(quantile: float, needed: int) -> None:
    assert needed_for_quantile(quantile) == needed


@pytest.mark.parametrize(("quantile", "n"), [(0.95, 72), (0.99, 368)])
def test_both_bounds_exist_exactly_from_the_needed_n_on(quantile: float, n: int) -> None:
    assert order_statistic_bounds(n, quantile)[1] == n - 1
    assert order_statistic_bounds(n - 1, quantile)[1] is None


@pytest.mark.parametrize(("n", "quantile"), [(16, 0.5), (100, 0.95), (400, 0.99), (1000, 0.5)])
def test_order_statistic_bounds_are_the_tightest_that_cover(n: int, quantile: float) -> None:
    low, high = order_statistic_bounds(n, quantile)
    assert low is not None
    assert high is not None
    below = scipy.stats.binom(n, quantile)
    # X_(low), 0-based, is above the quantile where at most `low` values lie below it.
    assert below.cdf(low) <= 0.025 < below.cdf(low + 1)
    assert below.sf(high) <= 0.025 < below.sf(high - 1)


def test_median_of_one_value_a_request_has_order_statistic_bounds() -> None:
    made = estimate_quantile(requests(np.arange(16.0), 0.5))
    assert (made.value, made.low, made.high, made.n) == (7.5, 3.0, 12.0, 16)
    assert made.method == "order statistics"


def test_a_tail_quantile_of_too_few_requests_has_no_upper_bound_and_says_what_it_needs() -> None:
    made = estimate_quantile(requests(np.random.default_rng(0).gamma(3.0, size=71), 0.95))
    assert made.high is None
    assert made.low is not None
    assert made.warnings == ("With 71 requests p95 has no 95 % upper bound; at least 72 are needed.",)


def test_a_median_of_one_repeat_says_how_many_are_needed() -> None:
    made = estimate_quantile(requests(np.array([1.0]), 0.5), unit="repeats")
    assert made.warnings == ("With 1 repeat the median has no 95 % interval; at least 6 are needed.",)


def test_n_counts_requests_and_not_their_gaps() -> None:
    made = estimate_quantile(requests(np.random.default_rng(0).gamma(3.0, size=(20, 127)), 0.99))
    assert made.n == 20
    assert made.high is None
    assert "368" in made.warnings[0]


def test_pooled_gaps_are_resampled_by_request() -> None:
    generator = np.random.default_rng(0)
    gaps = generator.gamma(3.0, size=(100, 1)) + generator.normal(0, 0.01, (100, 40))
    made = estimate_quantile(requests(gaps, 0.5))
    alone = estimate_quantile(requests(gaps[:, 0], 0.5))
    assert made.low is not None
    assert made.high is not None
    assert alone.low is not None
    assert alone.high is not None
    # 40 gaps a request that all say the same are worth one.
    assert made.high - made.low == pytest.approx(alone.high - alone.low, rel=0.35)


def test_the_bootstrap_over_requests_equals_the_plain_one() -> None:
    generator = np.random.default_rng(2)
    gaps = generator.lognormal(size=(30, 9))
    made = estimate_quantile(requests(gaps, 0.5), resamples=2000, seed=6)
    indices = np.random.default_rng(6).integers(0, 30, (2000, 30))
    pull = (gaps > np.quantile(gaps, 0.5)).sum(axis=1) - 4.5  # of nine
    freedom = 30 / max(1.0, 2.0 * ((pull**4).mean() / (pull**2).mean() ** 2 - 1.0))
    tail = scipy.stats.norm.cdf(np.sqrt(30 / 29) * scipy.stats.t(freedom).ppf(0.025))
    draws = [np.quantile(gaps[index].ravel(), 0.5, method="inverted_cdf") for index in indices]
    assert (made.low, made.high) == pytest.approx(tuple(np.quantile(draws, [tail, 1 - tail])), rel=0.01)


def test_values_all_alike_have_no_bounds() -> None:
    made = estimate_quantile(requests(np.full(100, 3.0), 0.5))
    assert (made.value, made.low, made.high) == (3.0, None, None)
    assert made.warnings


@pytest.mark.parametrize("values", [[], [[]]])
def test_nothing_measured(values: list[list[float]]) -> None:
    made = estimate_quantile(TimingSamples(tuple("a" for _ in values), tuple(map(np.array, values)), 0.5))
    assert (made.value, made.low, made.n) == (None, None, 0)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_timing_that_is_not_finite_spoils_the_estimate(bad: float) -> None:
    made = estimate_quantile(requests(np.array([1.0, bad, 2.0]), 0.5))
    assert (made.value, made.low) == (None, None)


def test_log_ratios_pair_by_repeat_and_take_the_median() -> None:
    candidate = {"a": {0: 2.0, 1: 8.0, 2: 3.0, 9: 1.0}, "b": {0: 1.0}, "only": {0: 1.0}}
    reference = {"a": {0: 1.0, 1: 1.0, 2: 1.0}, "b": {1: 1.0}}
    assert log_ratios(candidate, reference) == {"a": pytest.approx(math.log(3.0))}


def ratios(n: int, shift: float, seed: int = 0) -> dict[str, float]:
    return {f"r{i}": x for i, x in enumerate(np.random.default_rng(seed).normal(shift, 0.02, n))}


def test_a_slowdown_of_ten_percent_is_found_with_its_size() -> None:
    made = ratio(ratios(16, math.log(1.1)))
    assert made.outcome == "worse"
    assert made.relative
    assert made.low is not None
    assert made.high is not None
    assert made.low < 1.1 < made.high
    assert made.n == 16


def test_swapping_the_variants_inverts_the_ratio() -> None:
    there = ratios(17, 0.03)
    back = ratio({name: -value for name, value in there.items()})
    forward = ratio(there)
    assert forward.value == pytest.approx(1 / (back.value or 0.0))
    assert forward.low == pytest.approx(1 / (back.high or 0.0), rel=1e-3)
    assert (forward.wins, forward.losses) == (back.losses, back.wins)


def test_the_interval_is_never_shorter_than_the_order_statistics() -> None:
    evidence = weigh_ratio(ratios(16, 0.0))
    ends = evidence.interval(0.95)
    assert ends is not None
    assert ends[0] <= evidence.ratios[3]
    assert ends[1] >= evidence.ratios[12]


@pytest.mark.parametrize("shift", [0.0, 0.004, 0.008, 0.05])
def test_p_agrees_with_the_interval(shift: float) -> None:
    made = ratio(ratios(40, shift))
    assert made.p_value is not None
    assert (made.p_value < 0.05) == (made.outcome != "undecided")


def test_higher_is_better_turns_wins_and_outcome() -> None:
    made = ratio(ratios(20, 0.1), higher_is_better=True)
    assert (made.outcome, made.wins) == ("better", 20)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_too_few_requests_decide_nothing(n: int) -> None:
    made = ratio(ratios(n, 0.5))
    assert (made.low, made.high, made.outcome) == (None, None, "undecided")
    assert made.warnings


def test_no_common_request() -> None:
    assert ratio({}).value is None


def test_ratios_all_alike_carry_no_interval() -> None:
    made = ratio({f"r{i}": 0.25 for i in range(20)})
    assert made.value == pytest.approx(math.exp(0.25))
    assert (made.low, made.outcome) == (None, "undecided")


def test_a_timing_of_zero_is_no_timing() -> None:
    assert ratio(log_ratios({"a": {0: 0.0}}, {"a": {0: 1.0}})).value is None


def test_the_mde_of_a_ratio_is_its_distance_from_one() -> None:
    made = ratio(ratios(100, 0.0))
    assert made.mde == pytest.approx(2.8 * 0.02 * 1.2533 / 10, rel=0.4)
